#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/core/clock.h"
#include "runtime/store/event_store.h"

namespace annal {

/// An event that a destination refused for good, put aside so that the stream could go on. It holds
/// the event's seq, never its content: a redrive reads the event again.
///
/// Rows: space "host.dead_letters", the stream's project, key "<stream>/<seq, 20 digits>". A row is
/// written in the commit that moves the cursor past the event.
struct DeadLetter {
    std::string stream;
    Seq seq = kNoSeq;
    std::string event_id, reason;
    TimeUs at = kNoTime;
    std::uint32_t attempts = 1;  ///< refusals, redrives included
    bool redriving = false;      ///< asked for again; its stream sends it when it can

    [[nodiscard]] std::string key() const;
    [[nodiscard]] std::string to_text() const;
    [[nodiscard]] static std::optional<DeadLetter> from_row(const KvRow& row);
    /// What the keys of a stream's rows begin with.
    [[nodiscard]] static std::string prefix(std::string_view stream);

    static constexpr const char* kSpace = "host.dead_letters";
    /// The reason where the destination's own may have held what was erased.
    static constexpr const char* kErased = "erased with the personal data that it may have named";
};

}  // namespace annal
