#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace annal::log {

enum class Level { debug, info, warn, error };

/// One key and its value. Borrows text: it lives no longer than the call that it is passed to.
struct Field {
    using Value = std::variant<std::string_view, std::int64_t, double, bool>;

    Field(std::string_view k, std::string_view v) : key(k), value(v) {}
    Field(std::string_view k, const std::string& v) : key(k), value(std::string_view(v)) {}
    Field(std::string_view k, const char* v) : key(k), value(std::string_view(v)) {}
    Field(std::string_view k, bool v) : key(k), value(v) {}
    Field(std::string_view k, double v) : key(k), value(v) {}
    template <std::integral I>
    requires(!std::same_as<I, bool>) Field(std::string_view k, I v)
        : key(k), value(static_cast<std::int64_t>(v)) {}

    std::string_view key;
    Value value;
};

/// Writes one JSON object on one line of standard error:
/// `{"time":…,"level":…,"event":"appender.commit_failed",…}`.
///
/// `event` is a constant, keys are flat; no payloads, no secrets. An error is logged once, where it
/// is handled. Text that is not UTF-8 is written with its bytes escaped, so a line is always JSON.
/// Thread-safe; lines never mix. Never throws: what can't be written is lost.
void write(Level level, std::string_view event, std::span<const Field> fields);

/// Lines below `level` are dropped; `info` at start.
void set_level(Level level);

inline void debug(std::string_view event, std::initializer_list<Field> fields = {}) {
    write(Level::debug, event, {fields.begin(), fields.size()});
}
inline void info(std::string_view event, std::initializer_list<Field> fields = {}) {
    write(Level::info, event, {fields.begin(), fields.size()});
}
inline void warn(std::string_view event, std::initializer_list<Field> fields = {}) {
    write(Level::warn, event, {fields.begin(), fields.size()});
}
inline void error(std::string_view event, std::initializer_list<Field> fields = {}) {
    write(Level::error, event, {fields.begin(), fields.size()});
}

}  // namespace annal::log
