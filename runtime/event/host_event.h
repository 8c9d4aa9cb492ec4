#pragma once

#include <string>

#include "runtime/event/event.h"

namespace annal {

/// Who did something: "api_key", "apikey_…".
struct Actor {
    std::string type, id;
};

/// An event that the host itself records, with its text: "api_key.created", "audit_stream.failed".
struct HostEvent {
    std::string action, actor_type, actor_id, target_type, target_id;
    std::string metadata = "{}";  ///< a JSON object
    /// Borrows this object.
    [[nodiscard]] EventDraft draft() const;
};

}  // namespace annal
