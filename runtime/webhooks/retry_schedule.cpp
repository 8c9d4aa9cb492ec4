#include "runtime/webhooks/retry_schedule.h"

#include <array>

namespace annal {

std::optional<std::chrono::milliseconds> retry_delay(std::int64_t tries, std::uint64_t random) {
    using namespace std::chrono_literals;
    static constexpr std::array<std::chrono::seconds, 12> kDelays{
        5s, 30s, 2min, 10min, 30min, 1h, 2h, 4h, 8h, 12h, 24h, 24h};
    if (tries < 1 || tries > static_cast<std::int64_t>(kDelays.size())) return std::nullopt;
    const auto ms = std::chrono::milliseconds(kDelays[static_cast<std::size_t>(tries - 1)]).count();
    const auto spread = static_cast<std::int64_t>(random % static_cast<std::uint64_t>(ms / 2 + 1));
    return std::chrono::milliseconds(ms - ms / 4 + spread);
}

}  // namespace annal
