#include "runtime/http/testing_server.h"

namespace annal::http::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::chrono::milliseconds since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - start);
}

TEST_F(ServerTest, HeaderLimitIsExact) {
    add_usual();
    limits_.header_bytes_max = 2000;
    start();
    const std::string before = "GET /hello HTTP/1.1\r\nHost: x\r\nX-Pad: ";
    const auto of_size = [&](std::size_t size) {
        return before + std::string(size - before.size() - 4, 'p') + "\r\n\r\n";
    };
    HttpClient c = client();
    c.send(of_size(2000));
    EXPECT_EQ(c.receive()->status, 200);
    c.send(of_size(2000) + of_size(2000));
    EXPECT_EQ(c.receive()->status, 200);
    EXPECT_EQ(c.receive()->status, 200);
    c.send(of_size(2001));
    const auto over = c.receive();
    EXPECT_EQ(over->status, 431);
    EXPECT_EQ(over->header("connection"), "close");
    EXPECT_THAT(over->body, HasSubstr("2000 bytes"));
    EXPECT_TRUE(c.closed_by_peer());

    HttpClient endless = client();
    endless.send("GET /hello?" + std::string(1'000'000, 'x'));
    EXPECT_EQ(endless.receive()->status, 431);
    EXPECT_TRUE(endless.closed_by_peer());
}

TEST_F(ServerTest, AHeadTooLargeIsRefusedInTheFormOfItsRoute) {
    add(
        {"GET"},
        "/marked",
        [](std::shared_ptr<Exchange> x) -> Task<void> { (void)co_await respond(*x, 200, "", ""); },
        "",
        "mark"
    );
    limits_.header_bytes_max = 1000;
    start();
    HttpClient c = client();
    c.send("GET /marked HTTP/1.1\r\nHost: x\r\nX: " + std::string(1000, 'x') + "\r\n\r\n");
    EXPECT_EQ(c.receive()->header("content-type"), "text/x-mark");
}

TEST_F(ServerTest, ASlowHeadIsCutByTheClockNotByTheByte) {
    add_usual();
    limits_.header_timeout_ms = 200;
    start();
    HttpClient c = client();
    const auto began = std::chrono::steady_clock::now();
    std::string answer;
    std::thread dripping([&] {
        try {
            for (int i = 0; i < 100; ++i) {
                c.send(i == 0 ? "GET /hello HTTP/1.1\r\nX: " : "x");
                std::this_thread::sleep_for(milliseconds(20));
            }
        } catch (const std::runtime_error&) {
            // The server has closed, as it should.
        }
    });
    const auto r = c.receive();
    const auto took = since(began);
    dripping.join();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->status, 408);
    EXPECT_EQ(r->header("connection"), "close");
    EXPECT_GE(took, milliseconds(190));
    EXPECT_LT(took, milliseconds(1900));
}

TEST_F(ServerTest, AnIdleConnectionIsClosedWithoutAWord) {
    add_usual();
    limits_.idle_timeout_ms = 150;
    start();
    HttpClient used = client();
    const auto began = std::chrono::steady_clock::now();
    EXPECT_EQ(used.request("GET", "/hello").status, 200);
    EXPECT_EQ(used.receive_all(), "");
    EXPECT_GE(since(began), milliseconds(150));
    HttpClient unused = client();
    EXPECT_EQ(unused.receive_all(), "");
    HttpClient late = client();
    late.send("\r\n");  // bytes, but of no request
    EXPECT_EQ(late.receive_all(), "");
}

TEST_F(ServerTest, AHandlerMayTakeLongerThanTheClientMay) {
    limits_.idle_timeout_ms = limits_.header_timeout_ms = limits_.body_timeout_ms = 50;
    add({"POST"}, "/slow", [](std::shared_ptr<Exchange> x) -> Task<void> {
        (void)co_await x->read();
        co_await sleep_for(milliseconds(300));
        (void)co_await respond(*x, 200, "", "done");
    });
    start();
    HttpClient c = client();
    EXPECT_EQ(c.request("POST", "/slow", {}, "body").body, "done");
}

TEST_F(ServerTest, ASlowBodyIsCut) {
    add_usual();
    limits_.body_timeout_ms = 150;
    limits_.body_rate_min_bytes_per_s = 0;
    start();
    HttpClient c = client();
    c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n");
    for (int i = 0; i < 4; ++i) {  // the time is between two bytes, not in all
        std::this_thread::sleep_for(milliseconds(60));
        c.send("x");
    }
    const auto r = c.receive();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->status, 408);
    EXPECT_THAT(r->body, AllOf(HasSubstr("\"status\":408"), HasSubstr("Request Timeout")));
    EXPECT_EQ(r->header("connection"), "close");
    EXPECT_TRUE(c.closed_by_peer());
}

TEST_F(ServerTest, ABodySlowerThanItsMinimumRateIsCutThoughItNeverStops) {
    add_usual();
    limits_.body_timeout_ms = 400;
    limits_.body_rate_min_bytes_per_s = 1000;
    start();
    HttpClient c = client();
    const auto began = std::chrono::steady_clock::now();
    c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    std::thread dripping([&] {
        try {
            for (int i = 0; i < 150; ++i) {  // 500 bytes a second: 400 ms behind after 800 ms
                c.send("0123456789");
                std::this_thread::sleep_for(milliseconds(20));
            }
        } catch (const std::runtime_error&) {
            // The server has closed, as it should.
        }
    });
    const auto r = c.receive();
    const auto took = since(began);
    dripping.join();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->status, 408);
    EXPECT_THAT(r->body, HasSubstr("lagged 400 ms behind 1000 bytes a second"));
    EXPECT_GE(took, milliseconds(390));
    EXPECT_LT(took, milliseconds(2500));
}

TEST_F(ServerTest, ABodyFasterThanItsMinimumRateMayTakeAnyTime) {
    const auto arrived = std::make_shared<std::atomic<std::size_t>>(0);
    add({"POST"}, "/count", [arrived](std::shared_ptr<Exchange> x) -> Task<void> {
        auto count = [arrived](std::string_view piece) { *arrived += piece.size(); };
        const bool whole = co_await read_body(x, std::move(count));
        if (!whole) co_return;
        (void)co_await respond(*x, 200, "", "");
    });
    limits_.body_timeout_ms = 300;
    limits_.body_rate_min_bytes_per_s = 100;
    time_ = &manual_;
    start();
    HttpClient c = client();
    c.send("POST /count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (std::size_t i = 1; i <= 20; ++i) {  // 4 s of the server's time, 13 times the timeout
        manual_.advance(200'000);
        std::this_thread::sleep_for(milliseconds(50));  // for the server to look at its deadlines
        c.send("32\r\n" + std::string(50, 'x') + "\r\n");
        ASSERT_TRUE(eventually([&] { return *arrived == 50 * i; }));
    }
    c.send("0\r\n\r\n");
    EXPECT_EQ(c.receive()->status, 200);
}

TEST_F(ServerTest, AReaderSlowerThanTheMinimumRateIsCutThoughItNeverStops) {
    limits_.write_timeout_ms = 500;
    limits_.write_rate_min_bytes_per_s = 100U << 20;
    std::atomic<int> result = 0;
    add({"GET"}, "/big", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs none;
        (void)x->start(200, none);
        const std::string piece(64 << 10, 'x');
        for (int i = 0; i < 10'000; ++i) {
            const auto written = co_await x->write(piece);
            if (!written) {
                result = written.error().code == Errc::cancelled && x->cancelled() ? 1 : 2;
                co_return;
            }
        }
        result = 3;
    });
    start();
    HttpClient c = client();
    c.receive_buffer(65'536);
    c.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    const auto began = std::chrono::steady_clock::now();
    while (result == 0 && since(began) < milliseconds(10'000)) {
        (void)c.receive_some();  // about 1 MiB a second: never still, always too slow
        std::this_thread::sleep_for(milliseconds(50));
    }
    EXPECT_EQ(result, 1);
    EXPECT_TRUE(eventually([&] { return metric("annal_http_connections") == 0; }));
}

TEST_F(ServerTest, TheUnixSocketHasConnectionsOfItsOwn) {
    add_usual();
    limits_.connections_max = 2;
    const Folder folder;
    start({"127.0.0.1:0", folder / "annal.sock"});
    std::vector<HttpClient> strangers;
    for (int i = 0; i < 2; ++i) {
        strangers.push_back(client());
        EXPECT_EQ(strangers.back().request("GET", "/hello").status, 200);
    }
    EXPECT_EQ(client().request("GET", "/hello").status, 503);
    const std::string socket = (folder / "annal.sock").string();
    std::vector<HttpClient> operators;
    for (int i = 0; i < 16; ++i) {
        operators.emplace_back(socket);
        EXPECT_EQ(operators.back().request("GET", "/hello").status, 200);
    }
    EXPECT_EQ(HttpClient(socket).request("GET", "/hello").status, 503);
}

TEST_F(ServerTest, WhoIsRefusedCanNotStayEither) {
    add_usual();
    limits_.connections_max = 1;
    start();
    HttpClient only = client();
    EXPECT_EQ(only.request("GET", "/hello").status, 200);
    std::vector<HttpClient> refused;
    for (int i = 0; i < 64; ++i) {
        refused.push_back(client());
        EXPECT_EQ(refused.back().receive()->status, 503);
    }
    EXPECT_EQ(client().receive_all(), "") << "too many are being refused: closed without a word";
    // None of them closes; after a moment the server does, and has words for others again.
    EXPECT_TRUE(eventually([&] {
        HttpClient another = client();
        return another.receive_all().starts_with("HTTP/1.1 503 ");
    }));
}

TEST_F(ServerTest, ABodyThatNobodyReadsAndNobodySendsEndsTheConnection) {
    add_usual();
    limits_.body_timeout_ms = 100;
    start();
    HttpClient c = client();
    c.send("POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n");
    EXPECT_EQ(c.receive()->status, 200);
    EXPECT_EQ(c.receive_all(), "");
}

TEST_F(ServerTest, ASlowReaderIsCut) {
    limits_.write_timeout_ms = 200;
    std::atomic<int> result = 0;
    add({"GET"}, "/big", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs none;
        (void)x->start(200, none);
        const std::string piece(1 << 20, 'x');
        for (int i = 0; i < 1000; ++i) {
            const auto written = co_await x->write(piece);
            if (!written) {
                result = written.error().code == Errc::cancelled && x->cancelled() ? 1 : 2;
                co_return;
            }
        }
        result = 3;
    });
    start();
    HttpClient c = client();
    c.receive_buffer(65'536);
    c.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(eventually([&] { return result != 0; }));
    EXPECT_EQ(result, 1);
    EXPECT_TRUE(eventually([&] { return metric("annal_http_connections") == 0; }));
}

TEST_F(ServerTest, ConnectionsAreLimited) {
    add_usual();
    limits_.connections_max = 3;
    start();
    std::vector<HttpClient> clients;
    for (int i = 0; i < 3; ++i) {
        clients.push_back(client());
        EXPECT_EQ(clients.back().request("GET", "/hello").status, 200);
    }
    for (int i = 0; i < 5; ++i) {
        HttpClient beyond = client();
        const HttpResponse r = beyond.request("POST", "/echo", {}, std::string(100'000, 'x'));
        EXPECT_EQ(r.status, 503);
        EXPECT_EQ(r.header("retry-after"), "1");
        EXPECT_EQ(r.header("connection"), "close");
        EXPECT_TRUE(r.header("annal-request-id"));
        EXPECT_THAT(r.body, HasSubstr("3 connections"));
        EXPECT_TRUE(beyond.closed_by_peer());
    }
    EXPECT_EQ(clients[0].request("GET", "/hello").status, 200);
    clients.pop_back();
    EXPECT_TRUE(eventually([&] { return client().request("GET", "/hello").status == 200; }));
}

}  // namespace
}  // namespace annal::http::test
