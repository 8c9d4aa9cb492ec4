#include "runtime/delivery/dead_letter.h"

#include <boost/json.hpp>
#include <charconv>
#include <cstdio>

#include "runtime/core/json_row.h"

namespace annal {
namespace json = boost::json;

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
    const auto stored = parse_row(row.value);
    if (slash == std::string::npos || !stored) return std::nullopt;
    const char* end = row.key.data() + row.key.size();
    const auto [stop, bad] = std::from_chars(row.key.data() + slash + 1, end, letter.seq);
    if (bad != std::errc() || stop != end) return std::nullopt;
    const json::value* redriving = stored->if_contains("redriving");
    letter.stream = row.key.substr(0, slash);
    letter.event_id = text_in(*stored, "event_id");
    letter.reason = text_in(*stored, "reason");
    letter.at = integer_in(*stored, "at", 0);
    letter.attempts = static_cast<std::uint32_t>(integer_in(*stored, "attempts", 0));
    letter.redriving = redriving != nullptr && redriving->is_bool() && redriving->get_bool();
    return letter;
}

}  // namespace annal
