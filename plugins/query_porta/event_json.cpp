#include "event_json.h"

#include <annal/sdk/event_id.hpp>

#include <string>
#include <string_view>

namespace porta {
namespace {

constexpr std::size_t kToMilliseconds = std::string_view("2024-01-15T10:30:00.000").size();

}  // namespace

std::string to_milliseconds(const annal::Host& host, std::int64_t at_us) {
    std::string text(host.format_time(at_us));
    text.resize(kToMilliseconds);
    return text + 'Z';
}

annal::Status append_event(Json& json, const annal::Host& host, const annal_event& event) {
    const auto id = annal::uuid_of(annal::view(event.id));
    if (!id) {
        return {ANNAL_INTERNAL, "the id of an event has no UUID form"};
    }
    const std::string created_at = to_milliseconds(host, event.created_at_us);
    const std::string_view metadata = annal::view(event.metadata);

    json.begin_object().member("id", id->view()).member("action", event.action);
    json.member("entityType", event.target_type).member("entityId", event.target_id);
    json.member("actorId", event.actor_id).member("actorEmail", event.actor_email);
    json.member("organizationId", event.organization_id);
    json.key("metadata").raw(metadata.empty() ? "{}" : metadata);
    json.member("createdAt", created_at).end_object();
    return {};
}

}  // namespace porta
