#include "runtime/retention/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/thread_pool.hpp>
#include <boost/json.hpp>
#include <filesystem>
#include <fstream>

#include "runtime/core/crypto.h"
#include "runtime/core/time_text.h"
#include "tests/support/fake_store.h"
#include "tests/support/io_threads.h"
#include "tests/support/scratch_folder.h"

namespace annal::test {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TimeUs at(const char* text) {
    return parse_time(text).value();
}

/// Months of two projects on a clock of the test's own.
class RetentionTest : public testing::Test {
protected:
    RetentionTest() {
        host_.store = &store_;
        host_.appender = &appender_;
        host_.settings = &settings_;
        host_.clock = &clock_;
        host_.metrics = &metrics_;
        host_.limits = &limits_;
        host_.executor = &executor_;
        for (const char* project : {"a", "b"}) {
            AppendUnit unit;
            unit.project = project;
            unit.kv.push_back({KvOp::Kind::put, "host.projects", project, "project", "{}"});
            append(std::move(unit));
        }
    }
    ~RetentionTest() override { threads_.stop(); }

    template <class T>
    T run(Task<T> task) {
        return threads_.run(std::move(task));
    }
    void append(AppendUnit unit) {
        const auto outcome = run(appender_.append(std::move(unit)));
        ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
    }
    /// As time passes: both clocks.
    void go_to(TimeUs time) { clock_.advance(time - clock_.wall_us()); }
    /// One event of each project a day, from `from` on, for `days`.
    void fill(const char* from, int days) {
        for (int day = 0; day < days; ++day) {
            go_to(at(from) + day * kDayUs);
            for (const char* project : {"a", "b"}) {
                AppendUnit unit;
                unit.project = project;
                EventDraft draft;
                draft[Column::action] = "day.passed";
                unit.events.push_back(draft);
                append(std::move(unit));
            }
        }
    }
    void set(const char* project, const char* key, const char* value) {
        const auto done = run(settings_.put(appender_, project, key, value, "system", "test"));
        ASSERT_TRUE(done.has_value()) << done.error().detail;
    }
    json::object retain(bool dry_run = false) {
        auto report = run(retention_.run(dry_run, [this] { return over_; }));
        EXPECT_TRUE(report.has_value()) << report.error().detail;
        return report ? json::parse(report.value()).as_object() : json::object();
    }
    static std::vector<std::string> texts(const json::value& array) {
        std::vector<std::string> all;
        for (const json::value& text : array.as_array()) all.emplace_back(text.as_string());
        return all;
    }
    /// The time of the oldest event that can be read.
    std::string oldest(const char* project) {
        ScanRequest request;
        request.project = project;
        request.newest_first = false;
        request.limit = 1;
        const auto page = run(store_.scan(request)).value();
        return page.batch.events.empty()
                   ? ""
                   : format_time(page.batch.events[0].created_at).substr(0, 10);
    }
    LogState log(const char* project) { return run(store_.log_state(project)).value(); }
    /// Metadata of the project's events of this action.
    std::vector<json::object> recorded(const char* project, const char* action) {
        ScanRequest request;
        request.project = project;
        request.newest_first = false;
        request.limit = 1'000;
        const auto page = run(store_.scan(request)).value();
        std::vector<json::object> all;
        for (const Event& event : page.batch.events) {
            if (event[Column::action].view() == action)
                all.push_back(json::parse(event[Column::metadata].view()).as_object());
        }
        return all;
    }
    static json::object of(const json::object& report, const char* project) {
        for (const json::value& one : report.at("projects").as_array())
            if (one.at("project_id").as_string() == project) return one.as_object();
        return {};
    }

    IoThreads threads_;
    ManualClock clock_{at("2026-01-01T00:00:00Z")};
    Limits limits_;
    Metrics metrics_;
    FakeStore store_{clock_};
    Settings settings_{store_};
    boost::asio::any_io_executor executor_{threads_.executor()};
    Appender appender_{store_, clock_, limits_, metrics_, executor_};
    HostEnvironment host_;
    Destinations destinations_{host_};
    boost::asio::thread_pool sink_pool_{1};
    std::map<std::string, Seq> unread_;  ///< of project a
    bool over_ = false;
    bool hold_on_a_ = false;  ///< is placed when a is decided, and b is not
    Retention retention_{
        {host_,
         [this](std::string project) -> Task<Result<std::map<std::string, Seq>>> {
             if (project == "b" && hold_on_a_) {
                 AppendUnit unit;
                 unit.project = "a";
                 unit.kv.push_back({KvOp::Kind::put, "host.settings", "a", "legal_hold", "true"});
                 (void)co_await appender_.append(std::move(unit));
             }
             co_return project == "a" ? unread_ : std::map<std::string, Seq>();
         },
         destinations_,
         sink_pool_},
        RetentionPolicy()};
};

TEST_F(RetentionTest, MonthsGoWhenTheirTimeIsOverAndNotADayBefore) {
    fill("2026-01-01T12:00:00Z", 150);  // to the end of May
    go_to(at("2026-05-31T23:59:59Z"));
    EXPECT_THAT(texts(retain().at("months")), ElementsAre("2026-01"));
    EXPECT_EQ(oldest("a"), "2026-02-01");
    EXPECT_THAT(texts(retain().at("months")), IsEmpty()) << "nothing is left to do";
    go_to(at("2026-06-01T00:00:00Z"));
    EXPECT_THAT(texts(retain().at("months")), ElementsAre("2026-02"));
    EXPECT_EQ(oldest("a"), "2026-03-01");
    EXPECT_EQ(oldest("b"), "2026-03-01");
}

TEST_F(RetentionTest, ADryRunSaysTheSameAndDoesNothing) {
    fill("2026-01-01T12:00:00Z", 150);
    const LogState before = log("a");
    const json::object said = retain(true);
    EXPECT_THAT(texts(said.at("months")), ElementsAre("2026-01"));
    EXPECT_EQ(of(said, "a").at("events").as_int64(), 31);
    EXPECT_EQ(log("a").first_seq, before.first_seq);
    EXPECT_EQ(log("a").head_seq, before.head_seq) << "nothing is recorded";
    json::object done = retain();
    EXPECT_EQ(of(done, "a"), of(said, "a"));
    EXPECT_EQ(done.at("months"), said.at("months"));
}

TEST_F(RetentionTest, WhatGoesIsRecordedInTheLogsThatItGoesFrom) {
    fill("2026-01-01T12:00:00Z", 150);
    retain();
    for (const char* project : {"a", "b"}) {
        const auto records = recorded(project, "audit_log.expired");
        ASSERT_EQ(records.size(), 1U) << project;
        EXPECT_EQ(records[0].at("from_seq").as_int64(), 0);
        EXPECT_EQ(records[0].at("to_seq").as_int64(), 30);
        EXPECT_EQ(records[0].at("events").as_int64(), 31);
        EXPECT_EQ(records[0].at("months").as_int64(), 3);
        EXPECT_EQ(records[0].at("cutoff").as_string(), "2026-02-01T00:00:00.000000Z");
    }
}

TEST_F(RetentionTest, AProjectOf365DaysKeepsItsEventsAndTheOthersGo) {
    fill("2026-01-01T12:00:00Z", 150);
    set("a", "audit_retention_days", "365");
    const json::object report = retain();
    EXPECT_THAT(texts(report.at("months")), IsEmpty()) << "the month is still wanted";
    EXPECT_EQ(oldest("a"), "2026-01-01");
    EXPECT_EQ(oldest("b"), "2026-02-01");
    EXPECT_EQ(run(store_.months()).value().size(), 5U);
    go_to(at("2027-02-02T00:00:00Z"));
    EXPECT_THAT(texts(retain().at("months")), ElementsAre("2026-01")) << "now nobody wants it";
    EXPECT_EQ(oldest("a"), "2026-02-02");
}

TEST_F(RetentionTest, AProjectOfFewerDaysLosesThemBeforeTheMonthGoes) {
    fill("2026-05-01T12:00:00Z", 20);
    set("a", "audit_retention_days", "7");
    EXPECT_THAT(texts(retain().at("months")), IsEmpty());
    EXPECT_EQ(oldest("a"), "2026-05-13");
    EXPECT_EQ(oldest("b"), "2026-05-01");
    EXPECT_EQ(recorded("a", "audit_log.expired")[0].at("audit_retention_days").as_int64(), 7);
}

TEST_F(RetentionTest, UnderLegalHoldNothingGoes) {
    fill("2026-01-01T12:00:00Z", 150);
    set("a", "legal_hold", "true");
    const json::object report = retain();
    EXPECT_THAT(texts(report.at("months")), IsEmpty());
    EXPECT_TRUE(of(report, "a").at("held").as_bool());
    EXPECT_EQ(oldest("a"), "2026-01-01");
    EXPECT_EQ(oldest("b"), "2026-02-01");
    const auto refused = run(retention_.clean_up("a", {"api_key", "apikey_1"}));
    ASSERT_TRUE(refused.has_error());
    EXPECT_EQ(refused.error().code, Errc::conflict);
    EXPECT_THAT(refused.error().detail, HasSubstr("legal hold"));
    EXPECT_THAT(recorded("a", "audit_log.expired"), IsEmpty());
    set("a", "legal_hold", "false");
    EXPECT_THAT(texts(retain().at("months")), ElementsAre("2026-01"));
    EXPECT_EQ(oldest("a"), "2026-02-01");
}

/// Another node's, which this one has not heard of.
TEST_F(RetentionTest, AHoldThatIsPlacedMeanwhileIsNotPassedOver) {
    fill("2026-01-01T12:00:00Z", 150);
    AppendUnit unit;
    unit.project = "a";
    unit.kv.push_back({KvOp::Kind::put, "host.settings", "a", "legal_hold", "true"});
    append(std::move(unit));
    const json::object report = retain();
    EXPECT_TRUE(report.at("failed").as_bool());
    EXPECT_THAT(std::string(of(report, "a").at("error").as_string()), HasSubstr("legal hold"));
    EXPECT_THAT(texts(report.at("months")), IsEmpty());
    EXPECT_EQ(oldest("a"), "2026-01-01");
    EXPECT_EQ(oldest("b"), "2026-02-01") << "it keeps nobody else";
}

TEST_F(RetentionTest, WhatAStreamHasNotReadStaysSevenDaysLonger) {
    fill("2026-01-01T12:00:00Z", 120);
    unread_ = {{"aud_slow", 10}, {"aud_quick", 100}};
    go_to(at("2026-05-01T00:00:00Z"));
    json::object report = retain();
    EXPECT_THAT(texts(report.at("months")), IsEmpty());
    EXPECT_THAT(texts(of(report, "a").at("kept_for_streams")), ElementsAre("aud_slow"));
    EXPECT_EQ(oldest("a"), "2026-01-11") << "what it has read is gone";
    EXPECT_EQ(oldest("b"), "2026-02-01");
    go_to(at("2026-05-07T23:59:59Z"));
    EXPECT_THAT(texts(retain().at("months")), IsEmpty());
    EXPECT_EQ(oldest("a"), "2026-01-11");
    go_to(at("2026-05-08T00:00:00Z"));
    EXPECT_THAT(texts(retain().at("months")), ElementsAre("2026-01"));
    EXPECT_EQ(oldest("a"), "2026-02-01");
}

TEST_F(RetentionTest, AStreamThatHasReadEverythingKeepsNothing) {
    fill("2026-01-01T12:00:00Z", 120);
    unread_ = {{"aud_quick", 110}};
    go_to(at("2026-05-01T00:00:00Z"));
    EXPECT_THAT(texts(retain().at("months")), ElementsAre("2026-01"));
}

TEST_F(RetentionTest, WhatGoesIsInTheArchiveFirst) {
    const ScratchFolder folder("retention");
    fill("2026-01-01T12:00:00Z", 150);
    RetentionPolicy policy;
    policy.archive = std::filesystem::path(folder.path()) / "archive";
    ASSERT_TRUE(retention_.declare("job", policy).has_value());
    const json::object report = retain();
    const json::object archive = of(report, "a").at("archive").as_object();
    const std::filesystem::path file(std::string(archive.at("file").as_string()));
    EXPECT_EQ(file, policy.archive / "a" / "0-30.jsonl");
    std::ifstream in(file, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    EXPECT_EQ(std::count(bytes.begin(), bytes.end(), '\n'), 31);
    EXPECT_EQ(to_hex(sha256(bytes)), archive.at("sha256").as_string());
    std::ifstream sum(file.string() + ".sha256");
    std::string line;
    std::getline(sum, line);
    EXPECT_EQ(line, to_hex(sha256(bytes)) + "  0-30.jsonl");
    std::istringstream lines(bytes);
    for (Seq seq = 0; std::getline(lines, line); ++seq)
        EXPECT_EQ(json::parse(line).at("seq").as_int64(), seq);
    EXPECT_EQ(recorded("a", "audit_log.expired")[0].at("archive"), json::value(archive));
    EXPECT_EQ(oldest("a"), "2026-02-01");
}

TEST_F(RetentionTest, WithoutItsArchiveNothingGoes) {
    const ScratchFolder folder("retention");
    fill("2026-01-01T12:00:00Z", 150);
    std::ofstream(std::filesystem::path(folder.path()) / "archive")
        << "a file where a folder should be";
    RetentionPolicy policy;
    policy.archive = std::filesystem::path(folder.path()) / "archive";
    ASSERT_TRUE(retention_.declare("job", policy).has_value());
    const json::object report = retain();
    EXPECT_TRUE(report.at("failed").as_bool());
    EXPECT_THAT(std::string(of(report, "a").at("error").as_string()), HasSubstr("archive"));
    EXPECT_THAT(texts(report.at("months")), IsEmpty());
    EXPECT_EQ(oldest("a"), "2026-01-01");
    EXPECT_THAT(recorded("a", "audit_log.expired"), IsEmpty());
}

TEST_F(RetentionTest, ACleanupGoesByTheProjectsDays) {
    fill("2026-05-01T12:00:00Z", 20);
    set("a", "audit_retention_days", "7");
    const auto cleanup = run(retention_.clean_up("a", {"api_key", "apikey_1"}));
    ASSERT_TRUE(cleanup.has_value()) << cleanup.error().detail;
    EXPECT_EQ(cleanup.value().deleted, 12);
    EXPECT_EQ(cleanup.value().days, 7U);
    EXPECT_EQ(cleanup.value().cutoff, at("2026-05-13T00:00:00Z"));
    EXPECT_EQ(oldest("a"), "2026-05-13");
    EXPECT_EQ(oldest("b"), "2026-05-01");
    const auto again = run(retention_.clean_up("a", {"api_key", "apikey_1"}));
    EXPECT_EQ(again.value().deleted, 0);
    const auto records = recorded("a", "audit_log.cleaned_up");
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].at("events").as_int64(), 12);
    EXPECT_EQ(records[0].at("retention_days").as_int64(), 7);
}

TEST_F(RetentionTest, WhatIsRecordedAndNotDoneIsDoneByTheNextRunWithoutAnotherRecord) {
    fill("2026-05-01T12:00:00Z", 20);
    set("a", "audit_retention_days", "7");
    const auto break_off = [&] {
        store_.fail_floors({Errc::unavailable, "the node was killed"});
        EXPECT_TRUE(retain().at("failed").as_bool());
    };
    break_off();
    EXPECT_EQ(oldest("a"), "2026-05-01");
    ASSERT_EQ(recorded("a", "audit_log.expired").size(), 1U);
    set("a", "legal_hold", "true");
    retain();
    EXPECT_EQ(oldest("a"), "2026-05-01") << "a hold that came in between";
    set("a", "legal_hold", "false");
    go_to(at("2026-05-22T12:00:00Z"));  // two days more are due
    const json::object one = of(retain(), "a");
    EXPECT_EQ(oldest("a"), "2026-05-15");
    const auto records = recorded("a", "audit_log.expired");
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[0].at("events").as_int64(), 12);
    EXPECT_EQ(records[1].at("events").as_int64(), 2);
    EXPECT_EQ(records[1].at("from_seq").as_int64(), records[0].at("to_seq").as_int64() + 1);
    EXPECT_EQ(one.at("events").as_int64(), 2);

    set("a", "audit_retention_days", "3");
    break_off();
    EXPECT_FALSE(retain().at("failed").as_bool());
    EXPECT_EQ(oldest("a"), "2026-05-19");
    EXPECT_EQ(recorded("a", "audit_log.expired").size(), 3U) << "nothing new to tell";
}

TEST_F(RetentionTest, AHoldBetweenDecisionAndDeedIsHonoured) {
    fill("2026-01-01T12:00:00Z", 150);
    hold_on_a_ = true;
    json::object report = retain();
    hold_on_a_ = false;
    EXPECT_TRUE(report.at("failed").as_bool());
    EXPECT_THAT(std::string(of(report, "a").at("error").as_string()), HasSubstr("legal hold"));
    EXPECT_THAT(texts(report.at("months")), IsEmpty());
    EXPECT_EQ(oldest("a"), "2026-01-01");
    EXPECT_EQ(oldest("b"), "2026-02-01");
    AppendUnit unit;
    unit.project = "a";
    unit.kv.push_back({KvOp::Kind::erase, "host.settings", "a", "legal_hold", ""});
    append(std::move(unit));
    EXPECT_FALSE(retain().at("failed").as_bool());
    EXPECT_EQ(oldest("a"), "2026-02-01");
    EXPECT_EQ(recorded("a", "audit_log.expired").size(), 1U);
}

TEST_F(RetentionTest, ARunEndsWhenItIsTold) {
    fill("2026-01-01T12:00:00Z", 150);
    over_ = true;
    const auto run_over = run(retention_.run(false, [this] { return over_; }));
    ASSERT_TRUE(run_over.has_error());
    EXPECT_EQ(run_over.error().code, Errc::cancelled);
    EXPECT_EQ(oldest("a"), "2026-01-01");
    run(retention_.stop());
    EXPECT_EQ(run(retention_.clean_up("a", {"api_key", "k"})).error().code, Errc::unavailable);
}

TEST_F(RetentionTest, CleanupsAtOnceCountEachEventOnce) {
    fill("2026-05-01T12:00:00Z", 20);
    set("a", "audit_retention_days", "7");
    store_.hop = true;
    store_.append_delay_ms = 20;
    std::vector<decltype(threads_.start(retention_.clean_up("a", {"api_key", "k"})))> asked;
    for (int i = 0; i < 4; ++i)
        asked.push_back(threads_.start(retention_.clean_up("a", {"api_key", "k"})));
    std::int64_t deleted = 0;
    for (auto& one : asked) {
        const auto cleanup = one.get();
        ASSERT_TRUE(cleanup.has_value()) << cleanup.error().detail;
        deleted += cleanup.value().deleted;
    }
    EXPECT_EQ(deleted, 12);
    EXPECT_EQ(recorded("a", "audit_log.cleaned_up").size(), 1U);
    EXPECT_EQ(oldest("a"), "2026-05-13");
}

TEST_F(RetentionTest, ACleanupTakesNothingThatIsNotArchived) {
    const ScratchFolder folder("retention");
    fill("2026-05-01T12:00:00Z", 20);
    set("a", "audit_retention_days", "7");
    RetentionPolicy policy;
    policy.archive = std::filesystem::path(folder.path()) / "archive";
    ASSERT_TRUE(retention_.declare("job", policy).has_value());
    std::ofstream(policy.archive) << "a file where a folder should be";
    EXPECT_TRUE(run(retention_.clean_up("a", {"api_key", "apikey_1"})).has_error());
    EXPECT_EQ(oldest("a"), "2026-05-01");
    EXPECT_THAT(recorded("a", "audit_log.cleaned_up"), IsEmpty());
    std::filesystem::remove(policy.archive);
    ASSERT_TRUE(run(retention_.clean_up("a", {"api_key", "apikey_1"})).has_value());
    EXPECT_EQ(oldest("a"), "2026-05-13");
    const json::object record = recorded("a", "audit_log.cleaned_up").at(0);
    EXPECT_EQ(record.at("archive").at("events").as_int64(), 12);
    EXPECT_TRUE(std::filesystem::exists(record.at("archive").at("file").as_string().c_str()));
}

TEST_F(RetentionTest, ACleanupWithoutDaysGoesByTheMonths) {
    fill("2026-01-01T12:00:00Z", 150);
    const auto cleanup = run(retention_.clean_up("b", {"api_key", "apikey_1"}));
    ASSERT_TRUE(cleanup.has_value()) << cleanup.error().detail;
    EXPECT_EQ(cleanup.value().deleted, 31);
    EXPECT_EQ(cleanup.value().cutoff, at("2026-02-01T00:00:00Z"));
    EXPECT_EQ(cleanup.value().days, 118U);  // from the first of February to the 30th of May
    EXPECT_EQ(oldest("a"), "2026-01-01");
}

TEST_F(RetentionTest, ThereIsOnePolicyANode) {
    RetentionPolicy policy;
    policy.months = 12;
    ASSERT_TRUE(retention_.declare("job", policy).has_value());
    const auto second = retention_.declare("other", policy);
    ASSERT_TRUE(second.has_error());
    EXPECT_EQ(second.error().code, Errc::conflict);
    EXPECT_THAT(second.error().detail, HasSubstr("by job"));
    retention_.retract();
    EXPECT_TRUE(retention_.declare("other", policy).has_value());
    retention_.retract();
    policy.months = 0;
    EXPECT_EQ(retention_.declare("job", policy).error().code, Errc::unprocessable);
    policy.months = 12;
    policy.archive = "relative/folder";
    EXPECT_THAT(retention_.declare("job", policy).error().detail, HasSubstr("absolute"));
    policy.archive = "/a/folder";
    policy.archive_to = "s3";
    EXPECT_THAT(retention_.declare("job", policy).error().detail, HasSubstr("exclude each other"));
    policy.archive.clear();
    EXPECT_TRUE(retention_.start().has_value()) << "nothing is declared";
    ASSERT_TRUE(retention_.declare("job", policy).has_value());
    EXPECT_THAT(retention_.start().error().detail, HasSubstr("no destination s3"));
}

}  // namespace
}  // namespace annal::test
