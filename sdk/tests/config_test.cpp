#include <gtest/gtest.h>
#include <annal/sdk/config.hpp>

namespace {

struct Settings {
    std::string url, token, spare;
    std::int64_t batch = 0;
    bool sync = false;
    double ratio = 0;
    std::vector<std::string> tags;
    annal::StringMap headers;
    static auto config() {
        return std::tuple{
            annal::required("url", &Settings::url).range(1, 20).about("where to"),
            annal::secret("token", &Settings::token),
            annal::optional("batch", &Settings::batch, 500).range(1, 1000),
            annal::optional("sync", &Settings::sync, true),
            annal::optional("ratio", &Settings::ratio, 0.5),
            annal::optional("tags", &Settings::tags, {"a", "b"}),
            annal::optional("headers", &Settings::headers, {{"A", "b"}}),
            annal::optional_secret("spare", &Settings::spare).range(1, 9),
        };
    }
};
struct Nothing {};

TEST(Config, MakesASchemaFromTheMembers) {
    EXPECT_EQ(
        annal::config_schema<Settings>(),
        R"({"$schema":"http://json-schema.org/draft-07/schema#","type":"object","additionalProperties":false,"properties":{)"
        R"("url":{"type":"string","minLength":1,"maxLength":20,"description":"where to"},)"
        R"("token":{"type":"string","x-secret":true},)"
        R"("batch":{"type":"integer","minimum":1,"maximum":1000,"default":500},)"
        R"("sync":{"type":"boolean","default":true},)"
        R"("ratio":{"type":"number","default":0.5},)"
        R"("tags":{"type":"array","items":{"type":"string"},"default":["a","b"]},)"
        R"("headers":{"type":"object","additionalProperties":{"type":"string"},"default":{"A":"b"}},)"
        R"("spare":{"type":"string","minLength":1,"maxLength":9,"x-secret":true}},"required":["url","token"]})"
    );
    annal::Json json;
    annal::Json::Failure failure;
    EXPECT_TRUE(annal::Json::parse(annal::config_schema<Nothing>(), json, failure));
}

TEST(Config, ReadsValuesAndDefaults) {
    Settings settings;
    ASSERT_TRUE(
        annal::read_config(settings, R"({"url":"x","token":"t","ratio":2,"tags":["z"]})").ok()
    );
    EXPECT_EQ(settings.url, "x");
    EXPECT_EQ(settings.batch, 500);
    EXPECT_TRUE(settings.sync);
    EXPECT_EQ(settings.ratio, 2.0);
    EXPECT_EQ(settings.tags, std::vector<std::string>{"z"});
    EXPECT_EQ(settings.headers, (annal::StringMap{{"A", "b"}}));
    EXPECT_EQ(settings.spare, "");
    ASSERT_TRUE(annal::read_config(
                    settings, R"({"url":"x","token":"t","headers":{"X":"1","Y":"2"},"spare":"s"})"
    )
                    .ok());
    EXPECT_EQ(settings.headers, (annal::StringMap{{"X", "1"}, {"Y", "2"}}));
    EXPECT_EQ(settings.spare, "s");
    EXPECT_FALSE(annal::read_config(settings, R"({"url":"x","token":"t","spare":""})").ok());
}

TEST(Config, ReportsEveryErrorWithItsPointer) {
    Settings settings;
    const annal::Status status = annal::read_config(
        settings,
        R"({"token":1,"batch":0,"sync":"yes","ratio":"x","tags":[1],"headers":{"A":1},"urll":"x"})"
    );
    EXPECT_EQ(status.code(), ANNAL_UNPROCESSABLE);
    EXPECT_EQ(
        status.text(),
        "configuration: /url: missing; /token: must be a string; /batch: must be from 1 to 1000; "
        "/sync: must be true or "
        "false; /ratio: must be a number; /tags: must be a list of strings; "
        "/headers: must be an object of strings; /urll: unknown key"
    );
}

TEST(Config, RefusesWhatIsNoObject) {
    Nothing nothing;
    EXPECT_TRUE(annal::read_config(nothing, "{}").ok());
    EXPECT_TRUE(annal::read_config(nothing, "").ok());
    EXPECT_EQ(annal::read_config(nothing, "[]").code(), ANNAL_INVALID);
    EXPECT_EQ(annal::read_config(nothing, "{").code(), ANNAL_INVALID);
    EXPECT_EQ(annal::read_config(nothing, R"({"a":1})").code(), ANNAL_UNPROCESSABLE);
    Settings settings;
    EXPECT_FALSE(annal::read_config(settings, R"({"url":"","token":"t"})").ok());
    EXPECT_FALSE(annal::read_config(settings, R"({"url":"123456789012345678901","token":"t"})").ok()
    );
}

struct Sited {
    std::string site;
    static auto config() {
        return std::tuple{annal::optional("site", &Sited::site, "eu").one_of({"eu", "us"})};
    }
};

TEST(Config, TakesOneOfSeveralWords) {
    EXPECT_NE(
        annal::config_schema<Sited>().find(
            R"("site":{"type":"string","enum":["eu","us"],"default":"eu"})"
        ),
        std::string::npos
    );
    Sited sited;
    EXPECT_TRUE(annal::read_config(sited, "{}").ok());
    EXPECT_EQ(sited.site, "eu");
    EXPECT_TRUE(annal::read_config(sited, R"({"site":"us"})").ok());
    EXPECT_EQ(sited.site, "us");
    EXPECT_EQ(
        annal::read_config(sited, R"({"site":"mars"})").text(),
        "configuration: /site: must be one of eu, us"
    );
}

}  // namespace
