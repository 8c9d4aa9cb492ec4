#include "event_rows.h"

#include <annal/sdk/event_id.hpp>
#include <annal/sdk/json.hpp>

namespace porta {
namespace {

constexpr std::size_t kToMilliseconds = std::string_view("2024-01-15T10:30:00.000").size();

}  // namespace

void EventRows::operator()(const annal::Batch& batch, bool has_more, annal_str next_cursor) {
    for (const annal_event& event : batch) {
        if (count_++ > 0) {
            out_.push(',');
        }
        if (annal::Status status = append(event); !status.ok()) {
            failure_ = std::move(status);
            return;
        }
    }
    has_more_ = has_more;
    next_cursor_ = annal::view(next_cursor);
}

annal::Status EventRows::append(const annal_event& event) {
    const auto id = annal::uuid_of(annal::view(event.id));
    if (!id) {
        return {ANNAL_INTERNAL, "the id of an event has no UUID form"};
    }
    std::string created_at(host_.format_time(event.created_at_us));
    created_at.resize(kToMilliseconds);
    created_at += 'Z';
    const std::string_view metadata = annal::view(event.metadata);

    annal::JsonWriter json(out_);
    json.begin_object()
        .member("id", id->view())
        .member("action", event.action)
        .member("entityType", event.target_type)
        .member("entityId", event.target_id)
        .member("actorId", event.actor_id)
        .member("actorEmail", event.actor_email)
        .member("organizationId", event.organization_id)
        .key("metadata")
        .raw(metadata.empty() ? "{}" : metadata)
        .member("createdAt", created_at)
        .end_object();
    return {};
}

}  // namespace porta
