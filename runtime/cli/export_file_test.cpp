#include "runtime/cli/export_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace annal::cli {
namespace {

namespace fs = std::filesystem;
using Mode = ExportFile::Mode;

class ExportFileTest : public testing::Test {
protected:
    void SetUp() override {
        std::string name = (fs::temp_directory_path() / "annal-export-XXXXXX").string();
        folder = mkdtemp(name.data());
        path = folder / "out.jsonl";
    }
    void TearDown() override { fs::remove_all(folder); }

    static std::string read(const fs::path& file) {
        std::ifstream in(file, std::ios::binary);
        std::stringstream text;
        text << in.rdbuf();
        return text.str();
    }
    Result<ExportFile> open(Mode mode) const { return ExportFile::open(path, wish, mode); }
    /// An export that is interrupted behind its first page.
    void interrupt() const {
        ExportFile file = open(Mode::fresh).value();
        ASSERT_TRUE(file.write("one\ntwo\n"));
        ASSERT_TRUE(file.keep({"cursor-2", 0, 2, 5}));
        ASSERT_TRUE(file.write("thr"));
    }
    fs::path partial() const { return path.string() + ".partial"; }
    fs::path state() const { return path.string() + ".partial.state"; }

    fs::path folder, path;
    ExportWish wish{"proj_a", "jsonl", "?type=a.b"};
};

TEST_F(ExportFileTest, GetsItsNameOnlyWhenItIsWhole) {
    ExportFile file = open(Mode::fresh).value();
    ASSERT_TRUE(file.write("one\n"));
    EXPECT_FALSE(fs::exists(path));
    ASSERT_TRUE(file.keep({"cursor-1", 0, 1, 0}));
    EXPECT_TRUE(fs::exists(state()));
    ASSERT_TRUE(file.finish());
    EXPECT_EQ(read(path), "one\n");
    EXPECT_FALSE(fs::exists(partial()));
    EXPECT_FALSE(fs::exists(state()));
}

TEST_F(ExportFileTest, GoesOnBehindTheLastKeptPosition) {
    interrupt();
    EXPECT_EQ(read(partial()), "one\ntwo\nthr");
    ExportFile file = open(Mode::resume).value();
    EXPECT_EQ(file.position().cursor, "cursor-2");
    EXPECT_EQ(file.position().rows, 2U);
    EXPECT_EQ(file.position().total, 5U);
    EXPECT_EQ(file.position().bytes, 8U);
    ASSERT_TRUE(file.write("three\n"));
    ASSERT_TRUE(file.finish());
    EXPECT_EQ(read(path), "one\ntwo\nthree\n");
}

TEST_F(ExportFileTest, GoesBackWithinOneProcess) {
    ExportFile file = open(Mode::fresh).value();
    ASSERT_TRUE(file.write("lost"));
    ASSERT_TRUE(file.go_back());
    ASSERT_TRUE(file.write("one\n"));
    ASSERT_TRUE(file.keep({"cursor-1", 0, 1, 0}));
    ASSERT_TRUE(file.write("lost again"));
    ASSERT_TRUE(file.go_back());
    ASSERT_TRUE(file.finish());
    EXPECT_EQ(read(path), "one\n");
}

TEST_F(ExportFileTest, NeverThrowsAwayUnasked) {
    interrupt();
    const auto refused = open(Mode::fresh);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::invalid);
    for (const char* word : {"2 rows", "--resume", "--overwrite", "filter type=a.b"})
        EXPECT_NE(refused.error().detail.find(word), std::string::npos) << refused.error().detail;
    EXPECT_EQ(read(partial()), "one\ntwo\nthr") << "the refusal must not touch it";
    ExportFile anew = open(Mode::overwrite).value();
    EXPECT_EQ(anew.position().cursor, "");
    EXPECT_EQ(read(partial()), "");
    EXPECT_FALSE(fs::exists(state()));
}

TEST_F(ExportFileTest, RefusesToGoOnWithSomethingElse) {
    interrupt();
    for (const ExportWish& other :
         {ExportWish{"proj_b", "jsonl", "?type=a.b"},
          ExportWish{"proj_a", "csv", "?type=a.b"},
          ExportWish{"proj_a", "jsonl", ""}}) {
        const auto refused = ExportFile::open(path, other, Mode::resume);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Errc::invalid);
    }
    EXPECT_EQ(open(Mode::resume).value().position().rows, 2U);
}

TEST_F(ExportFileTest, RefusesWhatIsDamaged) {
    interrupt();
    fs::resize_file(partial(), 7);
    auto refused = open(Mode::resume);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().detail.find("shorter"), std::string::npos);
    std::ofstream(state()) << "{\"version\": 1";
    refused = open(Mode::resume);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().detail.find("damaged"), std::string::npos);
    EXPECT_TRUE(open(Mode::overwrite));
}

TEST_F(ExportFileTest, BeginsWhereNothingCanBeGoneOnWith) {
    EXPECT_EQ(open(Mode::resume).value().position().cursor, "");
    std::ofstream(partial()) << "without a state";
    EXPECT_TRUE(open(Mode::fresh));
    EXPECT_EQ(read(partial()), "");
}

TEST_F(ExportFileTest, OneProcessAtATime) {
    const auto first = open(Mode::fresh);
    ASSERT_TRUE(first);
    for (const Mode mode : {Mode::fresh, Mode::resume, Mode::overwrite}) {
        const auto second = open(mode);
        ASSERT_FALSE(second);
        EXPECT_EQ(second.error().code, Errc::conflict);
    }
}

TEST_F(ExportFileTest, SaysWhereItCannotWrite) {
    path = folder / "none" / "out";
    const auto refused = open(Mode::fresh);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::unavailable);
    EXPECT_NE(refused.error().detail.find("none/out.partial"), std::string::npos);
}

}  // namespace
}  // namespace annal::cli
