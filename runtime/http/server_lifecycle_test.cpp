#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <filesystem>
#include <fstream>

#include "runtime/http/testing_server.h"

namespace annal::http::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;

class ServerLifecycleTest : public ServerTest {
protected:
    Result<std::string> try_start(const ServerOptions& options) {
        Server server(router_, authenticator_, clock_, limits_, metrics_, io_.executor());
        auto result = server.start(options);
        if (result) io_.run(server.stop());
        return result;
    }
    void add_who() {
        add(
            {"GET"},
            "/who",
            [](std::shared_ptr<Exchange> x) -> Task<void> {
                const Principal& p = x->principal();
                std::string text = p.key_id + "|" + p.project + "|" +
                                   (p.may("platform") ? "platform" : "") + "|" +
                                   x->request().peer_ip;
                (void)co_await respond(*x, 200, "", std::move(text));
            },
            "keys:write"
        );
    }
    Folder folder_;
};

TEST_F(ServerLifecycleTest, BindsAFreePortAndSaysWhich) {
    add_usual();
    start();
    EXPECT_THAT(address_, MatchesRegex("127\\.0\\.0\\.1:[1-9][0-9]*"));
    EXPECT_EQ(client().request("GET", "/hello").status, 200);
}

TEST_F(ServerLifecycleTest, APortInUseIsNamed) {
    start();
    const auto second = try_start({address_, {}});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Errc::conflict);
    EXPECT_THAT(second.error().detail, AllOf(HasSubstr(address_), HasSubstr("in use")));
}

TEST_F(ServerLifecycleTest, RefusesWhatIsNoAddress) {
    for (const char* listen :
         {"8080",
          "localhost:8080",
          "127.0.0.1",
          "127.0.0.1:",
          "127.0.0.1:x",
          "127.0.0.1:65536",
          "127.0.0.1:-1",
          "::1:80",
          "[127.0.0.1]:80",
          "[::1]",
          ":80",
          "127.0.0.1:80 "}) {
        const auto result = try_start({listen, {}});
        ASSERT_FALSE(result) << listen;
        EXPECT_EQ(result.error().code, Errc::invalid) << listen;
        EXPECT_THAT(result.error().detail, HasSubstr(listen));
    }
}

TEST_F(ServerLifecycleTest, ListensOnIpv6) {
    add_who();
    add_usual();
    Server server(router_, authenticator_, clock_, limits_, metrics_, io_.executor());
    const auto bound = server.start({"[::1]:0", {}});
    if (!bound) {  // a machine without IPv6
        EXPECT_EQ(bound.error().code, Errc::unavailable);
        EXPECT_THAT(bound.error().detail, HasSubstr("[::1]:0"));
        return;
    }
    EXPECT_THAT(bound.value(), MatchesRegex("\\[::1\\]:[1-9][0-9]*"));
    {
        HttpClient c(bound.value());
        EXPECT_EQ(
            c.request("GET", "/who", {{"Authorization", "Bearer admin"}}).body, "apikey_2|acme||::1"
        );
    }
    io_.run(server.stop());
}

TEST_F(ServerLifecycleTest, TheUnixSocketIsTheOwnersDoor) {
    add_who();
    const auto path = folder_ / "annal.sock";
    start({"", path});
    EXPECT_EQ(address_, "");
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_TRUE(S_ISSOCK(status.st_mode));
    EXPECT_EQ(status.st_mode & 0777, 0600U);
    HttpClient c(path.string());
    EXPECT_EQ(c.request("GET", "/who", {{"Annal-Project", "acme"}}).body, "local|acme|platform|");
    EXPECT_EQ(c.request("GET", "/who").body, "local||platform|");
    stop();
    EXPECT_FALSE(std::filesystem::exists(path)) << "a stopped server takes its socket away";
}

TEST_F(ServerLifecycleTest, TheProjectHeaderMeansNothingOverTcp) {
    add_who();
    start();
    EXPECT_EQ(client().request("GET", "/who", {{"Annal-Project", "other"}}).status, 401);
    EXPECT_EQ(
        client()
            .request("GET", "/who", {{"Annal-Project", "other"}, {"Authorization", "Bearer admin"}})
            .body,
        "apikey_2|acme||127.0.0.1"
    );
}

TEST_F(ServerLifecycleTest, ReplacesAStaleSocketOnly) {
    add_who();
    const auto path = folder_ / "annal.sock";
    start({"127.0.0.1:0", path});
    const auto live = try_start({"", path});
    ASSERT_FALSE(live);
    EXPECT_EQ(live.error().code, Errc::conflict);
    EXPECT_THAT(live.error().detail, HasSubstr(path.string()));
    EXPECT_EQ(HttpClient(path.string()).request("GET", "/who").status, 200)
        << "the running server keeps its socket";
    EXPECT_EQ(client().request("GET", "/who", {{"Authorization", "Bearer admin"}}).status, 200);
    stop();

    {  // what a killed process leaves behind
        boost::asio::io_context io;
        using local = boost::asio::local::stream_protocol;
        local::acceptor dead(io, local::endpoint(path.string()));
    }
    ASSERT_TRUE(std::filesystem::exists(path));
    start({"", path});
    EXPECT_EQ(HttpClient(path.string()).request("GET", "/who").status, 200);
    stop();

    std::ofstream(path) << "precious";
    const auto file = try_start({"", path});
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().code, Errc::conflict);
    EXPECT_TRUE(std::filesystem::is_regular_file(path));

    const auto long_path = try_start({"", folder_ / std::string(200, 'x').c_str()});
    ASSERT_FALSE(long_path);
    EXPECT_EQ(long_path.error().code, Errc::invalid);
    const auto no_folder = try_start({"", folder_ / "missing/annal.sock"});
    ASSERT_FALSE(no_folder);
    EXPECT_THAT(no_folder.error().detail, HasSubstr("missing/annal.sock"));
}

TEST_F(ServerLifecycleTest, StopLetsRequestsInFlightEnd) {
    add_usual();
    std::atomic<int> begun = 0;
    std::atomic<bool> hold = true;
    add({"GET"}, "/slow", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        ++begun;
        while (hold) co_await sleep_for(milliseconds(1));
        (void)co_await respond(*x, 200, "", "finished");
    });
    std::atomic<bool> background_done = false;
    add({"GET"}, "/async", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        (void)co_await respond(*x, 202, "", "");
        while (hold) co_await sleep_for(milliseconds(1));
        co_await sleep_for(milliseconds(20));
        background_done = true;
    });
    start();
    HttpClient idle = client();
    EXPECT_EQ(idle.request("GET", "/hello").status, 200);
    HttpClient async = client();
    EXPECT_EQ(async.request("GET", "/async").status, 202);
    HttpClient fresh = client();
    HttpClient busy = client();
    busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(eventually([&] { return begun == 1; }));
    EXPECT_TRUE(eventually([&] { return metric("annal_http_connections") == 4; }));
    std::atomic<bool> stopped = false;
    std::thread stopping([&] {
        io_.run(server_->stop());
        stopped = true;
    });
    EXPECT_EQ(idle.receive_all(), "") << "idle connections end at once";
    EXPECT_EQ(fresh.receive_all(), "");
    EXPECT_EQ(async.receive_all(), "");
    EXPECT_THROW(client(), std::runtime_error) << "nothing is accepted any more";
    EXPECT_FALSE(stopped);
    hold = false;
    const auto r = busy.receive();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->body, "finished");
    EXPECT_EQ(r->header("connection"), "close");
    EXPECT_TRUE(busy.closed_by_peer());
    stopping.join();
    EXPECT_TRUE(background_done) << "work after the answer is in flight too";
    server_.reset();
}

TEST_F(ServerLifecycleTest, StopCutsWhatDoesNotEnd) {
    limits_.drain_timeout_ms = 150;
    std::atomic<int> cancelled = 0;
    std::atomic<int> begun = 0;
    add({"GET"}, "/stuck", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        ++begun;
        while (!x->cancelled()) co_await sleep_for(milliseconds(1));
        ++cancelled;
        (void)co_await respond(*x, 200, "", "too late");
    });
    start();
    HttpClient c = client();
    c.send("GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n");
    HttpClient half = client();
    half.send("GET /stuck HTT");
    EXPECT_TRUE(eventually([&] { return begun == 1; }));
    const auto began = std::chrono::steady_clock::now();
    stop();
    const auto took = std::chrono::steady_clock::now() - began;
    EXPECT_GE(took, milliseconds(140));
    EXPECT_LT(took, milliseconds(5000));
    EXPECT_TRUE(eventually([&] { return cancelled == 1; }));
    EXPECT_EQ(c.receive_all(), "");
    EXPECT_EQ(half.receive_all(), "");
    EXPECT_EQ(metric("annal_http_connections"), 0);
}

TEST_F(ServerLifecycleTest, StopWithoutConnectionsIsQuickAndRepeatable) {
    start();
    const auto began = std::chrono::steady_clock::now();
    io_.run(server_->stop());
    io_.run(server_->stop());
    EXPECT_LT(std::chrono::steady_clock::now() - began, milliseconds(2000));
}

TEST_F(ServerLifecycleTest, StopUnderLoadLosesNoAnswerThatBegan) {
    add_usual();
    start();
    std::atomic<bool> torn = false;
    std::atomic<int> answered = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            try {
                for (;;) {
                    HttpClient c = client();
                    for (int i = 0; i < 20; ++i) {
                        c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
                        const auto r = c.receive();
                        if (!r) break;
                        if (!r->whole || r->body != "body") torn = true;
                        ++answered;
                    }
                }
            } catch (const std::runtime_error&) {
                // Not accepted any more: the end of this test.
            }
        });
    }
    EXPECT_TRUE(eventually([&] { return answered > 200; }));
    io_.run(server_->stop());
    for (std::thread& thread : threads) thread.join();
    EXPECT_FALSE(torn);
    server_.reset();
}

}  // namespace
}  // namespace annal::http::test
