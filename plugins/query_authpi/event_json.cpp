#include "event_json.h"

#include <array>
#include <string_view>

#include "metadata_members.h"

namespace authpi {
namespace {

constexpr std::int64_t kUsPerMs = 1000;
/// Keys of metadata that are shown as members of the event, too.
constexpr std::array<std::string_view, 3> kLifted{"request", "response", "duration_ms"};

}  // namespace

void write_event(annal::JsonWriter<annal::Buffer>& json, const annal_event& event) {
    const std::string_view metadata = event.metadata.len > 0 ? annal::view(event.metadata) : "{}";
    std::array<std::string_view, kLifted.size()> lifted{"null", "null", "null"};
    find_members(metadata, kLifted, lifted);

    json.begin_object().member("id", event.id).member("type", event.action);
    json.member("timestamp", event.created_at_us / kUsPerMs).member("account_id", event.project_id);
    json.member("issuer_id", event.issuer_id).member("user_id", event.user_id);
    json.member("client_id", event.client_id).member("org_id", event.organization_id);
    json.member("agent_id", event.agent_id).member("auth_type", event.auth_type);
    json.key("actor").begin_object();
    json.member("type", event.actor_type).member("id", event.actor_id);
    json.member("email", event.actor_email).end_object();
    json.key("resource").begin_object();
    json.member("type", event.target_type).member("id", event.target_id).end_object();
    json.member("ip", event.ip).member("user_agent", event.user_agent);
    for (std::size_t i = 0; i < kLifted.size(); ++i) {
        json.key(kLifted[i]).raw(lifted[i]);
    }
    json.key("metadata").raw(metadata).end_object();
}

}  // namespace authpi
