#include "runtime/plugin/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace annal::abi_test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

const fs::path kModules = fs::path(ANNAL_BINARY_DIR) / "abi_modules";

class LoaderTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "annal-loader-XXXXXX").string();
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        folder_ = pattern;
    }
    void TearDown() override { fs::remove_all(folder_); }

    Error refusal(
        const std::string& name, const std::optional<std::string>& sha256 = std::nullopt
    ) {
        auto loaded = loader_.load(name, sha256);
        if (!loaded) return std::move(loaded).error();
        ADD_FAILURE() << name << " was loaded";
        return {};
    }

    fs::path folder_;
    Loader loader_{{fs::path("/nonexistent/plugins"), kModules}};
};

TEST_F(LoaderTest, LoadsAGoodModuleOnce) {
    const auto first = loader_.load("good", std::nullopt);
    ASSERT_TRUE(first) << first.error().detail;
    const auto* module = first.value();
    EXPECT_STREQ(module->descriptor->id, "org.annal.test");
    EXPECT_EQ(module->path, kModules / "good.so");
    EXPECT_EQ(module->sha256.size(), 64U);
    EXPECT_EQ(loader_.load("good", std::nullopt).value(), module);
    EXPECT_EQ(loader_.load("good", module->sha256).value(), module);
}

TEST_F(LoaderTest, OutlivesItsLoader) {
    const annal_module* descriptor = nullptr;
    {
        Loader passing({kModules});
        descriptor = passing.load("good", std::nullopt).value()->descriptor;
    }
    EXPECT_STREQ(descriptor->components[0]->name, "only");
    Loader second({kModules});
    EXPECT_EQ(second.load("good", std::nullopt).value()->descriptor, descriptor);
}

TEST_F(LoaderTest, ThePinIsComparedBeforeAnyCodeRuns) {
    const std::string wrong(64, '0');
    const auto error = refusal("good", wrong);
    EXPECT_EQ(error.code, Errc::denied);
    EXPECT_THAT(
        error.detail,
        AllOf(HasSubstr("good.so: its sha256 is "), HasSubstr("the manifest pins " + wrong))
    );
    // Even where loading would fail for another reason.
    EXPECT_EQ(refusal("not_elf", wrong).code, Errc::denied);
    ASSERT_TRUE(loader_.load("good", std::nullopt));
    EXPECT_EQ(refusal("good", wrong).code, Errc::denied)
        << "a module that is loaded already is compared too";
}

TEST_F(LoaderTest, RefusesEachFaultInItsOwnWords) {
    struct Case {
        const char* name;
        std::vector<std::string> says;
    };
    const std::vector<Case> cases = {
        {"wrong_major",
         {"was built for Annal plugin ABI 2.3, this host speaks 1.3: rebuild it against annal-sdk "
          "1"}},
        {"newer_minor",
         {"module \"org.annal.test\" was built for Annal plugin ABI 1.7, this host speaks 1.3: "
          "update Annal"}},
        {"no_symbol", {"does not export annal_module_v1"}},
        {"next_symbol",
         {"was built for Annal plugin ABI 2, this host speaks 1: rebuild it against annal-sdk 1"}},
        {"short_struct", {"annal_module of 40 bytes", "needs 56"}},
        {"missing_function", {"component \"only\" lacks the function send"}},
        {"not_elf", {"can't be loaded", "invalid ELF header"}},
        {"missing_dependency", {"can't be loaded", "libannal_absent.so", "No such file"}},
    };
    for (const auto& one : cases) {
        const auto error = refusal(one.name);
        EXPECT_EQ(error.code, Errc::unsupported) << one.name;
        EXPECT_THAT(error.detail, HasSubstr((kModules / one.name).string() + ".so: "))
            << "names the file";
        for (const auto& part : one.says) EXPECT_THAT(error.detail, HasSubstr(part)) << one.name;
    }
}

TEST_F(LoaderTest, AMissingLibraryNamesEveryFolder) {
    const auto error = refusal("nowhere");
    EXPECT_EQ(error.code, Errc::not_found);
    EXPECT_THAT(
        error.detail,
        AllOf(HasSubstr("nowhere.so"), HasSubstr("/nonexistent/plugins, " + kModules.string()))
    );
    Loader none({});
    EXPECT_THAT(none.load("x", std::nullopt).error().detail, HasSubstr("none is configured"));
}

TEST_F(LoaderTest, TakesNamesOnly) {
    for (const char* name :
         {"../abi_modules/good",
          "./good",
          "/lib/x86_64-linux-gnu/libc",
          "",
          ".good",
          "a/b",
          "good\n"}) {
        const auto error = refusal(name);
        EXPECT_EQ(error.code, Errc::not_found) << name;
        EXPECT_THAT(error.detail, HasSubstr("is no library name")) << name;
    }
}

TEST_F(LoaderTest, TheFirstFolderWins) {
    fs::copy_file(kModules / "good.so", folder_ / "good.so");
    Loader loader({folder_, kModules});
    EXPECT_EQ(loader.load("good", std::nullopt).value()->path, folder_ / "good.so");
}

TEST_F(LoaderTest, EmptyAndTruncatedFilesAreRefused) {
    std::ofstream(folder_ / "empty.so").flush();
    std::ifstream in(kModules / "good.so", std::ios::binary);
    const std::string whole{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    std::ofstream(folder_ / "half.so", std::ios::binary) << whole.substr(0, 100);
    fs::create_directory(folder_ / "folder.so");
    Loader loader({folder_});
    EXPECT_THAT(loader.load("empty", std::nullopt).error().detail, HasSubstr("file too short"));
    EXPECT_EQ(loader.load("half", std::nullopt).error().code, Errc::unsupported);
    EXPECT_EQ(loader.load("folder", std::nullopt).error().code, Errc::not_found);
}

}  // namespace
}  // namespace annal::abi_test
