#include "runtime/http/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/core/task_impl.h"

namespace annal::http {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

class Nothing final : public Handler {
public:
    Task<void> handle(std::shared_ptr<Exchange>) override { co_return; }
};

Route route(std::vector<std::string> methods, std::string pattern, std::string owner = "test") {
    Route r;
    r.methods = std::move(methods);
    r.trigger = pattern;
    r.pattern = std::move(pattern);
    r.owner = std::move(owner);
    r.handler = std::make_shared<Nothing>();
    return r;
}

class RouterTest : public testing::Test {
protected:
    void add(std::vector<std::string> methods, std::string pattern) {
        const auto added = router_.add(route(std::move(methods), std::move(pattern)));
        ASSERT_TRUE(added) << added.error().detail;
    }
    std::string winner(std::string_view path, std::string_view method = "GET") {
        const Match match = router_.match(method, path);
        return match.route ? match.route->pattern : "";
    }
    Error refused(Route r) {
        const auto added = router_.add(std::move(r));
        return added ? Error{} : added.error();
    }
    Router router_;
};

TEST_F(RouterTest, LiteralWinsOverPrefixWinsOverName) {
    add({"GET"}, "/v1/audit/events/{id}");
    add({"GET"}, "/v1/audit/events/types");
    add({"GET"}, "/v1/audit/events/evt_{rest}");
    add({"GET"}, "/v1/audit/events/evt_1{rest}");
    EXPECT_EQ(winner("/v1/audit/events/types"), "/v1/audit/events/types");
    EXPECT_EQ(winner("/v1/audit/events/typesx"), "/v1/audit/events/{id}");
    EXPECT_EQ(winner("/v1/audit/events/evt_9"), "/v1/audit/events/evt_{rest}");
    EXPECT_EQ(winner("/v1/audit/events/evt_19"), "/v1/audit/events/evt_1{rest}");
    EXPECT_EQ(winner("/v1/audit/events/evt_"), "/v1/audit/events/{id}");
}

TEST_F(RouterTest, OrderOfAddingDoesNotMatter) {
    add({"GET"}, "/a/x{y}");
    add({"GET"}, "/a/xyz{y}");
    add({"GET"}, "/a/zz{y}");
    add({"GET"}, "/a/xy{y}");
    add({"POST"}, "/a/xyz{other}");
    EXPECT_EQ(winner("/a/xyz1"), "/a/xyz{y}");
    EXPECT_EQ(winner("/a/xy1"), "/a/xy{y}");
    EXPECT_EQ(winner("/a/x1"), "/a/x{y}");
    EXPECT_EQ(winner("/a/zz1"), "/a/zz{y}");
    EXPECT_EQ(winner("/a/xyz1", "POST"), "/a/xyz{other}");
}

TEST_F(RouterTest, SuffixAfterALiteralName) {
    add({"GET"}, "/v1/audit/events");
    add({"GET"}, "/v1/audit/events.{format}");
    const Match match = router_.match("GET", "/v1/audit/events.csv");
    ASSERT_NE(match.route, nullptr);
    EXPECT_EQ(match.route->pattern, "/v1/audit/events.{format}");
    EXPECT_THAT(match.params, ElementsAre(Pair("format", "csv")));
    EXPECT_EQ(winner("/v1/audit/events"), "/v1/audit/events");
    EXPECT_EQ(winner("/v1/audit/events."), "");
    EXPECT_EQ(winner("/v1/audit/eventsXcsv"), "");
}

TEST_F(RouterTest, TriesLessExactPatternsWhenTheRestDoesNotFit) {
    add({"GET"}, "/a/b/c");
    add({"GET"}, "/a/{x}/d");
    const Match match = router_.match("GET", "/a/b/d");
    ASSERT_NE(match.route, nullptr);
    EXPECT_EQ(match.route->pattern, "/a/{x}/d");
    EXPECT_THAT(match.params, ElementsAre(Pair("x", "b")));
}

TEST_F(RouterTest, TrailingSlashIsAccepted) {
    add({"GET"}, "/v1/things");
    add({"GET"}, "/v1/other/");
    add({"GET"}, "/");
    EXPECT_EQ(winner("/v1/things/"), "/v1/things");
    EXPECT_EQ(winner("/v1/other"), "/v1/other/");
    EXPECT_EQ(winner("/"), "/");
    EXPECT_EQ(winner("/v1/things//"), "");
    EXPECT_EQ(winner("//v1/things"), "");
    EXPECT_EQ(winner("/v1//things"), "");
}

TEST_F(RouterTest, DecodesEachSegment) {
    add({"GET"}, "/v1/users/{id}/log");
    const Match match = router_.match("GET", "/v1/%75sers/a%2Fb%20%C3%A9/log");
    ASSERT_NE(match.route, nullptr);
    EXPECT_THAT(match.params, ElementsAre(Pair("id", "a/b é")));
    EXPECT_EQ(winner("/v1/users%2Fx/log"), "");
    EXPECT_EQ(winner("/v1/users/%00/log"), "");
    EXPECT_EQ(winner("/v1/users/%zz/log"), "");
    EXPECT_EQ(winner("/v1/users//log"), "");
}

TEST_F(RouterTest, MethodThatDoesNotFitNamesThoseThatDo) {
    add({"POST", "GET"}, "/v1/events");
    add({"DELETE"}, "/v1/{name}");
    const Match match = router_.match("PUT", "/v1/events");
    EXPECT_EQ(match.route, nullptr);
    EXPECT_THAT(match.allow, ElementsAre("GET", "HEAD", "POST"));
    ASSERT_NE(match.nearest, nullptr);
    EXPECT_EQ(match.nearest->pattern, "/v1/events");
    // The exact name keeps the path, also where the other pattern has the method.
    EXPECT_EQ(winner("/v1/events", "DELETE"), "");
    EXPECT_EQ(winner("/v1/others", "DELETE"), "/v1/{name}");
}

TEST_F(RouterTest, HeadIsServedByGet) {
    add({"GET"}, "/a");
    add({"POST"}, "/b");
    EXPECT_EQ(winner("/a", "HEAD"), "/a");
    EXPECT_EQ(winner("/b", "HEAD"), "");
}

TEST_F(RouterTest, NearestSharesTheMostSegments) {
    add({"GET"}, "/v1/audit/events");
    add({"GET"}, "/v1/accounts/{account}/events");
    add({"GET"}, "/api/logging/audit/{id}");
    const auto nearest = [&](std::string_view path) -> std::string {
        const Match match = router_.match("GET", path);
        EXPECT_EQ(match.route, nullptr);
        return match.nearest ? match.nearest->pattern : "";
    };
    EXPECT_EQ(nearest("/v1/accounts/acc_1/unknown"), "/v1/accounts/{account}/events");
    EXPECT_EQ(nearest("/v1/unknown"), "/v1/audit/events");
    EXPECT_EQ(nearest("/api/logging/audit/1/2"), "/api/logging/audit/{id}");
    EXPECT_EQ(nearest("/elsewhere"), "");
}

TEST_F(RouterTest, DuplicateNamesBothOwners) {
    ASSERT_TRUE(router_.add(route({"GET", "PUT"}, "/v1/a/{id}", "one (one.yaml:3)")));
    const Error error = refused(route({"PUT"}, "/v1/a/{key}/", "two (two.yaml:9)"));
    EXPECT_EQ(error.code, Errc::conflict);
    EXPECT_THAT(error.detail, HasSubstr("one (one.yaml:3)"));
    EXPECT_THAT(error.detail, HasSubstr("two (two.yaml:9)"));
    EXPECT_THAT(error.detail, HasSubstr("PUT"));
    EXPECT_EQ(router_.routes().size(), 1U);
    EXPECT_EQ(winner("/v1/a/x", "PUT"), "/v1/a/{id}");
    ASSERT_TRUE(router_.add(route({"DELETE"}, "/v1/a/{key}", "two")));
    EXPECT_THAT(router_.match("DELETE", "/v1/a/7").params, ElementsAre(Pair("key", "7")));
    EXPECT_THAT(router_.match("GET", "/v1/a/7").params, ElementsAre(Pair("id", "7")));
}

TEST_F(RouterTest, RefusesPatternsThatCantBe) {
    for (const char* pattern :
         {"",
          "v1/a",
          "/v1//a",
          "/v1/{a}b",
          "/v1/{a}{b}",
          "/v1/{}",
          "/v1/{a",
          "/v1/a}",
          "/v1/{a b}",
          "/v1/{a}/{a}",
          "/v1/{{a}}"}) {
        const Error error = refused(route({"GET"}, pattern, "owner.yaml:1"));
        EXPECT_EQ(error.code, Errc::invalid) << pattern;
        EXPECT_THAT(error.detail, HasSubstr("owner.yaml:1")) << pattern;
    }
    EXPECT_EQ(refused(route({}, "/a")).code, Errc::invalid);
    EXPECT_EQ(refused(route({"GE T"}, "/a")).code, Errc::invalid);
    Route without = route({"GET"}, "/a");
    without.handler = nullptr;
    EXPECT_EQ(refused(std::move(without)).code, Errc::invalid);
    EXPECT_TRUE(router_.routes().empty());
}

}  // namespace
}  // namespace annal::http
