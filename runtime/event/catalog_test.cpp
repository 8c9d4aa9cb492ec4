#include "runtime/event/catalog.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace annal {

extern const std::string_view kCatalogYaml;

namespace {

using Issues = std::vector<std::string>;

Issues strict_issues(std::string_view action, std::string_view metadata) {
    EventDraft draft;
    draft[Column::action] = action;
    draft[Column::actor_type] = "user";
    draft[Column::metadata] = metadata;
    Issues out;
    for (const Issue& issue : Catalog::shipped().strict_check(draft)) {
        EXPECT_FALSE(issue.detail.empty());
        out.push_back(issue.code + " " + issue.pointer);
    }
    return out;
}

std::string one_entry(std::string_view more) {
    std::string out = "events:\n  - action: a.b\n    category: c\n    description: d\n";
    return out + "    severity: info\n    basis: sample\n" + std::string(more);
}

TEST(CatalogTest, ShipsNinetyNineActions) {
    const Catalog& catalog = Catalog::shipped();
    EXPECT_EQ(catalog.size(), 99U);
    EXPECT_TRUE(catalog.known("organization.created"));
    EXPECT_TRUE(catalog.known("security.2fa_enabled"));
    EXPECT_FALSE(catalog.known("organization.exploded"));
    EXPECT_FALSE(catalog.known(""));
    const CatalogEntry* const entry = catalog.find("webhook.delivery.replayed");
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->category, "webhooks");
    EXPECT_EQ(entry->severity, "info");
    ASSERT_EQ(entry->fields.size(), 2U);
    EXPECT_EQ(entry->fields[1].type, CatalogField::Type::integer);
    EXPECT_TRUE(entry->fields[1].shown);
}

TEST(CatalogTest, TheBuiltInCopyIsTheFile) {
    std::ifstream file(ANNAL_SOURCE_DIR "/catalog/catalog.yaml");
    ASSERT_TRUE(file.is_open());
    std::stringstream text;
    text << file.rdbuf();
    EXPECT_EQ(kCatalogYaml, text.str());
}

TEST(CatalogTest, EverySampleIsStrictlyValid) {
    std::ifstream file(ANNAL_SOURCE_DIR "/examples/events/authio.ndjson");
    std::stringstream text;
    text << file.rdbuf();
    const std::string lines = text.str();
    const ParsedEvents parsed = parse_ndjson(lines, "proj_2eh2n8gh33c0hxs1", 0);
    ASSERT_EQ(parsed.drafts.size(), 40U);
    for (const EventDraft& draft : parsed.drafts) {
        EXPECT_TRUE(Catalog::shipped().strict_check(draft).empty()) << draft[Column::action].view();
    }
}

TEST(CatalogTest, StrictRefusesUnknownActions) {
    EXPECT_EQ(strict_issues("organization.exploded", "{}"), Issues{"unknown_action /action"});
}

TEST(CatalogTest, StrictHoldsShownFieldsToTheirTypes) {
    EXPECT_EQ(strict_issues("organization.created", R"({"name":"A","slug":"a"})"), Issues{});
    EXPECT_EQ(
        strict_issues("organization.created", R"({"name":5,"slug":["a"]})"),
        (Issues{"wrong_type /metadata/name", "wrong_type /metadata/slug"})
    );
    EXPECT_EQ(
        strict_issues("organization.created", R"({"n\u0061me":true})"),
        Issues{"wrong_type /metadata/name"}
    );
}

TEST(CatalogTest, StrictKnowsEveryType) {
    const char* const replayed = "webhook.delivery.replayed";
    EXPECT_EQ(strict_issues(replayed, R"({"original_attempts":-12345678901234567890})"), Issues{});
    for (const char* bad : {"5.0", "5e0", "\"5\"", "[5]", "true"}) {
        EXPECT_EQ(
            strict_issues(replayed, "{\"original_attempts\":" + std::string(bad) + "}"),
            Issues{"wrong_type /metadata/original_attempts"}
        ) << bad;
    }
    EXPECT_EQ(strict_issues("organization.updated", R"({"fields":[]})"), Issues{});
    EXPECT_EQ(strict_issues("organization.updated", R"({"fields":["a","b"]})"), Issues{});
    for (const char* bad : {"[1]", "[\"a\",null]", "\"a\"", "{}", "[[\"a\"]]"}) {
        EXPECT_EQ(
            strict_issues("organization.updated", "{\"fields\":" + std::string(bad) + "}"),
            Issues{"wrong_type /metadata/fields"}
        ) << bad;
    }
    const char* const recovery = "recovery.request.created";
    EXPECT_EQ(strict_issues(recovery, R"({"unlocks_at":"2026-05-15T03:00:00Z"})"), Issues{});
    for (const char* bad : {"\"soon\"", "1778784133"}) {
        EXPECT_EQ(
            strict_issues(recovery, "{\"unlocks_at\":" + std::string(bad) + "}"),
            Issues{"wrong_type /metadata/unlocks_at"}
        ) << bad;
    }
}

TEST(CatalogTest, StrictAllowsWhatNoSampleShows) {
    EXPECT_EQ(
        strict_issues("organization.created", R"({"extra":[{"name":5}],"name":null})"), Issues{}
    );
    // `score` is named in prose only.
    EXPECT_EQ(strict_issues("auth.signin_attempt", R"({"score":"high"})"), Issues{});
    EXPECT_EQ(strict_issues("api_key.created", R"({"anything":1})"), Issues{});
}

TEST(CatalogTest, RefusesAMalformedFile) {
    EXPECT_TRUE(Catalog::parse(one_entry("")));
    for (const std::string& bad :
         {std::string(),
          std::string("events: 5"),
          std::string("events: [5]"),
          std::string("a: [b"),
          std::string("events:\n  - action: Nope\n"),
          one_entry("    metadata: {x: {type: float}}\n"),
          one_entry("    metadata: {x: {}}\n"),
          one_entry("  - action: a.b\n    category: c\n    description: d\n    severity: info\n"
                    "    basis: text\n"),
          std::string("events:\n  - action: a.b\n    category: c\n")}) {
        const auto parsed = Catalog::parse(bad);
        ASSERT_FALSE(parsed) << bad;
        EXPECT_EQ(parsed.error().code, Errc::invalid);
        EXPECT_NE(parsed.error().detail.find("line"), std::string::npos);
    }
}

}  // namespace
}  // namespace annal
