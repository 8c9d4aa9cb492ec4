// What only the embedded store has: files that are damaged, missing, held by another process, or
// can't be synced.
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/core/metrics.h"
#include "runtime/core/run_task_impl.h"
#include "runtime/store/sqlite/sqlite_store.h"
#include "tests/contract/faulty_vfs.h"
#include "tests/contract/store_contract.h"

namespace annal::test {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

class SqliteFault : public testing::Test {
protected:
    static constexpr int kSegmentEvents = 50;

    void SetUp() override {
        install_faulty_vfs();
        std::string pattern = (fs::temp_directory_path() / "annal-fault-XXXXXX").string();
        root_ = ::mkdtemp(pattern.data());
        open();
    }
    void TearDown() override {
        vfs_fail_writes = false;
        vfs_fail_only("");
        store_.reset();
        fs::remove_all(root_);
    }

    Result<std::unique_ptr<EventStore>> try_open() {
        SqliteOptions options;
        options.directory = root_ / "data";
        options.segment_events_max = kSegmentEvents;
        options.readers = 2;
        return open_sqlite_store(options, clock_, metrics_);
    }
    void open() {
        auto opened = try_open();
        ASSERT_TRUE(opened.has_value()) << opened.error().detail;
        store_ = std::move(opened.value());
    }
    AppendOutcome append(const Unit& unit) {
        std::vector<AppendUnit> units = {unit.build()};
        return std::move(run_task(store_->append(units)).front());
    }
    void fill(const std::string& project, int events, std::string_view description = "text") {
        for (int i = 0; i < events; ++i) {
            clock_.advance(kSecondUs);
            ASSERT_TRUE(append(
                            Unit(project).event(
                                {{Column::action, "a.b"}, {Column::description, Text(description)}}
                            )
            ).has_value());
        }
    }
    [[nodiscard]] std::vector<fs::path> files(const std::string& extension) const {
        std::vector<fs::path> found;
        for (const auto& file : fs::recursive_directory_iterator(root_ / "data")) {
            if (file.path().extension() == extension &&
                file.path().string().find("segments") != std::string::npos) {
                found.push_back(file.path());
            }
        }
        std::sort(found.begin(), found.end());
        return found;
    }
    void wait_for_sidecars(std::size_t count) {
        for (int i = 0; i < 3'000 && files(".search").size() < count; ++i) {
            std::this_thread::sleep_for(milliseconds(20));
        }
        ASSERT_GE(files(".search").size(), count);
        std::this_thread::sleep_for(milliseconds(50));
    }
    Result<ScanPage> scan(
        const std::string& project, std::uint32_t limit, std::optional<Seq> after = {}
    ) {
        ScanRequest request;
        request.project = project;
        request.limit = limit;
        request.after = after;
        return run_task(store_->scan(request));
    }
    void close() {
        store_->close();
        store_.reset();
    }
    static void overwrite(const fs::path& file) {
        std::fstream(file, std::ios::in | std::ios::out | std::ios::binary)
            << std::string(20'000, 'X');
    }
    void remove_database(const fs::path& name) const {
        for (const char* suffix : {"", "-wal", "-shm"}) {
            fs::remove(root_ / "data" / (name.string() + suffix));
        }
    }
    void expect_refused(const std::vector<std::string>& words) {
        const auto refused = try_open();
        ASSERT_TRUE(refused.has_error());
        for (const std::string& word : words) {
            EXPECT_NE(refused.error().detail.find(word), std::string::npos)
                << refused.error().detail;
        }
    }
    /// Scans that come to these events fail and name them and the file; those before it work.
    void expect_hole(const std::string& project, Seq first, Seq last, const fs::path& file) {
        const auto before = scan(project, 10);
        ASSERT_TRUE(before.has_value()) << before.error().detail;
        const auto refused = scan(project, 200);
        ASSERT_TRUE(refused.has_error());
        EXPECT_EQ(refused.error().code, Errc::unavailable);
        const std::string range = "segment_unreadable: events " + std::to_string(first) + " to " +
                                  std::to_string(last) + " of project " + project;
        EXPECT_NE(refused.error().detail.find(range), std::string::npos) << refused.error().detail;
        EXPECT_NE(refused.error().detail.find(file.filename().string()), std::string::npos);
    }
    static void tamper(const fs::path& file, const char* sql) {
        sqlite3* db = nullptr;
        ASSERT_EQ(sqlite3_open(file.c_str(), &db), SQLITE_OK);
        ASSERT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK);
        ASSERT_GT(sqlite3_changes(db), 0);
        sqlite3_close(db);
    }
    /// Whether any file of the segments holds these bytes.
    [[nodiscard]] bool is_on_disk(const std::string& bytes) const {
        for (const auto& file : fs::recursive_directory_iterator(root_ / "data" / "segments")) {
            if (!file.is_regular_file()) {
                continue;
            }
            std::ifstream in(file.path(), std::ios::binary);
            const std::string content((std::istreambuf_iterator<char>(in)), {});
            if (content.find(bytes) != std::string::npos) {
                return true;
            }
        }
        return false;
    }

    fs::path root_;
    ManualClock clock_{1'773'500'000'000'000};
    Metrics metrics_;
    std::unique_ptr<EventStore> store_;
};

TEST_F(SqliteFault, SecondOpenNamesTheHolder) {
    const auto second = try_open();
    ASSERT_TRUE(second.has_error());
    EXPECT_EQ(second.error().code, Errc::conflict);
    EXPECT_NE(second.error().detail.find(std::to_string(::getpid())), std::string::npos);
}

TEST_F(SqliteFault, DamagedSegmentIsNamedAndTheRestIsServed) {
    fill("early", 50);
    fill("late", 60);
    wait_for_sidecars(2);
    close();
    const fs::path damaged = files(".db").front();
    overwrite(damaged);
    open();
    const auto refused = scan("early", 10);
    ASSERT_TRUE(refused.has_error());
    EXPECT_EQ(refused.error().code, Errc::unavailable);
    EXPECT_NE(refused.error().detail.find(damaged.filename().string()), std::string::npos)
        << refused.error().detail;
    EXPECT_TRUE(run_task(store_->action_counts("early", 0)).has_error());
    const auto served = scan("late", 100);
    ASSERT_TRUE(served.has_value()) << served.error().detail;
    EXPECT_EQ(served.value().batch.events.size(), 60U);
    ASSERT_TRUE(append(Unit("early").action("a.c")).has_value());
    const auto newest = scan("early", 1);
    ASSERT_TRUE(newest.has_value());
    EXPECT_EQ(newest.value().batch.events.at(0).seq, 50);
    EXPECT_TRUE(scan("early", 2, 51).has_error());
}

TEST_F(SqliteFault, MissingSegmentIsNoticed) {
    fill("p", 120);
    wait_for_sidecars(2);
    close();
    const fs::path lost = files(".db").front();
    fs::remove(lost);
    open();
    EXPECT_TRUE(scan("p", 20).has_value());
    const auto refused = scan("p", 200);
    ASSERT_TRUE(refused.has_error());
    EXPECT_NE(refused.error().detail.find(lost.filename().string()), std::string::npos)
        << refused.error().detail;
    // The log still goes on where it was.
    EXPECT_EQ(append(Unit("p").action("a.c")).value().at(0).seq, 120);
}

TEST_F(SqliteFault, DamagedNewestSegmentRefusesToOpen) {
    fill("p", 10);
    close();
    const fs::path damaged = files(".db").front();
    fs::remove(damaged.string() + "-wal");
    overwrite(damaged);
    const auto refused = try_open();
    ASSERT_TRUE(refused.has_error());
    EXPECT_EQ(refused.error().code, Errc::unavailable);
    EXPECT_NE(refused.error().detail.find(damaged.filename().string()), std::string::npos)
        << refused.error().detail;
}

TEST_F(SqliteFault, DamagedControlRefusesToOpen) {
    fill("p", 10);
    close();
    fs::remove(root_ / "data" / "control.db-wal");
    overwrite(root_ / "data" / "control.db");
    const auto refused = try_open();
    ASSERT_TRUE(refused.has_error());
    EXPECT_NE(refused.error().detail.find("control.db"), std::string::npos)
        << refused.error().detail;
}

TEST_F(SqliteFault, LostControlIsMadeAgainFromOpenSegments) {
    ASSERT_TRUE(append(Unit("p").action("a.b").put("plugin.x", "k", "v").cursor("s", 3)).has_value()
    );
    close();
    // As if the machine had lost power before control.db, which is not synced, reached the disk.
    for (const char* suffix : {"", "-wal", "-shm"}) {
        fs::remove(root_ / "data" / ("control.db" + std::string(suffix)));
    }
    open();
    EXPECT_EQ(run_task(store_->kv_get("plugin.x", "p", "k")).value(), "v");
    EXPECT_EQ(run_task(store_->cursor("p", "s")).value(), 3);
}

TEST_F(SqliteFault, LostControlIsRefusedWhenSegmentsAreSealed) {
    fill("p", 60);
    wait_for_sidecars(1);
    close();
    remove_database("control.db");
    expect_refused({"control.db", "00000001.db", "Restore"});
}

TEST_F(SqliteFault, LostControlIsRefusedWhenItsRedoWasForgotten) {
    const std::string big(1U << 20, 'v');
    for (int i = 0; i < 20; ++i) {
        ASSERT_TRUE(append(Unit("p").put("plugin.x", "k" + std::to_string(i), big)).has_value());
    }
    ASSERT_TRUE(append(Unit("p").action("a.b").key("of the keys alone")).has_value());
    close();
    open();  // the marker is no obstacle when control.db is there
    EXPECT_EQ(run_task(store_->kv_get("plugin.x", "p", "k19")).value(), big);
    close();
    remove_database("control.db");
    expect_refused({"control.db", "00000001.db", "Restore"});
}

TEST_F(SqliteFault, LostNewestSegmentIsRefused) {
    fill("p", 60);
    close();
    const fs::path lost = files(".db").back();
    remove_database(fs::relative(lost, root_ / "data"));
    expect_refused({lost.filename().string(), "is missing", "estore"});
}

TEST_F(SqliteFault, AnotherSegmentsFileIsNotTakenForIt) {
    fill("p", 120);
    wait_for_sidecars(2);
    close();
    fs::copy_file(files(".db")[1], files(".db")[0], fs::copy_options::overwrite_existing);
    open();
    expect_hole("p", 0, 49, files(".db")[0]);
    Filter filter;
    filter.equals[static_cast<std::size_t>(Column::action)] = "a.b";
    EXPECT_TRUE(run_task(store_->count("p", filter, milliseconds(5'000))).has_error());
    EXPECT_TRUE(run_task(store_->action_counts("p", 0)).has_error());
}

TEST_F(SqliteFault, RowsThatAreGoneAreNotSkipped) {
    fill("p", 120);
    wait_for_sidecars(2);
    close();
    tamper(files(".db")[0], "DELETE FROM events WHERE key & 0xFFFFFFFFFF >= 45");
    open();
    expect_hole("p", 0, 49, files(".db")[0]);
    Filter filter;
    filter.text = "xt";  // too short for the sidecar: row by row
    ScanRequest request;
    request.project = "p";
    request.filter = filter;
    request.limit = 200;
    EXPECT_TRUE(run_task(store_->scan(request)).has_error());
}

TEST_F(SqliteFault, ZeroedPagesAreAHole) {
    fill("p", 120, std::string(600, 'x'));
    wait_for_sidecars(2);
    close();
    const fs::path damaged = files(".db")[0];
    for (std::uintmax_t at = 4'096; at + 4'096 <= fs::file_size(damaged); at += 4'096) {
        std::fstream file(damaged, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(at));
        file << std::string(4'096, '\0');
    }
    open();
    expect_hole("p", 0, 49, damaged);
    ASSERT_EQ(store_->health().damaged.size(), 1U);
    EXPECT_NE(store_->health().damaged[0].find(damaged.filename().string()), std::string::npos);
}

TEST_F(SqliteFault, WhatIsCutShortOverwrittenOrGoneIsKnownFromTheStart) {
    fill("p", 170);
    wait_for_sidecars(3);
    close();
    const auto segments = files(".db");
    fs::resize_file(segments[0], fs::file_size(segments[0]) / 2);
    fs::remove(segments[1]);
    overwrite(segments[2]);
    open();
    EXPECT_EQ(store_->health().damaged.size(), 3U);
    EXPECT_EQ(store_->health().refusal, "");
    EXPECT_EQ(scan("p", 20).value().batch.events.size(), 20U);
    expect_hole("p", 100, 149, segments[2]);
}

TEST_F(SqliteFault, ASegmentThatIsRestoredIsReadAgain) {
    fill("p", 120);
    wait_for_sidecars(2);
    close();
    const fs::path damaged = files(".db")[0];
    fs::copy_file(damaged, root_ / "copy");
    overwrite(damaged);
    open();
    expect_hole("p", 0, 49, damaged);
    fs::rename(root_ / "copy", damaged);
    EXPECT_EQ(scan("p", 200).value().batch.events.size(), 120U);
}

TEST_F(SqliteFault, RefusesWhileWritesFailAndFindsOutByItselfWhenTheyWork) {
    fill("p", 3);
    vfs_fail_writes = true;
    EXPECT_EQ(append(Unit("p").action("a.b")).error().code, Errc::unavailable);
    for (int i = 0; i < 3; ++i) {
        EXPECT_NE(store_->health().refusal.find("the disk is full"), std::string::npos);
        std::this_thread::sleep_for(milliseconds(600));
    }
    vfs_fail_writes = false;
    for (int i = 0; i < 600 && !store_->health().refusal.empty(); ++i) {
        std::this_thread::sleep_for(milliseconds(50));
    }
    EXPECT_EQ(store_->health().refusal, "");
    EXPECT_EQ(append(Unit("p").action("a.b")).value().at(0).seq, 3);
}

TEST_F(SqliteFault, LostKeysAreMadeAgainFromOpenSegments) {
    ASSERT_TRUE(append(Unit("p").action("a.b").key("k")).has_value());
    close();
    fs::remove_all(root_ / "data" / "keys");
    open();
    EXPECT_TRUE(append(Unit("p").action("a.b").key("k")).value().at(0).replayed);
}

TEST_F(SqliteFault, ControlThatCantBeWrittenHoldsUpNothingDurable) {
    ASSERT_TRUE(append(Unit("p").action("a.b").put("plugin.x", "k", "1")).has_value());
    vfs_fail_only("control.db");
    vfs_fail_writes = true;
    // The segment has it, so it is done; but nothing may be read that it should have changed.
    const auto done = append(Unit("p").action("a.c").put("plugin.x", "k", "2"));
    ASSERT_TRUE(done.has_value()) << done.error().detail;
    const auto read = run_task(store_->kv_get("plugin.x", "p", "k"));
    ASSERT_TRUE(read.has_error());
    EXPECT_EQ(read.error().code, Errc::unavailable);
    EXPECT_EQ(append(Unit("p").action("a.d")).error().code, Errc::unavailable);
    vfs_fail_writes = false;
    EXPECT_EQ(append(Unit("p").action("a.d")).value().at(0).seq, 2);
    EXPECT_EQ(run_task(store_->kv_get("plugin.x", "p", "k")).value(), "2");
}

TEST_F(SqliteFault, ErasureThatOnlyTheRedoKnowsIsCountedAfterReopening) {
    fill("p", 60);
    wait_for_sidecars(1);
    vfs_fail_only("control.db");
    vfs_fail_writes = true;
    ASSERT_TRUE(append(Unit("p").erase(3)).has_value());
    close();
    vfs_fail_writes = false;
    open();
    EXPECT_EQ(run_task(store_->count("p", {}, milliseconds(5'000))).value().count, 59);
    EXPECT_EQ(scan("p", 100).value().batch.events.size(), 59U);
    EXPECT_EQ(append(Unit("p").erase(3)).error().code, Errc::not_found);
}

TEST_F(SqliteFault, FullDiskWhileASegmentIsSealedHealsItself) {
    fill("p", 50);
    vfs_fail_only("00000001.db");
    vfs_fail_writes = true;
    fill("p", 30);  // goes to the second segment
    std::this_thread::sleep_for(milliseconds(200));
    EXPECT_TRUE(files(".search").empty());
    const auto page = scan("p", 200);
    ASSERT_TRUE(page.has_value()) << page.error().detail;
    EXPECT_EQ(page.value().batch.events.size(), 80U);
    vfs_fail_writes = false;
    wait_for_sidecars(1);
    EXPECT_EQ(scan("p", 200).value().batch.events.size(), 80U);
}

TEST_F(SqliteFault, FailedFsyncEndsTheProcess) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(
        {
            vfs_fail_syncs = true;
            (void)append(Unit("p").action("a.b"));
            std::_Exit(0);
        },
        testing::ExitedWithCode(70),
        "fsync"
    );
}

TEST_F(SqliteFault, ErasedContentLeavesTheDisk) {
    const std::string secret = "correct-horse-battery-staple";
    fill("p", 10, secret);
    fill("p", 50);
    wait_for_sidecars(1);
    ASSERT_TRUE(is_on_disk(secret));
    for (Seq seq = 0; seq < 10; ++seq) {
        ASSERT_TRUE(append(Unit("p").erase(seq)).has_value());
    }
    for (int i = 0; i < 3'000 && (is_on_disk(secret) || files(".search").empty()); ++i) {
        std::this_thread::sleep_for(milliseconds(20));
    }
    EXPECT_FALSE(is_on_disk(secret));
    EXPECT_FALSE(files(".search").empty());
    Filter filter;
    filter.text = "horse-battery";
    EXPECT_EQ(run_task(store_->count("p", filter, milliseconds(5'000))).value().count, 0);
}

TEST_F(SqliteFault, ContentErasedWhileFreshLeavesTheDiskWhenItsSegmentIsSealed) {
    const std::string secret = "tr0ub4dor-and-three";
    fill("p", 3, secret);
    ASSERT_TRUE(append(Unit("p").erase(0).erase(1).erase(2)).has_value());
    fill("p", 60);
    wait_for_sidecars(1);
    for (int i = 0; i < 3'000 && is_on_disk(secret); ++i) {
        std::this_thread::sleep_for(milliseconds(20));
    }
    EXPECT_FALSE(is_on_disk(secret));
}

TEST_F(SqliteFault, UnitLargerThanASegmentStaysWhole) {
    Unit unit("p");
    for (int i = 0; i < 3 * kSegmentEvents; ++i) {
        unit.action("a.b");
    }
    ASSERT_TRUE(append(unit).has_value());
    fill("p", 5);
    EXPECT_EQ(scan("p", 500).value().batch.events.size(), 3U * kSegmentEvents + 5);
    EXPECT_EQ(files(".db").size(), 2U);
}

}  // namespace
}  // namespace annal::test
