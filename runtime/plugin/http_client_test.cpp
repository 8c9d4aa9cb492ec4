#include "runtime/plugin/http_client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <thread>

#include "tests/support/test_host.h"

namespace annal {
namespace {

using test::Promised;

/// A server on a free port of 127.0.0.1 that runs `serve` for each connection, one after the other.
class RawServer {
public:
    explicit RawServer(std::function<void(int fd)> serve) : serve_(std::move(serve)) {
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
        EXPECT_EQ(listen(listener_, 64), 0);
        socklen_t size = sizeof(address);
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
        port = ntohs(address.sin_port);
        thread_ = std::thread([this] { run(); });
    }
    ~RawServer() {
        stop_ = true;
        thread_.join();
        close(listener_);
    }
    RawServer(const RawServer&) = delete;
    RawServer& operator=(const RawServer&) = delete;

    [[nodiscard]] std::string place() const { return "127.0.0.1:" + std::to_string(port); }
    [[nodiscard]] std::string url(const std::string& path = "/") const {
        return "http://" + place() + path;
    }
    /// Waits until bytes come, the peer has gone, or the test is over; false: nothing will come.
    bool wait_readable(int fd) const {
        while (!stop_) {
            pollfd wanted{fd, POLLIN, 0};
            if (poll(&wanted, 1, 20) > 0) return true;
        }
        return false;
    }
    /// One request head and as much of a body as its Content-Length says.
    std::string read_request(int fd) const {
        std::string text;
        char buffer[4096];
        while (wait_readable(fd)) {
            const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
            if (n <= 0) return text;
            text.append(buffer, static_cast<std::size_t>(n));
            const std::size_t head = text.find("\r\n\r\n");
            if (head == std::string::npos) continue;
            const std::size_t at = text.find("Content-Length: ");
            const std::size_t length =
                at == std::string::npos ? 0 : std::stoul(text.substr(at + 16));
            if (text.size() >= head + 4 + length) return text;
        }
        return text;
    }
    static void send_text(int fd, const std::string& text) {
        (void)::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    }
    [[nodiscard]] bool stopping() const { return stop_; }

    std::uint16_t port = 0;
    std::atomic<int> connections{0};

private:
    void run() {
        while (wait_readable(listener_)) {
            const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
            if (fd < 0) continue;
            ++connections;
            serve_(fd);
            close(fd);
        }
    }
    std::function<void(int)> serve_;
    int listener_ = -1;
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

AddressPolicy policy(const std::vector<std::string>& allow = {"127.0.0.0/8"}) {
    return AddressPolicy::create(allow).value();
}

OutboundRequest get(const RawServer& server, const std::string& path = "/") {
    OutboundRequest request;
    request.url = server.url(path);
    request.allowed = {server.place()};
    request.timeout_ms = 5'000;
    return request;
}

Result<OutboundResponse> send(HttpClient& client, OutboundRequest request) {
    auto result = std::make_shared<Promised<std::shared_ptr<Result<OutboundResponse>>>>();
    client.send(std::move(request), [result](Result<OutboundResponse> outcome) {
        result->set(std::make_shared<Result<OutboundResponse>>(std::move(outcome)));
    });
    return *result->get();
}

/// Answers every request on a connection with `answer`; keeps what it got.
struct Scripted {
    explicit Scripted(std::string a, bool keep = false)
        : answer(std::move(a)), server([this, keep](int fd) {
              do {
                  std::string request = server.read_request(fd);
                  if (request.empty()) return;
                  {
                      const std::lock_guard lock(mutex);
                      seen = request;
                  }
                  RawServer::send_text(fd, answer);
              } while (keep);
          }) {}
    std::string last() {
        const std::lock_guard lock(mutex);
        return seen;
    }
    const std::string answer;
    std::mutex mutex;
    std::string seen;
    RawServer server;
};

const char* const kOk = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Note:  a b \r\n\r\nhello";

TEST(HttpClient, SendsWhatItIsToldAndHandsBackTheAnswer) {
    Scripted scripted(kOk);
    HttpClient client(policy(), {});
    OutboundRequest request = get(scripted.server, "/hook?x=1");
    request.method = "PUT";
    request.headers = {{"X-One", "1"}, {"X-Empty", ""}};
    request.body = "the body";
    const auto outcome = send(client, request);
    ASSERT_TRUE(outcome) << outcome.error().detail;
    EXPECT_EQ(outcome.value().status, 200);
    EXPECT_EQ(outcome.value().body, "hello");
    EXPECT_FALSE(outcome.value().truncated);
    const auto& headers = outcome.value().headers;
    EXPECT_NE(
        std::find(
            headers.begin(), headers.end(), std::pair<std::string, std::string>("x-note", "a b")
        ),
        headers.end()
    );
    const std::string seen = scripted.last();
    EXPECT_TRUE(seen.starts_with("PUT /hook?x=1 HTTP/1.1\r\n")) << seen;
    EXPECT_NE(seen.find("X-One: 1\r\n"), std::string::npos) << seen;
    EXPECT_NE(seen.find("X-Empty:"), std::string::npos) << seen;
    EXPECT_NE(seen.find("Accept-Encoding: identity\r\n"), std::string::npos) << seen;
    EXPECT_EQ(seen.find("Expect:"), std::string::npos) << seen;
    EXPECT_TRUE(seen.ends_with("\r\n\r\nthe body")) << seen;
}

TEST(HttpClient, SpeaksEveryMethodWithAndWithoutABody) {
    Scripted scripted("HTTP/1.1 204 No Content\r\n\r\n");
    HttpClient client(policy(), {});
    for (const char* method : {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}) {
        for (const char* body : {"", "b"}) {
            if (std::string(method) == "HEAD" && *body != '\0') continue;
            OutboundRequest request = get(scripted.server);
            request.method = method;
            request.body = body;
            const auto outcome = send(client, request);
            ASSERT_TRUE(outcome) << method << " " << outcome.error().detail;
            EXPECT_EQ(outcome.value().status, 204);
            EXPECT_TRUE(scripted.last().starts_with(std::string(method) + " / "))
                << scripted.last();
            EXPECT_TRUE(scripted.last().ends_with("\r\n\r\n" + std::string(body)))
                << scripted.last();
        }
    }
}

TEST(HttpClient, FollowsNoRedirect) {
    Scripted scripted(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://169.254.169.254/\r\nContent-Length: "
        "0\r\n\r\n"
    );
    HttpClient client(policy(), {});
    const auto outcome = send(client, get(scripted.server));
    ASSERT_TRUE(outcome);
    EXPECT_EQ(outcome.value().status, 307);
    EXPECT_EQ(scripted.server.connections, 1);
}

TEST(HttpClient, KeepsNoMoreOfABodyThanAskedFor) {
    const std::string big(200'000, 'x');
    Scripted scripted("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + big);
    HttpClient client(policy(), {});
    OutboundRequest request = get(scripted.server);
    request.response_bytes_max = 1'000;
    auto outcome = send(client, request);
    ASSERT_TRUE(outcome) << outcome.error().detail;
    EXPECT_EQ(outcome.value().body, big.substr(0, 1'000));
    EXPECT_TRUE(outcome.value().truncated);
    EXPECT_EQ(outcome.value().status, 200);
    request.response_bytes_max = 1U << 30;
    outcome = send(client, request);
    EXPECT_EQ(outcome.value().body.size(), 64U << 10) << "never more than 64 KiB";
    EXPECT_TRUE(outcome.value().truncated);
}

TEST(HttpClient, GivesUpOnEndlessHeaders) {
    RawServer server([&](int fd) {
        server.read_request(fd);
        RawServer::send_text(fd, "HTTP/1.1 200 OK\r\n");
        for (int i = 0; i < 3'000; ++i)
            RawServer::send_text(fd, "X-Filler: " + std::string(50, 'y') + "\r\n");
    });
    HttpClient client(policy(), {});
    const auto outcome = send(client, get(server));
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code, Errc::unavailable);
    EXPECT_NE(outcome.error().detail.find("64 KiB"), std::string::npos) << outcome.error().detail;
}

TEST(HttpClient, HasADeadlineThatIncludesTheBody) {
    RawServer server([&](int fd) {
        server.read_request(fd);
        RawServer::send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        while (!server.stopping()) {  // a drop now and then
            RawServer::send_text(fd, "x");
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            pollfd gone{fd, POLLIN, 0};
            if (poll(&gone, 1, 0) > 0) return;
        }
    });
    HttpClient client(policy(), {});
    OutboundRequest request = get(server);
    request.timeout_ms = 300;
    const auto began = std::chrono::steady_clock::now();
    const auto outcome = send(client, request);
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code, Errc::timeout);
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(4));
}

TEST(HttpClient, ReportsConnectionsThatFail) {
    std::uint16_t port = 0;
    {
        RawServer gone([](int) {});
        port = gone.port;
    }
    HttpClient client(policy(), {});
    OutboundRequest request;
    request.url = "http://127.0.0.1:" + std::to_string(port);
    request.allowed = {"127.0.0.1:" + std::to_string(port)};
    EXPECT_EQ(send(client, request).error().code, Errc::unavailable);
    RawServer reset([](int fd) {
        const linger hard{1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    });
    EXPECT_EQ(send(client, get(reset)).error().code, Errc::unavailable);
    Scripted nonsense("this is not HTTP\r\n\r\n");
    EXPECT_EQ(send(client, get(nonsense.server)).error().code, Errc::unavailable);
}

TEST(HttpClient, ConnectsToNothingThatThePolicyDenies) {
    Scripted scripted(kOk);
    HttpClient client(policy({}), {});
    OutboundRequest literal = get(scripted.server);
    auto outcome = send(client, literal);
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code, Errc::denied);
    EXPECT_NE(outcome.error().detail.find("127.0.0.0/8"), std::string::npos)
        << outcome.error().detail;
    // A name is judged by what it resolves to, when the socket is made.
    OutboundRequest named = literal;
    named.url = "http://localhost:" + std::to_string(scripted.server.port) + "/";
    named.allowed = {"localhost:" + std::to_string(scripted.server.port)};
    outcome = send(client, named);
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code, Errc::denied) << outcome.error().detail;
    // Numbers in disguise are the same address.
    for (const char* host :
         {"2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "[::1]"}) {
        OutboundRequest disguised = literal;
        disguised.url =
            "http://" + std::string(host) + ":" + std::to_string(scripted.server.port) + "/";
        disguised.allowed = {
            std::string(host) + ":" + std::to_string(scripted.server.port),
            scripted.server.place()};
        outcome = send(client, disguised);
        ASSERT_FALSE(outcome) << host;
        EXPECT_EQ(outcome.error().code, Errc::denied) << host << " " << outcome.error().detail;
    }
    EXPECT_EQ(scripted.server.connections, 0) << "no connection was opened to find out";
}

TEST(HttpClient, ReachesOnlyTheListedHostsAndPorts) {
    Scripted scripted(kOk);
    HttpClient client(policy(), {});
    for (const std::string& allowed :
         {std::string("127.0.0.1:1"),
          std::string("127.0.0.1"),
          std::string("*"),
          std::string("localhost:") + std::to_string(scripted.server.port)}) {
        OutboundRequest request = get(scripted.server);
        request.allowed = {allowed};
        const auto outcome = send(client, request);
        ASSERT_FALSE(outcome) << allowed;
        EXPECT_EQ(outcome.error().code, Errc::denied);
    }
    EXPECT_EQ(scripted.server.connections, 0);
    // The default port counts as if it were written.
    OutboundRequest request;
    request.url = "https://EXAMPLE.com/hook";
    request.allowed = {"other.com:443"};
    EXPECT_NE(send(client, request).error().detail.find("example.com:443"), std::string::npos);
}

TEST(HttpClient, UsesAKeptConnectionAgain) {
    Scripted scripted(kOk, true);
    HttpClient client(policy(), {});
    EXPECT_TRUE(send(client, get(scripted.server)));
    EXPECT_TRUE(send(client, get(scripted.server)));
    EXPECT_EQ(scripted.server.connections, 1);
}

TEST(HttpClient, RefusesWhatCanNotBeSent) {
    Scripted scripted(kOk);
    HttpClient client(policy(), {});
    const auto refused = [&](const std::function<void(OutboundRequest&)>& change,
                             const char* what) {
        OutboundRequest request = get(scripted.server);
        change(request);
        const auto outcome = send(client, request);
        ASSERT_FALSE(outcome) << what;
        EXPECT_EQ(outcome.error().code, Errc::invalid) << what << ": " << outcome.error().detail;
    };
    for (const char* url :
         {"",
          "not a url",
          "ftp://127.0.0.1/",
          "file:///etc/passwd",
          "http://",
          "//host/",
          "http://u:p@127.0.0.1/",
          "http://127.0.0.1/a b",
          "http://127.0.0.1/\r\nX: y",
          "gopher://127.0.0.1/",
          "http://[fe80::1%25lo]/"}) {
        refused([&](OutboundRequest& r) { r.url = url; }, url);
    }
    refused(
        [](OutboundRequest& r) { r.url = "http://127.0.0.1/" + std::string(9'000, 'a'); },
        "long URL"
    );
    for (const char* method : {"", "GET /", "CONNECT", "trace", "G\r\nT"}) {
        refused([&](OutboundRequest& r) { r.method = method; }, method);
    }
    refused([](OutboundRequest& r) { r.headers = {{"bad name", "x"}}; }, "header name");
    refused([](OutboundRequest& r) { r.headers = {{"x", "a\r\nInjected: 1"}}; }, "header value");
    for (const char* name :
         {"Host", "content-length", "Transfer-Encoding", "Connection", "accept-encoding"}) {
        refused([&](OutboundRequest& r) { r.headers = {{name, "x"}}; }, name);
    }
    refused([](OutboundRequest& r) { r.headers.assign(65, {"x", "y"}); }, "too many headers");
    refused([](OutboundRequest& r) { r.timeout_ms = 0; }, "timeout 0");
    refused([](OutboundRequest& r) { r.timeout_ms = 60'001; }, "timeout too long");
    EXPECT_EQ(scripted.server.connections, 0);
}

TEST(HttpClient, IsBoundedAndGivesUpWhenItEnds) {
    RawServer silent([&](int fd) {
        while (!silent.stopping()) {
            pollfd gone{fd, POLLIN, 0};
            char byte = 0;
            if (poll(&gone, 1, 20) > 0 && recv(fd, &byte, 1, MSG_DONTWAIT) <= 0) return;
        }
    });
    std::atomic<int> unavailable{0}, others{0};
    {
        HttpClient client(policy(), {.transfers_max = 2, .queue_max = 3});
        const auto count = [&](Result<OutboundResponse> outcome) {
            ++(!outcome && outcome.error().code == Errc::unavailable ? unavailable : others);
        };
        for (int i = 0; i < 20; ++i) {
            OutboundRequest request = get(silent);
            request.timeout_ms = 60'000;
            client.send(std::move(request), count);
        }
        EXPECT_GE(unavailable, 15) << "two at work and three waiting; the rest is refused at once";
    }
    EXPECT_EQ(unavailable + others, 20) << "each is told exactly once";
    EXPECT_EQ(others, 0);
}

TEST(HttpClient, StopsWhenTheCallIsGivenUp) {
    RawServer silent([&](int fd) { silent.read_request(fd), silent.wait_readable(fd); });
    HttpClient client(policy(), {});
    auto cancelled = std::make_shared<std::atomic<bool>>(false);
    OutboundRequest request = get(silent);
    request.timeout_ms = 30'000;
    request.cancelled = [cancelled] { return cancelled->load(); };
    std::thread later([cancelled] {
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        *cancelled = true;
    });
    const auto outcome = send(client, request);
    later.join();
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code, Errc::cancelled);
}

// --- TLS
// --------------------------------------------------------------------------------------------------------------

template <class T, void (*Free)(T*)>
struct Deleter {
    void operator()(T* p) const { Free(p); }
};
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY, EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Deleter<X509, X509_free>>;

/// A certificate that signs itself, for `name` (an IP address or a DNS name, "IP:…" or "DNS:…").
Certificate make_certificate(EVP_PKEY* key, const char* name) {
    Certificate certificate(X509_new());
    X509_set_version(certificate.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
    X509_set_pubkey(certificate.get(), key);
    X509_NAME* subject = X509_get_subject_name(certificate.get());
    X509_NAME_add_entry_by_txt(
        subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("annal test"), -1, -1, 0
    );
    X509_set_issuer_name(certificate.get(), subject);
    X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, name);
    X509_add_ext(certificate.get(), names, -1);
    X509_EXTENSION_free(names);
    X509_sign(certificate.get(), key, EVP_sha256());
    return certificate;
}

/// An HTTPS server whose certificate is for `name`; its PEM lies in `ca_file`.
struct TlsServer {
    explicit TlsServer(const char* name)
        : key(EVP_EC_gen("P-256")),
          certificate(make_certificate(key.get(), name)),
          context(SSL_CTX_new(TLS_server_method())),
          ca_file(
              testing::TempDir() + "annal-ca-" + std::to_string(getpid()) + "-" +
              std::to_string(rand()) + ".pem"
          ),
          server([this](int fd) { serve(fd); }) {
        ::signal(SIGPIPE, SIG_IGN);  // a client that refuses the certificate is gone at once
        SSL_CTX_use_certificate(context.get(), certificate.get());
        SSL_CTX_use_PrivateKey(context.get(), key.get());
        FILE* file = fopen(ca_file.c_str(), "w");
        PEM_write_X509(file, certificate.get());
        fclose(file);
    }
    ~TlsServer() { std::remove(ca_file.c_str()); }
    void serve(int fd) const {
        SSL* ssl = SSL_new(context.get());
        SSL_set_fd(ssl, fd);
        char buffer[4096];
        if (SSL_accept(ssl) == 1 && SSL_read(ssl, buffer, sizeof(buffer)) > 0) {
            SSL_write(ssl, kOk, static_cast<int>(std::string_view(kOk).size()));
            SSL_shutdown(ssl);
        }
        SSL_free(ssl);
    }
    [[nodiscard]] OutboundRequest request() const {
        OutboundRequest out = get(server);
        out.url = "https://" + server.place() + "/";
        return out;
    }
    Key key;
    Certificate certificate;
    std::unique_ptr<SSL_CTX, Deleter<SSL_CTX, SSL_CTX_free>> context;
    const std::string ca_file;
    RawServer server;
};

TEST(HttpClient, VerifiesThePeerAndItsName) {
    const TlsServer good("IP:127.0.0.1");
    HttpClient unknown_ca(policy(), {});
    const auto untrusted = send(unknown_ca, good.request());
    ASSERT_FALSE(untrusted);
    EXPECT_EQ(untrusted.error().code, Errc::denied) << "only a person can mend it";
    EXPECT_NE(untrusted.error().detail.find(": TLS: "), std::string::npos)
        << untrusted.error().detail;
    EXPECT_NE(untrusted.error().detail.find("certificate"), std::string::npos)
        << untrusted.error().detail;
    HttpClient no_file(policy(), {.ca_file = "/nowhere/ca.pem"});
    EXPECT_EQ(send(no_file, good.request()).error().code, Errc::denied);

    HttpClient known_ca(policy(), {.ca_file = good.ca_file});
    const auto trusted = send(known_ca, good.request());
    ASSERT_TRUE(trusted) << trusted.error().detail;
    EXPECT_EQ(trusted.value().body, "hello");

    const TlsServer other_name("DNS:example.com");
    HttpClient knows_other(policy(), {.ca_file = other_name.ca_file});
    const auto wrong_name = send(knows_other, other_name.request());
    ASSERT_FALSE(wrong_name);
    EXPECT_EQ(wrong_name.error().code, Errc::denied);
    EXPECT_NE(wrong_name.error().detail.find(": TLS: "), std::string::npos)
        << wrong_name.error().detail;
    // No certificate at all is a connection that failed, which may be better the next time.
    RawServer plain([&](int fd) { plain.wait_readable(fd), RawServer::send_text(fd, kOk); });
    OutboundRequest request = get(plain);
    request.url = "https://" + plain.place() + "/";
    EXPECT_EQ(send(knows_other, request).error().code, Errc::unavailable);
}

// --- The service
// ------------------------------------------------------------------------------------------------------

struct ServiceAnswer {
    std::optional<Error> error;
    std::uint32_t status = 0;
    std::string body;
    bool truncated = false;
};

ServiceAnswer call_service(
    test::TestPlugin& plugin, annal_call* call, const annal_client_request& request
) {
    Promised<ServiceAnswer> result;
    plugin.service<annal_http_client_v1>(ANNAL_SERVICE_HTTP_CLIENT)
        ->send(
            plugin.ctx(),
            call,
            &request,
            &result,
            [](void* user, const annal_client_response* response, const annal_error* error) {
                ServiceAnswer out;
                EXPECT_NE(response == nullptr, error == nullptr);
                if (error != nullptr) out.error = to_error(*error);
                if (response != nullptr) {
                    out.status = response->status;
                    out.body.assign(
                        reinterpret_cast<const char*>(response->body.ptr), response->body.len
                    );
                    out.truncated = response->truncated != 0;
                }
                static_cast<Promised<ServiceAnswer>*>(user)->set(out);
            }
        );
    return result.get();
}

TEST(HttpClientService, SendsUnderTheInstancesPermissions) {
    Scripted scripted(kOk);
    test::TestHost host;
    host.environment.allow_cidrs = {"127.0.0.0/8"};
    test::TestPlugin plugin;
    plugin.manifest.permissions.http = {scripted.server.place()};
    const auto instance = plugin.create(host.environment).value();
    test::TestCall call;
    const std::string url = scripted.server.url("/x"), other = "http://127.0.0.1:1/";
    const annal_pair headers[] = {
        {to_abi(std::string_view("x-key")), to_abi(std::string_view("k"))}};
    annal_client_request request{
        sizeof(annal_client_request),
        5'000,
        to_abi(std::string_view("POST")),
        to_abi(std::string_view(url)),
        headers,
        1,
        3,
        {reinterpret_cast<const std::uint8_t*>("body"), 4}};
    const ServiceAnswer answer = call_service(plugin, call.handle, request);
    ASSERT_FALSE(answer.error) << answer.error->detail;
    EXPECT_EQ(answer.status, 200U);
    EXPECT_EQ(answer.body, "hel");
    EXPECT_TRUE(answer.truncated);
    EXPECT_TRUE(scripted.last().ends_with("body"));
    EXPECT_EQ(call_service(plugin, nullptr, request).status, 200U)
        << "a sink has no call of its own";
    request.url = to_abi(std::string_view(other));
    EXPECT_EQ(call_service(plugin, call.handle, request).error->code, Errc::denied);
    request.struct_size = 8;
    EXPECT_EQ(call_service(plugin, call.handle, request).error->code, Errc::invalid);
    request.struct_size = sizeof(request);
    call.call->complete(nullptr);
    EXPECT_EQ(call_service(plugin, call.handle, request).error->code, Errc::invalid)
        << "a completed call";
}

}  // namespace
}  // namespace annal
