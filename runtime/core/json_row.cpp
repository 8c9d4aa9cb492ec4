#include "runtime/core/json_row.h"

#include <boost/json.hpp>

namespace annal {
namespace json = boost::json;

std::optional<json::object> parse_row(std::string_view row) {
    boost::system::error_code error;
    json::value value = json::parse({row.data(), row.size()}, error);
    if (error || !value.is_object()) return std::nullopt;
    return std::move(value.get_object());
}

std::string text_in(const json::object& row, std::string_view key) {
    const json::value* value = row.if_contains({key.data(), key.size()});
    if (value == nullptr || !value->is_string()) return {};
    return {value->get_string().data(), value->get_string().size()};
}

std::int64_t integer_in(const json::object& row, std::string_view key, std::int64_t otherwise) {
    const json::value* value = row.if_contains({key.data(), key.size()});
    return value != nullptr && value->is_int64() ? value->get_int64() : otherwise;
}

}  // namespace annal
