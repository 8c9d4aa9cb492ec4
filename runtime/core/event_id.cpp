#include "runtime/core/event_id.h"

namespace annal {
namespace {

constexpr std::string_view kPrefix = "evt_";
constexpr std::string_view kDigits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr std::size_t kTextDigits = 26;
constexpr std::string_view kUuidShape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
constexpr std::string_view kHex = "0123456789abcdef";

constexpr std::uint8_t kNoDigit = 0xff;
using DigitTable = std::array<std::uint8_t, 256>;

constexpr char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

constexpr DigitTable make_crockford_values() {
    DigitTable table{};
    table.fill(kNoDigit);
    for (std::size_t i = 0; i < kDigits.size(); ++i) {
        table[static_cast<std::uint8_t>(kDigits[i])] = static_cast<std::uint8_t>(i);
        table[static_cast<std::uint8_t>(lower(kDigits[i]))] = static_cast<std::uint8_t>(i);
    }
    for (const char one : {'I', 'i', 'L', 'l'}) {
        table[static_cast<std::uint8_t>(one)] = 1;
    }
    for (const char zero : {'O', 'o'}) {
        table[static_cast<std::uint8_t>(zero)] = 0;
    }
    return table;
}

constexpr DigitTable kCrockfordValues = make_crockford_values();

/// 130 bits of digits hold 128 of value: the first digit is at most 7.
std::optional<EventId> parse_digits(std::string_view digits) {
    if (digits.size() != kTextDigits) {
        return std::nullopt;
    }
    EventId id;
    std::uint32_t held = 0;
    int bits = -2;
    std::size_t at = 0;
    for (const char c : digits) {
        const std::uint8_t value = kCrockfordValues[static_cast<std::uint8_t>(c)];
        if (value == kNoDigit || (bits == -2 && value > 7)) {
            return std::nullopt;
        }
        held = (held << 5) | value;
        bits += 5;
        if (bits >= 8) {
            bits -= 8;
            id.bytes[at++] = static_cast<std::uint8_t>(held >> bits);
        }
    }
    return id;
}

std::optional<EventId> parse_uuid(std::string_view text) {
    EventId id;
    std::size_t nibble = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (kUuidShape[i] == '-') {
            if (text[i] != '-') {
                return std::nullopt;
            }
            continue;
        }
        const std::size_t value = kHex.find(lower(text[i]));
        if (value == std::string_view::npos) {
            return std::nullopt;
        }
        auto& byte = id.bytes[nibble / 2];
        byte = static_cast<std::uint8_t>(byte << 4 | value);
        ++nibble;
    }
    return id;
}

}  // namespace

EventId EventId::make(TimeUs created_at, std::uint64_t random) {
    const auto ms = static_cast<std::uint64_t>(created_at) / 1000;
    const auto us = static_cast<std::uint64_t>(created_at) % 1000;
    EventId id;
    for (std::size_t i = 0; i < 6; ++i) {
        id.bytes[i] = static_cast<std::uint8_t>(ms >> (40 - 8 * i));
    }
    id.bytes[6] = static_cast<std::uint8_t>(0x70 | us >> 8);
    id.bytes[7] = static_cast<std::uint8_t>(us);
    for (std::size_t i = 0; i < 8; ++i) {
        id.bytes[8 + i] = static_cast<std::uint8_t>(random >> (56 - 8 * i));
    }
    id.bytes[8] = static_cast<std::uint8_t>(0x80 | (id.bytes[8] & 0x3f));
    return id;
}

std::optional<EventId> EventId::parse(std::string_view text) {
    if (text.starts_with(kPrefix)) {
        return parse_digits(text.substr(kPrefix.size()));
    }
    return text.size() == kUuidShape.size() ? parse_uuid(text) : std::nullopt;
}

TimeUs EventId::created_at() const {
    std::int64_t ms = 0;
    for (std::size_t i = 0; i < 6; ++i) {
        ms = ms << 8 | bytes[i];
    }
    return ms * 1000 + ((bytes[6] & 0x0f) << 8 | bytes[7]);
}

std::string EventId::text() const {
    std::string out(kPrefix);
    out.reserve(kPrefix.size() + kTextDigits);
    std::uint32_t held = 0;
    int bits = 2;  // two zero bits before the first byte make 130
    for (const std::uint8_t byte : bytes) {
        held = held << 8 | byte;
        for (bits += 8; bits >= 5; bits -= 5) {
            out += kDigits[held >> (bits - 5) & 31];
        }
    }
    return out;
}

std::string EventId::uuid() const {
    std::string out(kUuidShape);
    std::size_t nibble = 0;
    for (char& c : out) {
        if (c == 'x') {
            const std::uint8_t byte = bytes[nibble / 2];
            c = kHex[nibble % 2 == 0 ? byte >> 4 : byte & 15];
            ++nibble;
        }
    }
    return out;
}

}  // namespace annal
