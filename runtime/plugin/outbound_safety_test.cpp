// That no destination, hostile or misled, reaches what it shall not or costs more than itself.
// The ranges' edges are address_policy_test's; here is what a request makes of them.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <future>
#include <list>
#include <mutex>
#include <thread>

#include "runtime/core/metrics.h"
#include "runtime/plugin/destination.h"
#include "runtime/plugin/http_client.h"
#include "runtime/plugin/transfer.h"
#include "runtime/plugin/transfer_loop.h"

namespace annal {
namespace {

using Steady = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

const char* const kOk = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// A server on a loopback address that runs `serve` for each connection on a thread of its own.
class Server {
public:
    using Serve = std::function<void(Server&, int fd)>;
    explicit Server(Serve serve, const char* ip = "127.0.0.1", std::uint16_t wanted = 0)
        : serve_(std::move(serve)), ip_(ip) {
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int on = 1;
        setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(wanted);
        inet_pton(AF_INET, ip, &address.sin_addr);
        EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
        EXPECT_EQ(listen(listener_, 1024), 0);
        socklen_t size = sizeof(address);
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
        port = ntohs(address.sin_port);
        thread_ = std::thread([this] { run(); });
    }
    ~Server() {
        stop_ = true;
        thread_.join();
        for (std::thread& thread : threads_) thread.join();
        close(listener_);
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    [[nodiscard]] std::string place() const { return ip_ + ":" + std::to_string(port); }
    [[nodiscard]] std::string url(const std::string& host) const {
        return "http://" + host + ":" + std::to_string(port) + "/";
    }
    [[nodiscard]] std::string url() const { return url(ip_); }
    [[nodiscard]] bool stopping() const { return stop_; }

    /// False: nothing will come any more.
    bool wait(int fd, short events) const {
        while (!stop_) {
            pollfd wanted{fd, events, 0};
            if (poll(&wanted, 1, 20) > 0) return true;
        }
        return false;
    }
    /// The head of a request and its body; empty: the peer has gone.
    std::string read_request(int fd) {
        std::string text;
        char buffer[16'384];
        std::size_t wanted = std::string::npos;
        while (text.size() < wanted && wait(fd, POLLIN)) {
            const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
            if (n <= 0) return {};
            text.append(buffer, static_cast<std::size_t>(n));
            const std::size_t head = text.find("\r\n\r\n");
            if (wanted != std::string::npos || head == std::string::npos) continue;
            const std::size_t at = text.find("Content-Length: ");
            wanted = head + 4 + (at < head ? std::stoul(text.substr(at + 16)) : 0);
        }
        if (!stop_) ++requests;
        return text;
    }
    /// False: the peer has gone, or the test is over.
    bool send_all(int fd, std::string_view text) {
        while (!text.empty()) {
            if (!wait(fd, POLLOUT)) return false;
            const ssize_t n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n < 0 && errno != EAGAIN) return false;
            if (n > 0)
                sent += static_cast<std::size_t>(n),
                    text.remove_prefix(static_cast<std::size_t>(n));
        }
        return true;
    }
    /// Until the peer has gone or the test is over.
    void hold(int fd) const {
        char byte = 0;
        while (wait(fd, POLLIN))
            if (recv(fd, &byte, 1, 0) <= 0) return;
    }
    /// Something every now and then; ends when the peer has gone.
    void drip(int fd, std::string_view piece, milliseconds pause) {
        while (!stop_) {
            if (!send_all(fd, piece)) return;
            pollfd gone{fd, POLLIN, 0};
            char byte = 0;
            if (poll(&gone, 1, static_cast<int>(pause.count())) > 0 && recv(fd, &byte, 1, 0) <= 0)
                return;
        }
    }

    std::uint16_t port = 0;
    std::atomic<int> connections{0}, open{0}, open_max{0}, requests{0};
    std::atomic<std::size_t> sent{0};

private:
    void run() {
        while (wait(listener_, POLLIN)) {
            const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
            if (fd < 0) continue;
            ++connections;
            threads_.emplace_back([this, fd] {
                const int now = ++open;
                int seen = open_max;
                while (now > seen && !open_max.compare_exchange_weak(seen, now)) {
                }
                serve_(*this, fd);
                --open;
                close(fd);
            });
        }
    }
    const Serve serve_;
    const std::string ip_;
    int listener_ = -1;
    std::atomic<bool> stop_{false};
    std::list<std::thread> threads_;
    std::thread thread_;
};

void answer_all(Server& server, int fd) {
    while (!server.read_request(fd).empty())
        if (!server.send_all(fd, kOk)) return;
}

void hang(Server& server, int fd) {
    server.hold(fd);
}

AddressPolicy policy(const std::vector<std::string>& allow = {"127.0.0.0/8"}) {
    return AddressPolicy::create(allow).value();
}

OutboundRequest request_to(const std::string& url, std::uint32_t timeout_ms = 10'000) {
    OutboundRequest request;
    request.url = url;
    request.allowed = {"*:*"};
    request.timeout_ms = timeout_ms;
    return request;
}

using Outcome = std::shared_ptr<Result<OutboundResponse>>;

std::future<Outcome> begin(HttpClient& client, OutboundRequest request) {
    auto promise = std::make_shared<std::promise<Outcome>>();
    auto future = promise->get_future();
    client.send(std::move(request), [promise](Result<OutboundResponse> outcome) {
        promise->set_value(std::make_shared<Result<OutboundResponse>>(std::move(outcome)));
    });
    return future;
}

Result<OutboundResponse> wait_for(std::future<Outcome>& future) {
    if (future.wait_for(seconds(30)) != std::future_status::ready)
        return Error{Errc::internal, "no answer within 30 s"};
    return *future.get();
}

Result<OutboundResponse> send(HttpClient& client, OutboundRequest request) {
    auto future = begin(client, std::move(request));
    return wait_for(future);
}

Errc code_of(const Result<OutboundResponse>& outcome) {
    return outcome ? Errc{0} : outcome.error().code;
}

/// Answers of a resolver that a test changes at will.
struct Names {
    std::mutex mutex;
    std::vector<std::string> answer;
    std::atomic<int> asked{0};

    void set(std::vector<std::string> texts) {
        const std::lock_guard lock(mutex);
        answer = std::move(texts);
    }
    static Resolver::Lookup lookup(const std::shared_ptr<Names>& names) {
        return [names](const std::string&) -> Result<std::vector<Address>> {
            ++names->asked;
            const std::lock_guard lock(names->mutex);
            std::vector<Address> out;
            for (const std::string& text : names->answer) out.push_back(*Address::parse(text));
            return out;
        };
    }
};

HttpClient::Options with(
    const std::shared_ptr<Names>& names, milliseconds cache = milliseconds(0)
) {
    HttpClient::Options options;
    options.lookup = Names::lookup(names);
    options.name_cache = cache;
    return options;
}

// --- What may be reached

TEST(OutboundSafety, NoRangeIsReachedByItsAddresses) {
    HttpClient client(policy({}), {});
    for (const char* host :
         {"0.0.0.0",
          "0.255.255.255",
          "10.0.0.0",
          "10.255.255.255",
          "100.64.0.0",
          "100.127.255.255",
          "127.0.0.1",
          "127.255.255.255",
          "169.254.0.0",
          "169.254.169.254",
          "172.16.0.0",
          "172.31.255.255",
          "192.0.0.0",
          "192.0.0.255",
          "192.0.2.1",
          "192.88.99.1",
          "192.168.0.0",
          "192.168.255.255",
          "198.18.0.0",
          "198.19.255.255",
          "198.51.100.1",
          "203.0.113.1",
          "224.0.0.1",
          "239.255.255.255",
          "240.0.0.0",
          "255.255.255.255",
          "[::]",
          "[::1]",
          "[::ffff:8.8.8.8]",
          "[::ffff:127.0.0.1]",
          "[::7f00:1]",
          "[::127.0.0.1]",
          "[::ffff:0:7f00:1]",
          "[::5efe:7f00:1]",
          "[2600::5efe:a00:1]",
          "[2600::200:5efe:a00:1]",
          "[64:ff9b::7f00:1]",
          "[64:ff9b::a9fe:a9fe]",
          "[64:ff9b:1::1]",
          "[64:ff9b:1::808:808]",
          "[100::1]",
          "[2001::1]",
          "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
          "[2001:10::1]",
          "[2001:db8::1]",
          "[2002:7f00:1::]",
          "[2002:808:808::1]",
          "[3fff::1]",
          "[5f00::1]",
          "[fc00::1]",
          "[fd00:ec2::254]",
          "[fe80::1]",
          "[fec0::1]",
          "[ff02::1]"}) {
        const std::string url = "http://" + std::string(host) + "/";
        EXPECT_EQ(code_of(send(client, request_to(url))), Errc::denied) << host;
        const auto checked = check_destination(url, policy({}));
        ASSERT_FALSE(checked) << host;
        EXPECT_EQ(checked.error().code, Errc::unprocessable) << host;
        EXPECT_EQ(checked.error().pointer, "url");
        EXPECT_NE(checked.error().detail.find("can't be reached"), std::string::npos)
            << checked.error().detail;
    }
    for (const char* host : {"8.8.8.8", "[2606:4700::1111]", "[64:ff9b::808:808]", "a.example"})
        EXPECT_TRUE(check_destination("https://" + std::string(host) + "/", policy({}))) << host;
}

/// 127.0.0.1 in every notation that libcurl or the resolver takes for it.
const char* const kDisguises[] = {
    "127.0.0.1",
    "2130706433",
    "0177.0.0.1",
    "017700000001",
    "0x7f000001",
    "0X7F000001",
    "0x7f.1",
    "127.1",
    "127.0.1",
    "127.0.0.01",
    "127.0.0.1.",
    "127.1.",
    "0x7f000001.",
    "127%2e0%2e0%2e1",
    "%31%32%37.1",
};

TEST(OutboundSafety, AnAddressInDisguiseIsTheAddress) {
    Server server(answer_all);
    HttpClient client(policy({}), {});
    HttpClient permitted(policy({"127.0.0.1"}), {});
    for (const char* host : kDisguises) {
        const std::string url = server.url(host);
        EXPECT_EQ(code_of(send(client, request_to(url))), Errc::denied) << host;
        const auto checked = check_destination(url, policy({}));
        ASSERT_FALSE(checked) << host;
        EXPECT_EQ(checked.error().code, Errc::unprocessable);
        EXPECT_NE(checked.error().detail.find("127.0.0.0/8"), std::string::npos)
            << host << ": " << checked.error().detail;
    }
    EXPECT_EQ(server.connections, 0) << "nothing was connected to to find out";
    for (const char* host : kDisguises) {
        const auto outcome = send(permitted, request_to(server.url(host)));
        EXPECT_TRUE(outcome) << host << ": the test's own server can be reached; "
                             << outcome.error().detail;
        EXPECT_TRUE(check_destination(server.url(host), policy({"127.0.0.1"}))) << host;
    }
}

TEST(OutboundSafety, HostsThatOtherRulesMightReadOtherwiseAreRefused) {
    HttpClient client(policy(), {});
    for (const char* url :
         {"http://\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1/",  // fullwidth digits
          "http://127\xe3\x80\x82"
          "0\xe3\x80\x82"
          "0\xe3\x80\x82"
          "1/",                                        // ideographic full stops
          "http://\xe2\x91\xa0\xe2\x91\xa1.example/",  // circled digits
          "http://b\xc3\xbc"
          "cher.example/",
          "http://[fe80::1%25eth0]/",
          "http://[::1",
          "http://127.0.0.1:0/",
          "http://127.0.0.1:65536/",
          "http://a@127.0.0.1/",
          "http://a:b@127.0.0.1/",
          "http://127.0.0.1\t/",
          "http://127.0.0.1 /",
          "http:///",
          "http://./",
          "//127.0.0.1/",
          "127.0.0.1",
          "file:///etc/passwd",
          "gopher://127.0.0.1/_x",
          "ftp://127.0.0.1/",
          "dict://127.0.0.1/",
          "ldap://127.0.0.1/",
          "scp://127.0.0.1/",
          "telnet://127.0.0.1/",
          "ws://127.0.0.1/",
          ""}) {
        EXPECT_EQ(code_of(send(client, request_to(url))), Errc::invalid) << url;
        const auto checked = check_destination(url, policy());
        ASSERT_FALSE(checked) << url;
        EXPECT_EQ(checked.error().code, Errc::unprocessable) << url;
        EXPECT_FALSE(checked.error().detail.empty());
    }
}

TEST(OutboundSafety, AConfiguredUrlIsJudgedByItsPermissionsToo) {
    EXPECT_FALSE(check_destination("http://localhost:8080/", policy({})));
    EXPECT_FALSE(check_destination("http://LOCALHOST./", policy({})));
    EXPECT_FALSE(check_destination("http://a.localhost/", policy({})));
    EXPECT_TRUE(check_destination("http://localhost/", policy()));
    EXPECT_TRUE(check_destination("http://notlocalhost/", policy({})));
    EXPECT_FALSE(check_destination("http://8.8.8.8:25/", policy({})));
    EXPECT_TRUE(check_destination("http://8.8.8.8:25/", policy({}), {"*:*", "*:25"}));
    EXPECT_TRUE(check_destination("http://8.8.8.8:25/", policy({}), {"8.8.8.8:25"}));
    EXPECT_TRUE(check_destination("http://127.0.0.1:25/", policy())) << "the operator's range";
    EXPECT_TRUE(check_destination("https://Hooks.EXAMPLE/x", policy(), {"hooks.example:443"}));
    EXPECT_FALSE(check_destination("https://hooks.example/x", policy(), {"other.example:443"}));
    EXPECT_FALSE(check_destination("https://hooks.example/x", policy(), {}));
    for (const Address& own : own_addresses()) {
        const std::string host = own.v6 ? "[" + own.text() + "]" : own.text();
        EXPECT_FALSE(check_destination("http://" + host + "/", policy({}))) << host;
    }
}

TEST(OutboundSafety, PortsOfPublicAddressesAreThoseOfTheWebUnlessNamed) {
    HttpClient client(policy({}), {});
    for (const char* url : {"http://8.8.8.8:25/", "http://[4000::1]:6379/"}) {
        const auto outcome = send(client, request_to(url));
        ASSERT_EQ(code_of(outcome), Errc::denied) << url;
        EXPECT_NE(outcome.error().detail.find("outbound_ports"), std::string::npos);
    }
    // By the resolver's word as well.
    const auto names = std::make_shared<Names>();
    names->set({"8.8.8.8"});
    HttpClient by_name(policy({}), with(names));
    EXPECT_EQ(code_of(send(by_name, request_to("http://mail.example:25/"))), Errc::denied);
    // An address that nobody has: whatever becomes of it, it is not the port's fault.
    OutboundRequest named = request_to("http://[4000::1]:6379/", 100);
    named.allowed = {"*:6379"};
    const auto outcome = send(client, named);
    EXPECT_TRUE(code_of(outcome) == Errc::unavailable || code_of(outcome) == Errc::timeout)
        << outcome.error().detail;
}

TEST(OutboundSafety, TheNodesOwnListenerIsReachedByNobody) {
    Server listener(answer_all);
    Server other(answer_all);
    auto own = AddressPolicy::create({"127.0.0.0/8", "::/0"}, {}, listener.port).value();
    const auto names = std::make_shared<Names>();
    names->set({"127.0.0.1"});
    HttpClient client(own, with(names));
    for (const char* host : {"127.0.0.1", "127.0.0.2", "0.0.0.0", "self.example", "[::1]"})
        EXPECT_EQ(code_of(send(client, request_to(listener.url(host)))), Errc::denied) << host;
    EXPECT_EQ(listener.connections, 0);
    EXPECT_TRUE(send(client, request_to(other.url()))) << "another port of the same address";
}

TEST(OutboundSafety, TheNodesOwnAddressesAreDeniedByNameToo) {
    const auto names = std::make_shared<Names>();
    HttpClient client(policy({}), with(names));
    for (const Address& own : own_addresses()) {
        names->set({own.text()});
        EXPECT_EQ(code_of(send(client, request_to("http://me.example/"))), Errc::denied)
            << own.text();
    }
    EXPECT_GT(names->asked, 0);
}

// --- Names that change their mind

TEST(OutboundSafety, OneForbiddenAnswerCondemnsTheName) {
    Server good(answer_all, "127.0.0.2");
    const auto names = std::make_shared<Names>();
    HttpClient client(policy({"127.0.0.2"}), with(names));
    names->set({"127.0.0.2"});
    ASSERT_TRUE(send(client, request_to(good.url("name.example"))));
    const int before = good.connections;
    for (const auto& answers : std::vector<std::vector<std::string>>{
             {"127.0.0.2", "127.0.0.1"},
             {"127.0.0.1", "127.0.0.2"},
             {"127.0.0.2", "169.254.169.254"},
             {"127.0.0.2", "::1"},
             {"::ffff:127.0.0.1", "127.0.0.2"}}) {
        names->set(answers);
        const auto outcome = send(client, request_to(good.url("name.example")));
        EXPECT_EQ(code_of(outcome), Errc::denied) << answers[0] << " " << answers[1];
    }
    EXPECT_EQ(good.connections, before) << "not even the allowed one was connected to";
    EXPECT_EQ(good.requests, 1);
}

TEST(OutboundSafety, AResolverThatRebindsGainsNothing) {
    Server inside(answer_all);
    Server outside(answer_all, "127.0.0.2", inside.port);
    // The usual trick: a good answer to whoever checks, a bad one to whoever connects.
    const auto asked = std::make_shared<std::atomic<int>>(0);
    HttpClient::Options options;
    options.name_cache = milliseconds(0);
    options.lookup = [asked](const std::string&) -> Result<std::vector<Address>> {
        return std::vector{*Address::parse((*asked)++ % 2 == 0 ? "127.0.0.2" : "127.0.0.1")};
    };
    HttpClient client(policy({"127.0.0.2"}), options);
    const std::string url = outside.url("rebind.example");
    for (int i = 0; i < 4; ++i) {
        const auto outcome = send(client, request_to(url));
        EXPECT_EQ(*asked, i + 1) << "what was checked is what is connected to";
        EXPECT_EQ(code_of(outcome), i % 2 == 0 ? Errc{0} : Errc::denied);
    }
    EXPECT_EQ(inside.connections, 0);
    EXPECT_EQ(outside.requests, 2);
}

/// What libcurl makes of `addresses` for a name when nobody has judged them before it.
Result<OutboundResponse> transfer_unjudged(
    const Server& server, const std::string& addresses, const AddressPolicy& rules
) {
    TransferLoop loop(4);
    Transfer transfer(loop, "");
    auto job = std::make_unique<OutboundJob>();
    job->request = request_to(server.url("unjudged.example"));
    job->destination = Destination::read(job->request.url).value();
    job->permission = AddressPolicy::Port::any;
    job->deadline = Steady::now() + seconds(5);
    const std::string line = job->destination.key + ":" + addresses;
    transfer.begin(
        std::move(job),
        std::make_shared<const AddressPolicy>(rules),
        std::make_shared<const std::vector<Address>>(),
        {line}
    );
    if (!loop.add(transfer.easy())) return Error{Errc::internal, "not begun"};
    const auto until = Steady::now() + seconds(10);
    while (Steady::now() < until) {
        const auto& ended = loop.turn(milliseconds(100));
        if (ended.empty()) continue;
        const int code = ended[0].code;
        loop.remove(transfer.easy());
        return transfer.outcome(code);
    }
    loop.remove(transfer.easy());
    return Error{Errc::internal, "never ended"};
}

TEST(OutboundSafety, TheSocketItselfIsJudged) {
    Server inside(answer_all);
    Server outside(answer_all, "127.0.0.2", inside.port);
    const AddressPolicy rules = policy({"127.0.0.2"});
    EXPECT_EQ(code_of(transfer_unjudged(inside, "127.0.0.1", rules)), Errc::denied);
    EXPECT_EQ(code_of(transfer_unjudged(inside, "127.0.0.1,127.0.0.2", rules)), Errc::denied);
    EXPECT_EQ(code_of(transfer_unjudged(inside, "[::1]", rules)), Errc::denied);
    EXPECT_EQ(code_of(transfer_unjudged(inside, "[::ffff:127.0.0.1]", rules)), Errc::denied);
    EXPECT_EQ(inside.connections, 0);
    EXPECT_EQ(outside.connections, 0) << "one that is forbidden condemns those behind it";
    EXPECT_EQ(code_of(transfer_unjudged(inside, "8.8.8.8", rules)), Errc::denied) << "its port";
    EXPECT_TRUE(transfer_unjudged(inside, "127.0.0.2", rules)) << "the test itself works";
    EXPECT_EQ(outside.requests, 1);
}

TEST(OutboundSafety, AnswersAreUsedForAWhileOnly) {
    Server server(answer_all);
    const auto names = std::make_shared<Names>();
    names->set({"127.0.0.1"});
    HttpClient cached(policy(), with(names, seconds(60)));
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(send(cached, request_to(server.url("a.example"))));
    EXPECT_EQ(names->asked, 1);
    HttpClient brief(policy(), with(names, milliseconds(1)));
    EXPECT_TRUE(send(brief, request_to(server.url("a.example"))));
    std::this_thread::sleep_for(milliseconds(20));
    EXPECT_TRUE(send(brief, request_to(server.url("a.example"))));
    EXPECT_EQ(names->asked, 3);
}

TEST(OutboundSafety, AKeptConnectionIsNotUsedAgainstANewPolicy) {
    Server server(answer_all);
    const auto names = std::make_shared<Names>();
    names->set({"127.0.0.1"});
    HttpClient client(policy(), with(names, seconds(60)));
    for (const std::string& host : {std::string("kept.example"), std::string("127.0.0.1")}) {
        client.set_policy(policy());
        ASSERT_TRUE(send(client, request_to(server.url(host)))) << host;
        const int before = server.requests;
        client.set_policy(policy({}));
        EXPECT_EQ(code_of(send(client, request_to(server.url(host)))), Errc::denied) << host;
        EXPECT_EQ(server.requests, before) << host;
    }
}

TEST(OutboundSafety, AKeptConnectionIsJudgedByItsOwnAddress) {
    Server first(answer_all, "127.0.0.1");
    Server second(answer_all, "127.0.0.2", first.port);
    const auto names = std::make_shared<Names>();
    names->set({"127.0.0.1"});
    HttpClient client(policy(), with(names));
    const std::string url = first.url("moved.example");
    ASSERT_TRUE(send(client, request_to(url)));
    // Now the name leads elsewhere and the old address is forbidden; its connection is still open.
    client.set_policy(policy({"127.0.0.2"}));
    names->set({"127.0.0.2"});
    EXPECT_EQ(code_of(send(client, request_to(url))), Errc::denied);
    EXPECT_EQ(first.requests, 1) << "nothing went to where it was open";
    const auto after = send(client, request_to(url));
    EXPECT_TRUE(after) << "the connection was not kept again; " << after.error().detail;
    EXPECT_EQ(second.requests, 1);
    EXPECT_EQ(first.requests, 1);
}

TEST(OutboundSafety, NamesWithoutUsableAnswersFail) {
    const auto names = std::make_shared<Names>();
    HttpClient client(policy(), with(names));
    EXPECT_EQ(code_of(send(client, request_to("http://none.example/"))), Errc::unavailable);
    std::vector<std::string> many;
    for (int i = 0; i < 65; ++i) many.push_back("127.0.1." + std::to_string(i));
    names->set(many);
    EXPECT_EQ(code_of(send(client, request_to("http://many.example/"))), Errc::unavailable);
    HttpClient system(policy(), {});
    const auto outcome = send(system, request_to("http://a..b.invalid/", 5'000));
    EXPECT_TRUE(code_of(outcome) == Errc::unavailable || code_of(outcome) == Errc::timeout);
}

// --- Ways around

TEST(OutboundSafety, NoRedirectIsFollowed) {
    std::atomic<int> status{0};
    Server metadata(answer_all, "127.0.0.3");
    Server server([&](Server& self, int fd) {
        while (!self.read_request(fd).empty()) {
            self.send_all(
                fd,
                "HTTP/1.1 " + std::to_string(status) + " Moved\r\nLocation: " + metadata.url() +
                    "\r\nContent-Length: 0\r\n\r\n"
            );
        }
    });
    HttpClient client(policy(), {});
    for (const int code : {300, 301, 302, 303, 307, 308}) {
        status = code;
        OutboundRequest request = request_to(server.url());
        request.method = code % 2 == 0 ? "POST" : "GET";
        const auto outcome = send(client, request);
        ASSERT_TRUE(outcome) << code << outcome.error().detail;
        EXPECT_EQ(outcome.value().status, code);
        EXPECT_EQ(outcome.value().headers[0].first, "location");
        EXPECT_EQ(outcome.value().headers[0].second, metadata.url());
    }
    EXPECT_EQ(metadata.connections, 0);
}

TEST(OutboundSafety, NoProxyIsUsed) {
    Server proxy(answer_all, "127.0.0.4");
    Server server(answer_all);
    const char* const names[] = {
        "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
    for (const char* name : names) setenv(name, proxy.url().c_str(), 1);
    {
        HttpClient client(policy(), {});
        EXPECT_TRUE(send(client, request_to(server.url())));
    }
    for (const char* name : names) unsetenv(name);
    EXPECT_EQ(proxy.connections, 0);
    EXPECT_EQ(server.requests, 1);
}

// --- Hostile answers

std::string gzip_of_zeros(std::size_t size) {
    z_stream stream{};
    EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
    const std::string zeros(1U << 20, '\0');
    std::string out;
    std::string buffer(1U << 16, '\0');
    for (std::size_t done = 0; done < size; done += zeros.size()) {
        stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(zeros.data()));
        stream.avail_in = static_cast<uInt>(zeros.size());
        do {
            stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
            stream.avail_out = static_cast<uInt>(buffer.size());
            deflate(&stream, done + zeros.size() >= size ? Z_FINISH : Z_NO_FLUSH);
            out.append(buffer.data(), buffer.size() - stream.avail_out);
        } while (stream.avail_out == 0);
    }
    deflateEnd(&stream);
    return out;
}

struct Hostile {
    const char* name;
    Server::Serve serve;
    std::vector<Errc> ends;  ///< Errc{0}: an answer, cut to what is kept
};

const Errc kAnswer{0};

std::vector<Hostile> hostile_answers() {
    const auto after = [](std::string text) {
        return [text = std::move(text)](Server& server, int fd) {
            if (!server.read_request(fd).empty()) server.send_all(fd, text), server.hold(fd);
        };
    };
    const auto endless = [](std::string head, std::string piece, milliseconds pause) {
        return [=](Server& server, int fd) {
            if (server.read_request(fd).empty() || !server.send_all(fd, head)) return;
            if (pause == milliseconds(0)) {
                while (server.send_all(fd, piece)) {
                }
            } else {
                server.drip(fd, piece, pause);
            }
        };
    };
    const std::string ok = "HTTP/1.1 200 OK\r\n";
    const std::string big(64U << 10, 'x');
    const milliseconds none(0), slow(50);
    return {
        {"hangs after accept", hang, {Errc::timeout}},
        {"hangs after the request", after(""), {Errc::timeout}},
        {"hangs in the status line", after("HTTP/1."), {Errc::timeout}},
        {"hangs in the headers", after(ok + "X-A: b\r\n"), {Errc::timeout}},
        {"hangs in the body", after(ok + "Content-Length: 9\r\n\r\nhalf"), {Errc::timeout}},
        {"drips a body", endless(ok + "Content-Length: 99999\r\n\r\n", "x", slow), {Errc::timeout}},
        {"drips a body without length", endless(ok + "\r\n", "x", slow), {Errc::timeout}},
        {"drips headers", endless(ok, "X-A: b\r\n", slow), {Errc::timeout}},
        {"drips one header", endless(ok + "X-A: ", "b", slow), {Errc::timeout}},
        {"drips interim answers",
         endless("", "HTTP/1.1 100 Continue\r\n\r\n", slow),
         {Errc::timeout}},
        {"endless headers",
         endless(ok, "X-Filler: " + std::string(90, 'y') + "\r\n", none),
         {Errc::unavailable}},
        {"one endless header", endless(ok + "X-A: ", big, none), {Errc::unavailable}},
        {"an endless status line", endless("HTTP/1.1 200 ", big, none), {Errc::unavailable}},
        {"a flood of 100 Continue",
         endless("", "HTTP/1.1 100 Continue\r\n\r\n", none),
         {Errc::unavailable}},
        {"a flood of 103 Early Hints",
         endless("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", none),
         {Errc::unavailable}},
        {"1 GiB", endless(ok + "Content-Length: 1073741824\r\n\r\n", big, none), {kAnswer}},
        {"a body without length or end", endless(ok + "\r\n", big, none), {kAnswer}},
        {"chunks without end",
         endless(
             ok + "Transfer-Encoding: chunked\r\n\r\n",
             "1000\r\n" + std::string(4096, 'x') + "\r\n",
             none
         ),
         {kAnswer}},
        {"a chunk length without end",
         endless(ok + "Transfer-Encoding: chunked\r\n\r\n", "0", none),
         {Errc::unavailable, Errc::timeout}},
        {"a chunk extension without end",
         endless(ok + "Transfer-Encoding: chunked\r\n\r\n5;", "a", none),
         {Errc::unavailable, Errc::timeout}},
        {"trailers without end",
         endless(ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n", "X-A: b\r\n", none),
         {Errc::unavailable, Errc::timeout}},
        {"a negative length",
         after(ok + "Content-Length: -1\r\n\r\nx"),
         {Errc::unavailable, Errc::timeout, kAnswer}},
        {"a length beyond numbers",
         after(ok + "Content-Length: 99999999999999999999999\r\n\r\nx"),
         {Errc::unavailable, Errc::timeout, kAnswer}},
        {"no HTTP", after("220 mail.example ESMTP\r\n"), {Errc::unavailable}},
        {"zeros", endless("", std::string(4096, '\0'), none), {Errc::unavailable}},
        {"a reset in the body",
         [](Server& server, int fd) {
             server.read_request(fd);
             server.send_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf");
             const linger hard{1, 0};
             setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
         },
         {Errc::unavailable}},
        {"an end in the body",
         [](Server& server, int fd) {
             server.read_request(fd);
             server.send_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf");
         },
         {Errc::unavailable}},
        {"an end without an answer",
         [](Server& server, int fd) { server.read_request(fd); },
         {Errc::unavailable}},
    };
}

TEST(OutboundSafety, NoHostileAnswerLastsOrCostsTheNext) {
    Server healthy(answer_all);
    HttpClient client(policy(), {});
    for (const Hostile& hostile : hostile_answers()) {
        Server server(hostile.serve, "127.0.0.2");
        const auto began = Steady::now();
        const auto outcome = send(client, request_to(server.url(), 500));
        const auto took = Steady::now() - began;
        EXPECT_LT(took, milliseconds(1'500)) << hostile.name;
        EXPECT_NE(
            std::find(hostile.ends.begin(), hostile.ends.end(), code_of(outcome)),
            hostile.ends.end()
        ) << hostile.name
          << ": " << (outcome ? "an answer" : outcome.error().detail);
        if (outcome) {
            EXPECT_LE(outcome.value().body.size(), 64U << 10) << hostile.name;
        }
        EXPECT_GE(server.connections, 1) << hostile.name << " was never met";
        EXPECT_LT(server.sent, 64U << 20) << hostile.name << " went on sending";
        EXPECT_TRUE(send(client, request_to(healthy.url()))) << "after " << hostile.name;
    }
}

TEST(OutboundSafety, AGzipBombStaysPacked) {
    const std::string bomb = gzip_of_zeros(64U << 20);
    ASSERT_LT(bomb.size(), 128U << 10);
    Server server([&](Server& self, int fd) {
        const std::string request = self.read_request(fd);
        EXPECT_NE(request.find("Accept-Encoding: identity\r\n"), std::string::npos);
        self.send_all(
            fd,
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: " +
                std::to_string(bomb.size()) + "\r\n\r\n" + bomb
        );
        self.hold(fd);
    });
    HttpClient client(policy(), {});
    const auto outcome = send(client, request_to(server.url()));
    ASSERT_TRUE(outcome) << outcome.error().detail;
    EXPECT_EQ(outcome.value().body, bomb.substr(0, 64U << 10)) << "bytes as they came";
}

TEST(OutboundSafety, AnAnswerBeforeTheRequestWasReadEndsIt) {
    Server server([](Server& self, int fd) {
        self.wait(fd, POLLIN);
        self.send_all(
            fd, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        std::this_thread::sleep_for(milliseconds(50));  // then a reset, for nothing was read
    });
    HttpClient client(policy(), {});
    const std::string body(16U << 20, 'b');
    OutboundRequest request = request_to(server.url(), 3'000);
    request.method = "POST";
    request.body = body;
    const auto began = Steady::now();
    const auto outcome = send(client, request);
    EXPECT_LT(Steady::now() - began, seconds(4));
    if (outcome) {
        EXPECT_EQ(outcome.value().status, 413);
    } else {
        EXPECT_EQ(outcome.error().code, Errc::unavailable) << outcome.error().detail;
    }
}

TEST(OutboundSafety, APeerThatReadsNothingIsGivenUp) {
    Server server([](Server& self, int fd) {
        while (!self.stopping()) {
            pollfd gone{fd, POLLRDHUP, 0};
            if (poll(&gone, 1, 20) > 0) return;
        }
    });
    HttpClient client(policy(), {});
    const std::string body(64U << 20, 'b');
    OutboundRequest request = request_to(server.url(), 500);
    request.method = "PUT";
    request.body = body;
    const auto began = Steady::now();
    EXPECT_EQ(code_of(send(client, request)), Errc::timeout);
    EXPECT_LT(Steady::now() - began, milliseconds(1'500));
}

TEST(OutboundSafety, ALargeBodyArrivesWholeAndALargerOneIsRefused) {
    std::atomic<std::size_t> got{0};
    Server server([&](Server& self, int fd) {
        const std::string request = self.read_request(fd);
        got = request.size() - request.find("\r\n\r\n") - 4;
        self.send_all(fd, kOk);
    });
    HttpClient client(policy(), {});
    const std::string body((64U << 20) + 1, 'b');
    OutboundRequest request = request_to(server.url(), 30'000);
    request.method = "POST";
    request.body = body;
    EXPECT_EQ(code_of(send(client, request)), Errc::invalid);
    request.body = std::string_view(body).substr(1);
    const auto outcome = send(client, request);
    ASSERT_TRUE(outcome) << outcome.error().detail;
    EXPECT_EQ(got, 64U << 20);
}

// --- Many at once

std::size_t resident_bytes() {
    std::size_t pages = 0, resident = 0;
    FILE* file = fopen("/proc/self/statm", "r");
    EXPECT_EQ(fscanf(file, "%zu %zu", &pages, &resident), 2);
    fclose(file);
    return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

TEST(OutboundSafety, ManyThatHangLeaveTheHealthyAlone) {
    std::list<Server> hanging;
    for (int i = 0; i < 8; ++i) hanging.emplace_back(hang, "127.0.0.5");
    Server healthy(answer_all);
    HttpClient client(policy(), {.transfers_max = 128, .host_max = 32});
    std::vector<std::future<Outcome>> stuck;
    for (int i = 0; i < 25; ++i) {
        for (Server& server : hanging)
            stuck.push_back(begin(client, request_to(server.url(), 60'000)));
    }
    ASSERT_EQ(stuck.size(), 200U);
    const auto began = Steady::now();
    for (int i = 0; i < 100; ++i) {
        const auto outcome = send(client, request_to(healthy.url(), 5'000));
        ASSERT_TRUE(outcome) << i << ": " << outcome.error().detail;
    }
    EXPECT_LT(Steady::now() - began, seconds(5));
    int met = 0;
    for (const Server& server : hanging) met += server.connections;
    EXPECT_GT(met, 40) << "the others do hang";
    for (auto& future : stuck)
        EXPECT_EQ(future.wait_for(seconds(0)), std::future_status::timeout) << "still under way";
}

TEST(OutboundSafety, ManyBodiesWithoutEndCostBoundedMemory) {
    const std::string piece(256U << 10, 'x');
    Server server(
        [&](Server& self, int fd) {
            if (self.read_request(fd).empty()) return;
            self.send_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
            while (self.send_all(fd, piece)) {
            }
        },
        "127.0.0.6"
    );
    HttpClient client(policy(), {});
    ASSERT_TRUE(send(client, request_to(server.url())));
    const std::size_t before = resident_bytes();
    std::vector<std::future<Outcome>> all;
    for (int i = 0; i < 100; ++i) all.push_back(begin(client, request_to(server.url(), 20'000)));
    for (auto& future : all) {
        const auto outcome = wait_for(future);
        ASSERT_TRUE(outcome) << outcome.error().detail;
        EXPECT_EQ(outcome.value().body.size(), 64U << 10);
        EXPECT_TRUE(outcome.value().truncated);
    }
    // 100 GiB were on offer; what is kept is 6.4 MB, and sanitizers take their own share.
    EXPECT_LT(resident_bytes(), before + (256U << 20));
}

TEST(OutboundSafety, AHostHasNoMoreConnectionsThanItsShare) {
    Server server(hang);
    HttpClient client(policy(), {.transfers_max = 64, .host_max = 5});
    std::vector<std::future<Outcome>> all;
    for (int i = 0; i < 30; ++i)
        all.push_back(begin(client, request_to(server.url(), i < 5 ? 2'000 : 500)));
    for (auto& future : all) {
        const Errc code = code_of(wait_for(future));
        EXPECT_TRUE(code == Errc::timeout || code == Errc::unavailable);
    }
    EXPECT_EQ(server.open_max, 5);
    EXPECT_EQ(server.connections, 5) << "those that waited expired in the queue, unsent";
}

TEST(OutboundSafety, KeptConnectionsAreBounded) {
    std::list<Server> servers;
    for (int i = 0; i < 10; ++i) servers.emplace_back(answer_all);
    HttpClient client(policy(), {.connections_max = 3});
    for (int round = 0; round < 2; ++round)
        for (Server& server : servers) ASSERT_TRUE(send(client, request_to(server.url())));
    const auto open = [&] {
        int sum = 0;
        for (const Server& server : servers) sum += server.open;
        return sum;
    };
    for (int i = 0; i < 500 && open() > 3; ++i) std::this_thread::sleep_for(milliseconds(10));
    EXPECT_LE(open(), 3);
    EXPECT_GE(open(), 1) << "but some are kept";
}

TEST(OutboundSafety, WhatWaitsExpiresAndIsCancelledInTheQueue) {
    Server server(hang);
    HttpClient client(policy(), {.transfers_max = 1});
    auto first = begin(client, request_to(server.url(), 3'000));
    while (server.connections == 0) std::this_thread::sleep_for(milliseconds(1));
    const auto began = Steady::now();
    const auto expired = send(client, request_to(server.url(), 300));
    EXPECT_EQ(code_of(expired), Errc::unavailable) << "nothing was sent";
    EXPECT_GE(Steady::now() - began, milliseconds(290));
    EXPECT_LT(Steady::now() - began, milliseconds(1'300));
    OutboundRequest request = request_to(server.url(), 60'000);
    request.cancelled = [at = Steady::now() + milliseconds(200)] { return Steady::now() > at; };
    EXPECT_EQ(code_of(send(client, request)), Errc::cancelled);
    EXPECT_EQ(first.wait_for(seconds(0)), std::future_status::timeout);
    EXPECT_EQ(server.connections, 1);
}

TEST(OutboundSafety, TheQueueIsBounded) {
    Server server(hang);
    HttpClient client(policy(), {.transfers_max = 2, .queue_max = 10});
    std::vector<std::future<Outcome>> all;
    for (int i = 0; i < 100; ++i)
        all.push_back(begin(client, request_to(server.url(), i < 2 ? 2'000 : 500)));
    int refused = 0;
    for (auto& future : all) refused += future.wait_for(seconds(0)) == std::future_status::ready;
    EXPECT_GE(refused, 88) << "at once";
    for (auto& future : all) EXPECT_NE(code_of(wait_for(future)), Errc::internal);
    EXPECT_LE(server.connections, 2);
}

/// Lookups that last until they are let go.
struct SlowNames {
    std::mutex mutex;
    std::condition_variable changed;
    bool let_go = false;
    std::atomic<int> now{0}, now_max{0};

    static Resolver::Lookup lookup(const std::shared_ptr<SlowNames>& names) {
        return [names](const std::string& name) -> Result<std::vector<Address>> {
            if (name == "quick.example") return std::vector{*Address::parse("127.0.0.1")};
            const int count = ++names->now;
            int seen = names->now_max;
            while (count > seen && !names->now_max.compare_exchange_weak(seen, count)) {
            }
            std::unique_lock lock(names->mutex);
            names->changed.wait(lock, [&] { return names->let_go; });
            --names->now;
            return std::vector{*Address::parse("127.0.0.1")};
        };
    }
    void release() {
        const std::lock_guard lock(mutex);
        let_go = true;
        changed.notify_all();
    }
};

TEST(OutboundSafety, NamesThatAreNeverResolvedHoldUpNobody) {
    Server server(answer_all);
    const auto names = std::make_shared<SlowNames>();
    HttpClient::Options options;
    options.lookup = SlowNames::lookup(names);
    options.resolvers_max = 4;
    std::vector<std::future<Outcome>> stuck;
    {
        HttpClient client(policy(), options);
        ASSERT_TRUE(send(client, request_to(server.url("quick.example"))));
        const auto began = Steady::now();
        for (int i = 0; i < 20; ++i) {
            stuck.push_back(
                begin(client, request_to(server.url("n" + std::to_string(i) + ".example")))
            );
        }
        for (int i = 0; i < 20; ++i) {
            EXPECT_TRUE(send(client, request_to(server.url("quick.example"))));
            EXPECT_TRUE(send(client, request_to(server.url())));
        }
        EXPECT_LT(Steady::now() - began, seconds(2)) << "while the others are being resolved";
        for (auto& future : stuck) {
            const auto outcome = wait_for(future);
            EXPECT_EQ(code_of(outcome), Errc::timeout);
        }
        EXPECT_LT(Steady::now() - began, seconds(3)) << "two for a name, and a little";
        EXPECT_GE(Steady::now() - began, milliseconds(1'900));
        EXPECT_EQ(names->now_max, 4);
        stuck.clear();
        stuck.push_back(begin(client, request_to(server.url("last.example"))));
    }
    EXPECT_EQ(code_of(wait_for(stuck[0])), Errc::unavailable) << "told at the end";
    names->release();
    while (names->now > 0) std::this_thread::sleep_for(milliseconds(1));
}

TEST(OutboundSafety, RequestsToOneNameShareALookup) {
    Server server(answer_all);
    const auto names = std::make_shared<SlowNames>();
    HttpClient::Options options;
    options.lookup = SlowNames::lookup(names);
    HttpClient client(policy(), options);
    std::vector<std::future<Outcome>> all;
    for (int i = 0; i < 50; ++i)
        all.push_back(begin(client, request_to(server.url("one.example"))));
    while (names->now == 0) std::this_thread::sleep_for(milliseconds(1));
    names->release();
    for (auto& future : all) EXPECT_TRUE(wait_for(future));
    EXPECT_EQ(names->now_max, 1);
    EXPECT_EQ(server.requests, 50);
}

TEST(OutboundSafety, DoneMaySendTheNextAndIsCalledOnceEach) {
    Server server(answer_all);
    HttpClient client(policy(), {.transfers_max = 4, .queue_max = 4});
    std::atomic<int> answered{0}, failed{0};
    std::promise<void> over;
    std::function<void(int)> next = [&](int left) {
        client.send(request_to(server.url()), [&, left](Result<OutboundResponse> outcome) {
            ++(outcome ? answered : failed);
            if (left > 1) return next(left - 1);
            over.set_value();
        });
    };
    next(500);
    ASSERT_EQ(over.get_future().wait_for(seconds(30)), std::future_status::ready);
    EXPECT_EQ(answered, 500);
    EXPECT_EQ(failed, 0);
    EXPECT_EQ(server.connections, 1) << "one after the other on one connection";
}

TEST(OutboundSafety, SendersOnManyThreadsAreAllAnswered) {
    std::list<Server> servers;
    for (int i = 0; i < 5; ++i) servers.emplace_back(answer_all);
    HttpClient client(policy(), {});
    std::atomic<int> answered{0};
    std::vector<std::thread> senders;
    for (int t = 0; t < 4; ++t) {
        senders.emplace_back([&] {
            for (int i = 0; i < 20; ++i) {
                std::vector<std::future<Outcome>> batch;
                for (Server& server : servers)
                    batch.push_back(begin(client, request_to(server.url())));
                for (auto& future : batch) answered += wait_for(future).has_value();
            }
        });
    }
    for (std::thread& sender : senders) sender.join();
    EXPECT_EQ(answered, 400);
}

TEST(OutboundSafety, ItsEndTellsEverybody) {
    Server server(hang);
    std::vector<std::future<Outcome>> all;
    {
        HttpClient client(policy(), {.transfers_max = 8});
        for (int i = 0; i < 40; ++i) all.push_back(begin(client, request_to(server.url(), 60'000)));
        while (server.connections == 0) std::this_thread::sleep_for(milliseconds(1));
    }
    for (auto& future : all) {
        ASSERT_EQ(future.wait_for(seconds(0)), std::future_status::ready);
        EXPECT_EQ(code_of(*future.get()), Errc::unavailable);
    }
}

TEST(OutboundSafety, LatencyIsTheDestinations) {
    Server server([](Server& self, int fd) {
        while (!self.read_request(fd).empty()) {
            std::this_thread::sleep_for(milliseconds(100));
            self.send_all(fd, kOk);
        }
    });
    HttpClient client(policy(), {.transfers_max = 1});
    const auto began = Steady::now();
    auto first = begin(client, request_to(server.url()));
    auto second = begin(client, request_to(server.url()));
    const auto one = wait_for(first), two = wait_for(second);
    const auto took = Steady::now() - began;
    ASSERT_TRUE(one && two);
    EXPECT_GE(one.value().latency, milliseconds(100));
    EXPECT_GE(two.value().latency, milliseconds(100));
    EXPECT_LE(two.value().latency + milliseconds(100), took) << "without its wait for the first";
}

TEST(OutboundSafety, OutcomesAreCounted) {
    Server server(answer_all), silent(hang);
    Metrics metrics;
    HttpClient client(policy(), {.metrics = &metrics});
    EXPECT_TRUE(send(client, request_to(server.url())));
    EXPECT_EQ(code_of(send(client, request_to("http://10.0.0.1/"))), Errc::denied);
    EXPECT_EQ(code_of(send(client, request_to("nonsense"))), Errc::invalid);
    EXPECT_EQ(code_of(send(client, request_to(silent.url(), 200))), Errc::timeout);
    auto hanging = begin(client, request_to(silent.url(), 60'000));
    const auto shows = [&](const std::string& line) {
        return metrics.render().find(line) != std::string::npos;
    };
    for (int i = 0; i < 500 && !shows("annal_outbound_in_flight 1"); ++i)
        std::this_thread::sleep_for(milliseconds(10));
    EXPECT_TRUE(shows("annal_outbound_in_flight 1"));
    EXPECT_TRUE(shows("annal_outbound_waiting 0"));
    for (const char* outcome : {"answered", "denied", "invalid", "timeout"}) {
        EXPECT_TRUE(
            shows("annal_outbound_requests_total{outcome=\"" + std::string(outcome) + "\"} 1")
        ) << outcome
          << "\n"
          << metrics.render();
    }
}

}  // namespace
}  // namespace annal
