#include "runtime/store/idempotency_key.h"

#include <algorithm>

#include "runtime/store/byte_codec.h"

namespace annal {

KeyName key_name(KeyKind kind, std::string_view project, std::string_view key) {
    std::string bytes(1, static_cast<char>(kind));
    ByteWriter out(bytes);
    out.text(project);
    out.raw(key);
    const Digest digest = sha256(bytes);
    KeyName name;
    std::copy_n(digest.begin(), name.size(), name.begin());
    return name;
}

std::uint64_t random_bits(const EventId& id) {
    std::uint64_t bits = 0;
    for (std::size_t i = 8; i < id.bytes.size(); ++i) {
        bits = bits << 8 | id.bytes[i];
    }
    return bits & ((std::uint64_t{1} << 62) - 1);
}

std::string encode_receipts(std::span<const Receipt> receipts) {
    std::string bytes;
    bytes.reserve(receipts.size() * 24);
    ByteWriter out(bytes);
    for (const Receipt& receipt : receipts) {
        out.number(receipt.seq);
        out.number(receipt.created_at);
        out.number(static_cast<std::int64_t>(random_bits(receipt.id)));
    }
    return bytes;
}

std::vector<Receipt> decode_receipts(std::string_view bytes) {
    std::vector<Receipt> receipts;
    ByteReader in(bytes);
    while (in.good() && !in.at_end()) {
        Receipt receipt;
        receipt.seq = in.number();
        receipt.created_at = in.number();
        receipt.id = EventId::make(receipt.created_at, static_cast<std::uint64_t>(in.number()));
        receipts.push_back(receipt);
    }
    return receipts;
}

}  // namespace annal
