// `annal check`'s engine: sound stores are clean, in use and not; whatever is changed behind the
// store's back is named.
#include "runtime/store/sqlite/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/core/run_task_impl.h"
#include "runtime/store/sqlite/sqlite_store.h"
#include "tests/contract/store_contract.h"

namespace annal::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kSegmentEvents = 40;

/// A store with two sealed segments and an open one: batches of 5 of project "p", one event of "q"
/// for each; some erased, in all three.
class SqliteCheck : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "annal-check-XXXXXX").string();
        root_ = ::mkdtemp(pattern.data());
        open();
        for (int batch = 0; batch < 16; ++batch) {
            Unit unit("p");
            for (int i = 0; i < 5; ++i) {
                unit.event({{Column::action, "check.made"}, {Column::metadata, R"({"n":1})"}});
            }
            append(unit.key("p" + std::to_string(batch)).put("plugin.x", "k", "v"));
            append(Unit("q").action("check.other"));
            clock_.advance(kSecondUs);
        }
        append(Unit("p").erase(3));
        append(Unit("p").erase(41));
        append(Unit("p").erase(78));
        wait_until_settled();
    }
    void TearDown() override {
        store_.reset();
        fs::remove_all(root_);
    }

    void open() {
        SqliteOptions options;
        options.directory = data();
        options.segment_events_max = kSegmentEvents;
        options.readers = 1;
        auto opened = open_sqlite_store(options, clock_, metrics_);
        ASSERT_TRUE(opened.has_value()) << opened.error().detail;
        store_ = std::move(opened.value());
    }
    void close() {
        store_->close();
        store_.reset();
    }
    void append(const Unit& unit) {
        std::vector<AppendUnit> units = {unit.build()};
        const auto outcomes = run_task(store_->append(units));
        ASSERT_TRUE(outcomes.front().has_value()) << outcomes.front().error().detail;
    }
    void wait_until_settled() {
        for (int i = 0; i < 1'000; ++i) {
            int found = 0;
            for (const auto& file : fs::recursive_directory_iterator(data() / "segments")) {
                found += file.path().extension() == ".search" ? 1 : 0;
            }
            if (found == 2 && check().empty() && report_.erased == 3) {
                return;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
        FAIL() << "the store does not come to rest";
    }

    [[nodiscard]] fs::path data() const { return root_ / "data"; }
    [[nodiscard]] fs::path segment(int number) const {
        return data() / "segments/2026-03" / ("0000000" + std::to_string(number) + ".db");
    }

    /// Every problem as "file|project|first|last|what".
    std::vector<std::string> check() {
        std::vector<std::string> found;
        CheckObserver observer;
        observer.problem = [&](const CheckProblem& p) {
            found.push_back(
                p.file + "|" + p.project + "|" + std::to_string(p.first_seq) + "|" +
                std::to_string(p.last_seq) + "|" + p.what
            );
        };
        auto report = check_sqlite_store(data(), observer);
        EXPECT_TRUE(report.has_value());
        report_ = report.value();
        EXPECT_EQ(report_.problems == 0, found.empty());
        return found;
    }

    /// Changes a file behind the store's back.
    static void tamper(const fs::path& file, const char* sql) {
        sqlite3* db = nullptr;
        ASSERT_EQ(sqlite3_open(file.c_str(), &db), SQLITE_OK);
        char* message = nullptr;
        EXPECT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, &message), SQLITE_OK) << message;
        EXPECT_GT(sqlite3_changes(db), 0);
        sqlite3_close(db);
    }
    /// The one problem that there must be, in this file and at these events.
    void expect_one(const std::string& where, const std::string& what) {
        const auto found = check();
        ASSERT_EQ(found.size(), 1U) << testing::PrintToString(found);
        EXPECT_THAT(found.front(), HasSubstr(where));
        EXPECT_THAT(found.front(), HasSubstr(what));
    }

    fs::path root_;
    ManualClock clock_{1'773'500'000'000'000};
    Metrics metrics_;
    std::unique_ptr<EventStore> store_;
    CheckReport report_;
};

constexpr const char* kFirst = "segments/2026-03/00000001.db";

/// Scrubs events of all three segments and waits until the files hold nothing of it.
TEST_F(SqliteCheck, WhatWasScrubbedIsCleanAndLeavesNothingInTheFiles) {
    const std::string secret = "elderflower";
    const auto in_files = [&] {
        std::vector<std::string> found;
        for (const auto& file : fs::recursive_directory_iterator(data())) {
            if (!file.is_regular_file()) continue;
            std::ifstream in(file.path(), std::ios::binary);
            const std::string bytes{std::istreambuf_iterator<char>(in), {}};
            if (bytes.find(secret) != std::string::npos) found.push_back(file.path());
        }
        return found;
    };
    const std::string metadata = R"({"k":"elderflower"})";
    for (int i = 0; i < 60; ++i)
        append(Unit("s")
                   .event(
                       {{Column::action, "check.made"},
                        {Column::user_id, "elderflower"},
                        {Column::description, "elderflower"},
                        {Column::metadata, Text(metadata)}}
                   )
                   .put("plugin.x", "elderflower", "elderflower"));
    EXPECT_FALSE(in_files().empty());
    AppendUnit unit;
    unit.project = "s";
    for (Seq seq = 0; seq < 60; ++seq) unit.scrub.push_back({seq, Scrub::bit(Column::user_id)});
    unit.kv.push_back({KvOp::Kind::erase, "plugin.x", "s", "elderflower", ""});
    std::vector<AppendUnit> units{unit};
    ASSERT_TRUE(run_task(store_->append(units)).front().has_value());
    bool purged = false;
    for (int i = 0; i < 500 && !purged; ++i) {
        const auto done = run_task(store_->purge_erased({}));
        ASSERT_TRUE(done.has_value()) << done.error().detail;
        purged = done.value();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    EXPECT_TRUE(purged);
    EXPECT_THAT(in_files(), IsEmpty());
    EXPECT_THAT(check(), IsEmpty());
    EXPECT_EQ(report_.scrubbed, 60);
    close();
    EXPECT_THAT(in_files(), IsEmpty());
    EXPECT_THAT(check(), IsEmpty());
}

TEST_F(SqliteCheck, ASaltThatWasTakenAwayBehindTheStoresBackIsNamed) {
    close();
    tamper(
        data() / kFirst,
        "UPDATE events SET salt = NULL, description = 'another' WHERE key & 0xffffffffff = 2 AND "
        "key >> 40 = 1"
    );
    expect_one("|p|2|2|", "as if personal data had been erased from it");
}

TEST_F(SqliteCheck, ASoundStoreIsCleanInUseAndAtRest) {
    EXPECT_THAT(check(), IsEmpty());
    EXPECT_EQ(report_.segments, 3);
    EXPECT_EQ(report_.projects, 2);
    EXPECT_EQ(report_.events, 96);
    EXPECT_EQ(report_.erased, 3);
    EXPECT_EQ(report_.batches, 32);
    close();
    EXPECT_THAT(check(), IsEmpty());
    EXPECT_EQ(report_.events, 96);
    open();
    append(Unit("p").action("goes.on"));
    EXPECT_THAT(check(), IsEmpty());
    EXPECT_EQ(report_.events, 97);
}

// Content goes, leaves stay: the chain is whole down to the first event that was ever there.
TEST_F(SqliteCheck, WhatRetentionTookAwayIsSoundAndNotInTheFilesAnyMore) {
    append(Unit("p").event({{Column::action, "check.purged"}, {Column::user_id, "usr_purged_4711"}})
    );
    append(Unit("p").action("check.kept"));
    const auto in_files = [&] {
        int found = 0;
        for (const auto& file : fs::recursive_directory_iterator(data() / "segments")) {
            if (!file.is_regular_file()) continue;
            std::ifstream in(file.path(), std::ios::binary);
            const std::string bytes((std::istreambuf_iterator<char>(in)), {});
            for (const char* word : {"check.purged", "usr_purged_4711"})
                found += bytes.find(word) != std::string::npos ? 1 : 0;
        }
        return found;
    };
    ASSERT_GT(in_files(), 0);
    ASSERT_TRUE(run_task(store_->raise_floor("p", 81)).has_value());
    EXPECT_THAT(check(), IsEmpty()) << "also while it is under way";
    for (int i = 0; i < 1'000 && (report_.erased < 81 || in_files() > 0); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        EXPECT_THAT(check(), IsEmpty());
    }
    EXPECT_EQ(report_.erased, 81);
    EXPECT_EQ(report_.events, 98) << "leaves stay";
    EXPECT_EQ(in_files(), 0);
    close();
    EXPECT_THAT(check(), IsEmpty());
    open();
    append(Unit("p").action("goes.on"));
    EXPECT_THAT(check(), IsEmpty());
}

TEST_F(SqliteCheck, LeavesNothingBehindInADirectoryAtRest) {
    close();
    const auto list = [&] {
        std::vector<std::string> all;
        for (const auto& file : fs::recursive_directory_iterator(data())) {
            all.push_back(file.path().string());
        }
        std::sort(all.begin(), all.end());
        return all;
    };
    const auto before = list();
    EXPECT_THAT(check(), IsEmpty());
    EXPECT_EQ(list(), before);
}

TEST_F(SqliteCheck, OneByteOfMetadata) {
    close();
    tamper(
        segment(1),
        R"(UPDATE events SET metadata = '{"n":2}' WHERE key & 0xFFFFFFFFFF = 17 AND metadata IS NOT NULL)"
    );
    expect_one(std::string(kFirst) + "|p|17|17|", "its content and its leaf differ");
}

TEST_F(SqliteCheck, ADeletedRow) {
    close();
    tamper(
        segment(3),
        "DELETE FROM events WHERE key IN (SELECT pid << 40 | 76 FROM projects WHERE project = 'p')"
    );
    expect_one("segments/2026-03/00000003.db|p|76|76|", "event 76 missing");
}

TEST_F(SqliteCheck, TwoRowsThatChangedPlaces) {
    close();
    tamper(
        segment(3),
        "UPDATE events SET key = -1 WHERE key IN (SELECT pid << 40 | 76 FROM projects WHERE "
        "project = 'p');"
        "UPDATE events SET key = key - 1 WHERE key IN (SELECT pid << 40 | 77 FROM projects WHERE "
        "project = 'p');"
        "UPDATE events SET key = (SELECT pid << 40 | 77 FROM projects WHERE project = 'p') WHERE "
        "key = -1;"
    );
    const auto found = check();
    EXPECT_THAT(found, testing::Contains(HasSubstr("p|76|76|")));
    EXPECT_THAT(found, testing::Contains(HasSubstr("p|77|77|")));
    EXPECT_THAT(found, testing::Contains(HasSubstr("batch of events 75 to 79 has another digest")));
}

TEST_F(SqliteCheck, ATailThatWasCutOff) {
    close();
    tamper(
        segment(2),
        "DELETE FROM rollup_hourly WHERE pid IN (SELECT pid FROM projects WHERE project = 'q');"
        "DELETE FROM event_batches WHERE key >> 40 IN (SELECT pid FROM projects WHERE project = "
        "'q') AND last_seq >= 10;"
        "DELETE FROM events WHERE key >> 40 IN (SELECT pid FROM projects WHERE project = 'q') AND "
        "key & 0xFFFFFFFFFF >= 10;"
    );
    EXPECT_THAT(check(), testing::Contains(HasSubstr("missing at the end: control.db knows more")));
}

TEST_F(SqliteCheck, ABatchDigest) {
    close();
    tamper(
        segment(1),
        "UPDATE event_batches SET digest = zeroblob(32) WHERE last_seq = 9 AND key & 0xFFFFFFFFFF "
        "= 5"
    );
    const auto found = check();
    ASSERT_EQ(found.size(), 2U) << testing::PrintToString(found);
    EXPECT_THAT(found[0], HasSubstr("|p|5|9|the batch of events 5 to 9 has another digest"));
    EXPECT_THAT(found[1], HasSubstr("|p|10|14|the batch of events 10 to 14 does not follow"));
}

TEST_F(SqliteCheck, AnErasureThatWasMadeUp) {
    close();
    tamper(segment(1), "UPDATE events SET deleted = 1, salt = NULL WHERE key & 0xFFFFFFFFFF = 8");
    EXPECT_THAT(check(), testing::Contains(HasSubstr("events are erased, control.db says")));
}

TEST_F(SqliteCheck, FilesThatAreDamagedOrGone) {
    close();
    fs::remove(segment(2));
    std::fstream(segment(1), std::ios::in | std::ios::out | std::ios::binary).seekp(4'096)
        << std::string(4'096, '\0');
    const auto found = check();
    EXPECT_THAT(found, testing::Contains(HasSubstr("00000002.db|p|")));
    EXPECT_THAT(found, testing::Contains(HasSubstr("events 6 to 11 missing: the file is gone")));
    EXPECT_THAT(found, testing::Contains(HasSubstr(kFirst)));
    EXPECT_THAT(found, testing::Not(testing::Contains(HasSubstr("00000003.db"))));
}

TEST_F(SqliteCheck, NoDataDirectory) {
    EXPECT_EQ(check_sqlite_store(root_ / "nothing", {}).error().code, Errc::not_found);
}

}  // namespace
}  // namespace annal::test
