#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/core/crypto.h"
#include "runtime/core/event_id.h"

namespace annal {

/// What is sent next, durable before the first attempt: whoever goes on after a crash, on whichever
/// node, sends the identical bytes, so that a destination that saw them knows them again.
///
/// Rows: space "host.stream_plans", the subscription's project, its name as the key. A row is
/// written in the commit that moves the cursor up to the event before `first`.
struct BatchPlan {
    Seq first = kNoSeq, last = kNoSeq;
    std::uint32_t events = 0;  ///< from `first` to `last`, both among them
    std::string encoder;       ///< who wrote the bytes: module, version, the stream's revision
    Digest digest{};           ///< of the bytes

    [[nodiscard]] std::string to_text() const;
    /// Nothing: not what `to_text` writes.
    [[nodiscard]] static std::optional<BatchPlan> from_text(std::string_view text);
    friend bool operator==(const BatchPlan&, const BatchPlan&) = default;

    static constexpr const char* kSpace = "host.stream_plans";
};

}  // namespace annal
