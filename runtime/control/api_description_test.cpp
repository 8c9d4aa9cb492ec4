#include "runtime/control/api_description.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace annal::control {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kHost = R"(
errors: {application/problem+json: {schema: {$ref: "#/components/schemas/Problem"}}}
tags: [{name: Node}]
operations:
  GET /healthz: {summary: Lives, responses: {"200": {description: It does.}}}
  PUT /v1/things/{id}:
    operationId: put-thing
    summary: Puts
    requestBody: {content: {application/json: {schema: {type: object}}}}
    responses: {"200": {description: Done.}, "409": {description: Taken.}}
components: {schemas: {Problem: {type: object}}}
)";

constexpr const char* kShop = R"(
errors: {application/json: {schema: {$ref: "#/components/schemas/Error"}}}
operations:
  list:
    summary: Lists
    parameters:
      - {name: id, in: path, description: The shop's., schema: {type: integer}}
      - {name: gone, in: path, schema: {type: string}}
      - {$ref: "#/components/parameters/limit"}
    responses:
      "200": {description: A page., content: {application/json: {schema: {$ref: "#/components/schemas/Page"}}}}
      "404": {description: No such shop.}
components:
  parameters: {limit: {name: limit, in: query, schema: {type: integer}}}
  schemas:
    Error: {type: object}
    Page: {type: object, properties: {next: {$ref: "#/components/schemas/Page"}}}
)";

RouteGroup host() {
    return {
        "",
        kHost,
        {{"GET /healthz", {"GET"}, "/healthz", ""},
         {"PUT /v1/things/{id}", {"PUT"}, "/v1/things/{id}", "admin"}}};
}
RouteGroup shop(const std::string& name, const std::string& route) {
    return {name, kShop, {{"list", {"GET"}, route, "audit:read"}}};
}

/// The description of some groups, to be asked by JSON pointer.
struct Described {
    explicit Described(const std::vector<RouteGroup>& groups)
        : made(describe_api(groups)), document(json::parse(made.json)) {}

    const json::value* find(const std::string& pointer) const {
        boost::system::error_code error;
        return document.find_pointer(pointer, error);
    }
    std::string at(const std::string& pointer) const {
        const json::value* found = find(pointer);
        return found != nullptr ? json::serialize(*found) : "nothing at " + pointer;
    }
    std::vector<std::string> keys(const std::string& pointer) const {
        std::vector<std::string> out;
        if (const json::value* found = find(pointer))
            for (const auto& member : found->as_object()) out.emplace_back(member.key());
        std::sort(out.begin(), out.end());
        return out;
    }

    ApiDescription made;
    json::value document;
};

TEST(DescribeApi, AddsWhatTheHostKnowsOfARoute) {
    const Described api({shop("corner-shop", "/shops/{id}/goods"), host()});
    EXPECT_THAT(api.made.faults, IsEmpty());
    const std::string list = "/paths/~1shops~1{id}~1goods/get";
    EXPECT_EQ(api.at(list + "/operationId"), R"("corner-shop.list")");
    EXPECT_EQ(api.at(list + "/tags"), R"(["corner-shop"])");
    EXPECT_EQ(
        api.at(list + "/security"),
        R"([{"bearer":["audit:read"]},{"header":["audit:read"]},{"basic":["audit:read"]}])"
    );
    EXPECT_THAT(api.at(list + "/description"), HasSubstr("Scope: `audit:read`"));
    EXPECT_THAT(
        api.keys(list + "/responses"),
        ElementsAre("200", "400", "401", "403", "404", "405", "431", "503")
    );
    EXPECT_EQ(api.at(list + "/responses/401/$ref"), R"("#/components/responses/corner-shop.401")");
    EXPECT_EQ(
        api.at("/components/responses/corner-shop.401/content"),
        R"({"application/json":{"schema":{"$ref":"#/components/schemas/corner-shop.Error"}}})"
    );
}

TEST(DescribeApi, KeepsWhatTheComponentSays) {
    const Described api({shop("corner-shop", "/shops/{id}/goods"), host()});
    const std::string list = "/paths/~1shops~1{id}~1goods/get";
    EXPECT_EQ(api.at(list + "/summary"), R"("Lists")");
    EXPECT_EQ(api.at(list + "/responses/404/description"), R"("No such shop.")");
    EXPECT_EQ(
        api.at(list + "/responses/404/content"),
        R"({"application/json":{"schema":{"$ref":"#/components/schemas/corner-shop.Error"}}})"
    );
    EXPECT_EQ(
        api.at(list + "/responses/200/content/application~1json/schema/$ref"),
        R"("#/components/schemas/corner-shop.Page")"
    );
    EXPECT_EQ(
        api.at("/components/schemas/corner-shop.Page/properties/next/$ref"),
        R"("#/components/schemas/corner-shop.Page")"
    );
}

TEST(DescribeApi, TakesPathParametersFromTheRoute) {
    const Described api({shop("corner-shop", "/shops/{id}/goods.{format}"), host()});
    EXPECT_EQ(
        api.at("/paths/~1shops~1{id}~1goods.{format}/get/parameters"),
        R"([{"name":"id","in":"path","description":"The shop's.","schema":{"type":"integer"},"required":true},)"
        R"({"name":"format","in":"path","schema":{"type":"string"},"required":true},)"
        R"({"$ref":"#/components/parameters/corner-shop.limit"}])"
    );
}

TEST(DescribeApi, AnOpenRouteNeedsNoKeyAndABodyHasItsOwnErrors) {
    const Described api({host()});
    EXPECT_EQ(api.at("/paths/~1healthz/get/security"), "[]");
    EXPECT_THAT(
        api.keys("/paths/~1healthz/get/responses"), ElementsAre("200", "400", "405", "431", "503")
    );
    EXPECT_THAT(
        api.keys("/paths/~1v1~1things~1{id}/put/responses"),
        ElementsAre(
            "200",
            "400",
            "401",
            "403",
            "404",
            "405",
            "408",
            "409",
            "413",
            "415",
            "429",
            "431",
            "503"
        )
    );
    EXPECT_EQ(
        api.at("/paths/~1v1~1things~1{id}/put/responses/409/content"),
        R"({"application/problem+json":{"schema":{"$ref":"#/components/schemas/Problem"}}})"
    );
}

TEST(DescribeApi, TwoInstancesOfOneComponentDoNotCollide) {
    const Described api({shop("one", "/one/{id}"), shop("two", "/two/{id}"), host()});
    EXPECT_THAT(
        api.keys("/components/schemas"),
        ElementsAre("Problem", "one.Error", "one.Page", "two.Error", "two.Page")
    );
    EXPECT_EQ(api.at("/paths/~1one~1{id}/get/operationId"), R"("one.list")");
    EXPECT_EQ(api.at("/paths/~1two~1{id}/get/operationId"), R"("two.list")");
}

TEST(DescribeApi, PathsOfOneShapeAreOne) {
    RouteGroup other = shop("other", "/shops/{shop_id}");
    other.routes[0].methods = {"DELETE"};
    const Described api({shop("one", "/shops/{id}"), other, host()});
    EXPECT_THAT(api.keys("/paths/~1shops~1{id}"), ElementsAre("delete", "get"));
    EXPECT_EQ(api.at("/paths/~1shops~1{id}/delete/parameters/0/name"), R"("id")");
}

TEST(DescribeApi, ATriggerOfSeveralMethodsIsSeveralOperations) {
    RouteGroup both = shop("shop", "/goods");
    both.routes[0].methods = {"GET", "POST"};
    const Described api({both, host()});
    EXPECT_EQ(api.at("/paths/~1goods/get/operationId"), R"("shop.list.get")");
    EXPECT_EQ(api.at("/paths/~1goods/post/operationId"), R"("shop.list.post")");
}

TEST(DescribeApi, ARouteWithoutDescriptionIsThereAndNamed) {
    RouteGroup group = shop("shop", "/goods");
    group.routes.push_back({"sell", {"POST"}, "/goods/{id}", "audit:write"});
    const Described api({group, host()});
    ASSERT_EQ(api.made.faults.size(), 1U);
    EXPECT_EQ(api.made.faults[0].kind, DescriptionFault::Kind::undescribed);
    EXPECT_EQ(api.made.faults[0].group, "shop");
    EXPECT_EQ(api.made.faults[0].detail, "sell (/goods/{id})");
    const std::string sell = "/paths/~1goods~1{id}/post";
    EXPECT_EQ(api.at(sell + "/summary"), R"("POST /goods/{id}")");
    EXPECT_EQ(api.at(sell + "/operationId"), R"("shop.sell")");
    EXPECT_NE(api.find(sell + "/responses/default"), nullptr);
    EXPECT_EQ(api.at(sell + "/parameters/0/name"), R"("id")");
}

TEST(DescribeApi, ADescriptionWithoutARouteIsLeftOutAndNamed) {
    RouteGroup group = host();
    group.routes.erase(group.routes.begin());
    const Described api({group});
    ASSERT_EQ(api.made.faults.size(), 1U);
    EXPECT_EQ(api.made.faults[0].kind, DescriptionFault::Kind::unused);
    EXPECT_EQ(api.made.faults[0].detail, "GET /healthz");
    EXPECT_THAT(api.keys("/paths"), ElementsAre("/v1/things/{id}"));
}

TEST(DescribeApi, ATextThatCantBeReadCostsNoRoute) {
    RouteGroup group = shop("shop", "/goods");
    group.text = "operations: [";
    const Described api({group, host()});
    ASSERT_EQ(api.made.faults.size(), 2U);
    EXPECT_EQ(api.made.faults[0].kind, DescriptionFault::Kind::unreadable);
    EXPECT_THAT(api.made.faults[0].detail, HasSubstr("YAML"));
    EXPECT_EQ(api.made.faults[1].kind, DescriptionFault::Kind::undescribed);
    EXPECT_EQ(api.at("/paths/~1goods/get/operationId"), R"("shop.list")");
    EXPECT_EQ(
        api.at("/components/responses/shop.401/content"),
        R"({"application/problem+json":{"schema":{"$ref":"#/components/schemas/Problem"}}})"
    );
}

TEST(DescribeApi, OperationIdsAreUniqueWhateverIsSaid) {
    RouteGroup group = host();
    group.text.replace(
        group.text.find("summary: Lives"), 14, "summary: Lives, operationId: put-thing"
    );
    const Described api({group});
    EXPECT_NE(
        api.at("/paths/~1healthz/get/operationId"),
        api.at("/paths/~1v1~1things~1{id}/put/operationId")
    );
}

TEST(DescribeApi, TheHostsOwnTextIsSound) {
    const auto made = describe_api({{"", std::string(host_route_text()), {}}});
    for (const auto& fault : made.faults)
        EXPECT_EQ(fault.kind, DescriptionFault::Kind::unused) << fault.detail;
    EXPECT_GT(made.faults.size(), 30U);
}

}  // namespace
}  // namespace annal::control
