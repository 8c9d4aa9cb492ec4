#include "runtime/store/sqlite/directory.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

namespace annal::sqlite {
namespace fs = std::filesystem;
namespace {

class DirectoryTest : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "annal-dir-XXXXXX").string();
        root_ = ::mkdtemp(pattern.data());
    }
    void TearDown() override { fs::remove_all(root_); }
    static void touch(const fs::path& path) { std::ofstream(path) << "x"; }

    fs::path root_;
};

TEST_F(DirectoryTest, IsMadePrivateAndHeldByOneProcess) {
    const fs::path data = root_ / "a" / "data";
    {
        const auto first = Directory::open(data);
        ASSERT_TRUE(first.has_value()) << first.error().detail;
        struct stat status {};
        ASSERT_EQ(::stat(data.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777, 0700U);
        const auto second = Directory::open(data);
        ASSERT_TRUE(second.has_error());
        EXPECT_EQ(second.error().code, Errc::conflict);
        EXPECT_NE(second.error().detail.find(std::to_string(::getpid())), std::string::npos);
        EXPECT_NE(second.error().detail.find(data.string()), std::string::npos);
    }
    EXPECT_TRUE(Directory::open(data).has_value());
}

TEST_F(DirectoryTest, UnusablePathIsNamed) {
    touch(root_ / "file");
    for (const fs::path& path : {root_ / "file", root_ / "file" / "below"}) {
        const auto opened = Directory::open(path);
        ASSERT_TRUE(opened.has_error());
        EXPECT_EQ(opened.error().code, Errc::unavailable);
        EXPECT_NE(opened.error().detail.find(path.string()), std::string::npos);
    }
}

TEST_F(DirectoryTest, ListsSegmentsAndLeavesStrangersAlone) {
    auto directory = Directory::open(root_);
    ASSERT_TRUE(directory.has_value());
    const Month march{2026 * 12 + 2}, april{2026 * 12 + 3};
    ASSERT_TRUE(directory.value().make_month(march).has_value());
    ASSERT_TRUE(directory.value().make_month(april).has_value());
    touch(directory.value().segment(12, april));
    touch(directory.value().segment(3, march));
    touch(directory.value().search(3, march));
    touch(directory.value().month(march) / "notes.db");
    fs::create_directory(root_ / "segments" / "backup");
    touch(root_ / "segments" / "backup" / "00000001.db");
    auto names = directory.value().segments();
    ASSERT_EQ(names.value().size(), 2U);
    EXPECT_EQ(names.value()[0].number, 3);
    EXPECT_EQ(names.value()[0].month, march);
    EXPECT_EQ(names.value()[1].number, 12);
    ASSERT_TRUE(directory.value().drop_month(march).has_value());
    EXPECT_FALSE(fs::exists(directory.value().month(march)));
    int removed = 0;
    while (directory.value().free_dropped()) ++removed;
    EXPECT_EQ(removed, 4) << "three files and their folder, one at a time";
    names = directory.value().segments();
    EXPECT_EQ(names.value().size(), 1U);
    EXPECT_FALSE(fs::exists(root_ / "segments" / "dropped-2026-03"));
    EXPECT_TRUE(fs::exists(root_ / "segments" / "backup"));
}

class DroppedFile : public DirectoryTest {
protected:
    static constexpr std::int64_t kStep = Directory::kFreedAtOnce;

    /// Two and a half steps long.
    void SetUp() override {
        DirectoryTest::SetUp();
        directory_.emplace(Directory::open(root_).value());
        ASSERT_TRUE(directory_->make_month(kMarch).has_value());
        touch(directory_->segment(3, kMarch));
        fs::resize_file(directory_->segment(3, kMarch), kStep * 5 / 2);
    }
    void drop() {
        ASSERT_TRUE(directory_->drop_month(kMarch).has_value());
        file_ = fs::directory_iterator(root_ / "segments" / "dropped-2026-03")->path();
    }

    static constexpr Month kMarch{2026 * 12 + 2};
    std::optional<Directory> directory_;
    fs::path file_;
};

TEST_F(DroppedFile, GoesInSteps) {
    drop();
    ASSERT_TRUE(directory_->free_dropped());
    EXPECT_EQ(fs::file_size(file_), kStep * 3 / 2);
    ASSERT_TRUE(directory_->free_dropped());
    EXPECT_EQ(fs::file_size(file_), kStep / 2);
    ASSERT_TRUE(directory_->free_dropped());
    EXPECT_FALSE(fs::exists(file_));
}

TEST_F(DroppedFile, StaysWholeInACopyThatSharesIt) {
    fs::create_hard_link(directory_->segment(3, kMarch), root_ / "copy.db");
    drop();
    ASSERT_TRUE(directory_->free_dropped());
    EXPECT_FALSE(fs::exists(file_));
    EXPECT_EQ(fs::file_size(root_ / "copy.db"), kStep * 5 / 2);
}

// A query that goes on in it would find it damaged.
TEST_F(DroppedFile, StaysWholeForWhoeverReadsIt) {
    std::ifstream reader(directory_->segment(3, kMarch), std::ios::ate);
    drop();
    ASSERT_TRUE(directory_->free_dropped());
    EXPECT_FALSE(fs::exists(file_));
    reader.seekg(0, std::ios::end);
    EXPECT_EQ(reader.tellg(), kStep * 5 / 2);
}

}  // namespace
}  // namespace annal::sqlite
