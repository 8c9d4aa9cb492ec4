#include "runtime/plugin/manifest.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <system_error>

#include "runtime/core/json_text.h"
#include "runtime/plugin/manifest_document.h"
#include "runtime/plugin/manifest_words.h"
#include "runtime/plugin/manifest_yaml.h"

namespace annal {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::string reason(const std::error_code& error) {
    return error.message();
}

/// The files that `path` stands for, in order of name.
std::vector<fs::path> files_of(const fs::path& path, std::vector<ManifestError>& errors) {
    std::error_code error;
    const auto status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found || error) {
        errors.push_back(
            {path,
             0,
             "",
             "no such file or folder" + (error ? " (" + reason(error) + ")" : std::string())}
        );
        return {};
    }
    if (!fs::is_directory(status)) return {path};
    std::vector<fs::path> out;
    fs::directory_iterator entries(path, error);
    for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
        const auto extension = entries->path().extension();
        std::error_code ignored;  // a broken link is reported when it is read
        if ((extension == ".yaml" || extension == ".yml") && !entries->is_directory(ignored)) {
            out.push_back(entries->path());
        }
    }
    if (error) errors.push_back({path, 0, "", "can't list this folder: " + reason(error)});
    std::sort(out.begin(), out.end());
    return out;
}

std::optional<std::string> read_file(const fs::path& file, ManifestErrors& errors) {
    std::error_code error;
    if (!fs::is_regular_file(file, error)) {
        errors.add(0, "", error ? "can't read this file: " + reason(error) : "is no regular file");
        return std::nullopt;
    }
    std::ifstream stream(file, std::ios::binary);
    if (!stream) {
        errors.add(0, "", "can't read this file: " + std::generic_category().message(errno));
        return std::nullopt;
    }
    std::string text(kManifestBytesMax + 1, '\0');
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(stream.gcount()));
    if (stream.bad()) {
        errors.add(0, "", "can't read this file: " + std::generic_category().message(errno));
        return std::nullopt;
    }
    return text;
}

int line_at(std::string_view text, std::size_t offset) {
    return 1 + static_cast<int>(std::count(
                   text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), '\n'
               ));
}

/// Bytes that no YAML document may hold, found before the parser sees them.
bool check_bytes(std::string_view text, ManifestErrors& errors) {
    if (text.size() > kManifestBytesMax) {
        errors.add(0, "", "is larger than 1 MiB, the most that a manifest file may have");
        return false;
    }
    if (const auto zero = text.find('\0'); zero != std::string_view::npos) {
        errors.add(line_at(text, zero), "", "holds a zero byte: manifests are UTF-8 text");
        return false;
    }
    if (is_utf8(text)) return true;
    for (std::size_t begin = 0; begin < text.size();) {
        const auto end = std::min(text.find('\n', begin), text.size());
        if (!is_utf8(text.substr(begin, end - begin))) {
            errors.add(line_at(text, begin), "", "is not UTF-8");
            return false;
        }
        begin = end + 1;
    }
    return false;
}

/// A document as far as it could be read. A faulty one still takes part in the comparison with its
/// neighbours.
struct Document {
    Manifest manifest;
    bool sound = true;
};

void read_one(
    const fs::path& file, std::vector<Document>& documents, std::vector<ManifestError>& out
) {
    ManifestErrors errors(file);
    auto text = read_file(file, errors);
    if (text && text->starts_with(kByteOrderMark)) text->erase(0, kByteOrderMark.size());
    if (text && check_bytes(*text, errors)) {
        for (const auto& node : read_yaml(*text, errors)) {
            const ManifestField document(errors, node, "", line_of(node, 1));
            if (document.is_null()) continue;
            Document read;
            read.manifest.file = file;
            read.sound = read_document(document, read.manifest);
            documents.push_back(std::move(read));
        }
    }
    auto found = errors.take();
    std::move(found.begin(), found.end(), std::back_inserter(out));
}

std::string place(const Manifest& manifest, int line) {
    return manifest.file.string() + ":" + std::to_string(line);
}

void refuse_shared_names(std::vector<Document>& documents, std::vector<ManifestError>& errors) {
    std::map<std::string, const Manifest*> first;
    for (auto& [manifest, sound] : documents) {
        if (manifest.instance.empty()) continue;
        const auto [entry, fresh] = first.emplace(manifest.instance, &manifest);
        if (fresh) continue;
        sound = false;
        errors.push_back(
            {manifest.file,
             manifest.line,
             "/metadata/name",
             "the name " + in_quotes(manifest.instance) + " is taken by " +
                 place(*entry->second, entry->second->line) + ": every instance needs its own"}
        );
    }
}

void refuse_shared_routes(std::vector<Document>& documents, std::vector<ManifestError>& errors) {
    std::map<std::string, std::string> owners;
    for (auto& [manifest, sound] : documents) {
        for (const auto& trigger : manifest.http) {
            for (const auto& method : trigger.methods) {
                const auto owner = manifest.instance + " (" + place(manifest, trigger.line) + ")";
                const auto key = method + " " + route_shape(trigger.route);
                const auto [entry, fresh] = owners.emplace(key, owner);
                if (fresh || trigger.route.empty()) continue;
                sound = false;
                errors.push_back(
                    {manifest.file,
                     trigger.line,
                     "/spec/triggers",
                     method + " " + trigger.route + " of trigger " + in_quotes(trigger.name) +
                         " is answered by " + entry->second + " already"}
                );
            }
        }
    }
}

/// In the order in which the files were read, then by line.
void sort_errors(const std::vector<fs::path>& files, std::vector<ManifestError>& errors) {
    const auto rank = [&](const ManifestError& error) {
        return std::find(files.begin(), files.end(), error.file) - files.begin();
    };
    std::stable_sort(errors.begin(), errors.end(), [&](const auto& a, const auto& b) {
        return std::pair(rank(a), a.line) < std::pair(rank(b), b.line);
    });
}

}  // namespace

std::string ManifestError::text() const {
    std::string out = file.string();
    if (line > 0) out += ":" + std::to_string(line);
    if (!pointer.empty()) out += ": " + pointer;
    return in_one_line(out + ": " + message);
}

int Manifest::config_line_of(std::string_view pointer) const {
    while (!pointer.empty()) {
        const auto found = config_lines.find(pointer);
        if (found != config_lines.end()) return found->second;
        pointer = pointer.substr(0, pointer.rfind('/'));
    }
    return config_line;
}

ManifestSet read_manifests(const std::vector<fs::path>& paths) {
    ManifestSet out;
    std::vector<Document> documents;
    std::vector<fs::path> files, seen;
    for (const auto& path : paths) {
        for (const auto& file : files_of(path, out.errors)) {
            const auto same = fs::absolute(file).lexically_normal();
            if (std::find(seen.begin(), seen.end(), same) != seen.end()) continue;
            seen.push_back(same);
            files.push_back(file);
            read_one(file, documents, out.errors);
        }
    }
    refuse_shared_names(documents, out.errors);
    refuse_shared_routes(documents, out.errors);
    sort_errors(files, out.errors);
    for (auto& [manifest, sound] : documents) {
        if (sound) out.manifests.push_back(std::move(manifest));
    }
    return out;
}

}  // namespace annal
