#include "runtime/app/key_ring.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

namespace annal {
namespace {

namespace fs = std::filesystem;

struct KeyRingTest : testing::Test {
    fs::path folder =
        fs::path(testing::TempDir()) / ("annal-key-ring-" + std::to_string(::getpid()));
    fs::path file = folder / "keyring";
    void SetUp() override { fs::create_directories(folder); }
    void TearDown() override { fs::remove_all(folder); }
    void write(
        const std::string& text, fs::perms perms = fs::perms::owner_read | fs::perms::owner_write
    ) {
        std::ofstream(file) << text;
        fs::permissions(file, perms);
    }
};

TEST_F(KeyRingTest, IsMadeOncePrivateAndKept) {
    auto made = KeyRing::open(file, true);
    ASSERT_TRUE(made.has_value());
    struct stat info {};
    ASSERT_EQ(::stat(file.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U);
    auto again = KeyRing::open(file, true);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(made.value().derive("a"), again.value().derive("a"));
    EXPECT_NE(made.value().derive("a"), made.value().derive("b"));
    EXPECT_EQ(made.value().derive("a").size(), 32U);
}

TEST_F(KeyRingTest, IsNotMadeWhereThatWasNotAskedFor) {
    EXPECT_EQ(KeyRing::open(file, false).error().code, Errc::not_found);
    EXPECT_FALSE(fs::exists(file));
}

TEST_F(KeyRingTest, RefusesAFileThatOthersCanRead) {
    write("k1:" + std::string(64, 'a') + "\n", fs::perms::owner_read | fs::perms::group_read);
    auto opened = KeyRing::open(file, false);
    ASSERT_FALSE(opened.has_value());
    EXPECT_EQ(opened.error().code, Errc::denied);
    EXPECT_NE(opened.error().detail.find("chmod 600"), std::string::npos);
}

TEST_F(KeyRingTest, NamesTheDamagedLine) {
    for (const std::string& bad : std::vector<std::string>{
             "k2:abc",
             "nonsense",
             ":" + std::string(64, 'a'),
             "k2:" + std::string(63, 'a') + "g"}) {
        write("# keys\nk1:" + std::string(64, 'a') + "\n" + bad + "\n");
        auto opened = KeyRing::open(file, false);
        ASSERT_FALSE(opened.has_value()) << bad;
        EXPECT_NE(opened.error().detail.find("keyring:3:"), std::string::npos)
            << opened.error().detail;
    }
}

TEST_F(KeyRingTest, RefusesAnEmptyRing) {
    write("# nothing\n");
    EXPECT_EQ(KeyRing::open(file, false).error().code, Errc::invalid);
}

TEST_F(KeyRingTest, RefusesTwoKeysOfOneName) {
    write("k1:" + std::string(64, 'b') + "\nk1:" + std::string(64, 'a') + "\n");
    const auto opened = KeyRing::open(file, false);
    ASSERT_FALSE(opened.has_value());
    EXPECT_NE(opened.error().detail.find("keyring:2: another key"), std::string::npos)
        << opened.error().detail;
}

TEST_F(KeyRingTest, ANewFirstKeySealsAndTheOldOneStillOpens) {
    const std::string old_line = KeyRing::new_line(), new_line = KeyRing::new_line("k2");
    EXPECT_EQ(new_line.rfind("k2:", 0), 0U);
    write(old_line);
    const KeyRing before = KeyRing::open(file, false).value();
    write(new_line + old_line);
    const KeyRing both = KeyRing::open(file, false).value();
    write(new_line);
    const KeyRing after = KeyRing::open(file, false).value();
    EXPECT_EQ(both.ids(), (std::vector<std::string>{"k2", "k1"}));
    EXPECT_EQ(
        both.fingerprints(),
        (std::vector<std::string>{after.fingerprints().at(0), before.fingerprints().at(0)})
    );
    EXPECT_EQ(both.derive_all("x"), (std::vector{after.derive("x"), before.derive("x")}));
    const std::string sealed = before.secret_box().seal("p", "o", "sesame");
    EXPECT_EQ(both.secret_box().open("p", "o", sealed).value(), "sesame");
    EXPECT_FALSE(both.secret_box().is_current(sealed));
    EXPECT_EQ(after.secret_box().open("p", "o", sealed).error().code, Errc::unavailable);
}

TEST_F(KeyRingTest, KnowsWhatAKeyMayBeCalled) {
    for (const char* good : {"k1", "2026-05_a", "K"}) EXPECT_TRUE(KeyRing::is_id(good)) << good;
    for (const std::string& bad :
         {std::string(),
          std::string("a.b"),
          std::string("a:b"),
          std::string("a b"),
          std::string("\"k\""),
          std::string(33, 'k')})
        EXPECT_FALSE(KeyRing::is_id(bad)) << bad;
}

TEST_F(KeyRingTest, TakesTheFirstKeyForTheCurrentOne) {
    write("k2:" + std::string(64, 'b') + "\nk1:" + std::string(64, 'a') + "\n");
    const std::string two = KeyRing::open(file, false).value().derive("x");
    write("k2:" + std::string(64, 'b') + "\n");
    EXPECT_EQ(KeyRing::open(file, false).value().derive("x"), two);
}

}  // namespace
}  // namespace annal
