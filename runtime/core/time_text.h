#pragma once

#include <string>
#include <string_view>

#include "runtime/core/clock.h"
#include "runtime/core/result.h"

namespace annal {

/// "2026-05-14T18:42:13.001000Z": six fraction digits, always 27 bytes for years 0000-9999.
[[nodiscard]] std::string format_time(TimeUs at);
/// "2026-05".
[[nodiscard]] std::string format_month(Month month);

/// ISO 8601 with a zone: extended and basic form, `T`/`t`/space, fraction by `.` or `,` of any
/// length (cut to microseconds), seconds optional, `Z`, `±hh`, `±hhmm`, `±hh:mm`, week
/// (`2026-W20-4`) and ordinal (`2026-134`) dates, a leap second (counts as the next second). Years
/// 0001-9999.
/// @error Errc::invalid  Anything else; the detail says what was expected.
[[nodiscard]] Result<TimeUs> parse_time(std::string_view text);

/// "500ms", "10s", "2m", "24h", "7d" to microseconds.
[[nodiscard]] Result<std::int64_t> parse_duration(std::string_view text);
/// "512", "64KiB", "8MiB", "1GiB" to bytes.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);

}  // namespace annal
