#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "runtime/plugin/manifest.h"
#include "runtime/plugin/schema.h"

namespace annal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr const char* kSecret = "hunter2-very-secret";

std::optional<std::string> lookup(const std::string& name) {
    if (name == "acme/token") return kSecret;
    if (name == "acme/number") return "12";
    return std::nullopt;
}

ConfigResult complete(const std::string& config, const std::string& schema) {
    auto result = complete_config(config, schema, lookup);
    for (auto& error : result.errors) {
        EXPECT_THAT(error.first, ::testing::StartsWith("/spec/config"));
        error.first.erase(0, std::string_view("/spec/config").size());
    }
    return result;
}

void expect_json(const ConfigResult& result, const std::string& expected) {
    ASSERT_THAT(result.errors, IsEmpty())
        << result.errors[0].first << ": " << result.errors[0].second;
    EXPECT_EQ(boost::json::parse(result.json), boost::json::parse(expected)) << result.json;
}

constexpr const char* kSchema = R"({
    "type": "object", "additionalProperties": false, "required": ["url"],
    "properties": {
        "url": {"type": "string", "pattern": "^https?://"},
        "token": {"type": "string", "minLength": 3},
        "level": {"enum": ["low", "high", 3], "default": "low"},
        "retries": {"type": "integer", "minimum": 0, "maximum": 10, "default": 3},
        "tls": {"type": "object", "additionalProperties": false, "default": {},
                "properties": {"verify": {"type": "boolean", "default": true}, "ca": {"type": "string"}}},
        "routes": {"type": "array", "items": {"$ref": "#/definitions/route"}},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}}
    },
    "definitions": {"route": {"type": "object", "required": ["to"], "additionalProperties": false,
        "properties": {"to": {"type": "string"}, "weight": {"type": "number", "default": 0.5}}}}
})";

TEST(Config, DefaultsAreFilledInAtEveryDepth) {
    expect_json(
        complete(
            R"({"url": "https://x", "routes": [{"to": "a"}, {"to": "b", "weight": 2}]})", kSchema
        ),
        R"({"url": "https://x", "routes": [{"to": "a", "weight": 0.5}, {"to": "b", "weight": 2}],
            "level": "low", "retries": 3, "tls": {"verify": true}})"
    );
    expect_json(
        complete(
            R"({"url": "http://x", "level": 3, "retries": 0, "tls": {"verify": false, "ca": "c"}})",
            kSchema
        ),
        R"({"url": "http://x", "level": 3, "retries": 0, "tls": {"verify": false, "ca": "c"}})"
    );
}

TEST(Config, DefaultsComeThroughAllOfPatternsAndReferences) {
    expect_json(
        complete(
            R"({"x-one": {}, "other": {}})", R"({
            "allOf": [{"properties": {"a": {"default": 1}}}, {"$ref": "#/definitions/more"}],
            "patternProperties": {"^x-": {"properties": {"p": {"default": "p"}}}},
            "additionalProperties": {"properties": {"q": {"default": [1]}}},
            "definitions": {"more": {"properties": {"b": {"$ref": "#/definitions/two"}}}, "two": {"default": 2}}})"
        ),
        R"({"x-one": {"p": "p"}, "other": {"q": [1]}, "a": 1, "b": 2})"
    );
}

TEST(Config, DefaultsThatNestForeverAreCutOff) {
    const auto result = complete(
        "{}", R"({"properties": {"a": {"$ref": "#/definitions/n"}},
        "definitions": {"n": {"type": "object", "default": {}, "properties": {"a": {"$ref": "#/definitions/n"}}}}})"
    );
    EXPECT_THAT(result.errors, IsEmpty());
    EXPECT_LT(result.json.size(), 1000U);
}

TEST(Config, EveryErrorHasItsPointer) {
    const auto result = complete(
        R"({"ulr": "x", "retries": "many", "level": "mid", "tls": {"verify": 1, "cb": 2, "cc": 3},
            "routes": [{"to": 1}, {}, 7], "headers": {"a/b": false}})",
        kSchema
    );
    EXPECT_EQ(result.json, "");
    EXPECT_THAT(
        result.errors,
        UnorderedElementsAre(
            Pair("/url", "missing"),
            Pair(
                "/ulr",
                ::testing::StartsWith("unknown setting \"ulr\" (did you mean \"url\"?); the "
                                      "settings here are url, token, level")
            ),
            Pair("/retries", "expected integer, found a string"),
            Pair("/level", "must be \"low\", \"high\" or 3"),
            Pair("/tls/verify", "expected boolean, found an integer"),
            Pair("/tls/cb", HasSubstr("did you mean \"ca\"?")),
            Pair("/tls/cc", HasSubstr("unknown setting")),
            Pair("/routes/0/to", "expected string, found an integer"),
            Pair("/routes/1/to", "missing"),
            Pair("/routes/2", "expected object, found an integer"),
            Pair("/headers/a~1b", "expected string, found a boolean")
        )
    );
}

TEST(Config, PatternsRangesAndLengths) {
    const auto result = complete(R"({"url": "ftp://x", "retries": 11, "token": "ab"})", kSchema);
    EXPECT_THAT(
        result.errors,
        UnorderedElementsAre(
            Pair("/url", "must match ^https?://"),
            Pair("/retries", HasSubstr("less than or equal to 10")),
            Pair("/token", HasSubstr("no fewer than 3"))
        )
    );
}

TEST(Config, SecretsAreResolvedBeforeTheSchemaSeesThem) {
    expect_json(
        complete(
            R"({"url": "http://x", "token": {"secretRef": "acme/token"}, "retries": 1, "level": "high", "tls": {},
                     "routes": [{"to": {"secretRef": "acme/number"}}]})",
            kSchema
        ),
        R"({"url": "http://x", "token": "hunter2-very-secret", "retries": 1, "level": "high", "tls": {"verify": true},
            "routes": [{"to": "12", "weight": 0.5}]})"
    );
}

TEST(Config, AMissingSecretIsOneError) {
    const auto result =
        complete(R"({"url": "http://x", "token": {"secretRef": "acme/gone"}})", kSchema);
    EXPECT_THAT(
        result.errors, ElementsAre(Pair("/token", "there is no secret \"acme/gone\" on this node"))
    );
    const auto none = complete_config(
        R"({"url": "http://x", "token": {"secretRef": "acme/token"}})", kSchema, nullptr
    );
    EXPECT_THAT(
        none.errors, ElementsAre(Pair("/spec/config/token", HasSubstr("there is no secret")))
    );
}

TEST(Config, AMalformedReferenceIsOneError) {
    for (const char* reference :
         {R"({"secretRef": 1})",
          R"({"secretRef": ""})",
          R"({"secretRef": "acme/token", "x": 1})"}) {
        const auto result =
            complete(R"({"url": "http://x", "token": )" + std::string(reference) + "}", kSchema);
        EXPECT_THAT(result.errors, ElementsAre(Pair("/token", HasSubstr("secretRef"))))
            << reference;
    }
}

/// A secret under every keyword that can refuse it: no message may quote it.
TEST(Config, ErrorsNeverQuoteASecret) {
    for (const char* schema :
         {R"({"type": "integer"})",
          R"({"type": "object"})",
          R"({"enum": ["a", 1]})",
          R"({"const": "a"})",
          R"({"pattern": "^a$"})",
          R"({"maxLength": 3})",
          R"({"minLength": 300})",
          R"({"not": {"type": "string"}})",
          R"({"oneOf": [{"type": "integer"}, {"pattern": "^x"}]})",
          R"({"oneOf": [{"type": "string"}, {"minLength": 1}]})",
          R"({"anyOf": [{"type": "integer"}, {"enum": [7]}]})",
          R"({"allOf": [{"type": "integer"}, {"maxLength": 1}]})",
          R"({"if": {"type": "string"}, "then": {"maxLength": 1}})",
          R"({"$ref": "#/definitions/d"})",
          "false"}) {
        for (const auto& [config, wrapped] : std::vector<std::pair<std::string, std::string>>{
                 {R"({"s": {"secretRef": "acme/token"}})",
                  std::string(R"({"properties": {"s": )") + schema + "}"},
                 {R"({"s": [{"secretRef": "acme/token"}]})",
                  std::string(R"({"properties": {"s": {"items": )") + schema + "}}"},
                 {R"({"s": {"secretRef": "acme/token"}})",
                  std::string(R"({"additionalProperties": )") + schema},
                 {R"({"s": {"secretRef": "acme/token"}})",
                  std::string(R"({"patternProperties": {"^s": )") + schema + "}"}}) {
            const auto result =
                complete(config, wrapped + R"(, "definitions": {"d": {"type": "null"}}})");
            EXPECT_THAT(result.errors, Not(IsEmpty())) << wrapped;
            for (const auto& [pointer, message] : result.errors) {
                EXPECT_THAT(pointer + message, Not(HasSubstr("hunter"))) << wrapped;
                EXPECT_THAT(pointer, Not(HasSubstr("acme/gone")));
            }
        }
    }
    const auto unique = complete(
        R"({"s": [{"secretRef": "acme/token"}, {"secretRef": "acme/token"}]})",
        R"({"properties": {"s": {"uniqueItems": true}}})"
    );
    ASSERT_THAT(unique.errors, Not(IsEmpty()));
    for (const auto& [pointer, message] : unique.errors)
        EXPECT_THAT(message, Not(HasSubstr("hunter")));
}

TEST(Config, FormatIsAnAnnotationOnly) {
    expect_json(
        complete(
            R"({"a": 1, "b": "no date", "format": null})",
            R"({"properties": {"a": {"format": "date"}, "b": {"format": "date"}, "format": {"type": "null", "format": "time"}}})"
        ),
        R"({"a": 1, "b": "no date", "format": null})"
    );
}

TEST(Config, LongTextUnderAPatternIsRefusedInsteadOfOverflowingTheStack) {
    const std::string schema =
        R"({"properties": {"a": {"anyOf": [{"pattern": "^(a|b)*$"}]}, "b": {}}})";
    const std::string fits(2048, 'a'), exceeds(2049, 'a'), large(64U << 10, 'a');
    EXPECT_THAT(complete(R"({"a": ")" + fits + "\"}", schema).errors, IsEmpty());
    EXPECT_THAT(
        complete(R"({"a": ")" + exceeds + "\"}", schema).errors,
        ElementsAre(Pair("/a", HasSubstr("2048 bytes")))
    );
    EXPECT_THAT(complete(R"({"b": ")" + large + "\"}", schema).errors, IsEmpty());
    EXPECT_THAT(
        complete(R"({"b": ")" + large + "a\"}", schema).errors,
        ElementsAre(Pair("/b", HasSubstr("64 KiB")))
    );
}

TEST(Config, BrokenInputsAreErrorsNotCrashes) {
    EXPECT_THAT(complete("{", "{}").errors, ElementsAre(Pair("", HasSubstr("is no JSON"))));
    EXPECT_THAT(
        complete("{}", "{").errors, ElementsAre(Pair("", HasSubstr("the component's own schema")))
    );
    EXPECT_THAT(
        complete("[]", R"({"type": "object"})").errors,
        ElementsAre(Pair("", "expected object, found a sequence"))
    );
    EXPECT_THAT(
        complete(std::string((1U << 20) + 1, ' '), "{}").errors,
        ElementsAre(Pair("", HasSubstr("1 MiB")))
    );
    EXPECT_THAT(
        complete(
            R"({"a": 18446744073709551615})",
            R"({"properties": {"a": {"type": "number", "maximum": 5}}})"
        )
            .errors,
        ElementsAre(Pair("/a", HasSubstr("less than or equal to 5")))
    );
}

TEST(Config, ADefaultThatBreaksItsOwnSchemaIsTheComponentsFault) {
    EXPECT_THAT(
        complete("{}", R"({"properties": {"a": {"type": "integer", "default": "x"}}})").errors,
        ElementsAre(Pair("/a", HasSubstr("own default does not fit")))
    );
}

TEST(Schema, DefectsAreFoundBeforeAnyValue) {
    const auto defect = [](const char* text) {
        auto schema = ConfigSchema::parse(text);
        return schema ? std::string() : schema.error().detail;
    };
    EXPECT_EQ(defect(kSchema), "");
    EXPECT_EQ(defect(R"({"items": [{"type": ["string", "null"]}, true]})"), "");
    EXPECT_EQ(defect(R"({"properties": {"next": {"$ref": "#"}}})"), "");
    EXPECT_THAT(defect("[]"), HasSubstr("must be a JSON object"));
    EXPECT_THAT(defect("{"), HasSubstr("is no JSON"));
    EXPECT_THAT(
        defect(R"({"properties": {"a": {"type": "strin"}}})"),
        HasSubstr("/properties/a/type: unknown type \"strin\" (did you mean \"string\"?)")
    );
    EXPECT_THAT(defect(R"({"type": 3})"), HasSubstr("/type: "));
    EXPECT_THAT(
        defect(R"({"pattern": "("})"),
        HasSubstr("/pattern: the pattern \"(\" is no regular expression")
    );
    EXPECT_THAT(defect(R"({"patternProperties": {"[": {}}})"), HasSubstr("no regular expression"));
    EXPECT_THAT(defect(R"({"properties": []})"), HasSubstr("/properties: must be an object"));
    EXPECT_THAT(
        defect(R"({"properties": {"a": 1}})"), HasSubstr("/properties/a: a schema must be")
    );
    EXPECT_THAT(defect(R"({"items": [1]})"), HasSubstr("/items/0"));
    EXPECT_THAT(defect(R"({"anyOf": []})"), HasSubstr("/anyOf: must be an array"));
    EXPECT_THAT(defect(R"({"allOf": [{"not": 1}]})"), HasSubstr("/allOf/0/not"));
    EXPECT_THAT(defect(R"({"minimum": "x"})"), Not(IsEmpty()));
    EXPECT_THAT(defect(R"({"required": [1]})"), Not(IsEmpty()));
    EXPECT_THAT(defect(R"({"$ref": "http://example.com/s"})"), HasSubstr("within this document"));
    EXPECT_THAT(defect(R"({"$ref": "#/definitions/gone"})"), HasSubstr("within this document"));
    EXPECT_THAT(defect(R"({"$ref": "#"})"), HasSubstr("without end"));
    EXPECT_THAT(defect(R"({"allOf": [{"$ref": "#"}]})"), HasSubstr("without end"));
    EXPECT_THAT(
        defect(R"({"properties": {"a": {"$ref": "#/definitions/x"}},
        "definitions": {"x": {"$ref": "#/definitions/y"}, "y": {"anyOf": [{"$ref": "#/definitions/x"}]}}})"
        ),
        HasSubstr("without end")
    );
    std::string deep;
    for (int i = 0; i < 25; ++i) deep += R"({"items":)";
    EXPECT_THAT(defect((deep + "{}" + std::string(25, '}')).c_str()), "");
}

}  // namespace
}  // namespace annal
