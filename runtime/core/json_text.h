#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace annal {

/// Appends `text` as a JSON string with quotes. Escapes only what JSON demands; UTF-8 passes
/// through.
void append_json_string(std::string& out, std::string_view text);
void append_int(std::string& out, std::int64_t value);

/// Whether `text` is well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF).
[[nodiscard]] bool is_utf8(std::string_view text);

}  // namespace annal
