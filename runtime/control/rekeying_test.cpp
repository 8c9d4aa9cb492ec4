#include "runtime/control/rekeying.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "runtime/core/task_impl.h"
#include "runtime/delivery/audit_stream.h"
#include "tests/support/fake_store.h"
#include "tests/support/io_threads.h"

namespace annal::control {
namespace {

namespace json = boost::json;

constexpr TimeUs kStart = 1'780'000'000 * kSecondUs;

SecretBox box_of(const std::string& ids) {
    std::vector<SecretBox::MasterKey> keys;
    for (const char id : ids) keys.push_back({std::string("k") + id, std::string(32, id)});
    return SecretBox(std::move(keys));
}

struct RekeyingTest : testing::Test {
    ManualClock clock{kStart};
    Metrics metrics;
    Limits limits;
    test::FakeStore store{clock};
    test::IoThreads threads;
    Appender appender{store, clock, limits, metrics, threads.executor()};
    Noticeboard board{store, clock, Noticeboard::Nodes::one, threads.executor()};
    SecretBox old_box = box_of("1"), box = box_of("21"), new_box = box_of("2");
    CommonRing common{store, {}};
    Rekeying rekeying{{store, appender, board, box, common}};
    std::vector<std::string> read_anew;  // projects, by who keeps rows in memory

    void SetUp() override {
        board.add_reader([this](std::string project) -> Task<Result<void>> {
            read_anew.push_back(std::move(project));
            co_return ok();
        });
    }

    void put(const char* space, const char* project, const std::string& key, std::string value) {
        AppendUnit unit;
        unit.project = project;
        unit.kv.push_back({KvOp::Kind::put, space, project, key, std::move(value)});
        ASSERT_TRUE(threads.run(appender.append(std::move(unit))).has_value());
    }
    std::string get(const char* space, const char* project, const std::string& key) {
        return threads.run(store.kv_get(space, project, key)).value().value_or("");
    }
    AuditStream stream(const std::string& id, const SecretBox& by, const std::string& parent = {}) {
        AuditStream made;
        made.id = id;
        made.parent = parent;
        made.project = "p";
        made.name = R"(with "quotes", ä and \)";
        made.requests_per_second = 0.1;
        made.sealed = by.seal("p", parent.empty() ? id : parent, R"({"secret":"sesame"})");
        put(AuditStream::kSpace, "p", id, made.to_row());
        return made;
    }
    std::string secret_of(const std::string& id, const SecretBox& by) {
        const std::string row = get(AuditStream::kSpace, "p", id);
        const auto read = AuditStream::from_row({"p", id, row});
        const auto whole = read.value().whole_config(by);
        return whole ? std::string(whole.value().at("secret").as_string().c_str())
                     : whole.error().detail;
    }
    static std::string webhook(const std::string& sealed, const std::string& before) {
        json::object row;
        row["url"] = "https://example.com/hook";
        row["sealed"] = sealed;
        if (!before.empty()) row["sealed_before"] = before;
        return json::serialize(row);
    }

    /// All pages, one after the other.
    Rekeying::Page walk(Rekeying::Mode mode, Rekeying* by = nullptr) {
        Rekeying::Page all;
        std::optional<Rekeying::Position> at = Rekeying::Position{};
        while (at) {
            auto page = threads.run((by ? *by : rekeying).page(*at, mode));
            EXPECT_TRUE(page.has_value()) << page.error().detail;
            if (!page) return all;
            all.resealed += page.value().resealed;
            all.stale += page.value().stale;
            all.current += page.value().current;
            for (auto& row : page.value().unopened) all.unopened.push_back(std::move(row));
            at = page.value().next;
        }
        return all;
    }
    Rekeying::Page reseal_all() { return walk(Rekeying::Mode::reseal); }
};

TEST_F(RekeyingTest, OpensUnderTheNewKeyAloneAfterwards) {
    stream("aud_1", old_box);
    stream("aud_2", new_box);
    AuditStream bare;
    bare.project = "p";
    put(AuditStream::kSpace, "p", "aud_3", bare.to_row());
    const auto counted = walk(Rekeying::Mode::count);
    EXPECT_EQ(counted.stale, 1);
    EXPECT_EQ(counted.current, 1);
    EXPECT_NE(secret_of("aud_1", new_box), "sesame") << "counting writes nothing";
    const auto done = reseal_all();
    EXPECT_EQ(done.resealed, 1);
    EXPECT_EQ(done.current, 1);
    EXPECT_TRUE(done.unopened.empty());
    EXPECT_EQ(secret_of("aud_1", new_box), "sesame");
    EXPECT_EQ(secret_of("aud_2", new_box), "sesame");
    EXPECT_EQ(get(AuditStream::kSpace, "p", "aud_3"), bare.to_row());
    EXPECT_EQ(reseal_all().resealed, 0) << "there is nothing left to do";
}

TEST_F(RekeyingTest, ChangesNothingButTheSealedText) {
    AuditStream made = stream("aud_1", old_box);
    reseal_all();
    const std::string row = get(AuditStream::kSpace, "p", "aud_1");
    const AuditStream read = AuditStream::from_row({"p", "aud_1", row}).value();
    EXPECT_NE(read.sealed, made.sealed);
    made.sealed = read.sealed;
    EXPECT_EQ(row, made.to_row());
}

TEST_F(RekeyingTest, AReplaysSecretsBelongToItsParent) {
    stream("rpl_1", old_box, "aud_1");
    EXPECT_EQ(reseal_all().resealed, 1);
    EXPECT_EQ(secret_of("rpl_1", new_box), "sesame");
}

TEST_F(RekeyingTest, AWebhookMayHaveTwoSecrets) {
    const std::string first = old_box.seal("p", "we_1", "now"),
                      second = old_box.seal("p", "we_1", "before"),
                      third = new_box.seal("p", "we_2", "now");
    put("host.webhooks", "p", "we_1", webhook(first, second));
    put("host.webhooks", "p", "we_2", webhook(third, {}));
    const auto done = reseal_all();
    EXPECT_EQ(done.resealed, 2);
    EXPECT_EQ(done.current, 1);
    const json::value row = json::parse(get("host.webhooks", "p", "we_1"));
    for (const auto& [member, secret] :
         {std::pair{"sealed", "now"}, std::pair{"sealed_before", "before"}}) {
        const auto opened = new_box.open("p", "we_1", row.at(member).as_string().c_str());
        ASSERT_TRUE(opened.has_value()) << opened.error().detail;
        EXPECT_EQ(opened.value(), secret);
    }
    EXPECT_EQ(row.at("url").as_string(), "https://example.com/hook");
    EXPECT_EQ(get("host.webhooks", "p", "we_2"), webhook(third, {}));
}

TEST_F(RekeyingTest, OneOfTwoSecretsMayBeCurrentAlready) {
    const std::string current = new_box.seal("p", "we_1", "now");
    put("host.webhooks", "p", "we_1", webhook(current, old_box.seal("p", "we_1", "before")));
    reseal_all();
    const json::value row = json::parse(get("host.webhooks", "p", "we_1"));
    EXPECT_EQ(row.at("sealed").as_string().c_str(), current);
    EXPECT_TRUE(new_box.is_current(row.at("sealed_before").as_string().c_str()));
}

TEST_F(RekeyingTest, NamesWhatCantBeOpenedAndDoesTheRest) {
    stream("aud_1", box_of("9"));
    stream("aud_2", old_box);
    AuditStream moved = stream("aud_3", old_box);
    put(AuditStream::kSpace, "q", "aud_3", moved.to_row());
    put("host.webhooks", "p", "we_1", "no JSON");
    // As an impostor of the first key, which has its name alone.
    stream("aud_4", SecretBox({{"k2", std::string(32, 'x')}}));
    const auto done = reseal_all();
    EXPECT_EQ(done.resealed, 2);
    std::map<std::string, std::string> reasons;
    for (const auto& row : done.unopened) reasons[row.project + "/" + row.key] = row.reason;
    ASSERT_EQ(reasons.size(), 4U);
    EXPECT_NE(reasons.at("p/aud_1").find("master key k9"), std::string::npos);
    EXPECT_NE(reasons.at("q/aud_3").find("misplaced"), std::string::npos);
    EXPECT_NE(reasons.at("p/aud_4").find("damaged"), std::string::npos);
    EXPECT_NE(reasons.at("p/we_1").find("damaged"), std::string::npos);
    const auto finished = threads.run(rekeying.finish());
    ASSERT_FALSE(finished.has_value());
    EXPECT_EQ(finished.error().code, Errc::conflict);
}

TEST_F(RekeyingTest, GoesThroughAllPages) {
    const std::size_t rows = Rekeying::kRowsPerPage * 2;  // a full last page, too
    for (std::size_t i = 0; i < rows; ++i) stream("aud_" + std::to_string(1'000 + i), old_box);
    put("host.webhooks", "p", "we_1", webhook(old_box.seal("p", "we_1", "now"), {}));
    EXPECT_EQ(reseal_all().resealed, static_cast<std::int64_t>(rows) + 1);
    EXPECT_EQ(walk(Rekeying::Mode::count).current, static_cast<std::int64_t>(rows) + 1);
}

TEST_F(RekeyingTest, GoesOnWhereItWasInterrupted) {
    for (int i = 0; i < 10; ++i) stream("aud_" + std::to_string(i), old_box);
    store.fail_appends({Errc::unavailable, "gone"});
    EXPECT_FALSE(threads.run(rekeying.page({}, Rekeying::Mode::reseal)).has_value());
    const auto done = reseal_all();
    EXPECT_EQ(done.resealed + done.current, 10);
    for (int i = 0; i < 10; ++i)
        EXPECT_EQ(secret_of("aud_" + std::to_string(i), new_box), "sesame");
}

TEST_F(RekeyingTest, WhoeverChangesARowMeanwhileWins) {
    store.append_delay_ms = 2;
    std::atomic<bool> stop{false};
    std::map<std::string, int> versions;
    for (int i = 0; i < 30; ++i) stream("aud_" + std::to_string(i), old_box);
    std::thread writer([&] {
        for (int n = 1; !stop; ++n) {
            for (int i = 0; i < 30 && !stop; i += 3) {
                const std::string id = "aud_" + std::to_string(i);
                stream(id, n % 2 == 0 ? old_box : box, "aud_parent_" + std::to_string(n));
                versions[id] = n;
            }
        }
    });
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(reseal_all().unopened.empty());
    stop = true;
    writer.join();
    reseal_all();
    for (int i = 0; i < 30; ++i) {
        const std::string id = "aud_" + std::to_string(i);
        EXPECT_EQ(secret_of(id, new_box), "sesame");
        if (!versions.contains(id)) continue;
        const auto row = AuditStream::from_row({"p", id, get(AuditStream::kSpace, "p", id)});
        EXPECT_EQ(row.value().parent, "aud_parent_" + std::to_string(versions[id])) << id;
    }
}

TEST_F(RekeyingTest, ThoseWhoKeepRowsInMemoryAreToldOfWhatChanged) {
    put("host.webhooks", "a", "we_1", webhook(old_box.seal("a", "we_1", "now"), {}));
    put("host.webhooks", "b", "we_2", webhook(new_box.seal("b", "we_2", "now"), {}));
    put("host.webhooks", "c", "we_3", webhook(old_box.seal("c", "we_3", "now"), {}));
    walk(Rekeying::Mode::count);
    EXPECT_TRUE(read_anew.empty());
    reseal_all();
    EXPECT_EQ(read_anew, (std::vector<std::string>{"a", "c"}));
}

TEST_F(RekeyingTest, OtherNodesFindANotice) {
    Noticeboard here(store, clock, Noticeboard::Nodes::many, threads.executor()),
        there(store, clock, Noticeboard::Nodes::many, threads.executor());
    std::vector<std::string> read;
    there.add_reader([&read](std::string project) -> Task<Result<void>> {
        read.push_back(std::move(project));
        co_return ok();
    });
    ASSERT_TRUE(threads.run(there.begin()).has_value());
    stream("aud_1", old_box);
    Rekeying many{{store, appender, here, box, common}};
    EXPECT_EQ(walk(Rekeying::Mode::reseal, &many).resealed, 1);
    ASSERT_TRUE(threads.run(there.catch_up()).has_value());
    EXPECT_EQ(read, (std::vector<std::string>{"p"}));
}

TEST_F(RekeyingTest, TheDatabaseNamesTheNewKeyOnceNothingNeedsTheOld) {
    CommonRing before(store, {"one"}), ring(store, {"two", "one"}), after(store, {"two"});
    ASSERT_TRUE(threads.run(before.compare()).has_value());
    ASSERT_TRUE(threads.run(ring.compare()).has_value());
    EXPECT_EQ(threads.run(after.compare()).error().code, Errc::conflict);
    stream("aud_1", old_box);
    Rekeying many{{store, appender, board, box, ring}};
    EXPECT_EQ(threads.run(many.finish()).error().code, Errc::conflict);
    walk(Rekeying::Mode::reseal, &many);
    EXPECT_TRUE(threads.run(before.look_again()).has_value());
    ASSERT_TRUE(threads.run(many.finish()).has_value());
    ASSERT_TRUE(threads.run(many.finish()).has_value()) << "again, as after a lost answer";
    EXPECT_TRUE(threads.run(after.compare()).has_value());
    EXPECT_TRUE(threads.run(ring.look_again()).has_value());
    EXPECT_EQ(threads.run(before.look_again()).error().code, Errc::conflict);
    EXPECT_EQ(threads.run(before.compare()).error().code, Errc::conflict);
}

TEST(CommonRingTest, ARingThatSealsWithAnotherKeyIsOutOfDateOnceThatIsReplaced) {
    ManualClock clock{kStart};
    test::FakeStore store{clock};
    test::IoThreads threads;
    CommonRing first(store, {"one", "two"}), second(store, {"two", "one"});
    ASSERT_TRUE(threads.run(first.compare()).has_value());
    ASSERT_TRUE(threads.run(second.compare()).has_value());
    EXPECT_TRUE(threads.run(first.look_again()).has_value());
    ASSERT_TRUE(threads.run(second.move_on()).has_value());
    EXPECT_EQ(threads.run(first.look_again()).error().code, Errc::conflict);
    // Started now it may be the beginning of an exchange.
    EXPECT_TRUE(threads.run(first.compare()).has_value());
    EXPECT_TRUE(threads.run(first.look_again()).has_value());
}

TEST(CommonRingTest, AStoreOfOneNodeKeepsNothing) {
    ManualClock clock{kStart};
    test::FakeStore store{clock};
    test::IoThreads threads;
    CommonRing alone(store, {});
    EXPECT_TRUE(threads.run(alone.compare()).has_value());
    EXPECT_TRUE(threads.run(alone.look_again()).has_value());
    EXPECT_TRUE(threads.run(alone.move_on()).has_value());
    EXPECT_FALSE(
        threads.run(store.kv_get(CommonRing::kSpace, "", CommonRing::kKey)).value().has_value()
    );
}

}  // namespace
}  // namespace annal::control
