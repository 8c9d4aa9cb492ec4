#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "annal/abi.h"
#include "runtime/core/result.h"

namespace annal {

/// A module that passed every check. Static data of a library that is never unloaded.
struct Module {
    const annal_module* descriptor = nullptr;
    std::filesystem::path path;
    std::string sha256;
};

/// Checks a descriptor without a library behind it: ABI major and minor, struct sizes, names, and
/// that every required function of every component is there. @error Errc::unsupported  Names the
/// module, what it has, what is needed, and the remedy.
[[nodiscard]] Result<void> check_module(const annal_module* module);

/// Loads libraries by name from a list of folders and keeps them for the life of the process. Not
/// thread-safe; used at start.
class Loader {
public:
    explicit Loader(std::vector<std::filesystem::path> folders) : folders_(std::move(folders)) {}
    /// @error Errc::not_found    No `<name>.so` in any folder (all are named).
    /// @error Errc::unsupported  Not a shared library, no annal_module_v1, another ABI, short
    /// struct, missing function.
    /// @error Errc::denied       The file's sha256 is not the one the manifest pins.
    [[nodiscard]] Result<const Module*> load(
        const std::string& name, const std::optional<std::string>& sha256
    );

private:
    std::vector<std::filesystem::path> folders_;
    std::vector<std::unique_ptr<Module>> modules_;
};

}  // namespace annal
