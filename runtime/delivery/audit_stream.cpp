#include "runtime/delivery/audit_stream.h"

#include <array>
#include <boost/json.hpp>
#include <optional>

#include "runtime/core/json_row.h"
#include "runtime/delivery/pattern_list.h"

namespace annal {
namespace json = boost::json;
namespace {

using Status = AuditStream::Status;
using OnPoison = StreamDefinition::OnPoison;

constexpr std::array kStatuses{Status::active, Status::paused, Status::failed, Status::revoked};

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
    d.format = format;
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
    if (!format.empty()) row["format"] = format;
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
    const auto parsed = parse_row(given.value);
    if (!parsed) return damaged;
    const json::object& row = *parsed;
    AuditStream stream;
    stream.id = given.key;
    stream.project = given.project;
    stream.name = text_in(row, "name");
    stream.destination = text_in(row, "destination");
    stream.sealed = text_in(row, "sealed");
    stream.format = text_in(row, "format");
    stream.reason = text_in(row, "reason");
    stream.parent = text_in(row, "parent");
    const json::value* config = row.if_contains("config");
    auto patterns = patterns_in(row, "events");
    const auto status = status_of(text_in(row, "status"));
    if (config == nullptr || !config->is_object() || !patterns || !status) return damaged;
    stream.config = config->get_object();
    stream.patterns = std::move(patterns.value());
    stream.status = *status;
    stream.batch_events_max =
        static_cast<std::uint32_t>(integer_in(row, "batch_events_max", stream.batch_events_max));
    stream.batch_bytes_max =
        static_cast<std::uint64_t>(integer_in(row, "batch_bytes_max", 1U << 20));
    const json::value* rate = row.if_contains("requests_per_second");
    if (rate != nullptr && rate->is_number())
        stream.requests_per_second = rate->to_number<double>();
    stream.on_poison = text_in(row, "on_poison") == word(OnPoison::block) ? OnPoison::block
                                                                          : OnPoison::dead_letter;
    stream.revision = integer_in(row, "revision", 1);
    stream.starts = integer_in(row, "starts", 0);
    stream.created_at = integer_in(row, "created_at", kNoTime);
    stream.updated_at = integer_in(row, "updated_at", kNoTime);
    stream.until = integer_in(row, "until", kNoSeq);
    return stream;
}

Result<json::object> AuditStream::whole_config(const SecretBox& box) const {
    json::object whole = config;
    if (sealed.empty()) return whole;
    BOOST_OUTCOME_TRY(
        const std::string secrets, box.open(project, is_replay() ? parent : id, sealed)
    );
    const auto parsed = parse_row(secrets);
    if (!parsed) return Error{Errc::internal, "the secrets of stream " + id + " are damaged"};
    for (const auto& member : *parsed) whole[member.key()] = member.value();
    return whole;
}

}  // namespace annal
