#include "runtime/store/postgres/selection.h"

#include <algorithm>
#include <array>

#include "runtime/store/searched_text.h"

namespace annal::postgres {
namespace {

// The most selective first.
constexpr std::array kDrivers{
    Column::external_id,
    Column::target_id,
    Column::user_id,
    Column::actor_id,
    Column::actor_email,
    Column::ip,
    Column::agent_id,
    Column::client_id,
    Column::organization_id,
    Column::issuer_id,
    Column::action,
    Column::target_type,
    Column::auth_type,
    Column::actor_type,
};

std::string column(Column c) {
    return "t." + std::string(name(c));
}

bool is_possible(const Filter& filter) {
    for (const auto& value : filter.equals)
        if (value && !is_storable(*value)) return false;
    // A log can hold what the other patterns say.
    const auto may_be = [](const ActionPattern& pattern) { return is_storable(pattern.text); };
    if (!filter.actions.empty() &&
        std::none_of(filter.actions.begin(), filter.actions.end(), may_be))
        return false;
    return (!filter.action_prefix || is_storable(*filter.action_prefix)) &&
           (!filter.text || is_storable(*filter.text));
}

class Conditions {
public:
    explicit Conditions(Params& params) : params_(params) {}
    void add(const std::string& condition) { text_ += (text_.empty() ? "" : " AND ") + condition; }
    std::string text(std::string_view value) {
        params_.text(value);
        return last() + "::text";
    }
    std::string number(std::int64_t value) {
        params_.number(value);
        return last() + "::bigint";
    }
    std::string texts(const std::vector<std::string>& values) {
        Array array(Array::Of::text);
        for (const std::string& value : values) array.text(value);
        params_.array(array);
        return last() + "::text[]";
    }
    [[nodiscard]] const std::string& str() const { return text_; }

private:
    [[nodiscard]] std::string last() const { return "$" + std::to_string(params_.size()); }
    Params& params_;
    std::string text_;
};

std::optional<std::string> only_action(const Filter& filter) {
    if (filter.actions.size() != 1 || filter.actions[0].kind != ActionPattern::Kind::exact)
        return std::nullopt;
    return filter.actions[0].text;
}

void add_actions(const Filter& filter, Conditions& out) {
    std::vector<std::string> exact;
    std::string any;
    for (const ActionPattern& pattern : filter.actions) {
        if (pattern.kind == ActionPattern::Kind::any) return;
        if (pattern.kind == ActionPattern::Kind::exact) {
            exact.push_back(pattern.text);
        } else {
            any += (any.empty() ? "" : " OR ") +
                   ("starts_with(t.action, " + out.text(pattern.text)) + ")";
        }
    }
    if (!exact.empty())
        any += (any.empty() ? "" : " OR ") + ("t.action = ANY(" + out.texts(exact)) + ")";
    if (!any.empty()) out.add("(" + any + ")");
}

void add_text(const Filter& filter, Conditions& out) {
    const std::string pattern = out.text(search_pattern(*filter.text));
    std::string any;
    for (const Column c : kSearchedColumns)
        any += (any.empty() ? "" : " OR ") + ("lower(" + column(c)) + ") LIKE " + pattern;
    out.add("(" + any + ")");
}

void add_occurred(const Filter& filter, Conditions& out) {
    if (!filter.occurred_from && !filter.occurred_before) return;
    const std::string at =
        "coalesce(t.occurred_at, (extract(epoch FROM t.created_at) * 1000000)::bigint)";
    if (filter.occurred_from) out.add(at + " >= " + out.number(*filter.occurred_from));
    if (filter.occurred_before) out.add(at + " < " + out.number(*filter.occurred_before));
}

std::string time_bounds(const Filter& filter) {
    std::string bounds;
    if (filter.from) bounds += " AND t.created_at >= " + timestamp_literal(*filter.from);
    if (filter.before) bounds += " AND t.created_at < " + timestamp_literal(*filter.before);
    return bounds;
}

}  // namespace

bool is_indexed(Column c, bool sealed) {
    switch (c) {
        case Column::action:
        case Column::actor_id:
        case Column::user_id:
        case Column::organization_id:
        case Column::target_id:
            return true;
        case Column::user_agent:
        case Column::description:
        case Column::metadata:
            return false;
        default:
            return sealed;
    }
}

namespace {

std::string between(const std::string& table, Month first, Month last) {
    return table + ".project_id = $1::text AND " + table +
           ".created_at >= " + timestamp_literal(start_of(first)) + " AND " + table +
           ".created_at < " + timestamp_literal(start_of(next(last)));
}

}  // namespace

std::string within_month(const std::string& table, Month month) {
    return between(table, month, month);
}

std::string within_months(const std::string& table, const LogView& view) {
    return between(table, view.months.front().month, view.months.back().month);
}

std::string within(const std::string& table, const SeqRange& range) {
    return " AND " + table + ".seq BETWEEN " + std::to_string(range.first) + " AND " +
           std::to_string(range.last);
}

std::string search_pattern(std::string_view needle) {
    std::string lower, pattern = "%";
    append_ascii_lower(lower, needle);
    for (const char c : lower) {
        if (c == '%' || c == '_' || c == '\\') pattern += '\\';
        pattern += c;
    }
    return pattern + "%";
}

bool is_searchable(std::string_view needle) {
    int run = 0;
    for (const char c : needle) {
        const char low = ascii_lower(c);
        run = (low >= 'a' && low <= 'z') || (low >= '0' && low <= '9') ? run + 1 : 0;
        if (run == 3) return true;
    }
    return false;
}

std::string searched_text(const std::string& table) {
    std::string text;
    for (const Column c : kSearchedColumns) {
        const std::string value = "lower(coalesce(" + table + "." + std::string(name(c)) + ", ''))";
        text += text.empty() ? value : " || E'\\n' || " + value;
    }
    return "(" + text + ")";
}

Selection select(const Filter& filter, const Search& search, Params& params) {
    Selection out;
    out.time = time_bounds(filter);
    out.nothing = !is_possible(filter) && !search.tombstones;
    if (out.nothing) return out;
    Filter left = filter;
    std::erase_if(left.actions, [](const auto& pattern) { return !is_storable(pattern.text); });
    if (const auto action = only_action(left);
        action && !left.equals[static_cast<std::size_t>(Column::action)]) {
        left.equals[static_cast<std::size_t>(Column::action)] = action;
        left.actions.clear();
    }
    if (!is_possible(filter)) {
        // Only tombstones can be among what is asked for.
        out.rest = "t.deleted";
        return out;
    }
    if (!search.tombstones) {
        for (const Column c : kDrivers) {
            auto& value = left.equals[static_cast<std::size_t>(c)];
            if (!value || !is_indexed(c, search.sealed)) continue;
            params.text(*value);
            out.driver = " AND " + column(c) + " = $" + std::to_string(params.size()) + "::text";
            value.reset();
            break;
        }
    }
    Conditions rest(params);
    for (std::size_t i = 0; i < kColumns; ++i)
        if (left.equals[i])
            rest.add(column(static_cast<Column>(i)) + " = " + rest.text(*left.equals[i]));
    add_actions(left, rest);
    if (left.action_prefix)
        rest.add("starts_with(t.action, " + rest.text(*left.action_prefix) + ")");
    if (left.text) add_text(left, rest);
    add_occurred(left, rest);
    out.rest = rest.str();
    if (out.rest.empty()) return out;
    out.rest = search.tombstones ? "(t.deleted OR (" + out.rest + "))"
                                 : "(NOT t.deleted AND " + out.rest + ")";
    return out;
}

}  // namespace annal::postgres
