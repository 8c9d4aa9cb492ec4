#pragma once

#include <cstddef>
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
/// Bytes of the character that `text` begins with; 0 when it is malformed or `text` is empty.
[[nodiscard]] std::size_t utf8_character_size(std::string_view text);
/// The longest prefix of `text` (which is UTF-8) of at most `size_max` bytes that ends between
/// characters.
[[nodiscard]] std::string_view utf8_prefix(std::string_view text, std::size_t size_max);

/// Foreign text for a message: in quotes, at most 64 bytes of it, printable ASCII only.
[[nodiscard]] std::string quote_bounded(std::string_view text);

/// Appends `key` as one token of a JSON pointer, without its slash: `~` and `/` are escaped.
void append_pointer_token(std::string& out, std::string_view key);

}  // namespace annal
