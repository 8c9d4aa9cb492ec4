#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/core/clock.h"

namespace annal {

/// Position of an event in its project's log: 0, 1, 2, … without holes.
using Seq = std::int64_t;
inline constexpr Seq kNoSeq = -1;

/// Identity of an event: a valid UUIDv7 whose 48 time bits are the milliseconds of created_at,
/// whose rand_a holds the microseconds within that millisecond, and whose last 62 bits are random.
/// Ids of one project sort by seq.
struct EventId {
    std::array<std::uint8_t, 16> bytes{};

    /// @param random  only its low 62 bits are used
    [[nodiscard]] static EventId make(TimeUs created_at, std::uint64_t random);
    /// Accepts "evt_" + 26 Crockford base-32 digits (either case, I L → 1, O → 0) and the UUID form
    /// (either case).
    [[nodiscard]] static std::optional<EventId> parse(std::string_view text);

    [[nodiscard]] TimeUs created_at() const;
    [[nodiscard]] std::string text() const;  ///< "evt_01…", 30 bytes
    [[nodiscard]] std::string uuid() const;  ///< lower case, 36 bytes

    friend auto operator<=>(const EventId&, const EventId&) = default;
};

}  // namespace annal
