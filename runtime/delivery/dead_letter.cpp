#include "runtime/delivery/dead_letter.h"

#include <boost/json.hpp>
#include <charconv>
#include <cstdio>

namespace annal {
namespace json = boost::json;
namespace {

std::string text(const json::object& object, const char* key) {
    const json::value* value = object.if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->get_string().c_str())
                                                  : std::string();
}

std::int64_t number(const json::object& object, const char* key) {
    const json::value* value = object.if_contains(key);
    return value != nullptr && value->is_int64() ? value->get_int64() : 0;
}

}  // namespace

std::string DeadLetter::prefix(std::string_view stream) {
    return std::string(stream) + "/";
}

std::string DeadLetter::key() const {
    char digits[24];
    std::snprintf(digits, sizeof(digits), "%020lld", static_cast<long long>(seq));
    return prefix(stream) + digits;
}

std::string DeadLetter::to_text() const {
    json::object object;
    object["event_id"] = event_id;
    object["reason"] = reason;
    object["at"] = at;
    object["attempts"] = attempts;
    object["redriving"] = redriving;
    return json::serialize(object);
}

std::optional<DeadLetter> DeadLetter::from_row(const KvRow& row) {
    DeadLetter letter;
    const auto slash = row.key.rfind('/');
    boost::system::error_code error;
    const json::value value = json::parse(row.value, error);
    if (slash == std::string::npos || error || !value.is_object()) return std::nullopt;
    const char* end = row.key.data() + row.key.size();
    const auto [stop, bad] = std::from_chars(row.key.data() + slash + 1, end, letter.seq);
    if (bad != std::errc() || stop != end) return std::nullopt;
    const json::object& object = value.get_object();
    const json::value* redriving = object.if_contains("redriving");
    letter.stream = row.key.substr(0, slash);
    letter.event_id = text(object, "event_id");
    letter.reason = text(object, "reason");
    letter.at = number(object, "at");
    letter.attempts = static_cast<std::uint32_t>(number(object, "attempts"));
    letter.redriving = redriving != nullptr && redriving->is_bool() && redriving->get_bool();
    return letter;
}

}  // namespace annal
