#include "runtime/webhooks/endpoint_state.h"

#include <boost/json.hpp>

#include "runtime/core/json_row.h"

namespace annal {
namespace json = boost::json;

std::string EndpointState::to_text() const {
    json::object row;
    row["start"] = start;
    if (failing_since != kNoTime) row["failing_since"] = failing_since;
    return json::serialize(row);
}

EndpointState EndpointState::from_text(std::string_view text) {
    EndpointState state;
    const auto row = parse_row(text);
    if (!row) return state;
    state.start = integer_in(*row, "start", kNoSeq);
    state.failing_since = integer_in(*row, "failing_since", kNoTime);
    return state;
}

std::string Recovery::to_text() const {
    json::object row;
    row["since"] = since;
    row["next"] = next;
    row["until"] = until;
    row["queued"] = queued;
    return json::serialize(row);
}

std::optional<Recovery> Recovery::from_text(std::string_view text) {
    const auto row = parse_row(text);
    if (!row) return std::nullopt;
    Recovery recovery;
    recovery.since = integer_in(*row, "since", kNoTime);
    recovery.next = integer_in(*row, "next", 0);
    recovery.until = integer_in(*row, "until", kNoSeq);
    recovery.queued = integer_in(*row, "queued", 0);
    return recovery;
}

}  // namespace annal
