#pragma once

#include <charconv>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

namespace annal::inline sdk_v1 {

/// What a Retry-After header says, in either form (seconds, or an HTTP date seen from `now_us`), in
/// milliseconds; 0 when it is empty, in the past or not to be understood. At most a day.
[[nodiscard]] inline std::uint32_t read_retry_after(std::string_view text, std::int64_t now_us) {
    constexpr std::int64_t kMaxMs = 24LL * 60 * 60 * 1000;
    if (text.empty()) {
        return 0;
    }
    std::int64_t seconds = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, seconds);
    std::int64_t ms = 0;
    if (stop == end && error == std::errc()) {
        ms = seconds > kMaxMs / 1000 ? kMaxMs : seconds * 1000;
    } else if (stop == end && error == std::errc::result_out_of_range && text[0] != '-') {
        ms = kMaxMs;
    } else {
        std::tm at{};
        const std::string date(text);
        const char* rest = ::strptime(date.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &at);
        if (rest == nullptr || *rest != '\0') {
            return 0;
        }
        ms = static_cast<std::int64_t>(::timegm(&at)) * 1000 - now_us / 1000;
    }
    return static_cast<std::uint32_t>(ms < 0 ? 0 : ms > kMaxMs ? kMaxMs : ms);
}

}  // namespace annal::inline sdk_v1
