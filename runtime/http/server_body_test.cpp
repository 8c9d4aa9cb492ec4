#include <cstring>
#include <random>

#include "runtime/http/testing_gzip.h"
#include "runtime/http/testing_server.h"

namespace annal::http::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::string random_text(std::size_t size) {
    std::mt19937_64 random(size);
    std::string text(size, '\0');
    for (char& c : text) c = static_cast<char>(random() % 256);
    return text;
}

std::string chunked(std::string_view text, std::size_t piece) {
    std::string out;
    while (!text.empty()) {
        const std::string_view part = text.substr(0, piece);
        std::array<char, 20> size{};
        std::snprintf(size.data(), size.size(), "%zX\r\n", part.size());
        out.append(size.data()).append(part).append("\r\n");
        text.remove_prefix(part.size());
    }
    return out + "0\r\n\r\n";
}

class ServerBodyTest : public ServerTest {
protected:
    /// /count reads all, whatever its size, and answers with how much it was in how many reads.
    void add_count() {
        add({"POST"}, "/count", [this](std::shared_ptr<Exchange> x) -> Task<void> {
            x->stream_body();
            std::uint64_t bytes = 0;
            for (;;) {
                const auto chunk = co_await x->read();
                if (!chunk) {
                    Problem problem = problem_of(chunk.error());
                    (void)co_await x->fail(std::move(problem));
                    co_return;
                }
                if (chunk.value().empty()) break;
                largest_ = std::max<std::size_t>(largest_, chunk.value().size());
                bytes += chunk.value().size();
                read_ += chunk.value().size();
                while (hold_) co_await sleep_for(milliseconds(2));
            }
            (void)co_await respond(*x, 200, "", std::to_string(bytes));
        });
    }
    std::atomic<std::size_t> largest_ = 0;
    std::atomic<std::uint64_t> read_ = 0;
    std::atomic<bool> hold_ = false;
};

TEST_F(ServerBodyTest, BodiesOfEverySizeComeBackWhole) {
    add_usual();
    limits_.body_bytes_max = 4 << 20;
    start();
    HttpClient c = client();
    for (const std::size_t size :
         {0U, 1U, 100U, 4096U, 8191U, 65'535U, 65'536U, 65'537U, 200'000U, 3'000'000U}) {
        const std::string text = random_text(size);
        EXPECT_TRUE(c.request("POST", "/echo", {}, text).body == text) << size;
        c.send(
            "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
            chunked(text, 1 + size / 7)
        );
        const auto r = c.receive();
        ASSERT_TRUE(r) << size;
        EXPECT_TRUE(r->body == text) << size;
        EXPECT_EQ(r->header("content-length"), std::to_string(size)) << "one answer, one length";
    }
}

TEST_F(ServerBodyTest, ASmallBodyIsOneRead) {
    std::atomic<int> reads = 0;
    add({"POST"}, "/reads", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        for (;;) {
            const auto chunk = co_await x->read();
            if (!chunk || chunk.value().empty()) break;
            ++reads;
        }
        (void)co_await respond(*x, 200, "", "");
    });
    start();
    HttpClient c = client();
    c.send("POST /reads HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n");
    for (const char byte : std::string("abcdef")) {
        std::this_thread::sleep_for(milliseconds(3));
        c.send({&byte, 1});
    }
    EXPECT_EQ(c.receive()->status, 200);
    EXPECT_EQ(reads, 1);
}

TEST_F(ServerBodyTest, LimitIsExact) {
    add_usual();
    limits_.body_bytes_max = 10'000;
    start();
    const std::string fits = random_text(10'000);
    const std::string over = random_text(10'001);
    HttpClient c = client();
    EXPECT_EQ(c.request("POST", "/echo", {}, fits).status, 200);
    c.send(
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(fits, 999)
    );
    EXPECT_EQ(c.receive()->status, 200);
    EXPECT_EQ(
        c.request("POST", "/echo", {{"Content-Encoding", "gzip"}}, gzip(std::string(10'000, 'z')))
            .status,
        200
    );
    {
        HttpClient one = client();
        const HttpResponse r = one.request("POST", "/echo", {}, over);
        EXPECT_EQ(r.status, 413);
        EXPECT_THAT(r.body, HasSubstr("10000 bytes"));
    }
    {
        HttpClient one = client();
        one.send(
            "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
            chunked(over, 999)
        );
        EXPECT_EQ(one.receive()->status, 413);
    }
    HttpClient one = client();
    EXPECT_EQ(
        one.request("POST", "/echo", {{"Content-Encoding", "gzip"}}, gzip(std::string(10'001, 'z')))
            .status,
        413
    );
}

TEST_F(ServerBodyTest, AStreamedBodyHasNoLimitAndIsReadInBoundedPieces) {
    add_count();
    limits_.body_bytes_max = 1000;
    start();
    HttpClient c = client();
    const std::string text = random_text(5'000'000);
    EXPECT_EQ(c.request("POST", "/count", {}, text).body, "5000000");
    EXPECT_LE(largest_, 65'536U);
    EXPECT_EQ(
        c.request(
             "POST", "/count", {{"Content-Encoding", "gzip"}}, gzip(std::string(30'000'000, 'a'))
        )
            .body,
        "30000000"
    );
    EXPECT_LE(largest_, 65'536U);
}

TEST_F(ServerBodyTest, AHandlerThatDoesNotReadHoldsTheSenderBack) {
    add_count();
    start();
    hold_ = true;
    constexpr std::size_t kSize = 64U << 20;
    std::atomic<std::size_t> sent = 0;
    std::string answer;
    std::thread sender([&] {
        HttpClient c = client();
        c.send(
            "POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kSize) +
            "\r\n\r\n"
        );
        const std::string piece(65'536, 'x');
        for (std::size_t i = 0; i < kSize / piece.size(); ++i) {
            c.send(piece);
            sent += piece.size();
        }
        answer = c.receive()->body;
    });
    EXPECT_TRUE(eventually([&] { return read_ > 0; }));
    std::size_t before = 0;
    do {  // until the sender stands still
        before = sent;
        std::this_thread::sleep_for(milliseconds(100));
    } while (before != sent);
    EXPECT_LE(read_, 65'536U);
    EXPECT_LT(sent, 32U << 20) << "only the kernel's buffers may be ahead";
    hold_ = false;
    sender.join();
    EXPECT_EQ(answer, std::to_string(kSize));
}

TEST_F(ServerBodyTest, UndoesGzip) {
    add_usual();
    start();
    HttpClient c = client();
    const std::string text = random_text(300'000);
    EXPECT_TRUE(
        c.request("POST", "/echo", {{"Content-Encoding", "gzip"}}, gzip(text)).body == text
    );
    EXPECT_EQ(c.request("POST", "/echo", {{"Content-Encoding", "X-GZIP"}}, gzip("a")).body, "a");
    EXPECT_EQ(
        c.request("POST", "/echo", {{"Content-Encoding", "gzip"}}, gzip("a") + gzip("b")).body, "ab"
    );
    EXPECT_EQ(
        c.request("POST", "/echo", {{"Content-Encoding", "identity"}}, "plain").body, "plain"
    );
    EXPECT_EQ(c.request("POST", "/echo", {{"Content-Encoding", "gzip"}}, gzip("")).body, "");
    EXPECT_EQ(c.request("POST", "/echo", {{"Content-Encoding", "gzip"}}, "").body, "");
    c.send(
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nTransfer-Encoding: "
        "chunked\r\n\r\n" +
        chunked(gzip(text), 777)
    );
    EXPECT_TRUE(c.receive()->body == text);
    EXPECT_EQ(c.request("GET", "/hello", {{"Content-Encoding", "gzip"}}).status, 200)
        << "no body, nothing to undo";
}

TEST_F(ServerBodyTest, RefusesBrokenGzip) {
    add_usual();
    start();
    const std::string packed = gzip(random_text(50'000));
    const std::vector<std::string> broken = {
        "no gzip", packed.substr(0, 20'000), packed + "x", packed.substr(10)};
    for (const std::string& body : broken) {
        HttpClient c = client();
        const HttpResponse r = c.request("POST", "/echo", {{"Content-Encoding", "gzip"}}, body);
        EXPECT_EQ(r.status, 400) << body.size();
        EXPECT_THAT(r.body, HasSubstr("gzip"));
    }
}

TEST_F(ServerBodyTest, AGzipBombStopsAtTheLimit) {
    add_usual();
    limits_.body_bytes_max = 1 << 20;
    limits_.bodies_in_memory_max = 4 << 20;
    start();
    const std::string bomb = gzip(std::string(200'000'000, '\0'));
    ASSERT_LT(bomb.size(), 300'000U);
    for (int i = 0; i < 10; ++i) {  // more than would fit if one kept its memory
        HttpClient c = client();
        EXPECT_EQ(c.request("POST", "/echo", {{"Content-Encoding", "gzip"}}, bomb).status, 413);
    }
}

TEST_F(ServerBodyTest, RefusesOtherEncodings) {
    add_usual();
    start();
    for (const char* encoding : {"deflate", "br", "zstd", "gzip, gzip", "gzip, br", "gzipx"}) {
        HttpClient c = client();
        const HttpResponse r = c.request("POST", "/echo", {{"Content-Encoding", encoding}}, "body");
        EXPECT_EQ(r.status, 415) << encoding;
        EXPECT_EQ(r.header("accept-encoding"), "gzip") << encoding;
        EXPECT_THAT(r.body, HasSubstr(encoding));
    }
    HttpClient c = client();
    EXPECT_EQ(
        c.request(
             "POST", "/echo", {{"Content-Encoding", "gzip"}, {"Content-Encoding", "gzip"}}, "x"
        )
            .status,
        415
    );
}

TEST_F(ServerBodyTest, MemoryOfAllBodiesIsBounded) {
    limits_.bodies_in_memory_max = 100'000;
    std::atomic<bool> hold = true;
    std::atomic<int> holding = 0;
    add({"POST"}, "/hold", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        auto drop = [](std::string_view) {};
        const bool whole = co_await read_body(x, std::move(drop));
        if (!whole) co_return;
        ++holding;
        while (hold) co_await sleep_for(milliseconds(2));
        (void)co_await respond(*x, 200, "", "");
    });
    start();
    HttpClient first = client();
    first.send(
        "POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + random_text(60'000)
    );
    EXPECT_TRUE(eventually([&] { return holding == 1; }));
    {
        HttpClient second = client();
        const HttpResponse r = second.request("POST", "/hold", {}, random_text(60'000));
        EXPECT_EQ(r.status, 503);
        EXPECT_EQ(r.header("retry-after"), "1");
    }
    hold = false;
    EXPECT_EQ(first.receive()->status, 200);
    const auto taken_again = [&] {
        HttpClient third = client();
        return third.request("POST", "/hold", {}, random_text(60'000)).status == 200;
    };
    EXPECT_TRUE(eventually(taken_again)) << "the memory of the first must have been given back";
}

TEST_F(ServerBodyTest, AStreamedBodyCountsLikeOneWholeBodyAtMost) {
    limits_.body_bytes_max = 200'000;
    limits_.bodies_in_memory_max = 300'000;
    std::atomic<bool> hold = true;
    std::atomic<int> holding = 0;
    add({"POST"}, "/stream", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        x->stream_body();
        for (;;) {
            const auto chunk = co_await x->read();
            if (!chunk) {
                Problem problem = problem_of(chunk.error());
                (void)co_await x->fail(std::move(problem));
                co_return;
            }
            if (chunk.value().empty()) break;
        }
        ++holding;
        while (hold) co_await sleep_for(milliseconds(2));
        (void)co_await respond(*x, 200, "", "");
    });
    start();
    const auto head = [](std::size_t size) {
        return "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(size) +
               "\r\n\r\n";
    };
    HttpClient endless = client();
    endless.send(head(2'000'000) + random_text(2'000'000));
    EXPECT_TRUE(eventually([&] { return holding == 1; })) << "its 2 MB count as 200,000 bytes";
    HttpClient fits = client();
    fits.send(head(100'000) + random_text(100'000));
    EXPECT_TRUE(eventually([&] { return holding == 2; })) << "exactly what is left";
    {
        HttpClient beyond = client();
        const HttpResponse r = beyond.request("POST", "/stream", {}, "x");
        EXPECT_EQ(r.status, 503);
        EXPECT_EQ(r.header("retry-after"), "1");
        EXPECT_THAT(r.body, HasSubstr("memory for request bodies"));
    }
    hold = false;
    EXPECT_EQ(endless.receive()->status, 200);
    EXPECT_EQ(fits.receive()->status, 200);
}

TEST_F(ServerBodyTest, ContinuesOnlyWhenTheHandlerReads) {
    add_usual();
    limits_.body_bytes_max = 1000;
    start();
    HttpClient c = client();
    const std::string head =
        "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: ";
    c.send(head + "4\r\n\r\n");
    EXPECT_EQ(c.receive()->status, 100);
    c.send("body");
    EXPECT_EQ(c.receive()->body, "body");
    // A body that comes without waiting is not asked for.
    c.send(head + "4\r\n\r\nbody");
    EXPECT_EQ(c.receive()->status, 200);
    c.send(head + "0\r\n\r\n");
    EXPECT_EQ(c.receive()->status, 200);
    // Refused before a byte of the body: nobody knows whether it will come, so the connection ends.
    c.send(head + "1001\r\n\r\n");
    const auto refused = c.receive();
    EXPECT_EQ(refused->status, 413);
    EXPECT_EQ(refused->header("connection"), "close");
    EXPECT_TRUE(c.closed_by_peer());

    HttpClient not_found = client();
    not_found.send(
        "POST /nothing HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    );
    EXPECT_EQ(not_found.receive()->status, 404);
    EXPECT_TRUE(not_found.closed_by_peer());

    HttpClient other = client();
    other.send("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nContent-Length: 4\r\n\r\nbody"
    );
    EXPECT_EQ(other.receive()->status, 417);
}

TEST_F(ServerBodyTest, WhatNobodyReadsIsDrainedWithinReason) {
    add_usual();
    start();
    HttpClient c = client();
    const HttpResponse small = c.request("POST", "/hello", {}, random_text(200'000));
    EXPECT_EQ(small.status, 200);
    EXPECT_EQ(small.header("connection"), std::nullopt);
    c.send(
        "POST /hello HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
        chunked(random_text(100'000), 5000)
    );
    EXPECT_EQ(c.receive()->status, 200);
    EXPECT_EQ(c.request("GET", "/hello").status, 200);
    // A large one: the answer arrives though the client is still sending.
    c.send(
        "POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" +
        random_text(3'000'000)
    );
    const auto large = c.receive();
    ASSERT_TRUE(large);
    EXPECT_EQ(large->status, 200);
    EXPECT_EQ(large->header("connection"), "close");
    EXPECT_TRUE(c.closed_by_peer());
}

// --- Answers ---

TEST_F(ServerBodyTest, StreamsOutInChunks) {
    const std::string text = random_text(5'000'000);
    add({"GET"}, "/stream/{piece}", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        const auto piece =
            static_cast<std::size_t>(std::stoul(std::string(x->request().param("piece"))));
        Pairs headers = {
            {"Content-Type", "text/csv"},
            {"content-length", "7"},
            {"Transfer-Encoding", "gzip"},
            {"Annal-Request-Id", "forged"}};
        EXPECT_TRUE(x->start(200, std::move(headers)));
        EXPECT_TRUE(x->started());
        std::string_view rest = text;
        while (!rest.empty()) {
            EXPECT_TRUE(co_await x->write(rest.substr(0, piece)));
            rest.remove_prefix(std::min(piece, rest.size()));
        }
        Pairs trailers = {{"Annal-Truncated", "true"}, {"Content-Length", "1"}};
        EXPECT_TRUE(co_await x->finish(std::move(trailers)));
    });
    start();
    HttpClient c = client();
    for (const char* piece : {"1000", "16384", "16385", "1000000", "6000000"}) {
        const HttpResponse r =
            c.request("GET", std::string("/stream/") + piece, {{"TE", "gzip;q=0.5, Trailers"}});
        EXPECT_TRUE(r.chunked);
        EXPECT_TRUE(r.whole);
        EXPECT_TRUE(r.body == text) << piece;
        EXPECT_EQ(r.trailer("annal-truncated"), "true");
        EXPECT_EQ(r.trailer("content-length"), std::nullopt);
        EXPECT_EQ(r.header("content-length"), std::nullopt);
        EXPECT_NE(r.header("annal-request-id"), "forged");
    }
    const HttpResponse without = c.request("GET", "/stream/100000");
    EXPECT_TRUE(without.body == text);
    EXPECT_EQ(without.trailer("annal-truncated"), std::nullopt);
}

TEST_F(ServerBodyTest, AnAnswerInOneGoHasALength) {
    add({"GET"}, "/parts", [](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs none;
        (void)x->start(200, none);
        (void)co_await x->write("one ");
        (void)co_await x->write("");
        (void)co_await x->write("two");
        (void)co_await x->finish(none);
    });
    add({"GET"}, "/large", [](std::shared_ptr<Exchange> x) -> Task<void> {
        (void)co_await respond(*x, 200, "", std::string(2'000'000, 'x'));
    });
    start();
    HttpClient c = client();
    const HttpResponse parts = c.request("GET", "/parts");
    EXPECT_EQ(parts.body, "one two");
    EXPECT_EQ(parts.header("content-length"), "7");
    EXPECT_FALSE(parts.chunked);
    const HttpResponse large = c.request("GET", "/large");
    EXPECT_EQ(large.body.size(), 2'000'000U);
    EXPECT_EQ(large.header("content-length"), "2000000");
}

TEST_F(ServerBodyTest, TrailersTravelWithASmallAnswerToo) {
    add({"GET"}, "/t", [](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs none;
        (void)x->start(200, none);
        (void)co_await x->write("body");
        Pairs trailers = {{"X-Count", "1"}};
        (void)co_await x->finish(std::move(trailers));
    });
    start();
    HttpClient c = client();
    const HttpResponse with = c.request("GET", "/t", {{"TE", "trailers"}});
    EXPECT_EQ(with.body, "body");
    EXPECT_EQ(with.trailer("x-count"), "1");
    EXPECT_EQ(c.request("GET", "/t").header("content-length"), "4");
}

TEST_F(ServerBodyTest, ASmallWriteIsNotHeldBack) {
    std::atomic<bool> go_on = false;
    add({"GET"}, "/tail", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs none;
        (void)x->start(200, none);
        (void)co_await x->write("first\n");
        while (!go_on) co_await sleep_for(milliseconds(1));
        (void)co_await x->write("second\n");
        (void)co_await x->finish(none);
    });
    start();
    HttpClient c = client();
    c.send("GET /tail HTTP/1.1\r\nHost: x\r\n\r\n");
    std::string got;
    while (got.find("first\n") == std::string::npos) {
        const std::string part = c.receive_some();
        ASSERT_FALSE(part.empty());
        got += part;
    }
    EXPECT_THAT(
        got,
        AllOf(
            StartsWith("HTTP/1.1 200 OK\r\n"),
            HasSubstr("\r\n6\r\nfirst\n\r\n"),
            Not(HasSubstr("second"))
        )
    );
    go_on = true;
    while (got.find("\r\n0\r\n\r\n") == std::string::npos) {
        const std::string part = c.receive_some();
        ASSERT_FALSE(part.empty());
        got += part;
    }
    EXPECT_THAT(got, HasSubstr("second\n"));
}

TEST_F(ServerBodyTest, ASlowReaderHoldsTheHandlerBack) {
    std::atomic<std::size_t> written = 0;
    constexpr std::size_t kSize = 64U << 20;
    add({"GET"}, "/big", [&](std::shared_ptr<Exchange> x) -> Task<void> {
        Pairs none;
        (void)x->start(200, none);
        std::string piece(65'536, 'x');
        while (written < kSize) {
            const std::size_t at = written;
            std::memcpy(piece.data(), &at, sizeof(at));
            if (!co_await x->write(piece)) break;
            written += piece.size();
        }
        (void)co_await x->finish(none);
    });
    start();
    HttpClient c = client();
    c.receive_buffer(65'536);
    c.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(eventually([&] { return written > 0; }));
    std::size_t before = 0;
    do {
        before = written;
        std::this_thread::sleep_for(milliseconds(100));
    } while (before != written);
    EXPECT_LT(written, 32U << 20);
    const auto r = c.receive();
    ASSERT_TRUE(r);
    EXPECT_TRUE(r->whole);
    EXPECT_EQ(r->body.size(), kSize);
    for (std::size_t at = 0; at < r->body.size(); at += 65'536) {
        std::size_t offset = 0;
        std::memcpy(&offset, r->body.data() + at, sizeof(offset));
        ASSERT_EQ(offset, at);
    }
}

TEST_F(ServerBodyTest, StatusesWithoutABodySendNone) {
    add({"DELETE"}, "/{status}", [](std::shared_ptr<Exchange> x) -> Task<void> {
        const int status = std::stoi(std::string(x->request().param("status")));
        Pairs none;
        EXPECT_TRUE(x->start(status, none));
        (void)co_await x->write("must not be seen");
        (void)co_await x->finish(none);
    });
    start();
    HttpClient c = client();
    for (const int status : {204, 304}) {
        const HttpResponse r = c.request("DELETE", "/" + std::to_string(status));
        EXPECT_EQ(r.status, status);
        EXPECT_EQ(r.header("content-length"), std::nullopt);
        EXPECT_FALSE(r.chunked);
    }
    EXPECT_EQ(c.request("DELETE", "/200").body, "must not be seen");
}

}  // namespace
}  // namespace annal::http::test
