#include "entry.h"

#include <string_view>
#include <utility>

namespace logging {
namespace {

constexpr std::pair<std::string_view, annal_str annal_event::*> kTexts[] = {
    {"action", &annal_event::action},
    {"actor_type", &annal_event::actor_type},
    {"actor_id", &annal_event::actor_id},
    {"actor_email", &annal_event::actor_email},
    {"user_id", &annal_event::user_id},
    {"organization_id", &annal_event::organization_id},
    {"target_type", &annal_event::target_type},
    {"target_id", &annal_event::target_id},
    {"ip", &annal_event::ip},
    {"user_agent", &annal_event::user_agent},
    {"description", &annal_event::description},
};

}  // namespace

void append_entry(Json& json, const annal::Host& host, const annal_event& event) {
    json.begin_object().member("id", event.id);
    json.member("timestamp", host.format_time(event.created_at_us));
    for (const auto& [name, member] : kTexts) {
        json.member(name, event.*member);
    }
    json.key("metadata").raw(event.metadata.len > 0 ? annal::view(event.metadata) : "{}");
    json.end_object();
}

}  // namespace logging
