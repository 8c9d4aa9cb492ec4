#include "runtime/retention/cutoff.h"

#include <algorithm>

namespace annal {
namespace {

TimeUs midnight(TimeUs now) {
    return now - (now % kDayUs + kDayUs) % kDayUs;
}

}  // namespace

TimeUs month_cutoff(TimeUs now, std::uint32_t months) {
    return start_of(Month{month_of(now).index - static_cast<std::int32_t>(months)});
}

TimeUs day_cutoff(TimeUs now, std::uint32_t days) {
    return midnight(now) - std::int64_t{days} * kDayUs;
}

std::uint32_t days_since(TimeUs cutoff, TimeUs now) {
    return static_cast<std::uint32_t>(std::max<TimeUs>(0, midnight(now) - cutoff) / kDayUs);
}

}  // namespace annal
