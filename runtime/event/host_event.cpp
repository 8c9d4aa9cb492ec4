#include "runtime/event/host_event.h"

namespace annal {

EventDraft HostEvent::draft() const {
    EventDraft d;
    d[Column::action] = Text(action);
    d[Column::actor_type] = Text(actor_type);
    if (!actor_id.empty()) d[Column::actor_id] = Text(actor_id);
    d[Column::auth_type] = Text(actor_type);
    if (!target_type.empty()) d[Column::target_type] = Text(target_type);
    if (!target_id.empty()) d[Column::target_id] = Text(target_id);
    d[Column::metadata] = Text(metadata);
    return d;
}

}  // namespace annal
