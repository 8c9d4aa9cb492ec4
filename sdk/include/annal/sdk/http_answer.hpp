#pragma once

#include <annal/sdk/owned.hpp>
#include <annal/sdk/retry_after.hpp>
#include <annal/sdk/sink.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace annal::inline sdk_v1 {

/// A header of the answer, by its name in lower case; the first of several.
[[nodiscard]] inline std::optional<std::string_view> header_of(
    const ClientResponse& answer, std::string_view name
) {
    for (const auto& [key, value] : answer.headers) {
        if (key == name) {
            return value;
        }
    }
    return std::nullopt;
}

/// How long `Retry-After` asks to wait, in either form (seconds, or an HTTP date seen from
/// `now_us`); 0 when it is absent, in the past or not to be understood. At most a day.
[[nodiscard]] inline std::uint32_t retry_after_ms(
    const ClientResponse& answer, std::int64_t now_us
) {
    const auto text = header_of(answer, "retry-after");
    return text ? read_retry_after(*text, now_us) : 0;
}

/// "401 Unauthorized: <the first 200 bytes of the body, in one line>": what goes into logs and dead
/// letters.
[[nodiscard]] inline std::string describe(const ClientResponse& answer) {
    constexpr std::size_t kBodyMax = 200;
    std::string text = "the destination answered " + std::to_string(answer.http_status);
    if (const auto to = header_of(answer, "location"); to && answer.http_status / 100 == 3) {
        text += " to " + std::string(to->substr(0, kBodyMax));
    }
    if (!answer.body.empty()) {
        text += ": ";
        for (const char c : std::string_view(answer.body).substr(0, kBodyMax)) {
            text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
        }
    }
    return text;
}

/// What an answer to a delivery means where the destination's own contract says nothing else.
///
/// 2xx: delivered. 408, 425, 429, 5xx, no connection, no answer in time: retry, after Retry-After
/// if there is one. 400, 413, 415, 422: rejected for what it holds; the host then looks for the
/// event. Everything else (401, 403, 404, a redirect, a refused address, TLS): pause until somebody
/// looks.
/// @param now_us  wall clock
[[nodiscard]] inline Outcome judge(const ClientResponse& answer, std::int64_t now_us) {
    if (!answer.ok()) {
        const bool hopeless =
            answer.status.code() == ANNAL_DENIED || answer.status.code() == ANNAL_INVALID;
        return hopeless ? pause(answer.status.text())
                        : retry(answer.status.text(), answer.status.retry_after_ms());
    }
    const std::uint32_t status = answer.http_status;
    if (status / 100 == 2) {
        return delivered();
    }
    if (status == 408 || status == 425 || status == 429 || status >= 500) {
        return retry(describe(answer), retry_after_ms(answer, now_us));
    }
    if (status == 400 || status == 413 || status == 415 || status == 422) {
        return reject(describe(answer));
    }
    return pause(describe(answer));
}

/// As `judge`, for a probe: fine, or why not.
[[nodiscard]] inline Status judge_probe(const ClientResponse& answer) {
    if (!answer.ok()) {
        return answer.status;
    }
    if (answer.http_status / 100 == 2) {
        return {};
    }
    const bool passes = answer.http_status == 429 || answer.http_status >= 500;
    return {passes ? ANNAL_UNAVAILABLE : ANNAL_DENIED, describe(answer)};
}

}  // namespace annal::inline sdk_v1
