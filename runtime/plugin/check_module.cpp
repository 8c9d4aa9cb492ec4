#include "runtime/plugin/check_module.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "runtime/plugin/loader.h"
#include "runtime/plugin/manifest_words.h"
#include "runtime/plugin/schema.h"

namespace annal {
namespace {

constexpr std::uint32_t kComponentsMax = 256;
constexpr std::size_t kTextBytesMax = 128;
constexpr std::size_t kSchemaBytesMax = 1U << 20;

/// Size of a struct in ABI 1.0: up to and with the last field that it had then. Later fields are
/// read through ANNAL_HAS.
#define ANNAL_SIZE_1_0(type, last) (offsetof(type, last) + sizeof(type::last))

std::string version_text(unsigned major, unsigned minor) {
    return std::to_string(major) + "." + std::to_string(minor);
}

/// A C string of a module, of which nothing is known yet.
std::string_view view_of(const char* text, std::size_t max) {
    return text ? std::string_view(text, strnlen(text, max + 1)) : std::string_view();
}

/// Gathers defects of one module and names it in each.
class Defects {
public:
    void add(const std::string& sentence) { found_.push_back(subject_ + " " + sentence); }
    void set_subject(std::string subject) { subject_ = std::move(subject); }
    [[nodiscard]] const std::string& subject() const { return subject_; }
    [[nodiscard]] std::vector<std::string> take() { return std::move(found_); }

    [[nodiscard]] bool long_enough(const std::string& name, std::uint32_t has, std::size_t needs) {
        if (has >= needs) return true;
        add("has a " + name + " of " + std::to_string(has) + " bytes, ABI 1.0 needs " +
            std::to_string(needs) + ": set struct_size to sizeof(" + name +
            ") and rebuild it against annal-sdk 1");
        return false;
    }
    template <class Function>
    void require(Function* function, const std::string& name) {
        if (!function) add("lacks the function " + name + ", which its type requires");
    }

private:
    std::string subject_ = "the module";
    std::vector<std::string> found_;
};

void check_http(const annal_http_v1& table, Defects& out) {
    if (!out.long_enough(
            "annal_http_v1", table.struct_size, ANNAL_SIZE_1_0(annal_http_v1, render_problem)
        ))
        return;
    out.require(table.create, "create");
    out.require(table.destroy, "destroy");
    out.require(table.handle, "handle");
    out.require(table.render_problem, "render_problem");
}

bool is_extension(annal_str text) {
    const std::string_view view(text.ptr, text.len);
    return !view.empty() && view.size() <= 16 &&
           view.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789") == std::string_view::npos;
}

bool is_content_type(annal_str text) {
    const std::string_view view(text.ptr, text.len);
    const auto slash = view.find('/');
    return slash != std::string_view::npos && slash > 0 && slash + 1 < view.size() &&
           view.size() <= kTextBytesMax &&
           std::all_of(view.begin(), view.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

void check_format(const annal_format_v1& table, Defects& out) {
    if (!out.long_enough(
            "annal_format_v1", table.struct_size, ANNAL_SIZE_1_0(annal_format_v1, release)
        ))
        return;
    if (!table.content_type.ptr || !is_content_type(table.content_type)) {
        out.add("has no content_type: a media type like \"text/csv; charset=utf-8\"");
    }
    if (!table.file_extension.ptr || !is_extension(table.file_extension)) {
        out.add("has no file_extension: 1 to 16 lower-case letters and digits like \"csv\"");
    }
    out.require(table.create, "create");
    out.require(table.destroy, "destroy");
    out.require(table.begin, "begin");
    out.require(table.encode, "encode");
    out.require(table.end, "end");
    out.require(table.release, "release");
}

void check_sink(const annal_sink_v1& table, Defects& out) {
    if (!out.long_enough(
            "annal_sink_v1", table.struct_size, ANNAL_SIZE_1_0(annal_sink_v1, position)
        ))
        return;
    out.require(table.create, "create");
    out.require(table.destroy, "destroy");
    out.require(table.send, "send");
}

void check_job(const annal_job_v1& table, Defects& out) {
    if (!out.long_enough("annal_job_v1", table.struct_size, ANNAL_SIZE_1_0(annal_job_v1, run)))
        return;
    out.require(table.create, "create");
    out.require(table.destroy, "destroy");
    out.require(table.run, "run");
}

template <class Table, void (*check)(const Table&, Defects&)>
void check_table(const void* vtable, Defects& out) {
    check(*static_cast<const Table*>(vtable), out);
}

struct ComponentType {
    std::string_view id;
    void (*check)(const void* vtable, Defects& out);
};
constexpr ComponentType kTypes[] = {
    {ANNAL_COMPONENT_HTTP, check_table<annal_http_v1, check_http>},
    {ANNAL_COMPONENT_FORMAT, check_table<annal_format_v1, check_format>},
    {ANNAL_COMPONENT_SINK, check_table<annal_sink_v1, check_sink>},
    {ANNAL_COMPONENT_JOB, check_table<annal_job_v1, check_job>},
};

void check_schema(const char* text, Defects& out) {
    const auto schema = view_of(text, kSchemaBytesMax);
    if (schema.empty()) {
        out.add(
            "has no config_schema: a component without settings publishes "
            "{\"type\":\"object\",\"additionalProperties\":false}"
        );
        return;
    }
    const auto parsed = ConfigSchema::parse(schema);
    if (!parsed) out.add("has a config_schema that is no JSON Schema: " + parsed.error().detail);
}

void check_type(std::string_view type, const void* vtable, Defects& out) {
    const auto known = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& one) {
        return one.id == type;
    });
    if (known == std::end(kTypes)) {
        out.add(
            "is of the type " + in_quotes(type) +
            ", which this host does not know; known types are " + either(known_component_types())
        );
    } else if (!vtable) {
        out.add("has no vtable");
    } else {
        known->check(vtable, out);
    }
}

using Taken = std::set<std::pair<std::string_view, std::string_view>>;

void check_component(
    const annal_component* component, std::uint32_t index, Taken& taken, Defects& out
) {
    const auto module = out.subject();
    const auto place = "component " + std::to_string(index);
    if (!component) return out.add("has a null pointer for " + place);
    out.set_subject(module + ": " + place);
    if (out.long_enough(
            "annal_component", component->struct_size, ANNAL_SIZE_1_0(annal_component, vtable)
        )) {
        const auto type = view_of(component->type, kTextBytesMax),
                   name = view_of(component->name, kTextBytesMax);
        if (is_library_name(name)) out.set_subject(module + ": component " + in_quotes(name));
        if (name.empty()) {
            out.add("has no name");
        } else if (!is_library_name(name)) {
            out.add(
                "has the name " + in_quotes(name) +
                ", which must match ^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
            );
        }
        if (type.empty()) {
            out.add("has no type; known types are " + either(known_component_types()));
        } else {
            check_type(type, component->vtable, out);
        }
        check_schema(component->config_schema, out);
        if (!name.empty() && !type.empty() && !taken.emplace(type, name).second) {
            out.add("is there twice with the type " + in_quotes(type));
        }
    }
    out.set_subject(module);
}

/// Whether the module speaks this host's language at all; nothing else can be read when it does
/// not.
bool check_version(const annal_module& module, Defects& out) {
    if (module.abi_major == ANNAL_ABI_MAJOR && module.abi_minor <= ANNAL_ABI_MINOR) return true;
    const bool newer = module.abi_major == ANNAL_ABI_MAJOR;
    out.add(
        "was built for Annal plugin ABI " + version_text(module.abi_major, module.abi_minor) +
        ", this host speaks " + version_text(ANNAL_ABI_MAJOR, ANNAL_ABI_MINOR) + ": " +
        (newer ? "update Annal, or rebuild the module against annal-sdk " +
                     version_text(ANNAL_ABI_MAJOR, ANNAL_ABI_MINOR)
               : "rebuild it against annal-sdk " + std::to_string(ANNAL_ABI_MAJOR))
    );
    return false;
}

void check_identity(const annal_module& module, Defects& out) {
    const auto id = view_of(module.id, kTextBytesMax),
               version = view_of(module.version, kTextBytesMax);
    if (id.empty()) {
        out.add("has no id, as in \"com.acme.audit-sink\"");
    } else if (id.size() > kTextBytesMax || id.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                                  "0123456789_.-") != std::string_view::npos) {
        out.add(
            "has the id " + in_quotes(id) +
            ": at most 128 letters, digits, dots, hyphens and underscores are allowed"
        );
    }
    if (version.empty() || version.size() > kTextBytesMax)
        out.add("has no version, as in \"1.2.0\"");
}

}  // namespace

const std::vector<std::string_view>& known_component_types() {
    static const std::vector<std::string_view> kIds = [] {
        std::vector<std::string_view> ids;
        for (const auto& type : kTypes) ids.push_back(type.id);
        return ids;
    }();
    return kIds;
}

std::vector<std::string> module_defects(const annal_module* module) {
    Defects out;
    if (!module) {
        out.add("is null: annal_module_v1 must return static data");
        return out.take();
    }
    // The version stands right behind the size, so that it can be told even of a struct that is
    // otherwise unreadable.
    if (!out.long_enough(
            "annal_module", module->struct_size, ANNAL_SIZE_1_0(annal_module, abi_minor)
        ))
        return out.take();
    const bool readable = module->struct_size >= ANNAL_SIZE_1_0(annal_module, id);
    const auto id = readable && module->abi_major == ANNAL_ABI_MAJOR
                        ? view_of(module->id, kTextBytesMax)
                        : std::string_view();
    if (!id.empty()) out.set_subject("module " + in_quotes(id));
    if (!check_version(*module, out)) return out.take();
    if (!out.long_enough(
            "annal_module", module->struct_size, ANNAL_SIZE_1_0(annal_module, components)
        ))
        return out.take();
    check_identity(*module, out);
    if (module->n_components == 0 || !module->components) {
        out.add("has no components");
        return out.take();
    }
    if (module->n_components > kComponentsMax) {
        out.add(
            "has " + std::to_string(module->n_components) + " components, at most " +
            std::to_string(kComponentsMax) + " are allowed"
        );
        return out.take();
    }
    Taken taken;
    for (std::uint32_t i = 0; i < module->n_components; ++i)
        check_component(module->components[i], i, taken, out);
    return out.take();
}

Result<void> check_module(const annal_module* module) {
    const auto defects = module_defects(module);
    if (defects.empty()) return ok();
    std::string detail;
    for (const auto& defect : defects) detail += (detail.empty() ? "" : "; ") + defect;
    return Error{Errc::unsupported, std::move(detail)};
}

}  // namespace annal
