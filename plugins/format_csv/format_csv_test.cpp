#include <gtest/gtest.h>

#include <annal/sdk/status.hpp>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/support/mini_host.h"

namespace {

using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::RawBatch;
using annal::test::StoredEvent;
using annal::test::TextWriter;
using Options = std::vector<std::pair<std::string, std::string>>;

struct Written {
    annal_status status = ANNAL_OK;
    std::string text, error;
};

Written write(const std::vector<std::vector<StoredEvent>>& batches, const Options& options = {}) {
    MiniHost host;
    const Instance format(host, *annal_module_v1()->components[0]);
    EXPECT_EQ(format.status(), ANNAL_OK) << format.error();
    const auto& table = format.table<annal_format_v1>();
    std::vector<annal_pair> raw;
    for (const auto& [key, value] : options)
        raw.push_back({annal::to_str(key), annal::to_str(value)});
    TextWriter text;
    const annal_writer writer = text.writer();
    annal_error error{};
    error.struct_size = sizeof(error);
    void* document = nullptr;
    Written out;
    out.status = table.begin(
        format.self(),
        raw.data(),
        static_cast<std::uint32_t>(raw.size()),
        &document,
        &writer,
        &error
    );
    for (const auto& events : batches) {
        if (out.status == ANNAL_OK) {
            const RawBatch batch(events);
            out.status = table.encode(document, batch.get(), &writer, &error);
        }
    }
    if (out.status == ANNAL_OK) out.status = table.end(document, &writer, &error);
    if (document != nullptr) table.release(document);
    out.text = text.text;
    out.error.assign(error.text, error.text_len);
    return out;
}

StoredEvent described(std::string text) {
    StoredEvent event;
    event.id = "evt_1";
    event.created_at_us = 1'780'000'000'000'000;
    event.project = "p";
    event.set("action", "a.b").set("description", std::move(text));
    return event;
}

/// Compares with the golden file; ANNAL_UPDATE_GOLDEN=1 rewrites it.
void expect_golden(const std::string& name, const std::string& text) {
    const std::string path = ANNAL_SOURCE_DIR "/plugins/format_csv/golden/" + name;
    if (std::getenv("ANNAL_UPDATE_GOLDEN") != nullptr)
        std::ofstream(path, std::ios::binary) << text;
    std::ifstream file(path, std::ios::binary);
    std::ostringstream golden;
    golden << file.rdbuf();
    EXPECT_EQ(text, golden.str()) << path;
}

std::vector<StoredEvent> varied() {
    std::vector<StoredEvent> events;
    StoredEvent full = described("signed in");
    full.set("actor_type", "user")
        .set("actor_id", "usr_1")
        .set("user_id", "usr_1")
        .set("target_type", "session");
    full.set("target_id", "ses_1")
        .set("ip", "203.0.113.5")
        .set("user_agent", "Mozilla/5.0 (X11; Linux)");
    full.set("metadata", R"({"not":"in csv"})").set("organization_id", "org_1");
    events.push_back(full);
    events.push_back(described(""));
    for (const char* text :
         {"a,b",
          "say \"hi\"",
          "\"",
          "two\nlines",
          "two\r\nlines",
          "=1+1",
          "+1",
          "-1",
          "@x",
          "\tx",
          "\rx",
          "\nx",
          "=\"a\",b",
          "'already",
          "a=b",
          " =1",
          "Ünïcödé €"}) {
        events.push_back(described(text));
    }
    StoredEvent erased = described("secret");
    erased.deleted = true;
    events.push_back(erased);
    return events;
}

TEST(FormatCsv, WritesTheGoldenFile) {
    expect_golden("guarded.csv", write({varied()}).text);
}

TEST(FormatCsv, LeavesFormulasAloneOnRequest) {
    expect_golden("unguarded.csv", write({varied()}, {{"csv_safe", "false"}}).text);
    EXPECT_EQ(write({varied()}, {{"csv_safe", "true"}}).text, write({varied()}).text);
}

std::string last_field(const std::string& text, const Options& options = {}) {
    const Written out = write({{described(text)}}, options);
    const std::string row = out.text.substr(out.text.find("\r\n") + 2);
    return row.substr(row.rfind("p,,,,,") + 6, row.size() - row.rfind("p,,,,,") - 8);
}

TEST(FormatCsv, TellsNullFromEmpty) {
    StoredEvent event = described("");
    const std::string with_empty = write({{event}}).text;
    event.text.erase("description");
    const std::string with_null = write({{event}}).text;
    EXPECT_TRUE(with_empty.ends_with(",,\"\"\r\n"));
    EXPECT_TRUE(with_null.ends_with(",,\r\n"));
}

TEST(FormatCsv, GuardsAgainstFormulas) {
    EXPECT_EQ(last_field("=1+1"), "'=1+1");
    EXPECT_EQ(last_field("@SUM(A1,B1)"), "\"'@SUM(A1,B1)\"");
    EXPECT_EQ(last_field("\rx"), "\"'\rx\"");
    EXPECT_EQ(last_field("\tx"), "'\tx");
    EXPECT_EQ(last_field("a=1"), "a=1");
    EXPECT_EQ(last_field("=1+1", {{"csv_safe", "false"}}), "=1+1");
}

TEST(FormatCsv, RefusesOtherOptions) {
    for (const Options& options :
         {Options{{"csv_safe", "no"}},
          Options{{"csv_safe", ""}},
          Options{{"delimiter", ";"}},
          Options{{"csv_safe", "true"}, {"x", "y"}}}) {
        const Written out = write({}, options);
        EXPECT_EQ(out.status, ANNAL_INVALID);
        EXPECT_NE(out.error.find("csv_safe"), std::string::npos);
    }
}

TEST(FormatCsv, WritesTheHeaderOnceAndForNoRowsToo) {
    const std::string header =
        "id,created_at,action,actor_type,actor_id,user_id,project_id,target_type,target_id,ip,user_"
        "agent,description\r\n";
    EXPECT_EQ(write({}).text, header);
    const std::string two = write({{described("a")}, {described("b")}}).text;
    EXPECT_EQ(two.find("id,created_at"), 0U);
    EXPECT_EQ(two.rfind("id,created_at"), 0U);
}

TEST(FormatCsv, SaysWhatItIs) {
    const auto& table =
        *static_cast<const annal_format_v1*>(annal_module_v1()->components[0]->vtable);
    EXPECT_EQ(annal::view(table.content_type), "text/csv; charset=utf-8");
    EXPECT_EQ(annal::view(table.file_extension), "csv");
    MiniHost host;
    host.withheld = {ANNAL_SERVICE_CODEC};
    EXPECT_EQ(Instance(host, *annal_module_v1()->components[0]).status(), ANNAL_UNAVAILABLE);
}

}  // namespace
