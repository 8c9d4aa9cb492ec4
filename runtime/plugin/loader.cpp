#include "runtime/plugin/loader.h"

#include <dlfcn.h>

#include <boost/dll/shared_library.hpp>
#include <fstream>

#include "runtime/core/crypto.h"
#include "runtime/plugin/manifest_words.h"

namespace annal {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEntry = "annal_module_v1";
constexpr int kEntryMajorsMax = 9;

using Entry = const annal_module*();

/// Libraries stay for the life of the process: code of theirs may run in thread-local destructors
/// and static data of theirs is handed around. The list itself is never destroyed either.
std::vector<std::unique_ptr<boost::dll::shared_library>>& pinned() {
    static auto* libraries = new std::vector<std::unique_ptr<boost::dll::shared_library>>();
    return *libraries;
}

Result<fs::path> find_library(const std::vector<fs::path>& folders, const std::string& name) {
    std::string looked_in;
    for (const auto& folder : folders) {
        const auto path = folder / (name + ".so");
        std::error_code error;
        if (fs::is_regular_file(path, error)) return path;
        looked_in += (looked_in.empty() ? "" : ", ") + folder.string();
    }
    return Error{
        Errc::not_found,
        "there is no library " + name + ".so in " +
            (looked_in.empty() ? "any plugin folder: none is configured" : looked_in) +
            ": install it there, or correct spec.library.name"};
}

Result<std::string> file_sha256(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    Sha256 hash;
    std::string buffer(64U << 10, '\0');
    while (file) {
        file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
        hash.update(std::string_view(buffer.data(), static_cast<std::size_t>(file.gcount())));
    }
    if (!file.eof())
        return Error{
            Errc::denied,
            path.string() + ": can't be read: " + std::generic_category().message(errno)};
    return to_hex(hash.finish());
}

Result<void> check_pin(
    const fs::path& path, const std::string& has, const std::optional<std::string>& wants
) {
    if (!wants || *wants == has) return ok();
    return Error{
        Errc::denied,
        path.string() + ": its sha256 is " + has + ", the manifest pins " + *wants +
            ": it is another build; check where it came from before you change the manifest"};
}

/// The one place where a library's code begins to run.
Result<boost::dll::shared_library*> open_library(const fs::path& path) {
    using boost::dll::load_mode::rtld_local;
    using boost::dll::load_mode::rtld_now;
    auto library = std::make_unique<boost::dll::shared_library>();
    std::error_code error;
    library->load(fs::absolute(path), error, rtld_now | rtld_local);
    if (error) {
        // Boost.DLL's code says nothing; the loader's own words name the missing dependency or
        // symbol.
        const char* words = dlerror();
        const std::string reason = words ? words : error.message();
        return Error{Errc::unsupported, path.string() + ": can't be loaded: " + reason};
    }
    pinned().push_back(std::move(library));
    return pinned().back().get();
}

std::string missing_entry(const fs::path& path, const boost::dll::shared_library& library) {
    for (int major = 2; major <= kEntryMajorsMax; ++major) {
        if (!library.has("annal_module_v" + std::to_string(major))) continue;
        return path.string() + ": was built for Annal plugin ABI " + std::to_string(major) +
               ", this host speaks " + std::to_string(ANNAL_ABI_MAJOR) +
               ": rebuild it against annal-sdk " + std::to_string(ANNAL_ABI_MAJOR);
    }
    return path.string() + ": does not export " + kEntry +
           ": it is no Annal plugin, or was built without annal_add_plugin()";
}

Result<const annal_module*> enter(const fs::path& path, const boost::dll::shared_library& library) {
    if (!library.has(kEntry)) return Error{Errc::unsupported, missing_entry(path, library)};
    // dlsym's own type: boost::dll::shared_library::get would cast to a reference through the same
    // pointer.
    auto* entry = reinterpret_cast<Entry*>(dlsym(library.native(), kEntry));
    try {
        return entry();
    } catch (...) {
        return Error{
            Errc::unsupported,
            path.string() + ": " + kEntry + " threw an exception; it must return static data"};
    }
}

}  // namespace

Result<const Module*> Loader::load(
    const std::string& name, const std::optional<std::string>& sha256
) {
    if (!is_library_name(name)) {
        return Error{
            Errc::not_found,
            in_quotes(name) +
                " is no library name: give the name of a file in the plugin folders, without .so"};
    }
    BOOST_OUTCOME_TRY(auto path, find_library(folders_, name));
    for (const auto& module : modules_) {
        if (module->path != path) continue;
        BOOST_OUTCOME_TRY(check_pin(path, module->sha256, sha256));
        return module.get();
    }
    BOOST_OUTCOME_TRY(auto digest, file_sha256(path));
    BOOST_OUTCOME_TRY(check_pin(path, digest, sha256));
    BOOST_OUTCOME_TRY(auto* library, open_library(path));
    BOOST_OUTCOME_TRY(const auto* descriptor, enter(path, *library));
    if (auto checked = check_module(descriptor); !checked) {
        auto error = std::move(checked).error();
        error.detail = path.string() + ": " + error.detail;
        return error;
    }
    modules_.push_back(std::make_unique<Module>(Module{
        descriptor, std::move(path), std::move(digest)}));
    return modules_.back().get();
}

}  // namespace annal
