#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace annal::inline sdk_v1 {

/// A UUID as text, "0196d0f5-…": lower case, 36 bytes.
struct UuidText {
    std::array<char, 36> chars{};
    [[nodiscard]] constexpr std::string_view view() const { return {chars.data(), chars.size()}; }
    constexpr operator std::string_view() const { return view(); }  // NOLINT: it is a text
};

namespace detail {

/// Of a Crockford base-32 digit, in either case, with I and L for 1 and O for 0; 32 for any other
/// character.
[[nodiscard]] constexpr std::uint32_t crockford_value(char c) noexcept {
    const char upper = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
    if (upper == 'I' || upper == 'L') {
        return 1;
    }
    if (upper == 'O') {
        return 0;
    }
    const std::size_t value = std::string_view("0123456789ABCDEFGHJKMNPQRSTVWXYZ").find(upper);
    return value == std::string_view::npos ? 32 : static_cast<std::uint32_t>(value);
}

}  // namespace detail

/// The UUID form of an event's id: the same 128 bits, a valid UUIDv7, which the host's `get` and
/// `erase` take as well.
///
/// "evt_" is followed by 26 base-32 digits, the most significant first. They have room for 130
/// bits; the first two are 0, so the first digit is at most 7.
/// @return Nothing when `event_id` is no such text.
[[nodiscard]] constexpr std::optional<UuidText> uuid_of(std::string_view event_id) noexcept {
    constexpr std::string_view kPrefix = "evt_";
    constexpr std::size_t kDigits = 26;
    constexpr std::string_view kHex = "0123456789abcdef";
    if (!event_id.starts_with(kPrefix) || event_id.size() != kPrefix.size() + kDigits) {
        return std::nullopt;
    }
    UuidText uuid;
    std::size_t at = 0;
    std::uint32_t held = 0;
    int bits = -2;  // the two that are 0
    for (const char c : event_id.substr(kPrefix.size())) {
        const std::uint32_t value = detail::crockford_value(c);
        if (value > 31 || (bits == -2 && value > 7)) {
            return std::nullopt;
        }
        held = (held << 5U | value) & 0xFFU;  // at most 3 bits are left over, and 5 come
        for (bits += 5; bits >= 4; bits -= 4) {
            if (at == 8 || at == 13 || at == 18 || at == 23) {
                uuid.chars[at++] = '-';
            }
            uuid.chars[at++] = kHex[held >> static_cast<unsigned>(bits - 4) & 15U];
        }
    }
    return uuid;
}

}  // namespace annal::inline sdk_v1
