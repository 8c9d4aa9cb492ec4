#include "runtime/delivery/audit_stream.h"

#include <array>
#include <boost/json.hpp>
#include <optional>

namespace annal {
namespace json = boost::json;
namespace {

using Status = AuditStream::Status;
using OnPoison = StreamDefinition::OnPoison;

constexpr std::array kStatuses{Status::active, Status::paused, Status::failed, Status::revoked};

std::string text(const json::object& row, const char* key) {
    const json::value* value = row.if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->get_string().c_str())
                                                  : std::string();
}

std::int64_t integer(const json::object& row, const char* key, std::int64_t fallback) {
    const json::value* value = row.if_contains(key);
    return value != nullptr && value->is_int64() ? value->get_int64() : fallback;
}

json::array to_json(const std::vector<ActionPattern>& patterns) {
    json::array list;
    for (const ActionPattern& pattern : patterns) list.emplace_back(pattern.source());
    return list;
}

Result<std::vector<ActionPattern>> patterns_of(const json::object& row) {
    std::vector<ActionPattern> patterns;
    const json::value* list = row.if_contains("events");
    if (list == nullptr || !list->is_array()) return Error{Errc::internal, "no events"};
    for (const json::value& item : list->get_array()) {
        if (!item.is_string()) return Error{Errc::internal, "an event that is no text"};
        BOOST_OUTCOME_TRY(ActionPattern pattern, parse_pattern(item.get_string().c_str()));
        patterns.push_back(std::move(pattern));
    }
    return patterns;
}

std::optional<Status> status_of(const std::string& name) {
    for (const Status status : kStatuses)
        if (name == word(status)) return status;
    return std::nullopt;
}

}  // namespace

const char* word(AuditStream::Status status) {
    switch (status) {
        case Status::paused:
            return "paused";
        case Status::failed:
            return "failed";
        case Status::revoked:
            return "revoked";
        case Status::active:
            break;
    }
    return "active";
}

const char* word(StreamDefinition::OnPoison on_poison) {
    return on_poison == OnPoison::block ? "block" : "dead_letter";
}

StreamDefinition AuditStream::definition() const {
    StreamDefinition d;
    d.id = id;
    // The destination knows the batches of a replay again when it has seen them.
    d.known_as = is_replay() ? parent : id;
    d.subscription = subscription();
    d.project = project;
    d.name = name;
    d.destination = destination;
    d.patterns = patterns;
    d.batch_events_max = batch_events_max;
    d.batch_bytes_max = batch_bytes_max;
    d.requests_per_second = requests_per_second;
    d.on_poison = on_poison;
    d.revision = revision;
    if (is_replay()) d.until = until;
    return d;
}

std::string AuditStream::to_row() const {
    json::object row;
    row["name"] = name;
    row["destination"] = destination;
    row["config"] = config;
    if (!sealed.empty()) row["sealed"] = sealed;
    row["events"] = to_json(patterns);
    row["batch_events_max"] = batch_events_max;
    row["batch_bytes_max"] = batch_bytes_max;
    row["requests_per_second"] = requests_per_second;
    row["on_poison"] = word(on_poison);
    row["status"] = word(status);
    if (!reason.empty()) row["reason"] = reason;
    row["revision"] = revision;
    row["starts"] = starts;
    row["created_at"] = created_at;
    row["updated_at"] = updated_at;
    if (is_replay()) {
        row["parent"] = parent;
        row["until"] = until;
    }
    return json::serialize(row);
}

Result<AuditStream> AuditStream::from_row(const KvRow& given) {
    const Error damaged{Errc::internal, "the row of stream " + given.key + " is damaged"};
    boost::system::error_code error;
    const json::value value = json::parse(given.value, error);
    if (error || !value.is_object()) return damaged;
    const json::object& row = value.get_object();
    AuditStream stream;
    stream.id = given.key;
    stream.project = given.project;
    stream.name = text(row, "name");
    stream.destination = text(row, "destination");
    stream.sealed = text(row, "sealed");
    stream.reason = text(row, "reason");
    stream.parent = text(row, "parent");
    const json::value* config = row.if_contains("config");
    auto patterns = patterns_of(row);
    const auto status = status_of(text(row, "status"));
    if (config == nullptr || !config->is_object() || !patterns || !status) return damaged;
    stream.config = config->get_object();
    stream.patterns = std::move(patterns.value());
    stream.status = *status;
    stream.batch_events_max =
        static_cast<std::uint32_t>(integer(row, "batch_events_max", stream.batch_events_max));
    stream.batch_bytes_max = static_cast<std::uint64_t>(integer(row, "batch_bytes_max", 1U << 20));
    const json::value* rate = row.if_contains("requests_per_second");
    if (rate != nullptr && rate->is_number())
        stream.requests_per_second = rate->to_number<double>();
    stream.on_poison =
        text(row, "on_poison") == word(OnPoison::block) ? OnPoison::block : OnPoison::dead_letter;
    stream.revision = integer(row, "revision", 1);
    stream.starts = integer(row, "starts", 0);
    stream.created_at = integer(row, "created_at", kNoTime);
    stream.updated_at = integer(row, "updated_at", kNoTime);
    stream.until = integer(row, "until", kNoSeq);
    return stream;
}

Result<json::object> AuditStream::whole_config(const SecretBox& box) const {
    json::object whole = config;
    if (sealed.empty()) return whole;
    BOOST_OUTCOME_TRY(
        const std::string secrets, box.open(project, is_replay() ? parent : id, sealed)
    );
    boost::system::error_code error;
    const json::value value = json::parse(secrets, error);
    if (error || !value.is_object())
        return Error{Errc::internal, "the secrets of stream " + id + " are damaged"};
    for (const auto& member : value.get_object()) whole[member.key()] = member.value();
    return whole;
}

}  // namespace annal
