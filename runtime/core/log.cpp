#include "runtime/core/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <memory>

#include "runtime/core/clock.h"
#include "runtime/core/json_text.h"
#include "runtime/core/log_stderr.h"
#include "runtime/core/time_text.h"

namespace annal::log {
namespace {

constexpr std::array<std::string_view, 4> kLevelNames = {"debug", "info", "warn", "error"};
constexpr std::array kSpdLevels = {
    spdlog::level::debug, spdlog::level::info, spdlog::level::warn, spdlog::level::err};

std::size_t index(Level level) {
    return static_cast<std::size_t>(level);
}

/// Never destroyed: threads may log while statics are torn down.
spdlog::logger& logger() {
    static auto* const instance = [] {
        auto* made = new spdlog::logger("annal", std::make_shared<spdlog::sinks::stderr_sink_mt>());
        made->set_pattern("%v");
        made->set_error_handler([](const std::string&) {});
        return made;
    }();
    return *instance;
}

void append_text(std::string& out, std::string_view text) {
    if (is_utf8(text)) {
        append_json_string(out, text);
        return;
    }
    std::string latin1;
    for (const char c : text) {
        const auto byte = static_cast<std::uint8_t>(c);
        if (byte < 0x80) {
            latin1 += c;
        } else {
            latin1 += static_cast<char>(0xc0 | byte >> 6);
            latin1 += static_cast<char>(0x80 | (byte & 0x3f));
        }
    }
    append_json_string(out, latin1);
}

void append_double(std::string& out, double value) {
    if (!std::isfinite(value)) {
        out += "null";
        return;
    }
    std::array<char, 32> digits;
    out.append(
        digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr
    );
}

struct AppendValue {
    std::string& out;
    void operator()(std::string_view v) const { append_text(out, v); }
    void operator()(std::int64_t v) const { append_int(out, v); }
    void operator()(double v) const { append_double(out, v); }
    void operator()(bool v) const { out += v ? "true" : "false"; }
};

std::string render(Level level, std::string_view event, std::span<const Field> fields) {
    std::string line = R"({"time":")";
    line += format_time(SystemClock().wall_us());
    line += R"(","level":")";
    line += kLevelNames[index(level)];
    line += R"(","event":)";
    append_text(line, event);
    for (const Field& field : fields) {
        line += ',';
        append_text(line, field.key);
        line += ':';
        std::visit(AppendValue{line}, field.value);
    }
    line += '}';
    return line;
}

/// What came since the last end of a line. The C library calls one at a time.
struct LibraryText {
    static constexpr std::size_t kLineMax = 4'096;
    std::string line;

    void add(std::string_view text) {
        for (const char c : text) {
            if (c != '\n') line += c;
            if (c == '\n' || line.size() >= kLineMax) flush();
        }
    }
    void flush() {
        if (!line.empty()) log::warn("runtime.library_message", {{"text", line}});
        line.clear();
    }
};

::ssize_t log_library_text(void* cookie, const char* text, std::size_t size) {
    static_cast<LibraryText*>(cookie)->add({text, size});
    return static_cast<::ssize_t>(size);
}

}  // namespace

void take_stderr() {
    (void)logger();  // keeps the stream that there was
    ::cookie_io_functions_t functions{};
    functions.write = log_library_text;
    static auto* const text = new LibraryText;  // never destroyed, as the logger
    std::FILE* const stream = ::fopencookie(text, "w", functions);
    if (stream == nullptr) return;
    std::setvbuf(stream, nullptr, _IOLBF, BUFSIZ);
    stderr = stream;
}

void write(Level level, std::string_view event, std::span<const Field> fields) {
    const auto spd_level = kSpdLevels[index(level)];
    if (logger().should_log(spd_level)) {
        logger().log(spd_level, spdlog::string_view_t(render(level, event, fields)));
    }
}

void set_level(Level level) {
    logger().set_level(kSpdLevels[index(level)]);
}

}  // namespace annal::log
