#include "runtime/event/event.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "runtime/core/limits.h"

namespace annal {
namespace {

struct ColumnTraits {
    std::string_view name;
    std::size_t size_max;
};

constexpr std::array<ColumnTraits, kColumns> kTraits = {{
    {"external_id", 128},
    {"action", 128},
    {"actor_type", 64},
    {"actor_id", 256},
    {"actor_email", 320},
    {"auth_type", 64},
    {"user_id", 256},
    {"organization_id", 256},
    {"client_id", 256},
    {"issuer_id", 256},
    {"agent_id", 256},
    {"target_type", 128},
    {"target_id", 512},
    {"ip", 45},
    {"user_agent", 2048},
    {"description", 4096},
    {"metadata", kMetadataBytesMax},
}};

constexpr std::size_t kBlockBytes = 64U << 10;

const ColumnTraits& traits(Column column) {
    return kTraits[static_cast<std::size_t>(column)];
}

}  // namespace

std::string_view name(Column column) {
    return traits(column).name;
}

std::size_t size_max(Column column) {
    return traits(column).size_max;
}

std::size_t EventDraft::weight() const {
    std::size_t bytes = sizeof(EventDraft) + idempotency_key.size();
    for (const Text& text : columns) {
        bytes += text.size();
    }
    return bytes;
}

Arena::Arena(Arena&& other) noexcept
    : blocks_(std::exchange(other.blocks_, {})),
      next_(std::exchange(other.next_, nullptr)),
      room_(std::exchange(other.room_, 0)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
    blocks_ = std::exchange(other.blocks_, {});
    next_ = std::exchange(other.next_, nullptr);
    room_ = std::exchange(other.room_, 0);
    bytes_ = std::exchange(other.bytes_, 0);
    return *this;
}

void* Arena::allocate(std::size_t size, std::size_t align) {
    const std::size_t pad = (align - reinterpret_cast<std::uintptr_t>(next_) % align) % align;
    if (next_ == nullptr || pad + size > room_) {
        return allocate_block(size);
    }
    std::byte* const out = next_ + pad;
    next_ += pad + size;
    room_ -= pad + size;
    return out;
}

void* Arena::allocate_block(std::size_t size) {
    // A large request gets a block of its own, so that the current one is not given up for it.
    const bool own = size > kBlockBytes / 4;
    const std::size_t block_size = own ? size : kBlockBytes;
    // The first block stays small: most requests carry one event.
    const std::size_t made =
        !own && blocks_.empty() ? std::max<std::size_t>(1024, size) : block_size;
    blocks_.push_back(std::make_unique_for_overwrite<std::byte[]>(made));
    bytes_ += made;
    std::byte* const out = blocks_.back().get();
    if (!own) {
        next_ = out + size;
        room_ = made - size;
    }
    return out;
}

std::string_view Arena::copy(std::string_view text) {
    if (text.empty()) {
        return "";
    }
    auto* const out = static_cast<char*>(allocate(text.size(), 1));
    std::memcpy(out, text.data(), text.size());
    return {out, text.size()};
}

}  // namespace annal
