#include "tests/abi/layout.h"

#include <algorithm>
#include <array>
#include <regex>
#include <set>
#include <sstream>

namespace annal::abi_test {
namespace {

constexpr std::array<std::string_view, 3> kGrowthNames = {"sized", "strided", "fixed"};

std::string_view name_of(Growth growth) {
    return kGrowthNames[static_cast<std::size_t>(growth)];
}

std::size_t end_of(const Struct& one) {
    return one.fields.empty() ? 0 : one.fields.back().offset + one.fields.back().size;
}

std::string describe(const Field& field) {
    return "offset " + std::to_string(field.offset) + ", size " + std::to_string(field.size) +
           ", " + field.type;
}

void compare_fields(
    const std::string& name, const Struct& before, const Struct& now, std::vector<std::string>& out
) {
    for (std::size_t i = 0; i < before.fields.size(); ++i) {
        const auto& was = before.fields[i];
        const auto found = std::find_if(now.fields.begin(), now.fields.end(), [&](const Field& f) {
            return f.name == was.name;
        });
        if (found == now.fields.end()) {
            out.push_back(name + "." + was.name + " is gone");
        } else if (*found != was) {
            out.push_back(
                name + "." + was.name + " was at " + describe(was) + "; it is at " +
                describe(*found)
            );
        }
    }
    for (const auto& field : now.fields) {
        const bool known =
            std::any_of(before.fields.begin(), before.fields.end(), [&](const Field& f) {
                return f.name == field.name;
            });
        // Padding counts as part of the released struct: struct_size would claim that an old plugin
        // had set it.
        if (!known && field.offset < before.size) {
            out.push_back(
                name + "." + field.name + " is new, but lies within the " +
                std::to_string(before.size) + " bytes that were released"
            );
        }
    }
}

void compare_structs(
    const std::string& name, const Struct& before, const Struct& now, std::vector<std::string>& out
) {
    compare_fields(name, before, now, out);
    if (now.growth != before.growth)
        out.push_back(
            name + " was " + std::string(name_of(before.growth)) + ", it is " +
            std::string(name_of(now.growth))
        );
    if (now.align != before.align)
        out.push_back(
            name + " was aligned to " + std::to_string(before.align) + ", it is to " +
            std::to_string(now.align)
        );
    if (now.size < before.size) out.push_back(name + " has shrunk");
    if (before.growth == Growth::fixed && now.size != before.size) {
        out.push_back(name + " has grown, which it can't: it has neither struct_size nor a stride");
    }
}

/// The header without its comments and text constants' insides.
std::string without_comments(std::string_view header) {
    static const std::regex kComments(R"(/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)");
    return std::regex_replace(std::string(header), kComments, " ");
}

std::vector<std::string> all_matches(const std::string& text, const std::regex& pattern) {
    std::set<std::string> found;
    for (auto match = std::sregex_iterator(text.begin(), text.end(), pattern);
         match != std::sregex_iterator();
         ++match) {
        found.insert((*match)[1]);
    }
    return {found.begin(), found.end()};
}

}  // namespace

std::string to_text(const Layout& layout) {
    std::ostringstream out;
    for (const auto& [name, one] : layout.structs) {
        out << "struct " << name << ' ' << name_of(one.growth) << ' ' << one.size << ' '
            << one.align << '\n';
        for (const auto& field : one.fields) {
            out << "  " << field.name << ' ' << field.offset << ' ' << field.size << ' '
                << field.type << '\n';
        }
    }
    for (const auto& [name, value] : layout.constants)
        out << "constant " << name << ' ' << value << '\n';
    return out.str();
}

Layout parse_layout(std::string_view text) {
    Layout out;
    Struct* current = nullptr;
    std::istringstream lines{std::string(text)};
    for (std::string line; std::getline(lines, line);) {
        if (line.empty() || line[0] == '#') continue;
        std::istringstream words(line);
        std::string kind, name, growth;
        words >> kind;
        if (kind == "struct") {
            Struct one;
            words >> name >> growth >> one.size >> one.align;
            one.growth = static_cast<Growth>(
                std::find(kGrowthNames.begin(), kGrowthNames.end(), growth) - kGrowthNames.begin()
            );
            current = &(out.structs[name] = std::move(one));
        } else if (kind == "constant") {
            words >> name >> growth;
            out.constants.emplace(name, growth);
        } else if (current) {
            Field field{kind, 0, 0, {}};
            words >> field.offset >> field.size >> std::ws;
            std::getline(words, field.type);
            current->fields.push_back(std::move(field));
        }
    }
    return out;
}

std::vector<std::string> breaks(const Layout& released, const Layout& current) {
    std::vector<std::string> out;
    for (const auto& [name, before] : released.structs) {
        const auto now = current.structs.find(name);
        if (now == current.structs.end()) {
            out.push_back(name + " is gone");
        } else {
            compare_structs(name, before, now->second, out);
        }
    }
    for (const auto& [name, before] : released.constants) {
        const auto now = current.constants.find(name);
        if (now == current.constants.end()) {
            out.push_back(name + " is gone");
        } else if (now->second != before) {
            out.push_back(name + " was " + before + ", it is " + now->second);
        }
    }
    // Not against a release, but against the contract: what says it begins with struct_size does.
    for (const auto& [name, one] : current.structs) {
        const bool sized =
            !one.fields.empty() && one.fields[0] == Field{"struct_size", 0, 4, "unsigned int"};
        if (sized != (one.growth == Growth::sized))
            out.push_back(
                name + " is listed as " + std::string(name_of(one.growth)) +
                ", which its first field belies"
            );
        if (end_of(one) > one.size) out.push_back(name + " ends behind its own size");
    }
    return out;
}

Declared declared_in(std::string_view header) {
    static const std::regex kStruct(R"(typedef\s+struct\s+(annal_\w+)\s*\{)");
    static const std::regex kEnums(R"(\benum\s*\{([^}]*)\})");
    static const std::regex kName(R"((ANNAL_\w+))");
    static const std::regex kDefine(
        R"(#define\s+(ANNAL_(?:SERVICE|COMPONENT)_\w+|ANNAL_(?:TIME|SEQ)_NONE)\b)"
    );
    const auto text = without_comments(header);
    Declared out;
    out.structs = all_matches(text, kStruct);
    std::set<std::string> constants;
    for (auto match = std::sregex_iterator(text.begin(), text.end(), kEnums);
         match != std::sregex_iterator();
         ++match) {
        for (auto& name : all_matches((*match)[1], kName)) constants.insert(std::move(name));
    }
    for (auto& name : all_matches(text, kDefine)) constants.insert(std::move(name));
    out.constants.assign(constants.begin(), constants.end());
    return out;
}

}  // namespace annal::abi_test
