#pragma once

#include <annal/sdk.hpp>

#include <cstdint>
#include <optional>

namespace sink_splunk_hec {

/// What a collector says in the body of its answers: {"text","code"} and, where they apply, the
/// rest.
struct HecReply {
    std::int64_t code = -1;
    std::optional<std::int64_t> ack_id;
    std::optional<std::int64_t> invalid_event;  ///< index of the event that it refuses
};

/// Nothing when the body is not a collector's: another server's page, a proxy's text, half an
/// answer.
[[nodiscard]] std::optional<HecReply> read_reply(const annal::ClientResponse& answer);

/// What the answer to a delivery of `events` events means. The code says more than the status, and
/// what is neither a collector's success nor its refusal is a retry: a 200 of somebody else's is
/// not a delivery.
///
/// Data that it refuses (5, 6, 12, 13, 15): rejected, only the event that it names if it names one;
/// the others are to be sent again. Tokens, indexes, channels, acknowledgement (1 to 4, 7, 10, 11,
/// 14, 16, 21, 22): pause. Busy or ending (8, 9, 18 to 20, 23, 26, 27): retry.
/// @param now_us  wall clock, for Retry-After
[[nodiscard]] annal::Outcome judge_reply(
    const annal::ClientResponse& answer, std::uint32_t events, std::int64_t now_us
);

/// Whether a reply that is a success says that the collector's queues fill up.
[[nodiscard]] bool is_near_capacity(const HecReply& reply);

/// What an acknowledgement query's answer says of `ack_id`; nothing when it does not answer that.
[[nodiscard]] std::optional<bool> read_ack(
    const annal::ClientResponse& answer, std::int64_t ack_id
);

}  // namespace sink_splunk_hec
