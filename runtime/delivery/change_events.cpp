#include "runtime/delivery/change_events.h"

#include <boost/json.hpp>

namespace annal {

ChangeEvents::ChangeEvents(Actor actor, std::string target_type, std::string target_id)
    : actor_(std::move(actor)),
      target_type_(std::move(target_type)),
      target_id_(std::move(target_id)),
      events_(std::make_shared<std::deque<HostEvent>>()) {}

ChangeEvents& ChangeEvents::add(const char* action, const boost::json::object& metadata) {
    events_->push_back(HostEvent{
        action, actor_.type, actor_.id, target_type_, target_id_, boost::json::serialize(metadata)}
    );
    return *this;
}

void ChangeEvents::put_into(AppendUnit& unit) const {
    for (const HostEvent& event : *events_) unit.events.push_back(event.draft());
    unit.memory = events_;
}

}  // namespace annal
