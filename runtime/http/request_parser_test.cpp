#include "runtime/http/request_parser.h"

#include <gtest/gtest.h>

namespace annal::http {
namespace {

Result<void> parse(std::string_view head) {
    Request request;
    RequestParser parser(request);
    return parser.head(head);
}

// RFC 9112, 3.2: more than one is refused whatever the version, lest a proxy in front has gone by
// the other.
TEST(RequestParserTest, TakesOneHostAtMost) {
    EXPECT_TRUE(parse("GET / HTTP/1.1\r\nHost: a\r\n\r\n").has_value());
    EXPECT_TRUE(parse("GET / HTTP/1.0\r\nHost: a\r\n\r\n").has_value());
    EXPECT_TRUE(parse("GET / HTTP/1.0\r\n\r\n").has_value());
    EXPECT_FALSE(parse("GET / HTTP/1.1\r\n\r\n").has_value());
    EXPECT_FALSE(parse("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n").has_value());
    const auto refused = parse("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
    ASSERT_FALSE(refused.has_value());
    EXPECT_NE(refused.error().detail.find("more than one Host"), std::string::npos);
}

}  // namespace
}  // namespace annal::http
