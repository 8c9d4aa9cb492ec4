#include <gtest/gtest.h>

#include <annal/abi.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "tests/support/mini_host.h"

namespace {

using annal::test::Encoded;
using annal::test::in_ms;
using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::RawBatch;
using annal::test::SinkReply;

/// Standard output is a pipe while this lives.
class StdoutPipe {
public:
    StdoutPipe() {
        std::fflush(stdout);
        saved_ = ::dup(STDOUT_FILENO);
        int ends[2];
        EXPECT_EQ(::pipe(ends), 0);
        read_ = ends[0];
        ::dup2(ends[1], STDOUT_FILENO);
        ::close(ends[1]);
    }
    ~StdoutPipe() {
        restore();
        close_reader();
    }
    void restore() {
        if (saved_ >= 0) {
            ::dup2(saved_, STDOUT_FILENO);
            ::close(saved_);
        }
        saved_ = -1;
    }
    void close_reader() {
        if (read_ >= 0) ::close(read_);
        read_ = -1;
    }
    std::string read_some(std::size_t bytes_max) const {
        std::string out(bytes_max, 0);
        const ssize_t n = ::read(read_, out.data(), out.size());
        out.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
        return out;
    }
    std::string read_all() {
        restore();  // closes the write end
        std::string out;
        for (std::string piece = read_some(65'536); !piece.empty(); piece = read_some(65'536))
            out += piece;
        return out;
    }

private:
    int saved_ = -1, read_ = -1;
};

class SinkStdoutTest : public testing::TestWithParam<bool> {
protected:
    void SetUp() override {
        ASSERT_EQ(sink_.status(), ANNAL_OK);
        host_.fill(3);
    }
    Encoded encoded() {
        const RawBatch batch(host_.events);
        return annal::test::encode(table_, sink_.self(), batch.get());
    }
    SinkReply send(const Encoded& what, std::int64_t ms, const std::string& key = "s/0-2") {
        const RawBatch batch(host_.events);
        return annal::test::send(table_, sink_.self(), batch.get(), what, in_ms(ms), key);
    }
    static void maybe_nonblocking(bool nonblocking) {
        if (nonblocking)
            ::fcntl(STDOUT_FILENO, F_SETFL, ::fcntl(STDOUT_FILENO, F_GETFL) | O_NONBLOCK);
    }

    MiniHost host_;
    Instance sink_{host_, *annal_module_v1()->components[0]};
    const annal_sink_v1& table_ = sink_.table<annal_sink_v1>();
};
INSTANTIATE_TEST_SUITE_P(Modes, SinkStdoutTest, testing::Bool());

TEST_P(SinkStdoutTest, WritesALineForEachEvent) {
    host_.events[1].deleted = true;
    const Encoded what = encoded();
    StdoutPipe out;
    maybe_nonblocking(GetParam());
    const SinkReply reply = send(what, 5000);
    const std::string text = out.read_all();
    EXPECT_EQ(reply.verdict, ANNAL_DELIVERED);
    EXPECT_EQ(text, what.bytes);
    EXPECT_NE(text.find("\n{\"id\":\"evt_1\",\"seq\":1,\"deleted\":true}\n"), std::string::npos);
}

// Larger than a pipe: the reader takes it while it is written.
TEST_P(SinkStdoutTest, HandlesShortWrites) {
    Encoded what;
    for (int i = 0; i < 40'000; ++i) what.bytes += "line " + std::to_string(i) + "\n";
    StdoutPipe out;
    maybe_nonblocking(GetParam());
    std::string text;
    std::thread reader([&] {
        while (text.size() < what.bytes.size()) text += out.read_some(1000);
    });
    const SinkReply reply = send(what, 20'000);
    reader.join();
    out.restore();
    EXPECT_EQ(reply.verdict, ANNAL_DELIVERED);
    EXPECT_EQ(text, what.bytes);
}

TEST_P(SinkStdoutTest, GoesOnWhereItGotStuck) {
    Encoded what;
    for (int i = 0; i < 40'000; ++i) what.bytes += "line " + std::to_string(i) + "\n";
    StdoutPipe out;
    maybe_nonblocking(GetParam());
    const SinkReply stuck = send(what, 50);
    EXPECT_EQ(stuck.verdict, ANNAL_RETRY);
    std::string text;
    std::thread reader([&] {
        while (text.size() < what.bytes.size()) text += out.read_some(65'536);
    });
    const SinkReply again = send(what, 20'000);
    reader.join();
    out.restore();
    EXPECT_EQ(again.verdict, ANNAL_DELIVERED);
    EXPECT_EQ(text, what.bytes);  // nothing twice, nothing torn
}

TEST_P(SinkStdoutTest, EndsTheTornLineOfABatchThatIsGivenUp) {
    Encoded large;
    large.bytes.assign(1'000'000, 'x');
    Encoded small;
    small.bytes = "next\n";
    StdoutPipe out;
    maybe_nonblocking(GetParam());
    EXPECT_EQ(send(large, 50).verdict, ANNAL_RETRY);
    std::string text;
    text += out.read_some(1'000'000);
    const SinkReply reply = send(small, 5000, "s/3-3");
    text += out.read_all();
    EXPECT_EQ(reply.verdict, ANNAL_DELIVERED);
    EXPECT_TRUE(text.ends_with("x\nnext\n"));
}

// Without care the write would end this process through SIGPIPE.
TEST_P(SinkStdoutTest, SurvivesAReaderThatIsGone) {
    const Encoded what = encoded();
    StdoutPipe out;
    maybe_nonblocking(GetParam());
    out.close_reader();
    const SinkReply reply = send(what, 1000);
    out.restore();
    EXPECT_EQ(reply.verdict, ANNAL_RETRY);
    EXPECT_EQ(reply.text, "standard output: Broken pipe");
    EXPECT_EQ(reply.reports, 1);
}

std::size_t warnings(const MiniHost& host) {
    return static_cast<std::size_t>(std::count_if(
        host.logs.begin(),
        host.logs.end(),
        [](const auto& l) { return l.event == "stdout.long_line" && l.level == ANNAL_LOG_WARN; }
    ));
}

class LongLineTest : public testing::Test {
protected:
    LongLineTest() {
        host_.fill(3);
        host_.events[1].set("target_id", std::string(20'000, 'x'));
    }
    Encoded encode(const Instance& sink, const std::vector<annal::test::StoredEvent>& events) {
        const RawBatch batch(events);
        return annal::test::encode(sink.table<annal_sink_v1>(), sink.self(), batch.get());
    }
    MiniHost host_;
};

TEST_F(LongLineTest, IsWrittenAndToldOfOnceInAWhile) {
    Instance sink(host_, *annal_module_v1()->components[0]);
    for (int i = 0; i < 3; ++i) {
        const Encoded whole = encode(sink, host_.events);
        EXPECT_EQ(whole.status, ANNAL_OK);
        EXPECT_GT(whole.bytes.size(), 20'000U);
        EXPECT_EQ(whole.ends.back(), whole.bytes.size());
    }
    ASSERT_EQ(warnings(host_), 1U);
    EXPECT_GT(std::stoi(host_.logged("stdout.long_line")->fields.at("bytes")), 20'000);
}

TEST_F(LongLineTest, IsTooLargeWhereThereIsACap) {
    const std::size_t usual =
        encode(Instance(host_, *annal_module_v1()->components[0]), {host_.events[0]}).bytes.size();
    host_.logs.clear();
    Instance sink(
        host_,
        *annal_module_v1()->components[0],
        R"({"line_bytes_max":)" + std::to_string(usual - 1) + "}"
    );
    ASSERT_EQ(sink.status(), ANNAL_OK) << sink.error();
    EXPECT_EQ(encode(sink, host_.events).status, ANNAL_TOO_LARGE);
    EXPECT_EQ(encode(sink, {host_.events[1]}).status, ANNAL_TOO_LARGE);
    EXPECT_EQ(encode(sink, {host_.events[0]}).status, ANNAL_OK);  // exactly as long as may be
    EXPECT_EQ(encode(sink, {host_.events[0], host_.events[2]}).status, ANNAL_OK);
    EXPECT_EQ(warnings(host_), 0U);
}

TEST(SinkStdout, NeedsTheCodec) {
    MiniHost host;
    host.withheld = {ANNAL_SERVICE_CODEC};
    EXPECT_EQ(Instance(host, *annal_module_v1()->components[0]).status(), ANNAL_UNAVAILABLE);
}

}  // namespace
