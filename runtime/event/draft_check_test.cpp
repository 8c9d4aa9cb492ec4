#include "runtime/event/draft_check.h"

#include <gtest/gtest.h>

#include "runtime/event/event_json.h"

namespace annal {
namespace {

using Issues = std::vector<std::string>;

EventDraft valid() {
    EventDraft draft;
    draft[Column::action] = "user.created";
    draft[Column::actor_type] = "user";
    return draft;
}

Issues issues_of(const EventDraft& draft) {
    Issues out;
    for (const Issue& issue : check_draft(draft)) {
        EXPECT_FALSE(issue.detail.empty());
        out.push_back(issue.code + " " + issue.pointer);
    }
    return out;
}

Issues issues_with(Column column, std::string_view text) {
    EventDraft draft = valid();
    draft[column] = text;
    return issues_of(draft);
}

TEST(CheckDraftTest, TakesWhatIsValid) {
    EXPECT_EQ(issues_of(valid()), Issues{});
    EventDraft draft = valid();
    for (std::size_t i = 0; i < kColumns; ++i) {
        if (draft.columns[i].is_null()) {
            draft.columns[i] = "";
        }
    }
    draft[Column::ip] = "::1";
    draft[Column::metadata] = R"({"a":[1.10]})";
    draft.idempotency_key = "k";
    EXPECT_EQ(issues_of(draft), Issues{});
}

TEST(CheckDraftTest, RequiresActionAndActorType) {
    EXPECT_EQ(
        issues_of(EventDraft()), (Issues{"missing_field /action", "missing_field /actor_type"})
    );
    EXPECT_EQ(issues_with(Column::actor_type, ""), Issues{"missing_field /actor_type"});
}

TEST(CheckDraftTest, ChecksEveryColumnsText) {
    for (std::size_t i = 0; i < kColumns; ++i) {
        const auto column = static_cast<Column>(i);
        const std::string pointer = "/" + std::string(name(column));
        EXPECT_EQ(issues_with(column, "\xff"), Issues{"bad_utf8 " + pointer});
        EXPECT_EQ(
            issues_with(column, std::string_view("a\0b", 3)), Issues{"nul_character " + pointer}
        );
        EXPECT_EQ(
            issues_with(column, std::string(size_max(column) + 1, 'x')),
            Issues{"too_long " + pointer}
        );
    }
}

TEST(CheckDraftTest, ChecksGrammars) {
    EXPECT_EQ(issues_with(Column::action, "Nope"), Issues{"bad_action /action"});
    EXPECT_EQ(issues_with(Column::ip, "nowhere"), Issues{"bad_ip /ip"});
}

TEST(CheckDraftTest, MetadataIsOneJsonObject) {
    for (const char* bad : {"", "[]", "\"x\"", "null", " {}", "{}\n"}) {
        EXPECT_EQ(issues_with(Column::metadata, bad), Issues{"wrong_type /metadata"}) << bad;
    }
    for (const char* bad : {"{}{}", "{\"a\"}", "{\"a\":01}", "{a}"}) {
        EXPECT_EQ(issues_with(Column::metadata, bad), Issues{"malformed /metadata"}) << bad;
    }
    EXPECT_EQ(
        issues_with(Column::metadata, R"({"a":{"b":1,"\u0062":2}})"),
        Issues{"duplicate_key /metadata/a/b"}
    );
    EXPECT_EQ(
        issues_with(Column::metadata, R"({"a":"\u0000"})"), Issues{"nul_character /metadata/a"}
    );
    std::string deep = "1";
    for (int i = 0; i < 17; ++i) {
        deep = "{\"a\":" + deep + "}";
    }
    EXPECT_EQ(issues_with(Column::metadata, deep).size(), 1U);
    EXPECT_EQ(issues_with(Column::metadata, deep.substr(5, deep.size() - 6)), Issues{});
}

TEST(CheckDraftTest, ChecksTheIdempotencyKey) {
    EventDraft draft = valid();
    draft.idempotency_key = "";
    EXPECT_EQ(issues_of(draft), Issues{"missing_field /idempotency_key"});
    const std::string long_key(257, 'k');
    draft.idempotency_key = long_key;
    EXPECT_EQ(issues_of(draft), Issues{"too_long /idempotency_key"});
    draft.idempotency_key = "\xff";
    EXPECT_EQ(issues_of(draft), Issues{"bad_utf8 /idempotency_key"});
}

TEST(ApplyDefaultsTest, DoesWhatTheReaderDoes) {
    Arena arena;
    EventDraft draft = valid();
    apply_defaults(draft, arena);
    EXPECT_EQ(draft[Column::auth_type].view(), "user");
    EXPECT_EQ(draft[Column::metadata].view(), "{}");
    EXPECT_TRUE(draft[Column::description].is_null());

    for (const char* metadata :
         {R"({"description":"a \u2026"})",
          R"({"description":7})",
          R"({"x":{"description":"y"}})",
          R"({"description":"","x":1})"}) {
        const std::string body = R"({"action":"user.created","actor_type":"user","metadata":)" +
                                 std::string(metadata) + "}";
        const ParsedEvents parsed = parse_events(body, "p");
        EventDraft own = valid();
        own[Column::metadata] = metadata;
        apply_defaults(own, arena);
        EXPECT_EQ(own.columns, parsed.drafts.at(0).columns) << metadata;
    }
}

TEST(ApplyDefaultsTest, KeepsWhatIsThere) {
    Arena arena;
    EventDraft draft = valid();
    draft[Column::auth_type] = "token";
    draft[Column::description] = "own";
    draft[Column::metadata] = R"({"description":"other"})";
    apply_defaults(draft, arena);
    EXPECT_EQ(draft[Column::auth_type].view(), "token");
    EXPECT_EQ(draft[Column::description].view(), "own");
}

}  // namespace
}  // namespace annal
