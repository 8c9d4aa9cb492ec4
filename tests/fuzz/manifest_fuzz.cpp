// Reads arbitrary bytes as a file of manifests. Whatever they are: nothing is thrown, every error
// is one line that names the file and a line within it, what is not reported is a whole manifest,
// and reading again says the same.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>

#include "runtime/core/json_text.h"
#include "runtime/plugin/manifest.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using annal::fuzz::require;

/// A file in memory that holds `text`.
class MemoryFile {
public:
    explicit MemoryFile(std::string_view text) : fd_(::memfd_create("manifest", 0)) {
        require(fd_ >= 0);
        require(::write(fd_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }
    ~MemoryFile() { ::close(fd_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;
    [[nodiscard]] std::filesystem::path path() const {
        return "/proc/self/fd/" + std::to_string(fd_);
    }

private:
    int fd_;
};

void check_error(const annal::ManifestError& error, const MemoryFile& file, int lines) {
    require(error.file == file.path());
    require(error.line >= 0 && error.line <= lines);
    require(!error.message.empty());
    const std::string text = error.text();
    require(annal::is_utf8(text) && text.find_first_of("\r\n") == std::string::npos);
}

void check_manifest(const annal::Manifest& manifest, int lines) {
    require(!manifest.instance.empty() && !manifest.library.empty());
    require(manifest.library.find('/') == std::string::npos);
    require(manifest.line >= 1 && manifest.line <= lines);
    require(manifest.timeout_us > 0);
    for (const auto& trigger : manifest.http) {
        require(!trigger.name.empty() && !trigger.methods.empty() && !trigger.route.empty());
        require(trigger.line >= 1 && trigger.line <= lines);
    }
    for (const auto& trigger : manifest.events) {
        require(!trigger.name.empty() && !trigger.project.empty() && !trigger.patterns.empty());
        require(trigger.batch_events_max > 0 && trigger.batch_bytes_max > 0);
    }
    for (const auto& trigger : manifest.schedules) {
        require(!trigger.name.empty() && trigger.every_us > 0);
    }
    require(annal::is_utf8(manifest.config_json));
    require(manifest.config_json.starts_with('{') && manifest.config_json.ends_with('}'));
    for (const auto& [pointer, line] : manifest.config_lines) {
        require(manifest.config_line_of(pointer) == line && line <= lines);
    }
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const MemoryFile file(text);
    const auto set = annal::read_manifests({file.path()});
    // YAML 1.2 knows more line breaks than LF.
    const int lines = 1 + static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) {
                          return c == '\n' || c == '\r';
                      }));
    for (const annal::ManifestError& error : set.errors) {
        check_error(error, file, lines);
    }
    for (const annal::Manifest& manifest : set.manifests) {
        check_manifest(manifest, lines);
    }
    const auto again = annal::read_manifests({file.path()});
    require(again.errors.size() == set.errors.size());
    require(again.manifests.size() == set.manifests.size());
    return 0;
}
