#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/core/crypto.h"
#include "runtime/event/event.h"

namespace annal {

/// Version byte of the canonical bytes below; part of what is hashed.
inline constexpr std::uint8_t kSealVersion = 1;
using Salt = std::array<std::uint8_t, 16>;

/// The end of a project's log, as the append path needs it.
struct LogHead {
    Seq seq = kNoSeq;     ///< newest seq; kNoSeq for an empty log
    TimeUs at = kNoTime;  ///< its created_at
    Digest digest{};      ///< digest of its batch; zeros for an empty log
};

/// One event made ready for the store.
struct SealedEvent {
    EventId id;
    Seq seq = kNoSeq;
    TimeUs created_at = kNoTime;
    Salt salt{};
    Digest leaf{};  ///< SHA-256(0x00 ‖ salt ‖ canonical bytes)
};

/// One commit of a project's log.
struct SealedBatch {
    Seq first_seq = 0, last_seq = 0;
    TimeUs last_at = 0;
    Digest digest{}, prev_digest{};  ///< digest = SHA-256(0x02 ‖ prev ‖ project ‖ first ‖ last ‖
                                     ///< last_at ‖ leaves)
    std::vector<SealedEvent> events;
};

/// Canonical bytes of an event, specified in docs/canonical-bytes.md. They can never change:
/// evidence depends on them.
void append_canonical_bytes(std::string& out, const Event& event);
[[nodiscard]] Digest leaf_of(const Salt& salt, std::string_view canonical_bytes);
[[nodiscard]] Digest batch_digest(
    const Digest& prev,
    std::string_view project,
    Seq first,
    Seq last,
    TimeUs last_at,
    std::span<const SealedEvent> events
);

/// Digest of what the caller said (columns, occurred_at), for idempotency: equal content, equal
/// digest, whatever the key.
[[nodiscard]] Digest content_digest(std::span<const EventDraft> drafts);

/// Gives `drafts` their place at the end of a log: seq from head.seq + 1, created_at from
/// max(head.at + 1, now, floor) in steps of 1 µs, ids, salts, leaves, digest. A batch never spans a
/// month: one that would is stamped from the first microsecond of the new month. Call it with the
/// append lock held. `drafts` must not be empty.
[[nodiscard]] SealedBatch seal(
    const LogHead& head,
    std::string_view project,
    std::span<const EventDraft> drafts,
    TimeUs now,
    TimeUs floor
);

}  // namespace annal
