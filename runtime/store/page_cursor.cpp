#include "runtime/store/page_cursor.h"

#include <algorithm>

namespace annal {
namespace {

constexpr char kVersion = 1;
constexpr std::size_t kSeqBytes = 8;
constexpr std::size_t kTagBytes = 8;  // which filter and order it was made for
constexpr std::size_t kMacBytes = 16;
constexpr std::size_t kPayloadBytes = 1 + kSeqBytes + kTagBytes;
constexpr std::size_t kTextSize = (kPayloadBytes + kMacBytes) * 8 / 6;
static_assert((kPayloadBytes + kMacBytes) * 8 % 6 == 0);
constexpr std::string_view kMacLabel = "annal page cursor 1";

std::string head_of(const Digest& digest, std::size_t size) {
    return {reinterpret_cast<const char*>(digest.data()), size};
}

std::string filter_tag(const Filter& filter, bool newest_first) {
    std::string bytes = head_of(filter.digest(), std::tuple_size_v<Digest>);
    bytes += newest_first ? 'n' : 'o';
    return head_of(sha256(bytes), kTagBytes);
}

std::string mac(std::string_view key, std::string_view payload, std::string_view project) {
    std::string bytes(kMacLabel);
    bytes += payload;  // of fixed size, so the project may follow as it is
    bytes += project;
    return head_of(hmac_sha256(key, bytes), kMacBytes);
}

std::string encode_seq(Seq seq) {
    std::string out;
    for (int shift = 56; shift >= 0; shift -= 8) {
        out += static_cast<char>(static_cast<std::uint64_t>(seq) >> shift);
    }
    return out;
}

Seq decode_seq(std::string_view bytes) {
    std::uint64_t value = 0;
    for (const char c : bytes) {
        value = value << 8 | static_cast<std::uint8_t>(c);
    }
    return static_cast<Seq>(value);
}

}  // namespace

std::string CursorCodec::seal(
    std::string_view project, const Filter& filter, bool newest_first, Seq after
) const {
    std::string payload(1, kVersion);
    payload += encode_seq(after);
    payload += filter_tag(filter, newest_first);
    return to_base64url(payload + mac(keys_.front(), payload, project));
}

bool CursorCodec::is_ours(
    std::string_view payload, std::string_view sent_mac, std::string_view project
) const {
    return std::any_of(keys_.begin(), keys_.end(), [&](const std::string& key) {
        return equal_constant_time(sent_mac, mac(key, payload, project));
    });
}

Result<Seq> CursorCodec::open(
    std::string_view cursor, std::string_view project, const Filter& filter, bool newest_first
) const {
    const auto bytes =
        cursor.size() == kTextSize ? from_base64url(cursor) : std::optional<std::string>();
    const std::string_view payload = bytes ? std::string_view(*bytes).substr(0, kPayloadBytes) : "";
    if (!bytes || payload[0] != kVersion ||
        !is_ours(payload, std::string_view(*bytes).substr(kPayloadBytes), project)) {
        return Error{
            Errc::invalid,
            "the cursor is not one that this project's lists gave out, or it was altered; pass "
            "next_cursor "
            "unchanged, or leave the cursor out to begin anew",
            "cursor"};
    }
    if (payload.substr(1 + kSeqBytes) != filter_tag(filter, newest_first)) {
        return Error{
            Errc::invalid,
            "the cursor belongs to other filters or another order; repeat the filters of the first "
            "page, or "
            "leave the cursor out to begin anew",
            "cursor"};
    }
    return decode_seq(payload.substr(1, kSeqBytes));
}

}  // namespace annal
