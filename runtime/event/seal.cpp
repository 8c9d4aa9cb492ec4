#include "runtime/event/seal.h"

#include <algorithm>
#include <cstring>

namespace annal {
namespace {

constexpr std::uint8_t kLeafTag = 0x00;
constexpr std::uint8_t kBatchTag = 0x02;
constexpr std::uint8_t kContentTag = 0x03;
constexpr std::size_t kIdRandomBytes = 8;
constexpr std::size_t kRandomPerEvent = kIdRandomBytes + std::tuple_size_v<Salt>;

void append_u32(std::string& out, std::size_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) {
        out += static_cast<char>(value >> shift);
    }
}

void append_i64(std::string& out, std::int64_t value) {
    const auto bits = static_cast<std::uint64_t>(value);
    for (int shift = 56; shift >= 0; shift -= 8) {
        out += static_cast<char>(bits >> shift);
    }
}

void append_sized(std::string& out, std::string_view text) {
    append_u32(out, text.size());
    out += text;
}

void append_columns(std::string& out, const std::array<Text, kColumns>& columns) {
    for (const Text& text : columns) {
        out += static_cast<char>(text.is_null() ? 0 : 1);
        if (!text.is_null()) {
            append_sized(out, text.view());
        }
    }
}

std::string_view view(std::span<const std::uint8_t> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// created_at of the first of `count` events, so that all lie in one month.
TimeUs first_time(const LogHead& head, std::size_t count, TimeUs now, TimeUs floor) {
    TimeUs base = std::max({now, floor, TimeUs{0}});
    if (head.at != kNoTime) {
        base = std::max(base, head.at + 1);
    }
    const Month last = month_of(base + static_cast<TimeUs>(count) - 1);
    return month_of(base) == last ? base : start_of(last);
}

Event event_of(const SealedEvent& sealed, std::string_view project, const EventDraft& draft) {
    Event event;
    event.id = sealed.id;
    event.seq = sealed.seq;
    event.created_at = sealed.created_at;
    event.occurred_at = draft.occurred_at;
    event.project_id = project;
    event.columns = draft.columns;
    return event;
}

}  // namespace

void append_canonical_bytes(std::string& out, const Event& event) {
    out += static_cast<char>(kSealVersion);
    out += view(event.id.bytes);
    append_i64(out, event.seq);
    append_i64(out, event.created_at);
    append_i64(out, event.occurred_at);
    append_sized(out, event.project_id);
    append_columns(out, event.columns);
}

Digest leaf_of(const Salt& salt, std::string_view canonical_bytes) {
    Sha256 hash;
    hash.update(std::span(&kLeafTag, 1)).update(salt).update(canonical_bytes);
    return hash.finish();
}

Digest batch_digest(
    const Digest& prev,
    std::string_view project,
    Seq first,
    Seq last,
    TimeUs last_at,
    std::span<const SealedEvent> events
) {
    std::string head;
    head += static_cast<char>(kBatchTag);
    head += view(prev);
    append_sized(head, project);
    append_i64(head, first);
    append_i64(head, last);
    append_i64(head, last_at);
    Sha256 hash;
    hash.update(head);
    for (const SealedEvent& event : events) {
        hash.update(event.leaf);
    }
    return hash.finish();
}

Digest content_digest(std::span<const EventDraft> drafts) {
    Sha256 hash;
    std::string bytes(1, static_cast<char>(kContentTag));
    append_u32(bytes, drafts.size());
    for (const EventDraft& draft : drafts) {
        append_i64(bytes, draft.occurred_at);
        append_columns(bytes, draft.columns);
        hash.update(bytes);
        bytes.clear();
    }
    return hash.update(bytes).finish();
}

SealedBatch seal(
    const LogHead& head,
    std::string_view project,
    std::span<const EventDraft> drafts,
    TimeUs now,
    TimeUs floor
) {
    const std::size_t count = drafts.size();
    std::vector<std::uint8_t> random(count * kRandomPerEvent);
    random_bytes(random);

    SealedBatch batch;
    batch.prev_digest = head.digest;
    batch.first_seq = head.seq + 1;
    batch.last_seq = head.seq + static_cast<Seq>(count);
    batch.events.resize(count);
    const TimeUs base = first_time(head, count, now, floor);
    std::string bytes;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint8_t* const own = random.data() + i * kRandomPerEvent;
        SealedEvent& sealed = batch.events[i];
        std::uint64_t id_random = 0;
        std::memcpy(&id_random, own, kIdRandomBytes);
        std::memcpy(sealed.salt.data(), own + kIdRandomBytes, sealed.salt.size());
        sealed.seq = batch.first_seq + static_cast<Seq>(i);
        sealed.created_at = base + static_cast<TimeUs>(i);
        sealed.id = EventId::make(sealed.created_at, id_random);
        bytes.clear();
        append_canonical_bytes(bytes, event_of(sealed, project, drafts[i]));
        sealed.leaf = leaf_of(sealed.salt, bytes);
    }
    batch.last_at = base + static_cast<TimeUs>(count) - 1;
    batch.digest = batch_digest(
        batch.prev_digest, project, batch.first_seq, batch.last_seq, batch.last_at, batch.events
    );
    return batch;
}

}  // namespace annal
