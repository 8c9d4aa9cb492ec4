#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace annal::abi_test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::Not;

/// Names that `library` offers to others.
std::vector<std::string> exports_of(const fs::path& library) {
    const std::string command = "nm -D --defined-only '" + library.string() + "'";
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
    std::vector<std::string> out;
    std::array<char, 4096> line{};
    while (pipe && std::fgets(line.data(), static_cast<int>(line.size()), pipe.get())) {
        std::istringstream words(line.data());
        std::string address, kind, name;
        words >> address >> kind >> name;
        out.push_back(name);
    }
    return out;
}

/// Folders of plugins/ that build a library.
std::vector<std::string> plugin_names() {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(fs::path(ANNAL_SOURCE_DIR) / "plugins")) {
        if (fs::exists(entry.path() / "CMakeLists.txt"))
            out.push_back(entry.path().filename().string());
    }
    return out;
}

TEST(Exports, EveryPluginExportsItsEntryAndNothingElse) {
    const auto folder = fs::path(ANNAL_BINARY_DIR) / "plugins";
    for (const auto& name : plugin_names()) {
        EXPECT_TRUE(fs::exists(folder / (name + ".so")))
            << "plugins/" << name << " has built no " << name << ".so";
    }
    int libraries = 0;
    for (const auto& entry : fs::directory_iterator(folder)) {
        if (entry.path().extension() != ".so") continue;
        ++libraries;
        EXPECT_THAT(exports_of(entry.path()), ElementsAre("annal_module_v1")) << entry.path();
    }
    EXPECT_GE(libraries, 1);
}

TEST(Exports, TheCheckSeesOtherNames) {
    EXPECT_THAT(
        exports_of(fs::path(ANNAL_BINARY_DIR) / "abi_modules/no_symbol.so"),
        Not(ElementsAre("annal_module_v1"))
    );
    EXPECT_THAT(
        exports_of(fs::path(ANNAL_BINARY_DIR) / "abi_modules/absent/libannal_absent.so"),
        ::testing::Contains("absent_function")
    );
}

}  // namespace
}  // namespace annal::abi_test
