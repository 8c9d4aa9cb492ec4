#pragma once

#include "runtime/core/clock.h"

namespace annal {

/// What is created before it has outlived `months` whole months beside the current one (UTC).
[[nodiscard]] TimeUs month_cutoff(TimeUs now, std::uint32_t months);
/// Midnight (UTC) of the day that is `days` before today's.
[[nodiscard]] TimeUs day_cutoff(TimeUs now, std::uint32_t days);
/// Whole days between a cutoff and today's midnight (UTC).
[[nodiscard]] std::uint32_t days_since(TimeUs cutoff, TimeUs now);

}  // namespace annal
