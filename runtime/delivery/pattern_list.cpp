#include "runtime/delivery/pattern_list.h"

#include <boost/json.hpp>

namespace annal {
namespace json = boost::json;

json::array to_json(const std::vector<ActionPattern>& patterns) {
    json::array list;
    for (const ActionPattern& pattern : patterns) list.emplace_back(pattern.source());
    return list;
}

Result<std::vector<ActionPattern>> patterns_in(const json::object& row, std::string_view key) {
    std::vector<ActionPattern> patterns;
    const json::value* list = row.if_contains({key.data(), key.size()});
    if (list == nullptr || !list->is_array()) return Error{Errc::internal, "no list of patterns"};
    for (const json::value& item : list->get_array()) {
        if (!item.is_string()) return Error{Errc::internal, "a pattern that is no text"};
        const json::string& text = item.get_string();
        BOOST_OUTCOME_TRY(ActionPattern pattern, parse_pattern({text.data(), text.size()}));
        patterns.push_back(std::move(pattern));
    }
    return patterns;
}

}  // namespace annal
