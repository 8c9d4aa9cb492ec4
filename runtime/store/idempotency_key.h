#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/core/clock.h"
#include "runtime/core/crypto.h"
#include "runtime/store/event_store.h"

namespace annal {

/// How long a key is honoured at least.
inline constexpr TimeUs kKeyLifetime = 31 * kDayUs;

enum class KeyKind : std::uint8_t { request = 'r', event = 'e' };

/// A key within its project and kind, as a digest: fixed size, and no client chooses where it
/// lands.
using KeyName = std::array<std::uint8_t, 16>;
[[nodiscard]] KeyName key_name(KeyKind kind, std::string_view project, std::string_view key);

struct KeyNameHash {
    std::size_t operator()(const KeyName& name) const {
        std::size_t hash = 0;
        std::memcpy(&hash, name.data(), sizeof hash);
        return hash;
    }
};

/// What was answered to a key, and to which content.
struct KeyRecord {
    Digest content{};
    std::vector<Receipt> receipts;
};
using KeyRecords = std::unordered_map<KeyName, KeyRecord, KeyNameHash>;

/// The 62 random bits of an id: all that created_at does not tell of it.
[[nodiscard]] std::uint64_t random_bits(const EventId& id);

/// 24 bytes a receipt, little-endian: seq, created_at and the random bits of the id. `replayed` is
/// not kept. Part of what stores hold on disk.
[[nodiscard]] std::string encode_receipts(std::span<const Receipt> receipts);
/// `bytes` must be what `encode_receipts` made.
[[nodiscard]] std::vector<Receipt> decode_receipts(std::string_view bytes);

}  // namespace annal
