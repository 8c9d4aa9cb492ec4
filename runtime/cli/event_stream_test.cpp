#include "runtime/cli/event_stream.h"

#include <gtest/gtest.h>

#include <vector>

namespace annal::cli {
namespace {

struct Read {
    std::vector<std::string> messages;  // "event=data"
    std::string last_id;
};

Read read(const std::string& stream, std::size_t piece_bytes) {
    Read out;
    EventStreamReader reader([&](const EventStreamReader::Message& message) {
        out.messages.push_back(message.event + "=" + message.data);
        return true;
    });
    for (std::size_t at = 0; at < stream.size(); at += piece_bytes)
        EXPECT_TRUE(reader.feed(stream.substr(at, piece_bytes)));
    out.last_id = reader.last_id();
    return out;
}

TEST(EventStream, IsTheSameHoweverItIsCut) {
    const std::string stream =
        "retry: 2000\nid: 4\n\n: comment\n\nid: 5\nevent: a.b\ndata: {\"x\": 1}\n\n"
        "id: 6\r\ndata:one\r\ndata: two\r\n\r\nid: 7\revent: c.d\rdata\r\r: heartbeat\nid: 9\n\n"
        "id: 10\ndata: not ended";
    for (std::size_t bytes = 1; bytes <= stream.size(); ++bytes) {
        const Read got = read(stream, bytes);
        EXPECT_EQ(
            got.messages, (std::vector<std::string>{"a.b={\"x\": 1}", "message=one\ntwo", "c.d="})
        );
        EXPECT_EQ(got.last_id, "9") << "a message counts once it has ended";
    }
}

TEST(EventStream, ANewConnectionForgetsTheEndOfTheLastOne) {
    std::vector<std::string> seen;
    EventStreamReader reader([&](const EventStreamReader::Message& message) {
        seen.push_back(message.data);
        return true;
    });
    reader.feed("id: 1\ndata: a\n\nid: 2\ndata: half");
    reader.restart();
    EXPECT_EQ(reader.last_id(), "1");
    reader.feed("data: b\n\n");
    EXPECT_EQ(seen, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(reader.last_id(), "1");
}

TEST(EventStream, StopsWhenNoMoreIsWanted) {
    int seen = 0;
    EventStreamReader reader([&](const EventStreamReader::Message&) { return ++seen < 2; });
    EXPECT_FALSE(reader.feed("data: a\n\ndata: b\n\ndata: c\n\n"));
    EXPECT_EQ(seen, 2);
}

}  // namespace
}  // namespace annal::cli
