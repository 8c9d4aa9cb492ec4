#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace annal::log {

enum class Level { debug, info, warn, error };

struct Field {
    std::string_view key;
    std::variant<std::string_view, std::int64_t, double, bool> value;
    template <class T>
    Field(std::string_view k, T v) : key(k), value(convert(v)) {}

private:
    static auto convert(std::string_view v) { return std::variant<std::string_view, std::int64_t, double, bool>(v); }
    static auto convert(const std::string& v) { return convert(std::string_view(v)); }
    static auto convert(const char* v) { return convert(std::string_view(v)); }
    static auto convert(bool v) { return std::variant<std::string_view, std::int64_t, double, bool>(v); }
    static auto convert(double v) { return std::variant<std::string_view, std::int64_t, double, bool>(v); }
    template <class I>
        requires std::is_integral_v<I>
    static auto convert(I v) { return std::variant<std::string_view, std::int64_t, double, bool>(static_cast<std::int64_t>(v)); }
};

/// Writes one JSON object on one line of standard error: `{"time":…,"level":…,"event":"appender.commit_failed",…}`.
/// `event` is a constant, keys are flat; no payloads, no secrets. Thread-safe. An error is logged once, where it is handled.
void write(Level level, std::string_view event, std::span<const Field> fields);

void set_level(Level level);

inline void debug(std::string_view event, std::initializer_list<Field> fields = {}) { write(Level::debug, event, {fields.begin(), fields.size()}); }
inline void info(std::string_view event, std::initializer_list<Field> fields = {}) { write(Level::info, event, {fields.begin(), fields.size()}); }
inline void warn(std::string_view event, std::initializer_list<Field> fields = {}) { write(Level::warn, event, {fields.begin(), fields.size()}); }
inline void error(std::string_view event, std::initializer_list<Field> fields = {}) { write(Level::error, event, {fields.begin(), fields.size()}); }

}  // namespace annal::log
