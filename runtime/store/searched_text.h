#pragma once

#include <array>
#include <string>
#include <string_view>

#include "runtime/event/event.h"

namespace annal {

/// The columns that `Filter::text` is about.
inline constexpr std::array kSearchedColumns{
    Column::action, Column::actor_id, Column::target_id, Column::description};

constexpr char ascii_lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

/// Appends `text` with its ASCII letters in lower case.
inline void append_ascii_lower(std::string& out, std::string_view text) {
    const std::size_t begin = out.size();
    out.append(text);
    for (std::size_t i = begin; i < out.size(); ++i) out[i] = ascii_lower(out[i]);
}

}  // namespace annal
