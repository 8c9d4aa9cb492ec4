#include "runtime/webhooks/webhook_delivery.h"

#include <array>
#include <boost/json.hpp>
#include <charconv>
#include <cstdio>

#include "runtime/core/json_row.h"

namespace annal {
namespace json = boost::json;
namespace {

using Status = WebhookDelivery::Status;

constexpr std::string_view kDelivery = "del_", kEndpoint = "web_";
constexpr std::size_t kHexDigits = 16;

std::string hex(std::int64_t value) {
    char digits[kHexDigits + 1];
    std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(value));
    return digits;
}

std::optional<std::int64_t> number_of(std::string_view digits, int base) {
    std::int64_t value = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, value, base);
    if (error != std::errc() || stop != end || value < 0) return std::nullopt;
    return value;
}

json::object object_of(const WebhookAttempt& attempt) {
    json::object object;
    object["n"] = attempt.number;
    object["at"] = attempt.at;
    object["status"] = attempt.status;
    object["latency_us"] = attempt.latency_us;
    if (!attempt.error.empty()) object["error"] = attempt.error;
    if (!attempt.answer.empty()) object["answer"] = attempt.answer;
    return object;
}

WebhookAttempt attempt_of(const json::object& object) {
    WebhookAttempt attempt;
    attempt.number = integer_in(object, "n", 1);
    attempt.at = integer_in(object, "at", kNoTime);
    attempt.status = static_cast<int>(integer_in(object, "status", 0));
    attempt.latency_us = integer_in(object, "latency_us", 0);
    attempt.error = text_in(object, "error");
    attempt.answer = text_in(object, "answer");
    return attempt;
}

}  // namespace

// --- names

std::string DeliveryId::text() const {
    std::string text(kDelivery);
    text.append(endpoint, kEndpoint.size()).append("-").append(std::to_string(seq));
    return text;
}

std::optional<DeliveryId> DeliveryId::parse(std::string_view text) {
    const auto dash = text.rfind('-');
    if (!text.starts_with(kDelivery) || dash == std::string_view::npos) return std::nullopt;
    const auto seq = number_of(text.substr(dash + 1), 10);
    const auto own = text.substr(kDelivery.size(), dash - kDelivery.size());
    if (!seq || own.empty() || own.find('/') != std::string_view::npos) return std::nullopt;
    DeliveryId id;
    id.endpoint = std::string(kEndpoint).append(own);
    id.seq = *seq;
    if (id.text() != text) return std::nullopt;  // no two names for one delivery
    return id;
}

std::string rows_of(const std::string& endpoint) {
    return endpoint + "/";
}

std::string fresh_rows_of(const std::string& endpoint) {
    return endpoint + "/" + hex(0) + "/";
}

std::string behind_fresh_rows_of(const std::string& endpoint) {
    return endpoint + "/" + hex(0) + "~";
}

std::string delivery_key(const DeliveryId& id) {
    return id.endpoint + "/" + hex(id.seq);
}

std::string attempt_key(const DeliveryId& id, std::int64_t number) {
    return delivery_key(id) + "/" + hex(number);
}

std::string QueuePlace::key(const std::string& endpoint) const {
    return endpoint + "/" + hex(due) + "/" + hex(seq);
}

std::optional<QueuePlace> QueuePlace::of_key(std::string_view key) {
    const auto first = key.find('/'), second = key.rfind('/');
    if (first == std::string_view::npos || second == first) return std::nullopt;
    const auto due = number_of(key.substr(first + 1, second - first - 1), 16);
    const auto seq = number_of(key.substr(second + 1), 16);
    if (!due || !seq) return std::nullopt;
    return QueuePlace{*due, *seq};
}

const char* word(Status status) {
    switch (status) {
        case Status::delivered:
            return "delivered";
        case Status::failed:
            return "failed";
        case Status::pending:
            break;
    }
    return "pending";
}

std::optional<Status> delivery_status_of(std::string_view name) {
    for (const Status status : {Status::pending, Status::delivered, Status::failed})
        if (name == word(status)) return status;
    return std::nullopt;
}

// --- rows

std::string WebhookAttempt::to_text() const {
    return json::serialize(object_of(*this));
}

std::optional<WebhookAttempt> WebhookAttempt::from_text(std::string_view text) {
    const auto object = parse_row(text);
    if (!object) return std::nullopt;
    return attempt_of(*object);
}

std::string WebhookDelivery::to_text() const {
    json::object row;
    row["event"] = event_id;
    row["attempts"] = attempts;
    row["tries"] = tries;
    if (replays > 0) row["replays"] = replays;
    if (next_at != kNoTime) row["next_at"] = next_at;
    if (ended_at != kNoTime) row["ended_at"] = ended_at;
    if (!reason.empty()) row["reason"] = reason;
    if (last) {
        json::object attempt = object_of(*last);
        attempt.erase("answer");  // in the attempt's own row
        row["last"] = std::move(attempt);
    }
    return json::serialize(row);
}

Result<WebhookDelivery> WebhookDelivery::from_row(const KvRow& given, Status status) {
    const auto slash = given.key.find('/');
    const auto row = parse_row(given.value);
    const auto seq =
        slash == std::string::npos ? std::nullopt : number_of(given.key.substr(slash + 1), 16);
    if (!row || !seq)
        return Error{Errc::internal, "the row of webhook delivery " + given.key + " is damaged"};
    WebhookDelivery delivery;
    delivery.id.endpoint = given.key.substr(0, slash);
    delivery.id.seq = *seq;
    delivery.status = status;
    delivery.event_id = text_in(*row, "event");
    delivery.attempts = integer_in(*row, "attempts", 0);
    delivery.tries = integer_in(*row, "tries", 0);
    delivery.replays = integer_in(*row, "replays", 0);
    delivery.next_at = integer_in(*row, "next_at", kNoTime);
    delivery.ended_at = integer_in(*row, "ended_at", kNoTime);
    delivery.reason = text_in(*row, "reason");
    const json::value* last = row->if_contains("last");
    if (last != nullptr && last->is_object()) delivery.last = attempt_of(last->get_object());
    return delivery;
}

void put_in_queue(
    std::vector<KvOp>& ops, const std::string& project, const WebhookDelivery& delivery
) {
    const QueuePlace place{delivery.next_at, delivery.id.seq};
    const auto put = [&](const char* space, std::string key, std::string value) {
        ops.push_back({KvOp::Kind::put, space, project, std::move(key), std::move(value)});
    };
    put(WebhookDelivery::kRetrying, delivery_key(delivery.id), delivery.to_text());
    put(WebhookDelivery::kQueue, place.key(delivery.id.endpoint), {});
}

}  // namespace annal
