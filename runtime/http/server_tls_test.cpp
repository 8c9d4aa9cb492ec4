#include <fstream>

#include "runtime/http/testing_server.h"
#include "runtime/http/testing_tls.h"

namespace annal::http::test {
namespace {

using testing::HasSubstr;

const std::string kHello = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";

class ServerTlsTest : public ServerTest {
protected:
    ServerTlsTest() { put(1); }

    /// Another pair of certificate and key in the same files.
    void put(long serial) {
        const Key key = make_key();
        write_certificate(certificate_file_, make_certificate(key.get(), serial).get());
        write_key(key_file_, key.get());
    }
    Result<std::shared_ptr<TlsIdentity>> load(TlsVersion min_version = TlsVersion::v1_2) {
        return TlsIdentity::load({certificate_file_, key_file_, min_version}, metrics_);
    }
    void start_tls(TlsVersion min_version = TlsVersion::v1_2) {
        const auto loaded = load(min_version);
        ASSERT_TRUE(loaded) << loaded.error().detail;
        identity_ = loaded.value();
        start({"127.0.0.1:0", {}, identity_});
    }
    std::string refusal() {
        const auto loaded = load();
        if (loaded) return "";
        EXPECT_EQ(loaded.error().code, Errc::invalid);
        return loaded.error().detail;
    }
    static void fill(const std::filesystem::path& file, const std::string& text) {
        std::ofstream(file, std::ios::trunc) << text;
    }

    Folder folder_;
    std::filesystem::path certificate_file_ = folder_ / "server.pem";
    std::filesystem::path key_file_ = folder_ / "server.key";
    std::shared_ptr<TlsIdentity> identity_;
};

TEST_F(ServerTlsTest, ServesWithKeepAlive) {
    add_usual();
    start_tls();
    TlsClient c(address_);
    ASSERT_TRUE(c.connected());
    EXPECT_EQ(c.version(), "TLSv1.3");
    for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(c.send(kHello));
        EXPECT_THAT(c.receive(1), testing::StartsWith("HTTP/1.1 200 OK"));
    }
    EXPECT_TRUE(c.send("GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    EXPECT_THAT(c.receive_all(), HasSubstr("\r\n\r\nhello"));
    EXPECT_TRUE(c.said_goodbye()) << "an end that is no cut";
}

TEST_F(ServerTlsTest, LargeBodiesPassBothWays) {
    add_usual();
    start_tls();
    TlsClient c(address_);
    std::string body(5'000'000, 'x');
    for (std::size_t i = 0; i < body.size(); i += 7) body[i] = static_cast<char>('a' + i % 26);
    std::thread sending([&] {
        (void)c.send(
            "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5000000\r\n\r\n"
        );
        (void)c.send(body);
    });
    sending.join();
    const std::string answer = c.receive_all();
    ASSERT_GT(answer.size(), body.size());
    EXPECT_EQ(answer.substr(answer.size() - body.size()), body);
}

TEST_F(ServerTlsTest, SpeaksOnlyWhatIsSafe) {
    add_usual();
    start_tls();
    const auto speaks = [&](int version) {
        TlsClient::Options options;
        options.version = version;
        options.security_level = 0;
        return TlsClient(address_, options).connected();
    };
    EXPECT_FALSE(speaks(TLS1_VERSION));
    EXPECT_FALSE(speaks(TLS1_1_VERSION));
    EXPECT_TRUE(speaks(TLS1_2_VERSION));
    EXPECT_TRUE(speaks(TLS1_3_VERSION));
}

TEST_F(ServerTlsTest, TheLeastVersionCanBeRaised) {
    add_usual();
    start_tls(TlsVersion::v1_3);
    TlsClient::Options options;
    options.version = TLS1_2_VERSION;
    EXPECT_FALSE(TlsClient(address_, options).connected());
    EXPECT_TRUE(TlsClient(address_).connected());
}

TEST_F(ServerTlsTest, AlpnIsHttp11OrNothing) {
    add_usual();
    start_tls();
    TlsClient::Options options;
    options.alpn = "\x02h2\x08http/1.1";
    EXPECT_EQ(TlsClient(address_, options).alpn(), "http/1.1");
    options.alpn = "\x02h2";
    EXPECT_FALSE(TlsClient(address_, options).connected());
}

TEST_F(ServerTlsTest, NobodyRenegotiates) {
    add_usual();
    start_tls();
    TlsClient::Options options;
    options.version = TLS1_2_VERSION;
    TlsClient c(address_, options);
    ASSERT_TRUE(c.connected());
    EXPECT_FALSE(c.renegotiate());
}

TEST_F(ServerTlsTest, AReloadIsForNewConnections) {
    add_usual();
    start_tls();
    TlsClient old(address_);
    EXPECT_EQ(old.serial(), 1);
    put(2);
    ASSERT_TRUE(identity_->reload());
    EXPECT_EQ(TlsClient(address_).serial(), 2);
    EXPECT_TRUE(old.send(kHello));
    EXPECT_THAT(old.receive(1), testing::StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTlsTest, AReloadThatFailsChangesNothing) {
    add_usual();
    start_tls();
    const double expires = metric("annal_tls_certificate_expires_seconds");
    fill(certificate_file_, "garbage");
    const auto reloaded = identity_->reload();
    ASSERT_FALSE(reloaded);
    EXPECT_THAT(reloaded.error().detail, HasSubstr("server.pem"));
    TlsClient c(address_);
    EXPECT_EQ(c.serial(), 1);
    EXPECT_TRUE(c.send(kHello));
    EXPECT_THAT(c.receive(1), testing::StartsWith("HTTP/1.1 200"));
    EXPECT_EQ(metric("annal_tls_certificate_expires_seconds"), expires);
}

TEST_F(ServerTlsTest, ExpiryIsAMetric) {
    ASSERT_TRUE(load());
    const double in = metric("annal_tls_certificate_expires_seconds") - std::time(nullptr);
    EXPECT_NEAR(in, 86'400, 60);
}

TEST_F(ServerTlsTest, FilesThatDoNotServeAreNamed) {
    std::filesystem::remove(key_file_);
    EXPECT_THAT(refusal(), HasSubstr("server.key: can't be read: No such file"));
    put(1);
    std::filesystem::remove(certificate_file_);
    EXPECT_THAT(refusal(), HasSubstr("server.pem: can't be read: No such file"));
    std::filesystem::create_directory(certificate_file_);
    EXPECT_THAT(refusal(), HasSubstr("server.pem: is a directory"));
    std::filesystem::remove(certificate_file_);
    put(1);
    fill(certificate_file_, "garbage");
    EXPECT_THAT(refusal(), HasSubstr("server.pem: holds no usable PEM certificate"));
    put(1);
    fill(key_file_, "");
    EXPECT_THAT(refusal(), HasSubstr("server.key: holds no usable PEM private key"));
    put(1);
    write_key(key_file_, make_key().get());
    EXPECT_THAT(refusal(), HasSubstr("server.key: does not belong to the certificate in"));
    put(1);
    write_key(key_file_, make_key().get(), "secret");
    EXPECT_THAT(refusal(), HasSubstr("server.key: is protected by a passphrase"));
    put(1);
    EXPECT_EQ(refusal(), "");
}

TEST_F(ServerTlsTest, AKeyTooShortForItsTimeIsRefused) {
    const Key key(EVP_RSA_gen(1024));
    write_certificate(certificate_file_, make_certificate(key.get(), 1).get());
    write_key(key_file_, key.get());
    EXPECT_THAT(
        refusal(), HasSubstr("server.pem: holds no usable PEM certificate (ee key too small)")
    );
}

TEST_F(ServerTlsTest, AHandshakeThatNeverEndsIsCutAndFreesItsPlace) {
    add_usual();
    limits_.header_timeout_ms = 300;
    limits_.connections_max = 1;
    start_tls();
    HttpClient silent = client();
    EXPECT_TRUE(eventually([&] { return metric("annal_http_connections") == 1; }));
    const auto began = std::chrono::steady_clock::now();
    silent.send(std::string("\x16\x03\x01\x02\x00\x01", 6));  // the beginning of a hello
    EXPECT_EQ(silent.receive_all(), "");
    EXPECT_LT(std::chrono::steady_clock::now() - began, milliseconds(5000));
    EXPECT_TRUE(eventually([&] { return metric("annal_http_connections") == 0; }));
    EXPECT_EQ(metric("annal_tls_handshake_failures_total"), 1);
    EXPECT_TRUE(TlsClient(address_).connected());
}

TEST_F(ServerTlsTest, WhoSpeaksNoTlsIsCut) {
    add_usual();
    start_tls();
    HttpClient plain = client();
    plain.send(kHello);
    EXPECT_THAT(plain.receive_all(), testing::Not(HasSubstr("HTTP")));
    HttpClient garbage = client();
    garbage.send(std::string(100'000, '\xee'));
    EXPECT_THAT(garbage.receive_all(), testing::Not(HasSubstr("HTTP")));
    EXPECT_TRUE(eventually([&] { return metric("annal_http_connections") == 0; }));
    EXPECT_EQ(metric("annal_tls_handshake_failures_total"), 2);
    EXPECT_TRUE(TlsClient(address_).connected());
}

TEST_F(ServerTlsTest, TooManyAreToldSoInTls) {
    add_usual();
    limits_.connections_max = 1;
    start_tls();
    TlsClient first(address_);
    EXPECT_TRUE(first.send(kHello));
    EXPECT_THAT(first.receive(1), testing::StartsWith("HTTP/1.1 200"));
    TlsClient second(address_);
    ASSERT_TRUE(second.connected());
    EXPECT_THAT(second.receive_all(), testing::StartsWith("HTTP/1.1 503"));
}

TEST_F(ServerTlsTest, TheUnixSocketStaysPlain) {
    add_usual();
    identity_ = load().value();
    start({"127.0.0.1:0", folder_ / "annal.sock", identity_});
    HttpClient local((folder_ / "annal.sock").string());
    EXPECT_EQ(local.request("GET", "/hello").body, "hello");
}

TEST_F(ServerTlsTest, WhoSaysGoodbyeAfterTheRequestGetsTheAnswer) {
    add({"GET"}, "/slow", [](std::shared_ptr<Exchange> x) -> Task<void> {
        co_await sleep_for(milliseconds(100));
        (void)co_await respond(*x, 200, "", "late");
    });
    start_tls();
    TlsClient c(address_);
    EXPECT_TRUE(c.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"));
    c.shutdown();
    EXPECT_THAT(c.receive_all(), HasSubstr("late"));
    EXPECT_TRUE(c.said_goodbye());
}

TEST_F(ServerTlsTest, ASlowHeadIsTold) {
    add_usual();
    limits_.header_timeout_ms = 200;
    start_tls();
    TlsClient c(address_);
    EXPECT_TRUE(c.send("GET /hello HTTP"));
    EXPECT_THAT(c.receive_all(), testing::StartsWith("HTTP/1.1 408"));
    EXPECT_TRUE(c.said_goodbye());
}

TEST_F(ServerTlsTest, AnIdleConnectionEndsWithAGoodbye) {
    add_usual();
    limits_.idle_timeout_ms = 150;
    start_tls();
    TlsClient c(address_);
    EXPECT_EQ(c.receive_all(), "");
    EXPECT_TRUE(c.said_goodbye());
    EXPECT_TRUE(eventually([&] { return metric("annal_http_connections") == 0; }));
}

TEST_F(ServerTlsTest, StopEndsIdleConnectionsInTls) {
    add_usual();
    start_tls();
    TlsClient c(address_);
    EXPECT_TRUE(c.send(kHello));
    EXPECT_THAT(c.receive(1), testing::StartsWith("HTTP/1.1 200"));
    std::thread stopping([&] { io_.run(server_->stop()); });
    EXPECT_EQ(c.receive_all(), "");
    EXPECT_TRUE(c.said_goodbye());
    c.shutdown();
    stopping.join();
    server_.reset();
}

TEST_F(ServerTlsTest, ASlowReaderIsCut) {
    limits_.write_timeout_ms = 300;
    std::atomic<bool> cut = false;
    add({"GET"}, "/big", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs none;
        (void)x->start(200, none);
        const std::string piece(1 << 20, 'x');
        for (int i = 0; i < 1000 && !cut; ++i) {
            const auto written = co_await x->write(piece);
            if (!written) cut = true;
        }
    });
    start_tls();
    TlsClient c(address_);
    EXPECT_TRUE(c.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n"));
    EXPECT_TRUE(eventually([&] { return cut.load(); }));
    EXPECT_TRUE(eventually([&] { return metric("annal_http_connections") == 0; }));
}

}  // namespace
}  // namespace annal::http::test
