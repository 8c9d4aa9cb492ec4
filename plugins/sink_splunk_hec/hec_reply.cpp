#include "hec_reply.h"

#include <algorithm>
#include <array>
#include <string>

namespace sink_splunk_hec {
namespace {

using annal::Json;

/// The body as an object; nothing for any other body.
std::optional<Json> read_object(const annal::ClientResponse& answer) {
    Json json;
    Json::Failure failure;
    if (!answer.ok() || answer.truncated || !Json::parse(answer.body, json, failure) ||
        !json.is(Json::Kind::object)) {
        return std::nullopt;
    }
    return json;
}

std::optional<std::int64_t> integer_of(const Json& object, std::string_view name) {
    const Json* value = object.find(name);
    return value != nullptr && value->is(Json::Kind::integer)
               ? std::optional<std::int64_t>(value->integer())
               : std::nullopt;
}

template <std::size_t N>
bool is_one_of(std::int64_t code, const std::array<std::int64_t, N>& codes) {
    return std::find(codes.begin(), codes.end(), code) != codes.end();
}

constexpr std::array<std::int64_t, 3> kSuccess{0, 24, 25};
constexpr std::array<std::int64_t, 5> kData{5, 6, 12, 13, 15};
constexpr std::array<std::int64_t, 11> kConfiguration{1, 2, 3, 4, 7, 10, 11, 14, 16, 21, 22};
constexpr std::array<std::int64_t, 8> kLater{8, 9, 18, 19, 20, 23, 26, 27};

annal::Outcome judge_data(
    const annal::ClientResponse& answer, const HecReply& reply, std::uint32_t events
) {
    const std::string why = annal::describe(answer);
    const std::int64_t index = reply.invalid_event.value_or(-1);
    if (index < 0 || index >= events) {
        return annal::reject(why);
    }
    annal::Outcome outcome = annal::retry("sent again without the event that was refused: " + why);
    outcome.reject_event(static_cast<std::uint32_t>(index), why);
    return outcome;
}

}  // namespace

std::optional<HecReply> read_reply(const annal::ClientResponse& answer) {
    const auto object = read_object(answer);
    if (!object) {
        return std::nullopt;
    }
    const auto code = integer_of(*object, "code");
    if (!code) {
        return std::nullopt;
    }
    return HecReply{
        *code, integer_of(*object, "ackId"), integer_of(*object, "invalid-event-number")};
}

annal::Outcome judge_reply(
    const annal::ClientResponse& answer, std::uint32_t events, std::int64_t now_us
) {
    const annal::Outcome by_status = annal::judge(answer, now_us);
    const auto reply = read_reply(answer);
    if (reply && answer.http_status / 100 != 2) {
        if (is_one_of(reply->code, kData)) {
            return judge_data(answer, *reply, events);
        }
        if (is_one_of(reply->code, kConfiguration)) {
            return annal::pause(annal::describe(answer));
        }
        if (is_one_of(reply->code, kLater)) {
            return annal::retry(annal::describe(answer), annal::retry_after_ms(answer, now_us));
        }
    }
    if (by_status.verdict() != ANNAL_DELIVERED) {
        return by_status;
    }
    if (answer.http_status == 200 && reply && is_one_of(reply->code, kSuccess)) {
        return annal::delivered();
    }
    return annal::retry("no collector's success: " + annal::describe(answer));
}

bool is_near_capacity(const HecReply& reply) {
    return reply.code == 24 || reply.code == 25;
}

std::optional<bool> read_ack(const annal::ClientResponse& answer, std::int64_t ack_id) {
    const auto object = read_object(answer);
    if (!object || answer.http_status != 200) {
        return std::nullopt;
    }
    const Json* acks = object->find("acks");
    const Json* mine = acks != nullptr && acks->is(Json::Kind::object)
                           ? acks->find(std::to_string(ack_id))
                           : nullptr;
    return mine != nullptr && mine->is(Json::Kind::boolean) ? std::optional<bool>(mine->boolean())
                                                            : std::nullopt;
}

}  // namespace sink_splunk_hec
