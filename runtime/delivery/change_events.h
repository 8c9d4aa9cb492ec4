#pragma once

#include <boost/json/object.hpp>
#include <deque>
#include <memory>
#include <string>

#include "runtime/event/host_event.h"
#include "runtime/store/event_store.h"

namespace annal {

/// The events that record one change of one object, with their text: committed in one unit with
/// what they tell of.
class ChangeEvents {
public:
    /// @param target_type  "audit_stream", "webhook_endpoint"
    ChangeEvents(Actor actor, std::string target_type, std::string target_id);

    ChangeEvents& add(const char* action, const boost::json::object& metadata = {});
    /// The unit keeps their text.
    void put_into(AppendUnit& unit) const;

private:
    Actor actor_;
    std::string target_type_, target_id_;
    std::shared_ptr<std::deque<HostEvent>> events_;
};

}  // namespace annal
