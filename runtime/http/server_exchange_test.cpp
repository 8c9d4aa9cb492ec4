#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <mutex>

#include "runtime/http/testing_server.h"

namespace annal::http::test {
namespace {

namespace asio = boost::asio;
using testing::HasSubstr;
using testing::Not;

TEST_F(ServerTest, AnExceptionIsA500) {
    add_usual();
    add({"GET"}, "/throw", [](std::shared_ptr<Exchange>) -> Task<void> {
        throw std::runtime_error("secret detail");
        co_return;
    });
    add({"GET"}, "/throw/later", [](std::shared_ptr<Exchange>) -> Task<void> {
        co_await sleep_for(milliseconds(2));
        throw 42;  // NOLINT: what a careless handler may do
    });
    add({"GET"}, "/throw/started", [](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs none;
        (void)x->start(200, none);
        (void)co_await x->write("not sent yet");
        throw std::runtime_error("after the start");
    });
    add({"GET"}, "/throw/sent", [](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs none;
        (void)x->start(200, none);
        (void)co_await x->write(std::string(100'000, 'x'));
        throw std::runtime_error("after the first byte");
    });
    start();
    HttpClient c = client();
    for (const char* path : {"/throw", "/throw/later", "/throw/started"}) {
        const HttpResponse r = c.request("GET", path);
        EXPECT_EQ(r.status, 500) << path;
        EXPECT_THAT(r.body, Not(HasSubstr("secret"))) << path;
        EXPECT_THAT(r.body, HasSubstr("\"code\":\"internal\"")) << path;
    }
    EXPECT_EQ(c.request("GET", "/hello").status, 200) << "the connection goes on";
    const HttpResponse cut = c.request("GET", "/throw/sent");
    EXPECT_FALSE(cut.whole) << "a short answer must not look like a whole one";
}

TEST_F(ServerTest, ARequestThatEverybodyForgetsIsA500) {
    add_usual();
    add({"GET"}, "/forget", [](std::shared_ptr<Exchange>) -> Task<void> { co_return; });
    add({"GET"}, "/forget/started", [](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs none;
        (void)x->start(200, none);
        co_return;
    });
    add({"GET"}, "/forget/sent", [](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs none;
        (void)x->start(200, none);
        (void)co_await x->write(std::string(100'000, 'x'));
    });
    std::mutex mutex;
    std::vector<std::shared_ptr<Exchange>> kept;
    add({"GET"}, "/keep", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        const std::lock_guard lock(mutex);
        kept.push_back(std::move(x));
        co_return;
    });
    start();
    HttpClient c = client();
    EXPECT_EQ(c.request("GET", "/forget").status, 500);
    EXPECT_EQ(c.request("GET", "/forget/started").status, 500);
    EXPECT_EQ(c.request("HEAD", "/hello").status, 200);
    {
        HttpClient other = client();
        EXPECT_FALSE(other.request("GET", "/forget/sent").whole);
    }
    // While somebody holds it, it is not forgotten.
    c.send("GET /keep HTTP/1.1\r\nHost: x\r\n\r\n");
    const auto is_kept = [&] {
        const std::lock_guard lock(mutex);
        return !kept.empty();
    };
    EXPECT_TRUE(eventually(is_kept));
    std::this_thread::sleep_for(milliseconds(30));
    EXPECT_EQ(metric(R"(annal_http_requests_total{method="GET",status="500"})"), 2);
    {
        const std::lock_guard lock(mutex);
        kept.clear();
    }
    EXPECT_EQ(c.receive()->status, 500);
    EXPECT_EQ(c.request("GET", "/hello").status, 200);
}

TEST_F(ServerTest, AnswersFromWhoeverHoldsTheExchange) {
    std::vector<std::thread> threads;
    std::mutex mutex;
    add({"GET"}, "/thread", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        const std::lock_guard lock(mutex);
        threads.emplace_back([&, x = std::move(x)]() mutable {
            auto answer = respond(*x, 200, "text/plain", "from a thread");
            (void)io_.run(std::move(answer));
            x.reset();
        });
        co_return;
    });
    start();
    HttpClient c = client();
    for (int i = 0; i < 20; ++i) EXPECT_EQ(c.request("GET", "/thread").body, "from a thread");
    for (std::thread& thread : threads) thread.join();
}

/// Reads, writes and finishes on a pool of its own, hop by hop.
Task<void> echo_on_pool(
    std::shared_ptr<Exchange> x, asio::any_io_executor pool, std::atomic<int>* wrong
) {
    const auto check = [&](const asio::any_io_executor& here) {
        if (here != pool) ++*wrong;
    };
    std::string body;
    for (;;) {
        const auto chunk = co_await x->read();
        check(co_await asio::this_coro::executor);
        if (!chunk || chunk.value().empty()) break;
        body += chunk.value();
    }
    Pairs headers = {{"Content-Type", "text/plain"}};
    if (!x->start(200, std::move(headers))) ++*wrong;
    std::string_view rest = body;
    while (!rest.empty()) {
        const std::size_t size = std::min<std::size_t>(rest.size(), 20'000);
        if (!co_await x->write(rest.substr(0, size))) ++*wrong;
        rest.remove_prefix(size);
    }
    Pairs none;
    if (!co_await x->finish(none)) ++*wrong;
}

TEST_F(ServerTest, WorksFromAnyExecutor) {
    asio::thread_pool pool(3);
    const asio::any_io_executor executor = pool.get_executor();
    std::atomic<int> wrong = 0;
    add({"POST"}, "/pool", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        asio::co_spawn(executor, echo_on_pool(std::move(x), executor, &wrong), asio::detached);
        co_return;
    });
    start();
    std::vector<std::thread> clients;
    std::atomic<int> right = 0;
    for (int t = 0; t < 4; ++t) {
        clients.emplace_back([&, t] {
            HttpClient c = client();
            for (int i = 0; i < 25; ++i) {
                const std::string body(
                    static_cast<std::size_t>(1 + i * 10'000 + t), static_cast<char>('a' + t)
                );
                if (c.request("POST", "/pool", {}, body).body == body) ++right;
            }
        });
    }
    for (std::thread& thread : clients) thread.join();
    EXPECT_EQ(right, 100);
    EXPECT_EQ(wrong, 0);
    stop();
    pool.join();
}

TEST_F(ServerTest, AnAnswerFromAnotherThreadIsOneMessageToo) {
    asio::thread_pool pool(1);
    const asio::any_io_executor executor = pool.get_executor();
    std::atomic<int> wrong = 0;
    add({"POST"}, "/pool", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        asio::co_spawn(executor, echo_on_pool(std::move(x), executor, &wrong), asio::detached);
        co_return;
    });
    start();
    HttpClient c = client();
    const HttpResponse r = c.request("POST", "/pool", {}, "small");
    EXPECT_EQ(r.body, "small");
    EXPECT_EQ(wrong, 0);
    stop();
    pool.join();
}

TEST_F(ServerTest, TheConnectionGoesOnWhileAHandlerWorksOn) {
    add_usual();
    std::atomic<bool> hold = true;
    std::atomic<int> done = 0;
    std::atomic<bool> cancelled = false;
    add({"POST"}, "/async", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        const auto body = co_await x->read();
        (void)co_await respond(*x, 202, "", "");
        while (hold) co_await sleep_for(milliseconds(1));
        // What was read stays valid until the next read, though the connection has read other
        // requests since.
        if (body && body.value() == "the body") ++done;
        cancelled = x->cancelled();
        Pairs none;
        const auto finished = co_await x->finish(none);
        if (!finished && finished.error().code == Errc::cancelled) ++done;
    });
    start();
    HttpClient c = client();
    EXPECT_EQ(c.request("POST", "/async", {}, "the body").status, 202);
    for (int i = 0; i < 10; ++i)
        EXPECT_EQ(c.request("POST", "/echo", {}, std::string(1000, 'x')).status, 200);
    c.reset();
    EXPECT_EQ(done, 0);
    hold = false;
    EXPECT_TRUE(eventually([&] { return done == 2; }));
    EXPECT_FALSE(cancelled) << "a client that has its answer may go";
}

TEST_F(ServerTest, NoticesAClientThatGoesAwayWhileComputing) {
    std::atomic<int> noticed = 0;
    std::atomic<int> begun = 0;
    add({"GET", "POST"}, "/compute", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        if (x->request().method == "POST") (void)co_await x->read();
        ++begun;
        while (!x->cancelled()) co_await sleep_for(milliseconds(1));
        ++noticed;
    });
    start();
    {
        HttpClient c = client();
        c.send("GET /compute HTTP/1.1\r\nHost: x\r\n\r\n");
        EXPECT_TRUE(eventually([&] { return begun == 1; }));
        c.reset();
    }
    EXPECT_TRUE(eventually([&] { return noticed == 1; }));
    HttpClient c = client();
    c.send("POST /compute HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
    EXPECT_TRUE(eventually([&] { return begun == 2; }));
    c.reset();
    EXPECT_TRUE(eventually([&] { return noticed == 2; }));
    EXPECT_TRUE(eventually([&] { return metric("annal_http_connections") == 0; }));
}

TEST_F(ServerTest, WhoOnlyEndsWhatItSendsIsNotGone) {
    std::atomic<bool> begun = false, cancelled = false;
    add({"GET"}, "/compute", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        begun = true;
        while (!x->hung_up())
            co_await sleep_for(milliseconds(1));  // an answer without end heeds it
        cancelled = x->cancelled();
        (void)co_await respond(*x, 200, "", "for you");
    });
    start();
    HttpClient c = client();
    c.send("GET /compute HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(eventually([&] { return begun.load(); }));
    c.shutdown_send();
    EXPECT_EQ(c.receive()->body, "for you");
    EXPECT_FALSE(cancelled);
    EXPECT_TRUE(c.closed_by_peer());
}

TEST_F(ServerTest, AnExchangeOutlivesItsConnection) {
    std::mutex mutex;
    std::shared_ptr<Exchange> kept;
    add({"POST"}, "/keep", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        const std::lock_guard lock(mutex);
        kept = std::move(x);
        co_return;
    });
    start();
    HttpClient c = client();
    c.send("POST /keep HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\npart");
    const auto is_kept = [&] {
        const std::lock_guard lock(mutex);
        return kept != nullptr;
    };
    ASSERT_TRUE(eventually(is_kept));
    c.reset();
    const auto read = io_.run([](Exchange& x) -> Task<Result<std::string>> {
        for (;;) {
            auto chunk = co_await x.read();
            if (!chunk) co_return chunk.error();
        }
    }(*kept));
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Errc::cancelled);
    EXPECT_TRUE(eventually([&] { return kept->cancelled(); }));
    stop();
    EXPECT_TRUE(kept->cancelled());
    EXPECT_EQ(kept->request().path, "/keep");
    Pairs none;
    EXPECT_TRUE(kept->start(200, none));
    const auto written = io_.run(kept->write("x"));
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code, Errc::cancelled);
    const auto finished = io_.run(kept->finish(none));
    ASSERT_FALSE(finished);
    EXPECT_EQ(finished.error().code, Errc::cancelled);
    kept.reset();
}

TEST_F(ServerTest, MisuseIsAnErrorNotARace) {
    std::vector<std::string> wrong;
    std::atomic<bool> tried = false;
    add({"POST"}, "/misuse", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        const auto expect = [&](const char* what, const Result<void>& result, Errc code) {
            if (result || result.error().code != code) wrong.emplace_back(what);
        };
        Pairs none;
        expect("write before start", co_await x->write("x"), Errc::internal);
        expect("finish before start", co_await x->finish(none), Errc::internal);
        expect("status 99", x->start(99, none), Errc::internal);
        expect("status 100", x->start(100, none), Errc::internal);
        expect("status 600", x->start(600, none), Errc::internal);
        Pairs split = {{"X-A", "b\r\nX-Forged: 1"}};
        expect("header with CRLF", x->start(200, split), Errc::invalid);
        Pairs unnamed = {{"X A", "b"}};
        expect("header name", x->start(200, unnamed), Errc::invalid);
        // A read that waits for the client, and another call meanwhile.
        bool second = false;
        asio::co_spawn(
            x->executor(),
            [](std::shared_ptr<Exchange> exchange, bool* refused, std::atomic<bool>* ended
            ) -> Task<void> {
                co_await sleep_for(milliseconds(5));
                const auto chunk = co_await exchange->read();
                *refused = !chunk && chunk.error().code == Errc::internal;
                *ended = true;
            }(x, &second, &tried),
            asio::detached
        );
        if (!co_await x->read()) wrong.emplace_back("read");
        if (!second) wrong.emplace_back("second read");
        if (!x->start(200, none)) wrong.emplace_back("start");
        expect("second start", x->start(200, none), Errc::internal);
        Problem problem;
        expect("fail after start", co_await x->fail(problem), Errc::internal);
        Pairs bad_trailer = {{"X", "\n"}};
        expect("trailer", co_await x->finish(bad_trailer), Errc::invalid);
        if (!co_await x->finish(none)) wrong.emplace_back("finish");
        expect("second finish", co_await x->finish(none), Errc::cancelled);
        expect("late write", co_await x->write("x"), Errc::cancelled);
        const auto late = co_await x->read();
        if (late || late.error().code != Errc::cancelled) wrong.emplace_back("late read");
    });
    start();
    HttpClient c = client();
    c.send("POST /misuse HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n");
    EXPECT_TRUE(eventually([&] { return tried.load(); }));
    c.send("body");
    const auto r = c.receive();
    EXPECT_EQ(r->status, 200);
    EXPECT_EQ(r->header("x-forged"), std::nullopt);
    stop();
    EXPECT_THAT(wrong, testing::IsEmpty());
}

TEST_F(ServerTest, FailSaysWhatTheProblemSays) {
    add(
        {"GET"},
        "/fail",
        [](std::shared_ptr<Exchange> x) -> Task<void> {
            Problem problem;
            problem.status = 429;
            problem.code = "busy";
            problem.detail = "slow down";
            problem.retry_after_s = 7;
            problem.headers = {{"X-More", "1"}};
            EXPECT_TRUE(co_await x->fail(std::move(problem)));
        },
        "",
        "mark"
    );
    start();
    HttpClient c = client();
    const HttpResponse r = c.request("GET", "/fail");
    EXPECT_EQ(r.status, 429);
    EXPECT_EQ(r.header("retry-after"), "7");
    EXPECT_EQ(r.header("x-more"), "1");
    EXPECT_EQ(r.body, "mark 429 busy: slow down");
}

}  // namespace
}  // namespace annal::http::test
