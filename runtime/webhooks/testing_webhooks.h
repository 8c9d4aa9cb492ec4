#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/bus/noticeboard.h"
#include "runtime/plugin/http_client.h"
#include "runtime/webhooks/webhooks.h"
#include "tests/support/test_host.h"

namespace annal::webhooks_test {

using namespace std::chrono_literals;
using Status = WebhookDelivery::Status;
inline constexpr auto kPatience = 60s;

/// The system's clock, further on by as much as a test likes.
class AheadClock final : public Clock {
public:
    [[nodiscard]] TimeUs wall_us() const override { return clock_.wall_us() + wall_; }
    [[nodiscard]] std::int64_t monotonic_us() const override {
        return clock_.monotonic_us() + monotonic_;
    }
    void skip_wall(std::chrono::microseconds time) { wall_ += time.count(); }
    void skip_monotonic(std::chrono::microseconds time) { monotonic_ += time.count(); }

private:
    SystemClock clock_;
    std::atomic<std::int64_t> wall_{0}, monotonic_{0};
};

/// What endpoints of a test are: an HTTP server on a free port of 127.0.0.1, on one thread, for as
/// many connections as come. It answers each path as it was told, 200 otherwise.
class Receiver {
public:
    struct Request {
        std::string path, head, body;
        [[nodiscard]] std::string header(const std::string& name) const {
            const auto at = head.find("\r\n" + name + ": ");
            if (at == std::string::npos) return {};
            const auto begin = at + name.size() + 4;
            return head.substr(begin, head.find("\r\n", begin) - begin);
        }
        /// Of the event.
        [[nodiscard]] Seq seq() const {
            const auto id = DeliveryId::parse(header("Authio-Webhook-Id"));
            return id ? id->seq : kNoSeq;
        }
    };

    Receiver() {
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
        EXPECT_EQ(listen(listener_, 512), 0);
        socklen_t size = sizeof(address);
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
        port_ = ntohs(address.sin_port);
        thread_ = std::thread([this] { run(); });
    }
    ~Receiver() {
        stop_ = true;
        thread_.join();
        for (const auto& [fd, connection] : connections_) close(fd);
        close(listener_);
    }
    Receiver(const Receiver&) = delete;
    Receiver& operator=(const Receiver&) = delete;

    [[nodiscard]] std::uint16_t port() const { return port_; }
    [[nodiscard]] std::string url(const std::string& path) const {
        return "http://127.0.0.1:" + std::to_string(port_) + path;
    }
    /// From now on, and what waits for an answer on that path.
    void answer(const std::string& path, int status) {
        const std::lock_guard lock(mutex_);
        answers_[path] = status;
    }
    /// No answer until one is named.
    void hold(const std::string& path) { answer(path, kHeld); }

    [[nodiscard]] std::vector<Request> requests(const std::string& path) const {
        const std::lock_guard lock(mutex_);
        std::vector<Request> found;
        for (const Request& each : requests_)
            if (each.path == path) found.push_back(each);
        return found;
    }
    [[nodiscard]] std::size_t count(const std::string& path) const { return requests(path).size(); }
    /// How often each event reached that path.
    [[nodiscard]] std::map<Seq, int> seqs(const std::string& path) const {
        std::map<Seq, int> seqs;
        for (const Request& each : requests(path)) ++seqs[each.seq()];
        return seqs;
    }
    [[nodiscard]] bool wait_for(const std::string& path, std::size_t count) const {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, kPatience, [&] {
            return std::count_if(requests_.begin(), requests_.end(), [&](const Request& each) {
                       return each.path == path;
                   }) >= static_cast<std::ptrdiff_t>(count);
        });
    }
    /// Connections whose request waits for its answer.
    [[nodiscard]] std::size_t held() const {
        const std::lock_guard lock(mutex_);
        return held_;
    }

private:
    static constexpr int kHeld = 0;
    struct Connection {
        std::string in, path;  ///< path: of a request that waits for its answer
    };

    void run() {
        while (!stop_) {
            std::vector<pollfd> wanted{{listener_, POLLIN, 0}};
            for (const auto& [fd, connection] : connections_) wanted.push_back({fd, POLLIN, 0});
            if (poll(wanted.data(), wanted.size(), 5) > 0) {
                for (const pollfd& each : wanted)
                    if (each.revents != 0 && each.fd != listener_) take(each.fd);
                if (wanted.front().revents != 0) accept_all();
            }
            answer_held();
        }
    }
    void accept_all() {
        for (;;) {
            const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (fd < 0) return;
            connections_[fd];
        }
    }
    void take(int fd) {
        char buffer[16'384];
        const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
        if (n <= 0) {
            close(fd);
            connections_.erase(fd);
            return;
        }
        Connection& connection = connections_[fd];
        connection.in.append(buffer, static_cast<std::size_t>(n));
        const auto end = connection.in.find("\r\n\r\n");
        if (end == std::string::npos) return;
        const auto at = connection.in.find("Content-Length: ");
        const std::size_t length = at < end ? std::stoul(connection.in.substr(at + 16)) : 0;
        if (connection.in.size() < end + 4 + length) return;
        Request request;
        request.head = connection.in.substr(0, end + 2);
        request.body = connection.in.substr(end + 4, length);
        const auto begin = request.head.find(' ') + 1;
        request.path = request.head.substr(begin, request.head.find(' ', begin) - begin);
        connection.in.erase(0, end + 4 + length);
        connection.path = request.path;
        const std::lock_guard lock(mutex_);
        requests_.push_back(std::move(request));
        changed_.notify_all();
    }
    void answer_held() {
        const std::lock_guard lock(mutex_);
        held_ = 0;
        for (auto& [fd, connection] : connections_) {
            if (connection.path.empty()) continue;
            const auto told = answers_.find(connection.path);
            const int status = told == answers_.end() ? 200 : told->second;
            if (status == kHeld) {
                ++held_;
                continue;
            }
            connection.path.clear();
            const std::string text =
                "HTTP/1.1 " + std::to_string(status) + " Answer\r\nContent-Length: 4\r\n\r\nsaid";
            (void)::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
        }
    }

    std::uint16_t port_ = 0;
    int listener_ = -1;
    std::atomic<bool> stop_{false};
    std::map<int, Connection> connections_;  // the thread's
    mutable std::mutex mutex_;
    mutable std::condition_variable changed_;
    std::map<std::string, int> answers_;
    std::vector<Request> requests_;
    std::size_t held_ = 0;
    std::thread thread_;
};

/// One node with webhooks, on a store in memory.
struct WebhooksTest : testing::Test {
    static constexpr const char* kProject = "p";
    inline static const Actor kActor{"api_key", "apikey_1"};

    test::TestHost host;
    AheadClock clock;
    SecretBox box{{{"one", std::string(32, 'k')}}};
    SecretBox other_box{{{"two", std::string(32, 'j')}}};
    Receiver receiver;
    Noticeboard board{host.store, clock, Noticeboard::Nodes::one, host.executor};
    WebhookOptions options;
    std::unique_ptr<Webhooks> webhooks;

    void SetUp() override {
        host.store.hop = true;
        host.limits.lease_ms = 30U * 24 * 3'600 * 1'000;  // whatever the clock is told
        host.environment.clock = &clock;
        host.environment.allow_cidrs = {"127.0.0.0/8"};
        host.environment.outbound_ports = {receiver.port()};
        ASSERT_TRUE(provide_http_client(host.environment));
        options.retry_delay = 1ms;
        options.timeout = 60s;  // the longest that there is: nothing ends by it
    }
    void TearDown() override {
        stop();
        host.environment.http_client.reset();
    }

    void load(const SecretBox& secrets, Noticeboard& notices) {
        webhooks = std::make_unique<Webhooks>(Webhooks::Environment{
            host.environment, secrets, notices, options});
        ASSERT_TRUE(host.run(webhooks->load()));
    }
    void load() { load(box, board); }
    void start() {
        load();
        webhooks->start();
    }
    void stop() {
        if (webhooks) host.run(webhooks->stop());
        webhooks.reset();
    }

    Task<Result<Webhooks::Issued>> creation(const std::string& path, const char* patterns) {
        Webhooks::Change wanted;
        wanted.url = receiver.url(path);
        wanted.patterns = parse_patterns(patterns).value();
        return webhooks->create(kProject, wanted, kActor);
    }
    /// Its id.
    std::string create(const std::string& path, const char* patterns = "test.*") {
        const auto issued = host.run(creation(path, patterns));
        EXPECT_TRUE(issued) << issued.error().detail;
        return issued ? issued.value().endpoint.id : "";
    }
    Result<WebhookEndpoint> endpoint(const std::string& id) {
        return host.run(webhooks->get(kProject, id));
    }
    bool is_disabled(const std::string& id) {
        return endpoint(id).value().status == WebhookEndpoint::Status::disabled;
    }
    Result<WebhookEndpoint> enable(const std::string& id, bool on) {
        Webhooks::Change change;
        change.enabled = on;
        return host.run(webhooks->change(kProject, id, change, kActor));
    }
    EndpointState state(const std::string& id) {
        return host.run(webhooks->progress(kProject, id)).value().state;
    }

    static AppendUnit unit_of(int count) {
        AppendUnit unit;
        unit.project = kProject;
        for (int i = 0; i < count; ++i) {
            EventDraft draft;
            draft[Column::action] = "test.happened";
            draft[Column::actor_type] = "system";
            draft[Column::auth_type] = "system";
            draft[Column::metadata] = "{}";
            unit.events.push_back(draft);
        }
        return unit;
    }
    /// The seq of the first.
    Seq append(int count = 1) {
        const auto done = host.run(host.appender.append(unit_of(count)));
        EXPECT_TRUE(done) << done.error().detail;
        return done ? done.value().front().seq : kNoSeq;
    }
    /// Whatever the store refuses meanwhile.
    void append_at_last(int count) {
        ASSERT_TRUE(eventually([&] {
            return host.run(host.appender.append(unit_of(count))).has_value();
        }));
    }
    /// The events of an action, oldest first.
    EventBatch recorded(const std::string& action) {
        ScanRequest request;
        request.project = kProject;
        request.newest_first = false;
        request.limit = 1'000;
        request.filter.actions = {parse_pattern(action).value()};
        return std::move(host.run(host.store.scan(std::move(request))).value().batch);
    }

    std::vector<KvRow> rows(const char* space, const std::string& id) {
        return host.run(host.store.kv_scan(space, kProject, rows_of(id), "", 10'000)).value();
    }
    std::vector<WebhookDelivery> deliveries(
        const char* space, Status status, const std::string& id
    ) {
        std::vector<WebhookDelivery> found;
        for (const KvRow& row : rows(space, id))
            found.push_back(WebhookDelivery::from_row(row, status).value());
        return found;
    }
    std::vector<WebhookDelivery> delivered(const std::string& id) {
        return deliveries(WebhookDelivery::kDelivered, Status::delivered, id);
    }
    std::vector<WebhookDelivery> failed(const std::string& id) {
        return deliveries(WebhookDelivery::kFailed, Status::failed, id);
    }
    std::size_t queued(const std::string& id) { return rows(WebhookDelivery::kQueue, id).size(); }
    /// Whether all that concerned it is delivered, and `count` are.
    bool has_all(const std::string& id, std::size_t count) {
        return rows(WebhookDelivery::kDelivered, id).size() == count && queued(id) == 0 &&
               rows(WebhookDelivery::kRetrying, id).empty();
    }

    /// Whoever waits for a time looks at the clock again.
    void nudge() { (void)host.run(webhooks->reload(kProject)); }
    /// Beyond the rest that an endpoint gets after failures.
    void skip_rest() {
        clock.skip_monotonic(80s);
        nudge();
    }
    template <class Condition>
    bool eventually(Condition condition) {
        const auto deadline = std::chrono::steady_clock::now() + kPatience;
        while (!condition()) {
            if (std::chrono::steady_clock::now() > deadline) return false;
            std::this_thread::sleep_for(5ms);
        }
        return true;
    }
    /// With whatever an endpoint rests passed over.
    template <class Condition>
    bool after_rests(Condition condition) {
        return eventually([&] {
            if (condition()) return true;
            skip_rest();
            return false;
        });
    }

    Lease ask_as_other(std::chrono::milliseconds ttl = 30min) {
        return host.run(host.store.lease({kProject, WebhookWorker::kLease, "other", ttl})).value();
    }
    void release(const std::string& owner) {
        ASSERT_TRUE(host.run(host.store.release_lease(kProject, WebhookWorker::kLease, owner)));
    }
    /// As if this node had slept through the end of its lease.
    void give_lease_to_other() {
        do release(host.environment.node);
        while (!ask_as_other().mine);  // else this node was quicker
    }
    void move_cursor(Seq to) {
        AppendUnit unit;
        unit.project = kProject;
        unit.cursors.push_back({WebhookWorker::kLease, to, 0});
        ASSERT_TRUE(host.run(host.appender.append(std::move(unit))));
    }
    Seq cursor() { return host.run(host.store.cursor(kProject, WebhookWorker::kLease)).value(); }
    bool shows(const std::string& line) {
        return ("\n" + host.metrics.render()).find("\n" + line + "\n") != std::string::npos;
    }
};

}  // namespace annal::webhooks_test
