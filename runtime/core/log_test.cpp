#include "runtime/core/log.h"

#include <gtest/gtest.h>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <cmath>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "runtime/core/fatal.h"
#include "runtime/core/log_stderr.h"
#include "runtime/core/time_text.h"

namespace annal {
namespace {

/// What `act` writes to standard error, one object a line.
template <class Act>
std::vector<boost::json::object> lines_of(Act&& act) {
    ::testing::internal::CaptureStderr();
    act();
    std::istringstream captured(::testing::internal::GetCapturedStderr());
    std::vector<boost::json::object> lines;
    for (std::string line; std::getline(captured, line);) {
        lines.push_back(boost::json::parse(line).as_object());
    }
    return lines;
}

TEST(LogTest, TakesWhatLibrariesWrite) {
    EXPECT_EXIT(
        {
            log::take_stderr();
            std::fprintf(stderr, "WARNING:  \"it\" ends\n\nanother line\n");
            log::info("test.ended");
            std::_Exit(0);
        },
        testing::ExitedWithCode(0),
        R"re(^\{"time":"[^"]*","level":"warn","event":"runtime.library_message","text":"WARNING:  \\"it\\" ends"\}
\{"time":"[^"]*","level":"warn","event":"runtime.library_message","text":"another line"\}
\{"time":"[^"]*","level":"info","event":"test.ended"\}
$)re"
    );
}

TEST(LogTest, WritesOneFlatObjectALine) {
    const std::string text = "two\nlines \"quoted\"";
    const auto lines = lines_of([&] {
        log::warn("test.happened", {{"text", text}, {"count", 3U}, {"ratio", 0.5}, {"done", true}});
    });
    ASSERT_EQ(lines.size(), 1U);
    const auto& line = lines[0];
    EXPECT_EQ(line.at("level").as_string(), "warn");
    EXPECT_EQ(line.at("event").as_string(), "test.happened");
    EXPECT_EQ(line.at("text").as_string(), text);
    EXPECT_EQ(line.at("count").as_int64(), 3);
    EXPECT_EQ(line.at("ratio").as_double(), 0.5);
    EXPECT_TRUE(line.at("done").as_bool());
    EXPECT_TRUE(parse_time(std::string_view(line.at("time").as_string())).has_value());
}

TEST(LogTest, StaysJsonWhateverTheBytes) {
    const auto lines = lines_of([] {
        log::info("test.bytes", {{"bad", "\xff\x01"}, {"nan", std::nan("")}});
    });
    ASSERT_EQ(lines.size(), 1U);
    EXPECT_EQ(lines[0].at("bad").as_string(), "ÿ\x01");
    EXPECT_TRUE(lines[0].at("nan").is_null());
}

TEST(LogTest, DropsWhatIsBelowTheLevel) {
    const auto lines = lines_of([] {
        log::debug("test.hidden");
        log::set_level(log::Level::debug);
        log::debug("test.shown");
        log::set_level(log::Level::error);
        log::warn("test.hidden");
        log::error("test.shown");
        log::set_level(log::Level::info);
    });
    ASSERT_EQ(lines.size(), 2U);
    EXPECT_EQ(lines[0].at("event").as_string(), "test.shown");
    EXPECT_EQ(lines[1].at("level").as_string(), "error");
}

TEST(LogTest, LinesOfThreadsNeverMix) {
    constexpr int kThreads = 4;
    constexpr int kLines = 200;
    const auto lines = lines_of([] {
        std::vector<std::jthread> threads;
        for (int t = 0; t < kThreads; ++t) {
            threads.emplace_back([t] {
                for (int i = 0; i < kLines; ++i) {
                    log::info("test.line", {{"key", t * kLines + i}});
                }
            });
        }
    });
    std::set<std::int64_t> keys;
    for (const auto& line : lines) {
        keys.insert(line.at("key").as_int64());
    }
    EXPECT_EQ(lines.size(), static_cast<std::size_t>(kThreads * kLines));
    EXPECT_EQ(keys.size(), lines.size());
}

TEST(FatalDeathTest, SaysWhyAndExitsWith70) {
    EXPECT_EXIT(
        fatal("test.broken", "the reason"), ::testing::ExitedWithCode(70), "test.broken.*the reason"
    );
}

}  // namespace
}  // namespace annal
