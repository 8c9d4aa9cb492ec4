#include "runtime/delivery/batch_plan.h"

#include <algorithm>
#include <boost/json.hpp>

namespace annal {
namespace json = boost::json;
namespace {

std::optional<std::int64_t> integer(const json::object& object, const char* key) {
    const json::value* value = object.if_contains(key);
    if (value == nullptr || !value->is_int64() || value->get_int64() < 0) return std::nullopt;
    return value->get_int64();
}

std::string text(const json::object& object, const char* key) {
    const json::value* value = object.if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->get_string().c_str())
                                                  : std::string();
}

}  // namespace

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
    boost::system::error_code error;
    const json::value value = json::parse({given.data(), given.size()}, error);
    if (error || !value.is_object()) return std::nullopt;
    const json::object& object = value.get_object();
    const auto first = integer(object, "first"), last = integer(object, "last"),
               events = integer(object, "events");
    const auto digest = from_hex(text(object, "digest"));
    BatchPlan plan;
    if (!first || !last || !events || !digest || digest->size() != plan.digest.size())
        return std::nullopt;
    if (*events < 1 || *last < *first || *events > *last - *first + 1) return std::nullopt;
    plan.first = *first;
    plan.last = *last;
    plan.events = static_cast<std::uint32_t>(*events);
    plan.encoder = text(object, "encoder");
    std::copy(digest->begin(), digest->end(), plan.digest.begin());
    return plan;
}

}  // namespace annal
