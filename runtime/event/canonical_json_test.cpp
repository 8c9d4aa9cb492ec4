#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "runtime/core/time_text.h"
#include "runtime/event/event_json.h"

namespace annal {
namespace {

namespace json = boost::json;

constexpr const char* kSamplesPath = ANNAL_SOURCE_DIR "/examples/events/authio.ndjson";
/// Written anew when ANNAL_UPDATE_GOLDEN is set.
constexpr const char* kGoldenPath = ANNAL_SOURCE_DIR "/tests/golden/event/authio_canonical.ndjson";
constexpr std::string_view kProject = "proj_2eh2n8gh33c0hxs1";

std::string file_text(const char* path) {
    std::ifstream file(path);
    EXPECT_TRUE(file.is_open()) << path;
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) {
        lines.push_back(line);
    }
    return lines;
}

std::vector<std::string> keys_of(const json::object& object) {
    std::vector<std::string> keys;
    for (const auto& member : object) {
        keys.emplace_back(member.key());
    }
    return keys;
}

std::string canonical(const Event& event) {
    std::string out;
    append_canonical_json(out, event);
    return out;
}

/// The samples as they would be stored: ids and times fixed.
std::string canonical_samples(const ParsedEvents& parsed) {
    std::string out;
    for (std::size_t i = 0; i < parsed.drafts.size(); ++i) {
        Event event;
        event.seq = static_cast<Seq>(i);
        event.created_at = parse_time("2026-06-01T00:00:00Z").value() + event.seq;
        event.id = EventId::make(event.created_at, i);
        event.occurred_at = parsed.drafts[i].occurred_at;
        event.project_id = kProject;
        event.columns = parsed.drafts[i].columns;
        append_canonical_json(out, event);
        out += '\n';
    }
    return out;
}

TEST(CanonicalJsonTest, TheSamplesComeBackButForIdAndCreatedAt) {
    const std::string samples = file_text(kSamplesPath);
    const ParsedEvents parsed = parse_ndjson(samples, kProject, 0);
    ASSERT_EQ(parsed.status, ParsedEvents::Status::ok) << parsed.issues[0].detail;
    ASSERT_EQ(parsed.drafts.size(), 40U);
    const auto sample_lines = lines_of(samples);
    const auto lines = lines_of(canonical_samples(parsed));
    ASSERT_EQ(lines.size(), sample_lines.size());
    for (std::size_t i = 0; i < lines.size(); ++i) {
        const json::object sample = json::parse(sample_lines[i]).as_object();
        const json::object line = json::parse(lines[i]).as_object();
        // The envelope first, in the order of the sample.
        auto keys = keys_of(line);
        ASSERT_GE(keys.size(), 10U);
        keys.resize(10);
        EXPECT_EQ(keys, keys_of(sample));
        for (const auto& member : sample) {
            if (member.key() != "id" && member.key() != "created_at") {
                EXPECT_EQ(line.at(member.key()), member.value()) << member.key();
            }
        }
        EXPECT_EQ(line.at("external_id"), sample.at("id"));
        EXPECT_EQ(
            parse_time(std::string_view(line.at("occurred_at").as_string())).value(),
            parse_time(std::string_view(sample.at("created_at").as_string())).value()
        );
        // metadata byte for byte, not only by value.
        const auto metadata = parsed.drafts[i][Column::metadata].view();
        EXPECT_NE(sample_lines[i].find(metadata), std::string::npos);
        EXPECT_NE(lines[i].find("\"metadata\":" + std::string(metadata) + ","), std::string::npos);
    }
}

TEST(CanonicalJsonTest, TheSamplesHaveTheirGoldenForm) {
    const std::string samples = file_text(kSamplesPath);
    const std::string rendered = canonical_samples(parse_ndjson(samples, kProject, 0));
    if (std::getenv("ANNAL_UPDATE_GOLDEN") != nullptr) {
        std::ofstream(kGoldenPath) << rendered;
    }
    EXPECT_EQ(rendered, file_text(kGoldenPath));
}

TEST(CanonicalJsonTest, NullsOfTheEnvelopeAreWrittenAndOthersLeftOut) {
    Event event;
    event.id = EventId::make(1'778'784'133'001'000, 0);
    event.seq = 0;
    event.created_at = 1'778'784'133'001'000;
    event.project_id = "proj_a";
    event[Column::action] = "user.created";
    event[Column::actor_type] = "system";
    EXPECT_EQ(
        canonical(event),
        R"({"id":"evt_01KRKWQQW9E008000000000000","action":"user.created",)"
        R"("created_at":"2026-05-14T18:42:13.001000Z","project_id":"proj_a",)"
        R"("organization_id":null,"user_id":null,"target_type":null,"target_id":null,)"
        R"("metadata":{},"actor":{"type":"system","id":null},"seq":0})"
    );
}

TEST(CanonicalJsonTest, EveryColumnIsWrittenUnderItsName) {
    Event event;
    event.created_at = event.occurred_at = 0;
    event.project_id = "p\"";
    for (std::size_t i = 0; i < kColumns; ++i) {
        event.columns[i] = name(static_cast<Column>(i));
    }
    event[Column::metadata] = R"({"m":true})";
    const json::object line = json::parse(canonical(event)).as_object();
    for (std::size_t i = 0; i < kColumns; ++i) {
        const std::string key(name(static_cast<Column>(i)));
        if (key.starts_with("actor_")) {
            EXPECT_EQ(line.at("actor").as_object().at(key.substr(6)).as_string(), key);
        } else if (key != "metadata") {
            EXPECT_EQ(line.at(key).as_string(), key);
        }
    }
    EXPECT_TRUE(line.at("metadata").as_object().at("m").as_bool());
    EXPECT_EQ(line.at("occurred_at").as_string(), "1970-01-01T00:00:00.000000Z");
    EXPECT_EQ(line.at("project_id").as_string(), "p\"");
}

TEST(CanonicalJsonTest, StaysOnOneLine) {
    Event event;
    event.created_at = 0;
    event[Column::description] = "two\nlines";
    event[Column::metadata] = "{\r\n  \"a\": \"x\\n\",\n  \"b\": 1.10\n}";
    const std::string line = canonical(event);
    EXPECT_EQ(line.find_first_of("\r\n"), std::string::npos);
    EXPECT_NE(line.find("{    \"a\": \"x\\n\",   \"b\": 1.10 }"), std::string::npos) << line;
}

TEST(CanonicalJsonTest, ATombstoneShowsItsPlaceAlone) {
    Event event;
    event.id = EventId::make(1'778'784'133'001'000, 0);
    event.seq = 7;
    event.deleted = true;
    EXPECT_EQ(
        canonical(event), R"({"id":"evt_01KRKWQQW9E008000000000000","seq":7,"deleted":true})"
    );
}

}  // namespace
}  // namespace annal
