#include "runtime/http/exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace annal::http {
namespace {

TEST(PrincipalTest, ScopesCoverWhatTheySay) {
    const auto may = [](std::vector<std::string> scopes, std::string_view wanted) {
        return Principal{"k", "p", std::move(scopes)}.may(wanted);
    };
    EXPECT_TRUE(may({"audit:read"}, "audit:read"));
    EXPECT_FALSE(may({"audit:read"}, "audit:ingest"));
    EXPECT_FALSE(may({"audit:read"}, "audit:readx"));
    EXPECT_TRUE(may({"keys:read", "streams:*"}, "streams:write"));
    EXPECT_FALSE(may({"streams:*"}, "streamsx:write"));
    EXPECT_FALSE(may({"streams:*"}, "streams"));
    EXPECT_FALSE(may({"*"}, "audit:read"));
    EXPECT_TRUE(may({"admin"}, "audit:read"));
    EXPECT_TRUE(may({"admin"}, "admin"));
    EXPECT_FALSE(may({"admin"}, "platform"));
    EXPECT_TRUE(may({"platform"}, "platform"));
    EXPECT_TRUE(may({"platform"}, "audit:read"));
    EXPECT_FALSE(may({}, "audit:read"));
}

TEST(RequestTest, FindsTheFirst) {
    Request request;
    request.headers = {{"a", "1"}, {"a", "2"}};
    request.query = {{"b", ""}, {"b", "3"}};
    request.params = {{"id", "x"}};
    EXPECT_EQ(request.header("a"), "1");
    EXPECT_EQ(request.header("A"), std::nullopt);
    EXPECT_EQ(request.parameter("b"), "");
    EXPECT_EQ(request.parameter("c"), std::nullopt);
    EXPECT_EQ(request.param("id"), "x");
    EXPECT_EQ(request.param("other"), "");
}

TEST(ProblemTest, OfAnError) {
    const Problem busy = problem_of({Errc::busy, "wait", "/metadata", 1001});
    EXPECT_EQ(busy.status, 429);
    EXPECT_EQ(busy.code, name(Errc::busy));
    EXPECT_EQ(busy.detail, "wait");
    EXPECT_EQ(busy.retry_after_s, 2U);
    ASSERT_EQ(busy.issues.size(), 1U);
    EXPECT_EQ(busy.issues[0].pointer, "/metadata");
    EXPECT_EQ(busy.issues[0].detail, "wait");

    EXPECT_EQ(problem_of({Errc::unavailable, "later"}).retry_after_s, 1U);
    const Problem missing = problem_of({Errc::not_found, "no such event"});
    EXPECT_EQ(missing.status, 404);
    EXPECT_EQ(missing.title, "Not Found");
    EXPECT_EQ(missing.retry_after_s, 0U);
    EXPECT_TRUE(missing.issues.empty());
    const Problem gone = problem_of({Errc::cancelled, "gone"});
    EXPECT_GE(gone.status, 400);
}

TEST(ProblemTest, NativeDocument) {
    Problem problem;
    problem.status = 422;
    problem.code = "unprocessable";
    problem.detail = "2 of \"3\" events are invalid";
    problem.request_id = "req_1";
    Issue event;
    event.index = 0;
    event.line = 3;
    event.offset = 0;
    event.pointer = "/actor/type";
    event.code = "too_long";
    event.detail = "at most 64";
    Issue whole;
    whole.code = "malformed";
    whole.detail = "no";
    problem.issues = {event, whole};
    const Document document = problem_json(problem);
    EXPECT_EQ(document.content_type, "application/problem+json");
    EXPECT_EQ(
        document.body,
        R"({"type":"about:blank","title":"Unprocessable Content","status":422,)"
        R"("detail":"2 of \"3\" events are invalid","code":"unprocessable","request_id":"req_1","errors":[)"
        R"({"index":0,"line":3,"offset":0,"pointer":"/actor/type","code":"too_long","detail":"at most 64"},)"
        R"({"pointer":"","code":"malformed","detail":"no"}]})"
    );
}

}  // namespace
}  // namespace annal::http
