#include "runtime/event/event_json.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

TEST(EventJsonTest, ReadsOneEvent) {
    const auto parsed = parse_events(
        R"({"action":"user.created","actor":{"type":"user","id":null},"metadata":{"a":1.10}})", "p"
    );
    ASSERT_EQ(parsed.status, ParsedEvents::Status::ok) << parsed.issues[0].detail;
    ASSERT_EQ(parsed.drafts.size(), 1U);
    EXPECT_EQ(parsed.drafts[0][Column::metadata].view(), R"({"a":1.10})");
    EXPECT_EQ(parsed.drafts[0][Column::auth_type].view(), "user");
}

}  // namespace
}  // namespace annal
