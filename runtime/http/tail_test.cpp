#include "runtime/http/tail.h"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <chrono>
#include <functional>
#include <set>
#include <thread>

#include "tests/support/fake_exchange.h"
#include "tests/support/test_host.h"

namespace annal::http {
namespace {

using namespace std::chrono_literals;
using test::ExchangeRecord;
using test::FakeExchange;
using test::TestHost;

/// One message of an event stream, as a browser would see it.
struct Message {
    std::string id, event, data, comment;
    int retry = 0;
};

std::vector<Message> parse(const std::string& body) {
    std::vector<Message> messages;
    Message message;
    for (std::size_t at = 0; at < body.size();) {
        const std::size_t end = body.find('\n', at);
        if (end == std::string::npos) break;
        const std::string line = body.substr(at, end - at);
        at = end + 1;
        const auto value = [&](const char* name) -> std::optional<std::string> {
            const std::string prefix = std::string(name) + ": ";
            if (!line.starts_with(prefix)) return std::nullopt;
            return line.substr(prefix.size());
        };
        if (line.empty()) {
            messages.push_back(message);
            message = {};
        } else if (const auto comment = value("")) {
            message.comment = *comment;
        } else if (const auto id = value("id")) {
            message.id = *id;
        } else if (const auto event = value("event")) {
            message.event = *event;
        } else if (const auto data = value("data")) {
            EXPECT_TRUE(message.data.empty()) << "data is one line";
            message.data = *data;
        } else if (const auto retry = value("retry")) {
            message.retry = std::stoi(*retry);
        } else {
            ADD_FAILURE() << "an unknown line: " << line;
        }
    }
    return messages;
}

/// How a tail ended that was refused; set by the io threads.
class Refusal {
public:
    void set(const Error& error) {
        const std::lock_guard lock(mutex_);
        error_ = error;
    }
    std::optional<Error> get() const {
        const std::lock_guard lock(mutex_);
        return error_;
    }

private:
    mutable std::mutex mutex_;
    std::optional<Error> error_;
};

/// One client of a hub.
struct Client {
    std::shared_ptr<ExchangeRecord> record = std::make_shared<ExchangeRecord>();
    std::shared_ptr<Refusal> refusal = std::make_shared<Refusal>();

    std::string body() const {
        const std::lock_guard lock(record->mutex);
        return record->body;
    }
    std::vector<Message> messages() const { return parse(body()); }
    std::vector<Seq> seqs() const {
        std::vector<Seq> out;
        for (const Message& message : messages())
            if (!message.data.empty()) out.push_back(std::stoll(message.id));
        return out;
    }
    /// The id that a browser would go on with.
    std::string last_id() const {
        std::string id;
        for (const Message& message : messages())
            if (!message.id.empty()) id = message.id;
        return id;
    }
    bool opened() const { return !body().empty(); }
};

bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 2'000; ++i) {
        if (condition()) return true;
        std::this_thread::sleep_for(5ms);
    }
    return false;
}

std::vector<Seq> range(Seq first, Seq last) {
    std::vector<Seq> out;
    for (Seq seq = first; seq <= last; ++seq) out.push_back(seq);
    return out;
}

class TailTest : public testing::Test {
protected:
    explicit TailTest(TailHub::Nodes nodes = TailHub::Nodes::one)
        : hub(host.environment, nodes, [this](const Principal&) { return key_in_force.load(); }) {}
    void SetUp() override {
        host.store.hop = true;
        host.limits.tail_heartbeat_ms = 40;  // by the manual clock; looked at every 5 real ms
        host.environment.clock = &clock;
    }
    void TearDown() override {
        hub.close();
        host.run(hub.drain());
        EXPECT_EQ(metric("annal_tails"), 0);
    }

    void append(
        std::string_view action = "user.created", int count = 1, std::string project = "proj_a"
    ) {
        AppendUnit unit;
        unit.project = std::move(project);
        auto text = std::make_shared<std::string>(action);
        for (int i = 0; i < count; ++i) {
            EventDraft draft;
            draft[Column::action] = *text;
            draft[Column::actor_type] = "user";
            draft[Column::metadata] = metadata;
            unit.events.push_back(draft);
        }
        unit.memory = text;
        const auto outcome = host.run(host.appender.append(std::move(unit)));
        ASSERT_TRUE(outcome) << outcome.error().detail;
    }
    void erase(Seq seq) {
        AppendUnit unit;
        unit.project = "proj_a";
        unit.erase = {seq};
        ASSERT_TRUE(host.run(host.appender.append(std::move(unit))));
    }

    Client open(
        TailRequest request = {},
        const std::function<void(FakeExchange&, ExchangeRecord&)>& prepare = {},
        const std::string& project = "proj_a"
    ) {
        Client client;
        auto exchange = std::make_shared<FakeExchange>(client.record);
        if (prepare) prepare(*exchange, *client.record);
        boost::asio::co_spawn(
            host.executor,
            run(hub, project, std::move(request), std::move(exchange), client.refusal),
            boost::asio::detached
        );
        return client;
    }
    Client open_and_wait(TailRequest request = {}) {
        Client client = open(std::move(request));
        EXPECT_TRUE(eventually([&] { return client.opened(); }));
        return client;
    }
    /// Lets heartbeats come due until `condition` holds: one may go out while a page is still on
    /// its way, and when something was sent is noted a moment after it can be seen.
    bool with_heartbeats(const std::function<bool()>& condition) {
        return eventually([&] {
            clock.advance(41'000);
            return condition();
        });
    }
    static TailRequest after(Seq seq) {
        TailRequest request;
        request.after = seq;
        return request;
    }
    static TailRequest only(const std::string& pattern) {
        TailRequest request;
        request.filter.actions = {parse_pattern(pattern).value()};
        return request;
    }
    double metric(const std::string& series) const {
        const std::string text = host.metrics.render();
        const std::size_t at = text.find("\n" + series + " ");
        return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
    }
    double shared_scans() const { return metric("annal_tail_scans_total{kind=\"shared\"}"); }
    double catch_up_scans() const { return metric("annal_tail_scans_total{kind=\"catch_up\"}"); }

    static void expect_seqs(const Client& client, const std::vector<Seq>& expected) {
        EXPECT_TRUE(eventually([&] { return client.seqs().size() >= expected.size(); }));
        EXPECT_EQ(client.seqs(), expected);
    }

    TestHost host;
    ManualClock clock{1'700'000'000 * kSecondUs};
    std::string metadata = "{}";
    std::atomic<bool> key_in_force{true};
    TailHub hub;

private:
    static Task<void> run(
        TailHub& hub,
        std::string project,
        TailRequest request,
        std::shared_ptr<FakeExchange> exchange,
        std::shared_ptr<Refusal> refusal
    ) {
        auto outcome =
            co_await hub.run(std::move(project), std::move(request), std::move(exchange));
        if (!outcome) refusal->set(outcome.error());
    }
};

/// Of a store to which other nodes append, too.
class SharedTailTest : public TailTest {
protected:
    SharedTailTest() : TailTest(TailHub::Nodes::many) {}

    /// What another node appends and does not tell of.
    void append_silently(std::string project = "proj_a") {
        AppendUnit unit;
        unit.project = std::move(project);
        EventDraft draft;
        draft[Column::action] = "user.created";
        draft[Column::actor_type] = "user";
        draft[Column::metadata] = "{}";
        unit.events.push_back(draft);
        const auto outcomes = host.run(host.store.append({&unit, 1}));
        ASSERT_TRUE(outcomes.front()) << outcomes.front().error().detail;
    }
};

TEST_F(SharedTailTest, FindsByItselfWhatNobodyTellsItOf) {
    Client one = open_and_wait(), another = open_and_wait();
    append();
    expect_seqs(one, {0});
    append_silently();
    std::this_thread::sleep_for(60ms);
    EXPECT_EQ(one.seqs(), (std::vector<Seq>{0})) << "not before it is time";
    const double before = shared_scans();
    clock.advance(std::chrono::microseconds(TailHub::kPollInterval).count());
    expect_seqs(one, {0, 1});
    expect_seqs(another, {0, 1});
    std::this_thread::sleep_for(60ms);
    EXPECT_EQ(shared_scans(), before + 1) << "once for all tails of a project";
    append_silently();
    clock.advance(std::chrono::microseconds(TailHub::kPollInterval).count());
    expect_seqs(one, {0, 1, 2});
}

TEST_F(TailTest, AStoreOfOnesOwnIsNotPolled) {
    Client client = open_and_wait();
    append();
    expect_seqs(client, {0});
    const double before = shared_scans();
    clock.advance(std::chrono::microseconds(2 * TailHub::kPollInterval).count());
    std::this_thread::sleep_for(60ms);
    EXPECT_EQ(shared_scans(), before);
}

TEST_F(TailTest, BeginsBehindTheHeadAndSaysWhereThatIs) {
    append("old.event", 3);
    Client client = open_and_wait();
    append("user.created");
    expect_seqs(client, {3});
    const auto messages = client.messages();
    ASSERT_GE(messages.size(), 2U);
    EXPECT_EQ(messages[0].retry, 2000);
    EXPECT_EQ(messages[0].id, "2");
    EXPECT_EQ(messages[0].data, "");
    EXPECT_EQ(messages[1].event, "user.created");
    EXPECT_NE(messages[1].data.find(R"("action":"user.created")"), std::string::npos);
    EXPECT_NE(messages[1].data.find(R"("seq":3)"), std::string::npos);
    EXPECT_EQ(client.record->header("Content-Type"), "text/event-stream; charset=utf-8");
    EXPECT_EQ(client.record->header("Cache-Control"), "no-store");
    EXPECT_EQ(client.record->header("X-Accel-Buffering"), "no");
}

TEST_F(TailTest, DataIsOneLineWhateverTheMetadata) {
    metadata = "{\"a\":\r\n1,\n\"b\":\"x\\ny\"}";
    Client client = open_and_wait();
    append();
    expect_seqs(client, {0});
    EXPECT_NE(client.messages().back().data.find(R"("b":"x\ny")"), std::string::npos);
}

TEST_F(TailTest, ResumesBehindAnySeq) {
    append("user.created", 50);
    for (const Seq seq : {Seq{-1}, Seq{0}, Seq{17}, Seq{48}, Seq{49}}) {
        Client client = open_and_wait(after(seq));
        expect_seqs(client, range(seq + 1, 49));
        client.record->gone = true;
    }
}

TEST_F(TailTest, RefusesToResumeBehindWhatIsNotThere) {
    append("user.created", 3);
    Client client = open(after(3));
    EXPECT_TRUE(eventually([&] { return client.refusal->get().has_value(); }));
    EXPECT_EQ(client.refusal->get()->code, Errc::invalid);
    EXPECT_FALSE(client.opened());
    Client whole = open_and_wait(after(2));
    EXPECT_EQ(whole.last_id(), "2");
}

TEST_F(TailTest, NeitherGapNorDuplicateWhileEventsComeIn) {
    append("user.created", 200);
    std::vector<Client> clients;
    std::thread writer([&] {
        for (int i = 0; i < 100; ++i) append("user.created", 7);
    });
    for (int i = 0; i < 20; ++i) {
        clients.push_back(open(after(i * 10 - 1)));
        std::this_thread::sleep_for(2ms);
    }
    writer.join();
    for (int i = 0; i < 20; ++i) expect_seqs(clients[i], range(i * 10, 899));
}

TEST_F(TailTest, AFilterPassesOverAndHeartbeatsSayHowFar) {
    Client client = open_and_wait(only("user.*"));
    append("user.created");
    append("other.thing", 5);
    expect_seqs(client, {0});
    EXPECT_EQ(client.last_id(), "0");
    EXPECT_TRUE(with_heartbeats([&] { return client.last_id() == "5"; }));
    EXPECT_TRUE(with_heartbeats([&] { return client.messages().back().id.empty(); }));
    EXPECT_EQ(client.messages().back().comment, "heartbeat");
    append("user.deleted");
    expect_seqs(client, {0, 6});
    // Only once: nothing had changed since.
    int told = 0;
    for (const Message& message : client.messages()) {
        if (message.id != "5") continue;
        ++told;
        EXPECT_EQ(message.comment, "heartbeat");
        EXPECT_TRUE(message.data.empty());
    }
    EXPECT_EQ(told, 1);
}

TEST_F(TailTest, NoHeartbeatBeforeItsTime) {
    Client client = open_and_wait();
    clock.advance(39'000);
    std::this_thread::sleep_for(60ms);
    EXPECT_EQ(client.messages().size(), 1U);
    append();  // what is sent counts as a sign of life
    expect_seqs(client, {0});
    std::this_thread::sleep_for(60ms);  // when it was sent is noted a moment after it can be seen
    clock.advance(39'000);
    std::this_thread::sleep_for(60ms);
    EXPECT_EQ(client.messages().size(), 2U);
}

TEST_F(TailTest, AFilteredTailResumesByTheStoresIndexUpToTheHead) {
    append("other.thing", 300);
    append("user.created");
    append("other.thing", 300);
    TailRequest request = only("user.*");
    request.after = -1;
    Client client = open_and_wait(std::move(request));
    expect_seqs(client, {300});
    EXPECT_TRUE(with_heartbeats([&] { return client.last_id() == "600"; }));
}

TEST_F(TailTest, TombstonesShowInUnfilteredTailsOnly) {
    append("user.created", 4);
    erase(1);
    Client all = open_and_wait(after(-1));
    expect_seqs(all, {0, 1, 2, 3});
    const Message tombstone = all.messages()[2];
    EXPECT_EQ(tombstone.event, "deleted");
    EXPECT_NE(tombstone.data.find(R"("seq":1,"deleted":true})"), std::string::npos);
    TailRequest request = only("user.*");
    request.after = -1;
    Client some = open_and_wait(std::move(request));
    expect_seqs(some, {0, 2, 3});
}

TEST_F(TailTest, ManyTailsShareOneScanForEachCommit) {
    std::vector<Client> clients;
    for (int i = 0; i < 100; ++i) clients.push_back(open_and_wait());
    // The feed's first look may come after a wake-up that it did not need.
    const double before = shared_scans();
    for (int i = 0; i < 20; ++i) {
        append();
        EXPECT_TRUE(eventually([&] {
            return clients[0].seqs().size() == static_cast<std::size_t>(i) + 1;
        }));
    }
    for (const Client& client : clients) expect_seqs(client, range(0, 19));
    EXPECT_LE(shared_scans() - before, 20);
    EXPECT_GE(shared_scans() - before, 1);
    EXPECT_EQ(catch_up_scans(), 0);
    EXPECT_EQ(metric("annal_tails"), 100);
    EXPECT_TRUE(eventually([&] { return metric("annal_tail_events_total") == 2'000; }));
}

TEST_F(TailTest, AProjectWithoutTailsCostsNothing) {
    Client client = open_and_wait();
    append();
    expect_seqs(client, {0});
    client.record->gone = true;
    EXPECT_TRUE(eventually([&] { return metric("annal_tails") == 0; }));
    host.run(hub.drain());
    const auto before = host.store.scans.load();
    for (int i = 0; i < 5; ++i) append();
    std::this_thread::sleep_for(30ms);
    EXPECT_EQ(host.store.scans, before);
}

TEST_F(TailTest, ProjectsDoNotMix) {
    Client a = open_and_wait();
    Client b = open({}, {}, "proj_b");
    EXPECT_TRUE(eventually([&] { return b.opened(); }));
    append("in.b", 2, "proj_b");
    append("in.a");
    expect_seqs(a, {0});
    expect_seqs(b, {0, 1});
    EXPECT_EQ(a.messages().back().event, "in.a");
    EXPECT_EQ(b.messages().back().event, "in.b");
}

TEST_F(TailTest, AStoppedReaderAmongManyCatchesUpByItself) {
    host.limits.tail_buffer_bytes_max = 64U << 10;
    metadata = R"({"filler":")" + std::string(4'000, 'x') + R"("})";
    std::vector<Client> clients;
    for (int i = 0; i < 199; ++i)
        clients.push_back(open({}, [](FakeExchange&, ExchangeRecord& r) { r.keep_body = false; }));
    Client stopped = open({}, [](FakeExchange&, ExchangeRecord& r) { r.write_delay_ms = 400; });
    EXPECT_TRUE(eventually([&] { return metric("annal_tails") == 200 && stopped.opened(); }));
    EXPECT_TRUE(eventually([&] {
        return std::all_of(clients.begin(), clients.end(), [](const Client& c) {
            const std::lock_guard lock(c.record->mutex);
            return c.record->body_bytes > 0;
        });
    }));
    for (int i = 0; i < 40; ++i) append("user.created", 4);
    EXPECT_TRUE(eventually([&] { return metric("annal_tail_lagging_total") >= 1; }));
    stopped.record->write_delay_ms = 0;
    expect_seqs(stopped, range(0, 159));
    EXPECT_GE(catch_up_scans(), 1);
    EXPECT_TRUE(eventually([&] { return metric("annal_tail_events_total") == 200 * 160; }));
}

TEST_F(TailTest, CatchingUpIsBoundedInNumber) {
    append("user.created", 500);
    host.store.scan_delay_ms = 20;
    std::vector<Client> clients;
    for (int i = 0; i < 40; ++i) clients.push_back(open(after(-1)));
    for (const Client& client : clients) expect_seqs(client, range(0, 499));
    // Beside them the feed reads, which all of them share.
    EXPECT_LE(host.store.scans_at_once_max, static_cast<int>(TailHub::kCatchUpsMax) + 1);
    EXPECT_GE(host.store.scans_at_once_max, 2);
}

TEST_F(TailTest, TheLimitHoldsAtItsEdge) {
    host.limits.tails_max = 3;
    std::vector<Client> clients;
    for (int i = 0; i < 3; ++i) clients.push_back(open_and_wait());
    Client refused = open();
    EXPECT_TRUE(eventually([&] { return refused.refusal->get().has_value(); }));
    EXPECT_EQ(refused.refusal->get()->code, Errc::unavailable);
    EXPECT_GT(refused.refusal->get()->retry_after_ms, 0U);
    EXPECT_NE(refused.refusal->get()->detail.find("maximum of 3"), std::string::npos);
    EXPECT_EQ(metric("annal_tail_refused_total"), 1);
    clients[1].record->gone = true;
    EXPECT_TRUE(eventually([&] { return metric("annal_tails") == 2; }));
    open_and_wait();
}

TEST_F(TailTest, EndsCleanlyWhenItsKeyHasLostItsForce) {
    Client client = open_and_wait();
    key_in_force = false;
    client.record->wait_end();
    EXPECT_TRUE(client.record->finished);
    EXPECT_FALSE(client.refusal->get().has_value());
}

TEST_F(TailTest, ClosingEndsAllCleanlyAndTakesNoMore) {
    std::vector<Client> clients;
    for (int i = 0; i < 10; ++i) clients.push_back(open_and_wait());
    hub.close();
    for (const Client& client : clients) {
        client.record->wait_end();
        EXPECT_TRUE(client.record->finished);
    }
    host.run(hub.drain());
    Client late = open();
    EXPECT_TRUE(eventually([&] { return late.refusal->get().has_value(); }));
    EXPECT_EQ(late.refusal->get()->code, Errc::unavailable);
}

TEST_F(TailTest, AClientThatLeavesIsNoticedWhileNothingHappens) {
    Client client = open_and_wait();
    client.record->gone = true;
    client.record->wait_dropped();
    EXPECT_TRUE(eventually([&] { return metric("annal_tails") == 0; }));
}

TEST_F(TailTest, HeadIsAnsweredWithoutWaiting) {
    Client client = open({}, [](FakeExchange& exchange, ExchangeRecord& record) {
        exchange.wanted.method = "HEAD";
        record.gone_after = 1;  // as the server's own exchange ends with the headers
    });
    client.record->wait_dropped();
    EXPECT_EQ(client.record->status, 200);
}

TEST_F(TailTest, AFaultOfTheStoreIsWaitedOut) {
    Client client = open_and_wait();
    host.store.fail_reads({Errc::unavailable, "the disk is asleep"}, 2);
    append();
    expect_seqs(client, {0});
    host.store.fail_reads({Errc::unavailable, "the disk is asleep"}, 1);
    append();
    expect_seqs(client, {0, 1});
}

}  // namespace
}  // namespace annal::http
