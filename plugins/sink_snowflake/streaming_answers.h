#pragma once

#include <annal/sdk/http_answer.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sink_snowflake {

/// What Snowflake says of a channel.
struct ChannelStatus {
    std::int64_t committed_seq = -1;    ///< from last_committed_offset_token; -1: nothing yet
    std::int64_t rows_error_count = 0;  ///< since the channel was made
    std::string error;                  ///< about the last row that it could not take
};

/// A channel that was just opened.
struct OpenedChannel {
    std::string continuation_token;
    ChannelStatus status;
};

/// A value that comes as bare text in practice and as a member of an object in the documents; empty
/// when it is neither.
[[nodiscard]] std::string text_or_member(std::string_view body, std::string_view member);

/// Nothing: the answer is not one to opening a channel, or its offset token is no seq of ours.
[[nodiscard]] std::optional<OpenedChannel> read_opened(std::string_view body);
/// Of the one channel that was asked for.
[[nodiscard]] std::optional<ChannelStatus> read_status(std::string_view body);
[[nodiscard]] std::optional<std::string> read_continuation_token(std::string_view body);

/// Somebody has opened the channel since, or lost count: it has to be opened anew.
[[nodiscard]] bool is_stale(const annal::ClientResponse& answer);

}  // namespace sink_snowflake
