#include <gtest/gtest.h>
#include <annal/sdk/buffer.hpp>
#include <annal/sdk/json.hpp>

#include <limits>

namespace {

using annal::Json;

std::string quoted(std::string_view text) {
    std::string out;
    annal::StringOut into(out);
    annal::append_json_string(into, text);
    return out;
}

TEST(JsonString, EscapesWhatJsonDemands) {
    EXPECT_EQ(quoted("a\"b\\c\n\t\x01/é"), "\"a\\\"b\\\\c\\n\\t\\u0001/é\"");
    EXPECT_EQ(quoted(""), "\"\"");
}

TEST(JsonString, ReplacesWhatIsNotUtf8) {
    EXPECT_EQ(
        quoted("a\xff"
               "b"),
        "\"a\xEF\xBF\xBD"
        "b\""
    );
    EXPECT_EQ(quoted("\xed\xa0\x80"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");  // a surrogate
    EXPECT_EQ(quoted("\xf0\x9f\x98\x80"), "\"\xf0\x9f\x98\x80\"");
}

TEST(JsonWriter, PutsCommasWhereTheyBelong) {
    std::string out;
    annal::StringOut into(out);
    annal::JsonWriter json(into);
    json.begin_object()
        .member("a", 1)
        .key("b")
        .begin_array()
        .value("x")
        .value(true)
        .value(nullptr)
        .end_array();
    json.member("c", annal::kNull)
        .member("d", std::numeric_limits<std::int64_t>::min())
        .key("e")
        .begin_object()
        .end_object();
    json.end_object();
    EXPECT_EQ(out, R"({"a":1,"b":["x",true,null],"c":null,"d":-9223372036854775808,"e":{}})");
}

TEST(Json, ReadsEveryKind) {
    Json json;
    Json::Failure failure;
    ASSERT_TRUE(Json::parse(
        R"( {"s":"\u00e9\ud83d\ude00\n","i":-5,"d":1.5e1,"t":true,"n":null,"a":[1,[]]} )",
        json,
        failure
    ));
    EXPECT_EQ(json.find("s")->string(), "é😀\n");
    EXPECT_EQ(json.find("i")->integer(), -5);
    EXPECT_EQ(json.find("d")->number(), 15.0);
    EXPECT_TRUE(json.find("t")->boolean());
    EXPECT_TRUE(json.find("n")->is(Json::Kind::null));
    EXPECT_EQ(json.find("a")->items().size(), 2U);
    EXPECT_EQ(json.find("zz"), nullptr);
}

TEST(Json, RefusesWhatIsNotJson) {
    for (const char* text : {"",           "{",           "[1,]",
                             "{\"a\":1,}", "01",          "1.",
                             "-",          "nul",         "\"",
                             "\"\\x\"",    "\"\\ud800\"", "\"\\udc00\"",
                             "\"\x01\"",   "\"\xff\"",    "{\"a\":1,\"a\":2}",
                             "1 2",        "{a:1}",       "[1 2]",
                             "+1",         "'a'",         "1e",
                             "\"\\u12\""}) {
        Json json;
        Json::Failure failure;
        EXPECT_FALSE(Json::parse(text, json, failure)) << text;
        EXPECT_NE(failure.what, nullptr) << text;
    }
}

TEST(Json, SaysWhereItFailed) {
    Json json;
    Json::Failure failure;
    ASSERT_FALSE(Json::parse(R"({"a":tru})", json, failure));
    EXPECT_EQ(failure.at, 5U);
}

TEST(Json, BoundsItsDepth) {
    Json json;
    Json::Failure failure;
    EXPECT_TRUE(Json::parse("[[[]]]", json, failure, 3));
    Json other;
    EXPECT_FALSE(Json::parse("[[[]]]", other, failure, 2));
    EXPECT_FALSE(Json::parse(std::string(100'000, '['), other, failure));
}

}  // namespace
