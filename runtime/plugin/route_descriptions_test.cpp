#include "runtime/plugin/route_descriptions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace annal {
namespace {

namespace json = boost::json;
using testing::HasSubstr;

constexpr const char* kGood = R"(
tags: [{name: Shop}]
errors: {application/json: {schema: {$ref: "#/components/schemas/Error"}}}
operations:
  list:
    summary: Lists
    parameters: [{name: limit, in: query, schema: {type: integer, minimum: 1}}]
    responses:
      "200": {description: A page.}
      4XX: {description: An error.}
components:
  schemas: {Error: {type: object, properties: {yes: {type: boolean, default: false}}}}
)";

TEST(RouteDescriptions, ReadsYaml) {
    const auto read = read_route_descriptions(kGood);
    ASSERT_TRUE(read) << read.error().detail;
    const RouteDescriptions& text = read.value();
    EXPECT_EQ(text.operations.at("list").at("parameters").at(0).at("schema").at("minimum"), 1);
    EXPECT_EQ(
        text.components.at("schemas").at("Error").at("properties").at("yes").at("default"), false
    );
    EXPECT_TRUE(text.errors.contains("application/json"));
    EXPECT_EQ(text.tags.at(0).at("name"), "Shop");
}

TEST(RouteDescriptions, ReadsJson) {
    const auto read = read_route_descriptions(
        R"({"operations":{"list":{"summary":"Lists","responses":{"200":{"description":"x"}}}}})"
    );
    ASSERT_TRUE(read) << read.error().detail;
    EXPECT_EQ(read.value().operations.size(), 1U);
}

TEST(RouteDescriptions, NothingDescribesNothing) {
    const auto read = read_route_descriptions("");
    ASSERT_TRUE(read);
    EXPECT_TRUE(read.value().operations.empty());
}

struct Spoiled {
    const char *name, *from, *to, *says;
    friend void PrintTo(const Spoiled& one, std::ostream* out) { *out << one.name; }
};
class RouteDescriptionsRefuse : public testing::TestWithParam<Spoiled> {};

TEST_P(RouteDescriptionsRefuse, SayingWhereAndWhat) {
    std::string text = kGood;
    const auto at = text.find(GetParam().from);
    ASSERT_NE(at, std::string::npos);
    text.replace(at, std::string_view(GetParam().from).size(), GetParam().to);
    const auto read = read_route_descriptions(text);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Errc::invalid);
    EXPECT_THAT(read.error().detail, HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Texts,
    RouteDescriptionsRefuse,
    testing::Values(
        Spoiled{"no_yaml", "[{name: Shop}]", "[{name: Shop}", "is no YAML"},
        Spoiled{"unknown_part", "tags:", "tag:", "/tag: unknown key; the keys here are operations"},
        Spoiled{"no_operations", "operations:", "errors2:", "/operations: missing"},
        Spoiled{"no_summary", "    summary: Lists\n", "", "/operations/list/summary: missing"},
        Spoiled{
            "no_object",
            "Error: {type: object, properties: {yes: {type: boolean, default: false}}}",
            "Error: 5",
            "/components/schemas/Error: must be a mapping"},
        Spoiled{"bad_status", "4XX", "OK", "/operations/list/responses/OK: must be a status"},
        Spoiled{"bad_name", "{Error:", "{a.b: {}, Error:", "/components/schemas/a.b: a name here"},
        Spoiled{
            "bad_kind",
            "  schemas:",
            "  securitySchemes: {}\n  schemas:",
            "/components/securitySchemes: is none of the kinds"},
        Spoiled{"dangling", "schemas/Error\"", "schemas/Eror\"", "refers to nothing"},
        Spoiled{
            "foreign",
            "\"#/components/schemas/Error\"",
            "\"https://example.org/x\"",
            "refers to nothing"},
        Spoiled{
            "bad_tag", "{name: Shop}", "{title: Shop}", "/tags/0: must be a mapping with a name"},
        Spoiled{"twice", "tags:", "tags: []\ntags:", "twice"}
    ),
    [](const testing::TestParamInfo<Spoiled>& one) { return std::string(one.param.name); }
);

TEST(RouteDescriptions, SaysInWhichLine) {
    const auto read = read_route_descriptions("operations:\n  list:\n    responses: {}\n");
    ASSERT_FALSE(read);
    EXPECT_THAT(read.error().detail, HasSubstr("line 3: /operations/list/responses: missing"));
}

TEST(RouteDescriptions, RefusesWhatIsTooLong) {
    EXPECT_FALSE(read_route_descriptions(std::string(kRouteTextBytesMax + 1, ' ')));
}

/// An older module's component ends before the field; what lies behind it is not its own.
TEST(RouteText, IsReadOnlyWhereTheComponentHasIt) {
    annal_component component{};
    component.openapi = "operations: {}";
    component.struct_size = offsetof(annal_component, openapi);
    EXPECT_EQ(route_text(component), "");
    component.struct_size = sizeof(component);
    EXPECT_EQ(route_text(component), "operations: {}");
    component.openapi = nullptr;
    EXPECT_EQ(route_text(component), "");
}

}  // namespace
}  // namespace annal
