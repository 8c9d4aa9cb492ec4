#include "runtime/delivery/stream_definition.h"

#include <algorithm>

namespace annal {

StreamDefinition StreamDefinition::of(
    const std::string& instance, const std::string& component, const EventsTrigger& trigger
) {
    StreamDefinition d;
    d.id = instance + "/" + trigger.name;
    d.known_as = d.id;
    d.subscription = "stream." + d.id + "." + trigger.project;
    d.project = trigger.project;
    d.name = d.id;
    d.destination = component;
    d.patterns = trigger.patterns;
    d.from = trigger.from == EventsTrigger::From::latest ? From::latest : From::earliest;
    d.batch_events_max = trigger.batch_events_max;
    d.batch_bytes_max = trigger.batch_bytes_max;
    d.format = trigger.format;
    d.on_poison = trigger.dead_letter ? OnPoison::dead_letter : OnPoison::block;
    return d;
}

bool StreamDefinition::takes_everything() const {
    return std::any_of(patterns.begin(), patterns.end(), [](const ActionPattern& pattern) {
        return pattern.kind == ActionPattern::Kind::any;
    });
}

}  // namespace annal
