#include "runtime/http/server.h"

#include <array>
#include <mutex>
#include <set>

#include "runtime/http/testing_server.h"

namespace annal::http::test {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Pair;
using testing::StartsWith;

TEST_F(ServerTest, KeepAliveServesManyRequestsWithTheirOwnIds) {
    add_usual();
    start();
    HttpClient c = client();
    std::set<std::string> ids;
    for (int i = 0; i < 50; ++i) {
        const HttpResponse response = c.request("GET", "/hello");
        EXPECT_EQ(response.status, 200);
        EXPECT_EQ(response.body, "hello");
        EXPECT_EQ(response.header("content-type"), "text/plain");
        EXPECT_EQ(response.header("content-length"), "5");
        EXPECT_EQ(response.header("connection"), std::nullopt);
        EXPECT_EQ(response.header("server"), std::nullopt);
        EXPECT_THAT(
            response.header("date").value_or(""), MatchesRegex("[A-Z][a-z][a-z], [0-9 ]+.*GMT")
        );
        ids.insert(response.header("annal-request-id").value_or(""));
    }
    EXPECT_EQ(ids.size(), 50U);
    EXPECT_THAT(*ids.begin(), StartsWith("req_"));
}

TEST_F(ServerTest, TakesOverASaneRequestId) {
    add_usual();
    start();
    HttpClient c = client();
    const auto id_for = [&](const std::string& sent) {
        return c.request("GET", "/hello", {{"X-Request-Id", sent}})
            .header("annal-request-id")
            .value_or("");
    };
    EXPECT_EQ(id_for("abc-1.2:3_Z"), "abc-1.2:3_Z");
    EXPECT_THAT(id_for("a b"), StartsWith("req_"));
    EXPECT_THAT(id_for("\"x\""), StartsWith("req_"));
    EXPECT_EQ(id_for(std::string(128, 'x')), std::string(128, 'x'));
    EXPECT_THAT(id_for(std::string(129, 'x')), StartsWith("req_"));
    const HttpResponse missing = c.request("GET", "/nothing", {{"X-Request-Id", "mine"}});
    EXPECT_EQ(missing.header("annal-request-id"), "mine");
    EXPECT_THAT(missing.body, HasSubstr("\"request_id\":\"mine\""));
}

TEST_F(ServerTest, HandsTheRequestOver) {
    std::mutex mutex;
    Request seen;
    Principal who;
    add(
        {"PUT"},
        "/v1/{kind}/{id}",
        [&](std::shared_ptr<Exchange> x) -> Task<void> {
            {
                const std::lock_guard lock(mutex);
                seen = x->request();
                who = x->principal();
            }
            (void)co_await respond(*x, 204, "", "");
        },
        "audit:read"
    );
    start();
    HttpClient c = client();
    const HttpResponse response = c.request(
        "PUT",
        "/v1/a%20b/c%2Fd/?x=1&y=%26&x=two+2",
        {{"Authorization", "Bearer reader"}, {"X-Many", "1"}, {"x-MANY", " 2\t"}},
        "body"
    );
    EXPECT_EQ(response.status, 204);
    EXPECT_EQ(response.header("content-length"), std::nullopt);
    const std::lock_guard lock(mutex);
    EXPECT_EQ(seen.method, "PUT");
    EXPECT_EQ(seen.path, "/v1/a%20b/c%2Fd/");
    EXPECT_THAT(seen.params, ElementsAre(Pair("kind", "a b"), Pair("id", "c/d")));
    EXPECT_THAT(seen.query, ElementsAre(Pair("x", "1"), Pair("y", "&"), Pair("x", "two 2")));
    EXPECT_THAT(
        seen.headers,
        ElementsAre(
            Pair("host", address_),
            Pair("authorization", "Bearer reader"),
            Pair("x-many", "1"),
            Pair("x-many", "2"),
            Pair("content-length", "4")
        )
    );
    EXPECT_EQ(seen.trigger, "/v1/{kind}/{id}");
    EXPECT_EQ(seen.content_length, 4);
    EXPECT_EQ(seen.peer_ip, "127.0.0.1");
    EXPECT_EQ(who.key_id, "apikey_1");
    EXPECT_EQ(who.project, "acme");
}

TEST_F(ServerTest, AcceptsBytesOneByOne) {
    add_usual();
    start();
    HttpClient c = client();
    const std::string text =
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfirst"
        "\r\nPOST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3;a=\"b\"\r\nsec\r\n03\r\nond\r\n0\r\nX-T: y\r\n\r\n"
        "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
    for (const char byte : text) c.send({&byte, 1});
    EXPECT_EQ(c.receive()->body, "first");
    EXPECT_EQ(c.receive()->body, "second");
    EXPECT_EQ(c.receive()->body, "hello");
}

TEST_F(ServerTest, AnswersPipelinedRequestsInOrder) {
    add_usual();
    add({"POST"}, "/slow/{n}", [](std::shared_ptr<Exchange> x) -> Task<void> {
        const std::string n(x->request().param("n"));
        co_await sleep_for(milliseconds(n == "0" ? 100 : 1));
        (void)co_await respond(*x, 200, "", n);
    });
    start();
    HttpClient c = client();
    std::string text;
    constexpr int kRequests = 200;
    for (int i = 0; i < kRequests; ++i) {
        // Bodies that nobody reads must not be taken for requests.
        text += "POST /slow/" + std::to_string(i) +
                " HTTP/1.1\r\nHost: x\r\nContent-Length: 23\r\n\r\nGET /hello HTTP/1.1\r\n\r\n";
    }
    c.send(text);
    for (int i = 0; i < kRequests; ++i) ASSERT_EQ(c.receive()->body, std::to_string(i));
}

TEST_F(ServerTest, HeadHasTheHeadersOfGetAndNoBody) {
    add_usual();
    add({"GET"}, "/long", [](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs headers = {{"Content-Type", "text/csv"}};
        EXPECT_TRUE(x->start(200, std::move(headers)));
        const std::string row(10'000, 'x');
        Result<void> written = ok();
        int rows = 0;
        while (written && ++rows < 100) written = co_await x->write(row);
        EXPECT_LT(rows, 100) << "a HEAD must not have the whole body made";
        Pairs none;
        (void)co_await x->finish(std::move(none));
    });
    start();
    HttpClient c = client();
    c.send(
        "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\nHEAD /long HTTP/1.1\r\nHost: x\r\n\r\nGET /hello "
        "HTTP/1.1\r\nHost: x\r\n\r\n"
    );
    const auto head = c.receive(true);
    EXPECT_EQ(head->status, 200);
    EXPECT_EQ(head->header("content-length"), "5");
    const auto streamed = c.receive(true);
    EXPECT_EQ(streamed->header("content-type"), "text/csv");
    EXPECT_EQ(streamed->header("content-length"), std::nullopt);
    EXPECT_EQ(c.receive()->body, "hello");
    c.send("HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(c.receive(true)->status, 404);
    EXPECT_EQ(c.receive()->body, "hello");
}

TEST_F(ServerTest, RefusalsComeInTheFormOfTheNearestRoute) {
    add_usual();
    const auto forbidden = [](std::shared_ptr<Exchange> x) -> Task<void> {
        (void)co_await respond(*x, 200, "", "let in");
    };
    add({"GET"}, "/api/logging/audit", forbidden, "audit:read", "logging");
    add({"DELETE", "GET"}, "/api/admin/audit/{id}", forbidden, "audit:write", "porta");
    start();
    HttpClient c = client();

    HttpResponse r = c.request("GET", "/api/admin/audit/1/2");
    EXPECT_EQ(r.status, 404) << "an unknown path needs no key";
    EXPECT_EQ(r.header("content-type"), "text/x-porta");
    EXPECT_THAT(r.body, StartsWith("porta 404 not_found: "));

    r = c.request("POST", "/api/admin/audit/1", {}, "body");
    EXPECT_EQ(r.status, 405);
    EXPECT_EQ(r.header("allow"), "DELETE, GET, HEAD");
    EXPECT_THAT(r.body, StartsWith("porta 405 method_not_allowed: "));

    r = c.request("GET", "/api/logging/audit");
    EXPECT_EQ(r.status, 401);
    EXPECT_EQ(r.header("www-authenticate"), "Bearer realm=\"annal\"");
    EXPECT_THAT(r.body, StartsWith("logging 401 unauthenticated: no such key"));

    r = c.request("GET", "/api/admin/audit/1", {{"Authorization", "Bearer reader"}});
    EXPECT_EQ(r.status, 403);
    EXPECT_THAT(
        r.body, AllOf(StartsWith("porta 403 insufficient_scope: "), HasSubstr("audit:write"))
    );

    EXPECT_EQ(
        c.request("GET", "/api/logging/audit", {{"Authorization", "Bearer reader"}}).body, "let in"
    );
    EXPECT_EQ(
        c.request("GET", "/api/admin/audit/1", {{"Authorization", "Bearer admin"}}).body, "let in"
    );

    r = c.request("GET", "/api/logging/audit", {{"Authorization", "Bearer throws"}});
    EXPECT_EQ(r.status, 500);
    EXPECT_THAT(r.body, testing::Not(HasSubstr("fire"))) << "what went wrong inside is for the log";

    r = c.request("GET", "/elsewhere");
    EXPECT_EQ(r.status, 404);
    EXPECT_EQ(r.header("content-type"), "application/problem+json");
    EXPECT_THAT(
        r.body, AllOf(HasSubstr("\"code\":\"not_found\""), HasSubstr("\"title\":\"Not Found\""))
    );
}

TEST_F(ServerTest, RefusesTargetsThatAreNoText) {
    add_usual();
    start();
    for (const char* target :
         {"/hello?a=%00",
          "/hello?a=%ff",
          "/%00",
          "/%c3%28",
          "/hello?a=%4",
          "hello",
          "*",
          "ftp://x/hello"}) {
        HttpClient c = client();
        const HttpResponse r = c.request("GET", target);
        EXPECT_EQ(r.status, 400) << target;
        EXPECT_THAT(r.body, HasSubstr("\"detail\":")) << target;
        EXPECT_TRUE(c.closed_by_peer());
    }
    HttpClient c = client();
    EXPECT_EQ(c.request("GET", "http://example.com/hello?a=1").status, 200);
    EXPECT_EQ(c.request("GET", "/h%65llo/").status, 200);
}

TEST_F(ServerTest, ServesHttp10) {
    add_usual();
    add({"GET"}, "/stream", [](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs none;
        (void)x->start(200, none);
        for (int i = 0; i < 10; ++i) {
            (void)co_await x->write("part ");
            co_await sleep_for(milliseconds(2));
        }
        Pairs trailers = {{"X-End", "1"}};
        (void)co_await x->finish(std::move(trailers));
    });
    start();
    HttpClient once = client();
    once.send("GET /hello HTTP/1.0\r\n\r\n");
    EXPECT_THAT(
        once.receive_all(),
        AllOf(
            HasSubstr("Connection: close\r\n"),
            HasSubstr("Content-Length: 5\r\n"),
            testing::EndsWith("\r\n\r\nhello")
        )
    );

    HttpClient kept = client();
    for (int i = 0; i < 2; ++i) {
        kept.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        const auto r = kept.receive();
        ASSERT_TRUE(r);
        EXPECT_EQ(r->header("connection"), "keep-alive");
    }
    kept.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\nTE: trailers\r\n\r\n");
    const std::string all = kept.receive_all();
    EXPECT_THAT(
        all,
        AllOf(
            HasSubstr("Connection: close\r\n"),
            testing::Not(HasSubstr("Transfer-Encoding")),
            testing::Not(HasSubstr("X-End"))
        )
    );
    EXPECT_THAT(
        all, testing::EndsWith("\r\n\r\npart part part part part part part part part part ")
    );
}

TEST_F(ServerTest, ConnectionCloseIsHonoured) {
    add_usual();
    start();
    HttpClient c = client();
    EXPECT_EQ(c.request("GET", "/hello", {{"Connection", "close"}}).header("connection"), "close");
    EXPECT_TRUE(c.closed_by_peer());
}

TEST_F(ServerTest, AClientThatOnlyStopsSendingGetsItsAnswer) {
    add_usual();
    add({"GET"}, "/later", [](std::shared_ptr<Exchange> x) -> Task<void> {
        co_await sleep_for(milliseconds(50));
        (void)co_await respond(*x, 200, "", "later");
    });
    start();
    HttpClient c = client();
    c.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    c.shutdown_send();
    const auto r = c.receive();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->body, "later");
    EXPECT_TRUE(c.closed_by_peer());
}

// What one server takes for one request and another for two (RFC 9112, section 11.2).
TEST_F(ServerTest, RefusesAmbiguousRequests) {
    std::atomic<int> handled = 0;
    add({"GET", "POST"}, "/x", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        ++handled;
        (void)co_await respond(*x, 200, "", "");
    });
    start();
    const std::vector<std::string> shapes = {
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: "
        "chunked\r\n\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: "
        "5\r\n\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\nhello!",
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: "
        "5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
        "chunked\r\n\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0b"
        "chunked\r\n\r\n0\r\n\r\n",
        "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: x\r\n Content-Length: 5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: x\r\nX-A: b\r\n\tc: d\r\n\r\n",
        "GET /x HTTP/1.1\r\n folded: y\r\nHost: x\r\n\r\n",
        "GET /x HTTP/1.1\nHost: x\n\n",
        "GET /x HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
        std::string("GET /x HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 36),
        "GET /x HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET /x HTTP/1.1\r\n\r\n",
        "GET  /x HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /x  HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /x y HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /x HTTP/2.0\r\nHost: x\r\n\r\n",
        "GET /x HTTP/1.10\r\nHost: x\r\n\r\n",
        "GET /x http/1.1\r\nHost: x\r\n\r\n",
        "GET /x\r\n\r\n",
        "G(T /x HTTP/1.1\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02\x01",
    };
    for (const std::string& shape : shapes) {
        HttpClient c = client();
        c.send(shape);
        const auto r = c.receive();
        ASSERT_TRUE(r) << shape;
        EXPECT_EQ(r->status, 400) << shape;
        EXPECT_EQ(r->header("connection"), "close") << shape;
        EXPECT_THAT(r->body, HasSubstr("\"code\":\"invalid\"")) << shape;
        EXPECT_EQ(c.receive(), std::nullopt) << shape;
    }
    EXPECT_EQ(handled, 0);
    HttpClient c = client();
    EXPECT_EQ(c.request("POST", "/x", {{"Content-Length", "0"}}).status, 200)
        << "the same length twice is one length";
    c.send("\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(c.receive()->status, 200) << "empty lines before a request are passed over";
}

TEST_F(ServerTest, RefusesBrokenChunking) {
    add_usual();
    start();
    const std::string head = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (const std::string body :
         {"x\r\nabc\r\n",
          "-1\r\nabc\r\n",
          "3\nabc\r\n0\r\n\r\n",
          "3\r\nabcd\r\n0\r\n\r\n",
          "ffffffffffffffffff\r\nabc\r\n",
          "3 \r\nabc\r\n",
          "3;=\r\nabc\r\n0\r\n\r\n",
          "0\r\nContent-Length: 5\r\n\r\nhello",
          "\r\n3\r\nabc\r\n"}) {
        HttpClient c = client();
        c.send(head + body);
        const auto r = c.receive();
        ASSERT_TRUE(r) << body;
        EXPECT_EQ(r->status, 400) << body;
        EXPECT_EQ(r->header("connection"), "close") << body;
        EXPECT_EQ(c.receive(), std::nullopt) << body;
    }
    // Line ends and trailers without end must not fill the memory.
    for (const std::string start_of : {"3;", "0\r\nX: "}) {
        HttpClient c = client();
        c.send(head + start_of + std::string(limits_.header_bytes_max + 100, 'a'));
        EXPECT_EQ(c.receive()->status, 400) << start_of;
    }
}

TEST_F(ServerTest, TwoHundredConnectionsAtOnce) {
    add_usual();
    add({"POST"}, "/wait", [](std::shared_ptr<Exchange> x) -> Task<void> {
        const auto body = co_await x->read();
        std::string copy(body ? body.value() : "");
        co_await sleep_for(milliseconds(1));
        (void)co_await respond(*x, 200, "", std::move(copy));
    });
    start();
    constexpr int kThreads = 8;
    constexpr int kPerThread = 25;
    std::atomic<int> right = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
            std::vector<HttpClient> clients;
            for (int i = 0; i < kPerThread; ++i) clients.push_back(client());
            for (int round = 0; round < 5; ++round) {
                for (int i = 0; i < kPerThread; ++i) {
                    const std::string body = std::to_string(t * 1000 + i);
                    clients[static_cast<std::size_t>(i)].send(
                        "POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: " +
                        std::to_string(body.size()) + "\r\n\r\n" + body
                    );
                }
                for (int i = 0; i < kPerThread; ++i) {
                    const auto r = clients[static_cast<std::size_t>(i)].receive();
                    if (r && r->body == std::to_string(t * 1000 + i)) ++right;
                }
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(right, kThreads * kPerThread * 5);
    EXPECT_TRUE(eventually([&] { return metric("annal_http_connections") == 0; }));
}

TEST_F(ServerTest, CountsRequests) {
    add_usual();
    start();
    HttpClient c = client();
    (void)c.request("GET", "/hello");
    (void)c.request("GET", "/hello");
    (void)c.request("POST", "/echo", {}, "12345");
    (void)c.request("BREW", "/hello");
    EXPECT_TRUE(eventually([&] {
        return metric(R"(annal_http_requests_total{method="other",status="405"})") == 1;
    })) << metrics_.render();
    EXPECT_EQ(metric(R"(annal_http_requests_total{method="GET",status="200"})"), 2);
    EXPECT_EQ(metric(R"(annal_http_requests_total{method="POST",status="200"})"), 1);
    EXPECT_EQ(metric("annal_http_request_seconds_count"), 4);
    EXPECT_EQ(metric("annal_http_connections"), 1);
    EXPECT_GT(metric("annal_http_request_bytes_total"), 100);
}

}  // namespace
}  // namespace annal::http::test
