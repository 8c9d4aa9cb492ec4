#include "runtime/event/event_json.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/core/limits.h"
#include "runtime/core/time_text.h"

namespace annal {
namespace {

using Status = ParsedEvents::Status;

constexpr std::string_view kActor = R"("actor":{"type":"user","id":"usr_1"})";

/// An event with action and actor, and `more` members.
std::string event_with(std::string_view more) {
    std::string out = R"({"action":"user.created",)";
    out += kActor;
    out += more.empty() ? "" : ",";
    out += more;
    return out + "}";
}

std::string event_with_metadata(std::string_view metadata) {
    return event_with(R"("metadata":)" + std::string(metadata));
}

std::string repeat(std::string_view text, std::size_t count) {
    std::string out;
    for (std::size_t i = 0; i < count; ++i) {
        out += text;
    }
    return out;
}

/// "code pointer" of each issue.
std::vector<std::string> issues_of(const ParsedEvents& parsed) {
    std::vector<std::string> out;
    for (const Issue& issue : parsed.issues) {
        out.push_back(issue.code + " " + issue.pointer);
    }
    return out;
}

std::vector<std::string> issues_of(std::string_view body) {
    const ParsedEvents parsed = parse_events(body, "proj_a");
    EXPECT_EQ(parsed.status, parsed.issues.empty() ? Status::ok : Status::invalid) << body;
    EXPECT_EQ(parsed.drafts.empty(), !parsed.issues.empty());
    for (const Issue& issue : parsed.issues) {
        EXPECT_FALSE(issue.detail.empty());
        EXPECT_GE(issue.offset, 0);
        EXPECT_LT(issue.offset, static_cast<std::int64_t>(body.size()));
    }
    return issues_of(parsed);
}

using Issues = std::vector<std::string>;

/// Reads one valid event and shows its draft to `look`.
template <class Look>
void read(std::string_view body, Look&& look) {
    const ParsedEvents parsed = parse_events(body, "proj_a");
    ASSERT_EQ(parsed.status, Status::ok) << body << ": " << parsed.issues[0].detail;
    ASSERT_EQ(parsed.drafts.size(), 1U);
    look(parsed.drafts[0]);
}

TEST(EventJsonTest, ReadsEveryField) {
    const std::string body = R"({
        "external_id": "ext", "action": "user.created", "actor_type": "api_key", "actor_id": "k",
        "actor_email": "a@example.com", "auth_type": "token", "user_id": "u", "organization_id": "o",
        "client_id": "c", "issuer_id": "i", "agent_id": "g", "target_type": "t", "target_id": "x",
        "ip": "192.0.2.1", "user_agent": "curl", "description": "d", "metadata": {"a": 1},
        "occurred_at": "2026-05-14T18:42:13.001+02:00", "project_id": "proj_a",
        "idempotency_key": "once"})";
    read(body, [](const EventDraft& draft) {
        const std::array<const char*, kColumns> wanted = {
            "ext",
            "user.created",
            "api_key",
            "k",
            "a@example.com",
            "token",
            "u",
            "o",
            "c",
            "i",
            "g",
            "t",
            "x",
            "192.0.2.1",
            "curl",
            "d",
            R"({"a": 1})"};
        for (std::size_t i = 0; i < kColumns; ++i) {
            EXPECT_EQ(draft.columns[i].view(), wanted[i]) << name(static_cast<Column>(i));
        }
        EXPECT_EQ(format_time(draft.occurred_at), "2026-05-14T16:42:13.001000Z");
        EXPECT_EQ(draft.idempotency_key.view(), "once");
    });
}

TEST(EventJsonTest, FillsInDefaults) {
    read(event_with(""), [](const EventDraft& draft) {
        EXPECT_EQ(draft[Column::auth_type].view(), "user");
        EXPECT_EQ(draft[Column::metadata].view(), "{}");
        EXPECT_EQ(draft.occurred_at, kNoTime);
        for (const Column column :
             {Column::external_id,
              Column::actor_email,
              Column::user_id,
              Column::organization_id,
              Column::client_id,
              Column::issuer_id,
              Column::agent_id,
              Column::target_type,
              Column::target_id,
              Column::ip,
              Column::user_agent,
              Column::description}) {
            EXPECT_TRUE(draft[column].is_null()) << name(column);
        }
        EXPECT_TRUE(draft.idempotency_key.is_null());
    });
}

TEST(EventJsonTest, NullIsAbsent) {
    const std::string body = R"({"action":"a.b","actor":{"type":"user","id":null,"email":null},
        "external_id":null,"actor_type":null,"actor_id":null,"actor_email":null,"auth_type":null,
        "user_id":null,"organization_id":null,"client_id":null,"issuer_id":null,"agent_id":null,
        "target_type":null,"target_id":null,"ip":null,"user_agent":null,"description":null,
        "metadata":null,"occurred_at":null,"created_at":null,"project_id":null,"seq":null,"id":null,
        "idempotency_key":null})";
    read(body, [](const EventDraft& draft) {
        EXPECT_EQ(draft[Column::actor_type].view(), "user");
        EXPECT_TRUE(draft[Column::actor_id].is_null());
        EXPECT_EQ(draft[Column::metadata].view(), "{}");
        EXPECT_TRUE(draft[Column::ip].is_null());
    });
    EXPECT_EQ(
        issues_of(R"({"action":null,"actor":null})"),
        (Issues{"missing_field /action", "missing_field /actor"})
    );
}

TEST(EventJsonTest, EmptyTextIsKept) {
    read(
        event_with(R"("user_id":"","description":"","metadata":{"description":"x"})"),
        [](const EventDraft& draft) {
            EXPECT_TRUE(draft[Column::user_id] == Text(""));
            EXPECT_TRUE(draft[Column::description] == Text(""));
        }
    );
}

TEST(EventJsonTest, TakesTheEnvelope) {
    const std::string body = event_with(
        R"("id":"evt_01HX","created_at":"2026-05-14T18:42:13.001Z","seq":17,"project_id":"proj_a")"
    );
    read(body, [](const EventDraft& draft) {
        EXPECT_EQ(draft[Column::external_id].view(), "evt_01HX");
        EXPECT_EQ(format_time(draft.occurred_at), "2026-05-14T18:42:13.001000Z");
    });
}

TEST(EventJsonTest, ExplicitValuesWinOverTheEnvelope) {
    const std::string body =
        event_with(R"("external_id":"mine","id":"evt_01HX","occurred_at":"2020-01-01T00:00:00Z",)"
                   R"("created_at":"2026-05-14T18:42:13.001Z")");
    read(body, [](const EventDraft& draft) {
        EXPECT_EQ(draft[Column::external_id].view(), "mine");
        EXPECT_EQ(format_time(draft.occurred_at), "2020-01-01T00:00:00.000000Z");
    });
}

TEST(EventJsonTest, AnExportCanBePostedAgain) {
    Event event;
    event.id = EventId::make(1'778'784'133'001'000, 7);
    event.seq = 3;
    event.created_at = 1'778'784'133'001'000;
    event.project_id = "proj_a";
    for (std::size_t i = 0; i < kColumns; ++i) {
        event.columns[i] = name(static_cast<Column>(i));
    }
    event[Column::action] = "user.created";
    event[Column::ip] = "::1";
    event[Column::metadata] = R"({"k":1.10})";
    std::string line;
    append_canonical_json(line, event);
    read(line, [&](const EventDraft& draft) {
        EXPECT_EQ(draft.columns, event.columns);
        EXPECT_EQ(draft.occurred_at, event.created_at);
    });
    event[Column::external_id] = Text();
    line.clear();
    append_canonical_json(line, event);
    read(line, [&](const EventDraft& draft) {
        EXPECT_EQ(draft[Column::external_id].view(), event.id.text());
    });
}

TEST(EventJsonTest, ActorIsNestedOrFlat) {
    for (const char* body : {
             R"({"action":"a.b","actor":{"type":"user","id":"u","email":"e"}})",
             R"({"action":"a.b","actor_type":"user","actor_id":"u","actor_email":"e"})",
             R"({"actor_id":"u","actor":{"type":"user","email":"e"},"action":"a.b"})",
             R"({"action":"a.b","actor":{"email":"e","id":"u","type":"user"},"actor_type":"user"})",
             R"({"action":"a.b","actor_email":"e","actor_id":"u","actor_type":"user","actor":null})",
         }) {
        read(body, [&](const EventDraft& draft) {
            EXPECT_EQ(draft[Column::actor_type].view(), "user") << body;
            EXPECT_EQ(draft[Column::actor_id].view(), "u") << body;
            EXPECT_EQ(draft[Column::actor_email].view(), "e") << body;
        });
    }
    EXPECT_EQ(
        issues_of(R"({"action":"a.b","actor_type":"system","actor":{"type":"user"}})"),
        Issues{"contradiction /actor_type"}
    );
}

TEST(EventJsonTest, MetadataIsKeptByteForByte) {
    for (const char* metadata : {
             R"({})",
             R"({ })",
             "{\n  \"price\": 1.10,\r\n\t\"big\": 12345678901234567890 }",
             R"({"n":[1.0,1e5,-0,0.1000,1E+2,123456789012345678901234567890.5]})",
             R"({"esc":"\u00e9\/\ud83d\ude00","raw":"é…😀"})",
             R"({"b":1,"a":{"d":null,"c":[true,false,[],{}]}})",
         }) {
        read(event_with_metadata(metadata), [&](const EventDraft& draft) {
            EXPECT_EQ(draft[Column::metadata].view(), metadata);
        });
    }
}

TEST(EventJsonTest, UnescapesText) {
    read(
        event_with(R"("user_id":"\"\\\/\b\f\n\r\t\u00e9\u2026\ud83d\ude00\u001f.")"),
        [](const EventDraft& draft) {
            EXPECT_EQ(draft[Column::user_id].view(), "\"\\/\b\f\n\r\té…😀\x1f.");
        }
    );
    read(R"({"\u0061ction":"a.b","actor":{"\u0074ype":"user"}})", [](const EventDraft& draft) {
        EXPECT_EQ(draft[Column::action].view(), "a.b");
        EXPECT_EQ(draft[Column::actor_type].view(), "user");
    });
}

TEST(EventJsonTest, DescriptionFallsBackToMetadata) {
    read(
        event_with_metadata(R"({"x":{"description":"no"},"description":"a \u2026"})"),
        [](const EventDraft& draft) { EXPECT_EQ(draft[Column::description].view(), "a …"); }
    );
    read(
        event_with(R"("description":"own","metadata":{"description":"other"})"),
        [](const EventDraft& draft) { EXPECT_EQ(draft[Column::description].view(), "own"); }
    );
    for (const char* metadata :
         {R"({"description":5})",
          R"({"description":null})",
          R"({"description":{"description":"x"}})",
          R"({"d":"x"})"}) {
        read(event_with_metadata(metadata), [](const EventDraft& draft) {
            EXPECT_TRUE(draft[Column::description].is_null());
        });
    }
}

TEST(EventJsonTest, ALongFallbackDescriptionIsCutBetweenCharacters) {
    const std::size_t limit = size_max(Column::description);
    const std::string metadata = R"({"description":"x)" + repeat("…", limit) + "\"}";
    read(event_with_metadata(metadata), [&](const EventDraft& draft) {
        const auto description = draft[Column::description].view();
        EXPECT_LE(description.size(), limit);
        EXPECT_GT(description.size(), limit - 3);
        EXPECT_TRUE(description.ends_with("…"));
    });
}

TEST(EventJsonTest, ReadsABatch) {
    const std::string body =
        R"( {"events": [ )" + event_with("") + " , " + event_with(R"("user_id":"u")") + " ] } \n";
    const ParsedEvents parsed = parse_events(body, "proj_a");
    EXPECT_EQ(parsed.status, Status::ok);
    EXPECT_FALSE(parsed.single);
    ASSERT_EQ(parsed.drafts.size(), 2U);
    EXPECT_EQ(parsed.drafts[1][Column::user_id].view(), "u");
    EXPECT_EQ(parsed.indexes, (std::vector<std::uint32_t>{0, 1}));
    EXPECT_TRUE(parse_events(event_with(""), "proj_a").single);
}

TEST(EventJsonTest, ABatchNamesEveryInvalidEventAndKeepsTheOthers) {
    const std::string body = R"({"events":[)" + event_with("") + R"(,{"action":"x"},5,)" +
                             event_with("") + "," + event_with(R"("ip":"x","zone":1)") + "]}";
    const ParsedEvents parsed = parse_events(body, "proj_a");
    EXPECT_EQ(parsed.status, Status::invalid);
    EXPECT_EQ(parsed.indexes, (std::vector<std::uint32_t>{0, 3}));
    EXPECT_EQ(
        issues_of(parsed),
        (Issues{
            "bad_action /action",
            "missing_field /actor",
            "wrong_type ",
            "bad_ip /ip",
            "unknown_field /zone"})
    );
    std::vector<std::uint32_t> indexes;
    for (const Issue& issue : parsed.issues) {
        indexes.push_back(issue.index);
    }
    EXPECT_EQ(indexes, (std::vector<std::uint32_t>{1, 1, 2, 4, 4}));
    EXPECT_EQ(body.substr(static_cast<std::size_t>(parsed.issues[3].offset), 3), "\"x\"");
}

TEST(EventJsonTest, ABatchHasEventsAndNothingElse) {
    EXPECT_EQ(issues_of(R"({"events":[]})"), Issues{"empty /events"});
    EXPECT_EQ(issues_of(R"({"events":{}})"), Issues{"wrong_type /events"});
    EXPECT_EQ(issues_of(R"({"events":null})"), Issues{"wrong_type /events"});
    EXPECT_EQ(issues_of(R"({"partial":true,"events":[]})"), Issues{"unknown_field /events"});
    for (const char* body : {R"([])", R"("x")", "5", "true", "null"}) {
        EXPECT_EQ(issues_of(body), Issues{"wrong_type "}) << body;
    }
    const std::string extra = R"({"events":[)" + event_with("") + R"(],"partial":true})";
    const ParsedEvents parsed = parse_events(extra, "proj_a");
    EXPECT_EQ(issues_of(parsed), Issues{"unknown_field /partial"});
    EXPECT_EQ(parsed.issues[0].index, Issue::kWhole);
    EXPECT_EQ(parsed.status, Status::invalid);
    const std::string twice = R"({"events":[)" + event_with("") + R"(],"events":[]})";
    EXPECT_EQ(
        issues_of(parse_events(twice, "proj_a")),
        (Issues{"duplicate_key /events", "unknown_field /events"})
    );
}

TEST(EventJsonTest, ABatchEndsAtItsLimit) {
    const auto batch_of = [](std::size_t count) {
        return R"({"events":[)" + repeat(event_with("") + ",", count - 1) + event_with("") + "]}";
    };
    const ParsedEvents full = parse_events(batch_of(kBatchEventsMax), "proj_a");
    EXPECT_EQ(full.status, Status::ok);
    EXPECT_EQ(full.drafts.size(), kBatchEventsMax);
    const ParsedEvents over = parse_events(batch_of(kBatchEventsMax + 1), "proj_a");
    EXPECT_EQ(over.status, Status::too_many);
    EXPECT_TRUE(over.drafts.empty());
    EXPECT_EQ(issues_of(over), Issues{"too_many /events"});
    EXPECT_NE(over.issues[0].detail.find("10001"), std::string::npos);
}

TEST(EventJsonTest, RequiresActionAndActor) {
    EXPECT_EQ(issues_of("{}"), (Issues{"missing_field /action", "missing_field /actor"}));
    EXPECT_EQ(issues_of(R"({"action":"a.b","actor":{}})"), Issues{"missing_field /actor/type"});
    EXPECT_EQ(
        issues_of(R"({"action":"a.b","actor":{"id":"x"}})"), Issues{"missing_field /actor/type"}
    );
    EXPECT_EQ(issues_of(R"({"action":"a.b","actor_id":"x"})"), Issues{"missing_field /actor_type"});
    EXPECT_EQ(
        issues_of(R"({"action":"a.b","actor":{"type":""}})"), Issues{"missing_field /actor/type"}
    );
}

TEST(EventJsonTest, AFieldOfTheWrongTypeIsNotMissingToo) {
    EXPECT_EQ(
        issues_of(R"({"action":5,"actor":"user"})"),
        (Issues{"wrong_type /action", "wrong_type /actor"})
    );
    EXPECT_EQ(
        issues_of(R"({"action":["a.b"],"actor":{"type":{}}})"),
        (Issues{"wrong_type /action", "wrong_type /actor/type"})
    );
}

TEST(EventJsonTest, RefusesWrongTypes) {
    for (const char* member :
         {R"("user_id":5)", R"("user_id":true)", R"("user_id":{})", R"("user_id":[])"}) {
        EXPECT_EQ(issues_of(event_with(member)), Issues{"wrong_type /user_id"}) << member;
    }
    EXPECT_EQ(issues_of(event_with(R"("metadata":[])")), Issues{"wrong_type /metadata"});
    EXPECT_EQ(issues_of(event_with(R"("metadata":"{}")")), Issues{"wrong_type /metadata"});
    EXPECT_EQ(issues_of(event_with(R"("seq":"1")")), Issues{"wrong_type /seq"});
    EXPECT_EQ(
        issues_of(event_with(R"("occurred_at":1778784133)")), Issues{"wrong_type /occurred_at"}
    );
    EXPECT_EQ(
        issues_of(event_with(R"("idempotency_key":1)")), Issues{"wrong_type /idempotency_key"}
    );
    EXPECT_EQ(issues_of(event_with(R"("project_id":1)")), Issues{"wrong_type /project_id"});
    EXPECT_EQ(issues_of(event_with(R"("id":1)")), Issues{"wrong_type /id"});
}

TEST(EventJsonTest, RefusesUnknownFields) {
    EXPECT_EQ(issues_of(event_with(R"("deleted":true)")), Issues{"unknown_field /deleted"});
    EXPECT_EQ(issues_of(event_with(R"("Action":"a.b")")), Issues{"unknown_field /Action"});
    EXPECT_EQ(issues_of(event_with(R"("":1)")), Issues{"unknown_field /"});
    EXPECT_EQ(issues_of(event_with(R"("a/b~c":{"x":[1,{}]})")), Issues{"unknown_field /a~1b~0c"});
    EXPECT_EQ(
        issues_of(R"({"action":"a.b","actor":{"type":"user","name":"x"}})"),
        Issues{"unknown_field /actor/name"}
    );
    EXPECT_EQ(issues_of(event_with(R"("events":[])")), Issues{"unknown_field /events"});
}

TEST(EventJsonTest, RefusesDuplicateKeysHoweverTheyAreWritten) {
    EXPECT_EQ(
        issues_of(event_with(R"("user_id":"a","user\u005fid":"b")")),
        Issues{"duplicate_key /user_id"}
    );
    EXPECT_EQ(
        issues_of(R"({"action":"a.b","actor":{"type":"user","type":"user"}})"),
        Issues{"duplicate_key /actor/type"}
    );
    EXPECT_EQ(
        issues_of(event_with_metadata(R"({"a":{"k":1,"\u006b":2}})")),
        Issues{"duplicate_key /metadata/a/k"}
    );
    EXPECT_EQ(
        issues_of(event_with_metadata(R"({"a":[0,{"é":1,"\u00e9":2}]})")),
        Issues{"duplicate_key /metadata/a/1/é"}
    );
    EXPECT_EQ(
        issues_of(event_with_metadata(R"({"😀":1,"\ud83d\ude00":2})")),
        Issues{"duplicate_key /metadata/😀"}
    );
    EXPECT_EQ(
        issues_of(event_with(R"("zone":1,"zone":2)")),
        (Issues{"unknown_field /zone", "duplicate_key /zone", "unknown_field /zone"})
    );
    read(
        event_with_metadata(R"({"a":{"k":1},"b":{"k":1},"k":[{"k":1},{"k":2}]})"),
        [](const EventDraft&) {}
    );
}

TEST(EventJsonTest, FindsDuplicatesAmongManyKeys) {
    for (const std::size_t count : {15U, 16U, 17U, 18U, 1000U}) {
        std::string metadata = "{";
        for (std::size_t i = 0; i < count; ++i) {
            metadata += "\"key" + std::to_string(i) + "\":" + std::to_string(i) + ",";
        }
        const std::string good = metadata + R"("last":1})";
        EXPECT_EQ(issues_of(event_with_metadata(good)), Issues{}) << count;
        const std::string last = std::to_string(count - 1);
        EXPECT_EQ(
            issues_of(event_with_metadata(metadata + "\"k\\u0065y" + last + "\":1}")),
            Issues{"duplicate_key /metadata/key" + last}
        ) << count;
        EXPECT_EQ(
            issues_of(event_with_metadata(metadata + R"("key0":1})")),
            Issues{"duplicate_key /metadata/key0"}
        ) << count;
    }
}

TEST(EventJsonTest, RefusesTheNulCharacter) {
    EXPECT_EQ(issues_of(event_with(R"("user_id":"a\u0000b")")), Issues{"nul_character /user_id"});
    EXPECT_EQ(
        issues_of(event_with_metadata(R"({"a":["\u0000\u0000"]})")),
        Issues{"nul_character /metadata/a/0"}
    );
    EXPECT_EQ(
        issues_of(event_with_metadata(R"({"a":{"\u0000":1}})")), Issues{"nul_character /metadata/a"}
    );
    read(event_with_metadata(R"({"a":"\\u0000"})"), [](const EventDraft&) {});
}

TEST(EventJsonTest, RefusesBadUtf8) {
    EXPECT_EQ(issues_of(event_with("\"user_id\":\"\xff\"")), Issues{"bad_utf8 /user_id"});
    EXPECT_EQ(issues_of(event_with("\"user_id\":\"\xed\xa0\x80\"")), Issues{"bad_utf8 /user_id"});
    EXPECT_EQ(issues_of(event_with("\"user_id\":\"\xc0\xaf\"")), Issues{"bad_utf8 /user_id"});
    EXPECT_EQ(issues_of(event_with("\"user_id\":\"\xe2\x80\"")), Issues{"bad_utf8 /user_id"});
    EXPECT_EQ(
        issues_of(event_with_metadata("{\"a\":[1,\"\xf4\x90\x80\x80\"]}")),
        Issues{"bad_utf8 /metadata/a/1"}
    );
    EXPECT_EQ(issues_of(event_with_metadata("{\"\xff\":1}")), Issues{"bad_utf8 /metadata"});
    EXPECT_EQ(issues_of(event_with("\"a\xff\":1")), (Issues{"bad_utf8 ", "unknown_field /a?"}));
}

TEST(EventJsonTest, RefusesLoneSurrogates) {
    for (const char* text :
         {R"(\ud83d)",
          R"(\ude00)",
          R"(\ud83dx)",
          R"(\ud83d\n)",
          R"(\ud83d\u0041)",
          R"(\ude00\ud83d)",
          R"(\ud83d\ud83d)"}) {
        const std::string value = "\"" + std::string(text) + "\"";
        EXPECT_EQ(issues_of(event_with("\"user_id\":" + value)), Issues{"lone_surrogate /user_id"});
        EXPECT_EQ(
            issues_of(event_with_metadata("{\"a\":" + value + "}")),
            Issues{"lone_surrogate /metadata/a"}
        );
    }
}

TEST(EventJsonTest, MetadataHasADepth) {
    const auto nested = [](std::size_t levels) {
        return repeat(R"({"a":)", levels - 1) + "{}" + repeat("}", levels - 1);
    };
    read(event_with_metadata(nested(16)), [](const EventDraft&) {});
    EXPECT_EQ(
        issues_of(event_with_metadata(nested(17))), Issues{"too_deep /metadata" + repeat("/a", 16)}
    );
    const std::string arrays = R"({"a":)" + repeat("[", 15) + repeat("]", 15) + "}";
    read(event_with_metadata(arrays), [](const EventDraft&) {});
    const std::string deeper = R"({"a":)" + repeat("[", 30) + repeat("]", 30) + "}";
    EXPECT_EQ(
        issues_of(event_with_metadata(deeper)), Issues{"too_deep /metadata/a" + repeat("/0", 15)}
    );
}

TEST(EventJsonTest, NestingWithoutEndIsRefusedAsAWhole) {
    for (const std::size_t levels : {64U, 100U, 1'000'000U}) {
        const ParsedEvents parsed =
            parse_events(event_with_metadata(repeat(R"({"a":)", levels)), "p");
        EXPECT_EQ(parsed.status, Status::malformed);
        EXPECT_NE(parsed.issues[0].detail.find("nesting"), std::string::npos);
        EXPECT_EQ(parse_events(repeat("[", levels), "p").status, Status::malformed);
        EXPECT_EQ(
            parse_events(R"({"events":[)" + repeat("[", levels), "p").status, Status::malformed
        );
    }
}

TEST(EventJsonTest, EveryColumnHasALength) {
    for (std::size_t i = 0; i < kColumns - 1; ++i) {
        const auto column = static_cast<Column>(i);
        if (column == Column::action || column == Column::ip) {
            continue;
        }
        const std::string key(name(column));
        const auto body = [&](std::size_t size) {
            return R"({"action":"a.b","actor_type":"user")" +
                   std::string(
                       column == Column::actor_type
                           ? "}"
                           : ",\"" + key + "\":\"" + std::string(size, 'x') + "\"}"
                   );
        };
        if (column == Column::actor_type) {
            continue;  // below, in the nested form
        }
        read(body(size_max(column)), [](const EventDraft&) {});
        EXPECT_EQ(issues_of(body(size_max(column) + 1)), Issues{"too_long /" + key});
    }
    const auto nested = [](std::size_t size) {
        return R"({"action":"a.b","actor":{"type":")" + std::string(size, 'x') + "\"}}";
    };
    read(nested(64), [](const EventDraft&) {});
    EXPECT_EQ(issues_of(nested(65)), Issues{"too_long /actor/type"});
}

TEST(EventJsonTest, LengthsCountBytesAfterUnescaping) {
    const std::size_t limit = size_max(Column::external_id);
    read(
        event_with("\"external_id\":\"" + repeat(R"(\u0041)", limit) + "\""),
        [&](const EventDraft& draft) { EXPECT_EQ(draft[Column::external_id].size(), limit); }
    );
    EXPECT_EQ(
        issues_of(event_with("\"external_id\":\"" + repeat("é", limit / 2) + "x\"")),
        Issues{"too_long /external_id"}
    );
    EXPECT_EQ(
        issues_of(event_with("\"id\":\"" + std::string(limit + 1, 'x') + "\"")),
        Issues{"too_long /id"}
    );
}

TEST(EventJsonTest, MetadataHasALength) {
    const auto of_size = [](std::size_t size) {
        return R"({"a":")" + std::string(size - 8, 'x') + "\"}";
    };
    read(event_with_metadata(of_size(kMetadataBytesMax)), [](const EventDraft& draft) {
        EXPECT_EQ(draft[Column::metadata].size(), kMetadataBytesMax);
    });
    EXPECT_EQ(
        issues_of(event_with_metadata(of_size(kMetadataBytesMax + 1))), Issues{"too_long /metadata"}
    );
}

TEST(EventJsonTest, IdempotencyKeysHaveALength) {
    read(
        event_with("\"idempotency_key\":\"" + std::string(256, 'k') + "\""),
        [](const EventDraft&) {}
    );
    EXPECT_EQ(
        issues_of(event_with("\"idempotency_key\":\"" + std::string(257, 'k') + "\"")),
        Issues{"too_long /idempotency_key"}
    );
    EXPECT_EQ(
        issues_of(event_with(R"("idempotency_key":"")")), Issues{"missing_field /idempotency_key"}
    );
}

TEST(EventJsonTest, ChecksActions) {
    for (const char* action : {"", "user", "User.Created", "a..b", "a.b.", "a.b.c.d.e.f.g.h.i"}) {
        const std::string body =
            R"({"action":")" + std::string(action) + "\"," + std::string(kActor) + "}";
        EXPECT_EQ(issues_of(body), Issues{"bad_action /action"}) << action;
    }
}

TEST(EventJsonTest, ChecksIps) {
    for (const char* good :
         {"192.0.2.1",
          "0.0.0.0",
          "255.255.255.255",
          "::",
          "::1",
          "2001:db8::1",
          "2001:DB8:0:0:0:0:0:1",
          "::ffff:192.0.2.1"}) {
        read(event_with("\"ip\":\"" + std::string(good) + "\""), [&](const EventDraft& draft) {
            EXPECT_EQ(draft[Column::ip].view(), good);
        });
    }
    for (const char* bad :
         {"",
          "localhost",
          "192.0.2",
          "192.0.2.256",
          "192.0.2.1:80",
          "192.0.2.01",
          "fe80::1%eth0",
          "[::1]",
          ":::",
          "1:2:3:4:5:6:7:8:9",
          "192.0.2.1 "}) {
        EXPECT_EQ(
            issues_of(event_with("\"ip\":\"" + std::string(bad) + "\"")), Issues{"bad_ip /ip"}
        ) << bad;
    }
}

TEST(EventJsonTest, ChecksTimes) {
    for (const char* key : {"occurred_at", "created_at"}) {
        const std::string name(key);
        EXPECT_EQ(
            issues_of(event_with("\"" + name + "\":\"yesterday\"")), Issues{"bad_time /" + name}
        );
        EXPECT_EQ(
            issues_of(event_with("\"" + name + "\":\"2026-05-14T18:42:13\"")),
            Issues{"bad_time /" + name}
        );
    }
}

TEST(EventJsonTest, RefusesAnotherProject) {
    EXPECT_EQ(
        issues_of(event_with(R"("project_id":"proj_b")")), Issues{"foreign_project /project_id"}
    );
    EXPECT_EQ(issues_of(event_with(R"("project_id":"")")), Issues{"foreign_project /project_id"});
}

TEST(EventJsonTest, NamesEveryProblemOfAnEventUpToABound) {
    EXPECT_EQ(
        issues_of(R"({"action":"X","ip":"x","user_id":1,"zone":2,"occurred_at":"x"})"),
        (Issues{
            "bad_action /action",
            "bad_ip /ip",
            "wrong_type /user_id",
            "unknown_field /zone",
            "bad_time /occurred_at",
            "missing_field /actor"})
    );
    std::string many = event_with("");
    many.pop_back();
    for (int i = 0; i < 100; ++i) {
        many += ",\"x" + std::to_string(i) + "\":0";
    }
    EXPECT_EQ(issues_of(many + "}").size(), kIssuesPerEventMax);
}

TEST(EventJsonTest, NamesNoMoreThanABoundedNumberOfProblems) {
    const std::string body =
        R"({"events":[)" + repeat(R"({"a":1,"b":2,"c":3},)", 1000) + event_with("") + "]}";
    const ParsedEvents parsed = parse_events(body, "proj_a");
    EXPECT_EQ(parsed.issues.size(), kIssuesPerRequestMax);
    EXPECT_EQ(parsed.indexes, std::vector<std::uint32_t>{1000});
    EXPECT_TRUE(std::is_sorted(
        parsed.issues.begin(),
        parsed.issues.end(),
        [](const Issue& a, const Issue& b) { return a.index < b.index; }
    ));
}

TEST(EventJsonTest, PointersAreBoundedUtf8) {
    const std::string key = repeat("…", 10'000);
    const ParsedEvents parsed = parse_events(event_with("\"" + key + "\":1"), "proj_a");
    ASSERT_EQ(parsed.issues.size(), 1U);
    EXPECT_LT(parsed.issues[0].pointer.size(), 600U);
    EXPECT_TRUE(parsed.issues[0].pointer.ends_with("…"));
}

TEST(EventJsonTest, SaysWhereTheDocumentIsMalformed) {
    const std::string_view body = "{\"action\":\"a.b\",\n \"actor\":{\"type\" \"user\"}}";
    const ParsedEvents parsed = parse_events(body, "proj_a");
    EXPECT_EQ(parsed.status, Status::malformed);
    ASSERT_EQ(parsed.issues.size(), 1U);
    EXPECT_EQ(parsed.issues[0].code, "malformed");
    EXPECT_EQ(parsed.issues[0].index, Issue::kWhole);
    EXPECT_EQ(parsed.issues[0].offset, static_cast<std::int64_t>(body.find("\"user\"")));
    EXPECT_EQ(
        parsed.issues[0].detail,
        "expected ':' after the key, found '\"' (line 2, column 18, byte 34)"
    );
    EXPECT_TRUE(parsed.drafts.empty());
}

TEST(EventJsonTest, RefusesWhatIsNotJson) {
    const std::string good = event_with(R"("metadata":{"a":[1,"x"]})");
    for (std::size_t size = 0; size < good.size(); ++size) {
        const ParsedEvents parsed = parse_events(good.substr(0, size), "proj_a");
        ASSERT_EQ(parsed.status, Status::malformed) << size;
        ASSERT_EQ(parsed.issues.size(), 1U);
        ASSERT_EQ(parsed.issues[0].offset, static_cast<std::int64_t>(size));
    }
    for (const char* value :
         {"01",   "-",       "+1",          "1.",         ".5",      "1e",     "1e+",
          "0x1",  "1,",      "NaN",         "Infinity",   "nul",     "True",   "'x'",
          "\"x",  "\"\\x\"", "\"\\u12g4\"", "\"\\u12\"",  "\"\t\"",  "\"\n\"", "[1,]",
          "[,1]", "[1 2]",   "{,}",         "{\"a\":1,}", "{\"a\"}", "{a:1}",  "{\"a\":}",
          "[1",   "]",       "}",           "//x\n1",     "/*x*/1",  "\"\\\"", "\"\\ud83d\\u12\"",
          "--1",  "1 1",     "undefined"}) {
        const std::string body = event_with_metadata("{\"v\":" + std::string(value) + "}");
        EXPECT_EQ(parse_events(body, "proj_a").status, Status::malformed) << value;
    }
    for (const std::string& body :
         {good + "x",
          good + good,
          good + "\n" + good,
          good + std::string(1, '\0'),
          std::string(" "),
          std::string("\x1e{}"),
          std::string("\xa0{}")}) {
        EXPECT_EQ(parse_events(body, "proj_a").status, Status::malformed) << body;
    }
    const std::string nul = event_with("\"user_id\":\"" + std::string(1, '\0') + "\"");
    EXPECT_EQ(parse_events(nul, "proj_a").status, Status::malformed);
}

TEST(EventJsonTest, RefusesAByteOrderMark) {
    const std::string body = "\xef\xbb\xbf" + event_with("");
    const ParsedEvents parsed = parse_events(body, "proj_a");
    EXPECT_EQ(parsed.status, Status::malformed);
    EXPECT_NE(parsed.issues[0].detail.find("byte order mark"), std::string::npos);
    const ParsedEvents lines = parse_ndjson(body, "proj_a", 0);
    EXPECT_EQ(lines.status, Status::invalid);
    EXPECT_NE(lines.issues[0].detail.find("byte order mark"), std::string::npos);
}

TEST(NdjsonTest, ReadsALineAnEvent) {
    const std::string body = event_with(R"("user_id":"1")") + "\n\r\n  \n" +
                             event_with(R"("user_id":"2")") + "\r\n" +
                             event_with(R"("user_id":"3")");
    const ParsedEvents parsed = parse_ndjson(body, "proj_a", 0);
    EXPECT_EQ(parsed.status, Status::ok);
    EXPECT_EQ(parsed.lines, 5U);
    ASSERT_EQ(parsed.drafts.size(), 3U);
    EXPECT_EQ(parsed.drafts[2][Column::user_id].view(), "3");
    EXPECT_EQ(parsed.indexes, (std::vector<std::uint32_t>{0, 1, 2}));
}

TEST(NdjsonTest, AMalformedLineHarmsNoOther) {
    const std::string body = event_with("") + "\n{\"action\": oops}\n" + event_with("") + " x\n" +
                             event_with("") + "\n" + event_with("\"zone\":1") + "\n" +
                             event_with("\"zone\":1") + "]\n";
    const ParsedEvents parsed = parse_ndjson(body, "proj_a", 10);
    EXPECT_EQ(parsed.status, Status::invalid);
    EXPECT_EQ(parsed.indexes, (std::vector<std::uint32_t>{0, 3}));
    EXPECT_EQ(parsed.drafts.size(), 2U);
    EXPECT_EQ(
        issues_of(parsed), (Issues{"malformed ", "malformed ", "unknown_field /zone", "malformed "})
    );
    EXPECT_EQ(parsed.issues[0].line, 12U);
    EXPECT_EQ(parsed.issues[0].index, 1U);
    EXPECT_EQ(parsed.issues[0].offset, 11);
    EXPECT_EQ(parsed.issues[0].detail, "expected a value, found 'o' (column 12, byte 11)");
    EXPECT_EQ(parsed.issues[1].line, 13U);
    EXPECT_EQ(parsed.issues[3].line, 16U);
}

TEST(NdjsonTest, ALineIsOneEventAndNoBatch) {
    const std::string body = R"({"events":[]})"
                             "\n5\n[]\n";
    const ParsedEvents parsed = parse_ndjson(body, "proj_a", 0);
    EXPECT_EQ(
        issues_of(parsed),
        (Issues{
            "unknown_field /events",
            "missing_field /action",
            "missing_field /actor",
            "wrong_type ",
            "wrong_type "})
    );
}

TEST(NdjsonTest, NothingIsNoEvent) {
    for (const char* body : {"", "\n", "\n\n  \r\n"}) {
        const ParsedEvents parsed = parse_ndjson(body, "proj_a", 0);
        EXPECT_EQ(parsed.status, Status::ok);
        EXPECT_TRUE(parsed.drafts.empty());
    }
}

TEST(NdjsonTest, OnePieceEndsAtTheLimit) {
    const std::string line = event_with("") + "\n";
    EXPECT_EQ(
        parse_ndjson(repeat(line, kBatchEventsMax), "proj_a", 0).drafts.size(), kBatchEventsMax
    );
    const ParsedEvents over = parse_ndjson(repeat(line, kBatchEventsMax + 1), "proj_a", 0);
    EXPECT_EQ(over.status, Status::too_many);
    EXPECT_TRUE(over.drafts.empty());
}

}  // namespace
}  // namespace annal
