#include "runtime/delivery/batch_plan.h"

#include <algorithm>
#include <boost/json.hpp>

#include "runtime/core/json_row.h"

namespace annal {
namespace json = boost::json;

std::string BatchPlan::to_text() const {
    json::object object;
    object["first"] = first;
    object["last"] = last;
    object["events"] = events;
    object["encoder"] = encoder;
    object["digest"] = to_hex(digest);
    return json::serialize(object);
}

std::optional<BatchPlan> BatchPlan::from_text(std::string_view given) {
    const auto row = parse_row(given);
    if (!row) return std::nullopt;
    const auto events = integer_in(*row, "events", 0);
    const auto digest = from_hex(text_in(*row, "digest"));
    BatchPlan plan;
    plan.first = integer_in(*row, "first", -1);
    plan.last = integer_in(*row, "last", -1);
    if (!digest || digest->size() != plan.digest.size()) return std::nullopt;
    if (plan.first < 0 || plan.last < plan.first) return std::nullopt;
    if (events < 1 || events > plan.last - plan.first + 1) return std::nullopt;
    plan.events = static_cast<std::uint32_t>(events);
    plan.encoder = text_in(*row, "encoder");
    std::copy(digest->begin(), digest->end(), plan.digest.begin());
    return plan;
}

}  // namespace annal
