#include "runtime/plugin/service_filter.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "runtime/core/json_text.h"
#include "runtime/plugin/call.h"

namespace annal {
namespace {

constexpr std::uint32_t kTermsMax = 64;
constexpr std::size_t kTextBytesMax = 1024;
constexpr std::size_t kPatternsBytesMax = 16U << 10;

struct FieldColumn {
    std::uint32_t field;
    Column column;
};

constexpr FieldColumn kFieldColumns[] = {
    {ANNAL_FIELD_ACTION, Column::action},
    {ANNAL_FIELD_EXTERNAL_ID, Column::external_id},
    {ANNAL_FIELD_ACTOR_TYPE, Column::actor_type},
    {ANNAL_FIELD_ACTOR_ID, Column::actor_id},
    {ANNAL_FIELD_ACTOR_EMAIL, Column::actor_email},
    {ANNAL_FIELD_AUTH_TYPE, Column::auth_type},
    {ANNAL_FIELD_USER_ID, Column::user_id},
    {ANNAL_FIELD_ORGANIZATION_ID, Column::organization_id},
    {ANNAL_FIELD_CLIENT_ID, Column::client_id},
    {ANNAL_FIELD_ISSUER_ID, Column::issuer_id},
    {ANNAL_FIELD_AGENT_ID, Column::agent_id},
    {ANNAL_FIELD_TARGET_TYPE, Column::target_type},
    {ANNAL_FIELD_TARGET_ID, Column::target_id},
    {ANNAL_FIELD_IP, Column::ip},
};

std::string field_name(std::uint32_t field) {
    for (const FieldColumn& known : kFieldColumns) {
        if (known.field == field) return std::string(name(known.column));
    }
    switch (field) {
        case ANNAL_FIELD_CREATED_AT:
            return "created_at";
        case ANNAL_FIELD_OCCURRED_AT:
            return "occurred_at";
        case ANNAL_FIELD_TEXT:
            return "text";
        default:
            return "field " + std::to_string(field);
    }
}

std::string op_name(std::uint32_t op) {
    static constexpr std::array<const char*, 8> kNames = {
        "", "EQ", "MATCH", "PREFIX", "FROM", "BEFORE", "AFTER", "CONTAINS"};
    return op >= 1 && op < kNames.size() ? kNames[op] : "operator " + std::to_string(op);
}

/// Turns terms, one after the other, into one filter that demands them all.
class FilterBuilder {
public:
    Result<void> add(const annal_term& term);
    [[nodiscard]] Filter finish() &&;

private:
    Result<std::string> text_of(const annal_term& term, std::size_t size_max) const;
    Result<void> add_equal(Column column, const annal_term& term);
    Result<void> add_patterns(const annal_term& term);
    Result<void> add_prefix(const annal_term& term);
    Result<void> add_contains(const annal_term& term);
    static void narrow(
        std::optional<TimeUs>& from, std::optional<TimeUs>& before, std::uint32_t op, TimeUs at
    );

    Filter filter_;
    bool impossible_ = false;
};

Result<std::string> FilterBuilder::text_of(const annal_term& term, std::size_t size_max) const {
    const std::string what = field_name(term.field) + " " + op_name(term.op);
    if (term.text.ptr == nullptr) return Error{Errc::invalid, "the term " + what + " has no value"};
    if (term.text.len > size_max) {
        return Error{
            Errc::invalid,
            "the value of " + what + " is longer than " + std::to_string(size_max) + " bytes"};
    }
    const std::string_view text = to_view(term.text);
    if (!is_utf8(text) || text.find('\0') != std::string_view::npos) {
        return Error{
            Errc::invalid, "the value of " + what + " is not well-formed UTF-8 without U+0000"};
    }
    return std::string(text);
}

Result<void> FilterBuilder::add_equal(Column column, const annal_term& term) {
    BOOST_OUTCOME_TRY(std::string value, text_of(term, kTextBytesMax));
    auto& slot = filter_.equals[static_cast<std::size_t>(column)];
    if (slot && *slot != value) impossible_ = true;
    slot = std::move(value);
    return ok();
}

/// What both patterns match, as a pattern; nothing when no action can match both.
std::optional<ActionPattern> intersect(const ActionPattern& a, const ActionPattern& b) {
    using Kind = ActionPattern::Kind;
    if (a.kind == Kind::any) return b;
    if (b.kind == Kind::any) return a;
    if (a.kind == Kind::exact) return b.matches(a.text) ? std::optional(a) : std::nullopt;
    if (b.kind == Kind::exact) return a.matches(b.text) ? std::optional(b) : std::nullopt;
    if (a.text.starts_with(b.text)) return a;
    if (b.text.starts_with(a.text)) return b;
    return std::nullopt;
}

Result<void> FilterBuilder::add_patterns(const annal_term& term) {
    BOOST_OUTCOME_TRY(const std::string list, text_of(term, kPatternsBytesMax));
    BOOST_OUTCOME_TRY(std::vector<ActionPattern> patterns, parse_patterns(list));
    if (filter_.actions.empty()) {
        filter_.actions = std::move(patterns);
        return ok();
    }
    std::vector<ActionPattern> both;
    for (const ActionPattern& a : filter_.actions) {
        for (const ActionPattern& b : patterns) {
            auto pattern = intersect(a, b);
            if (pattern && std::find(both.begin(), both.end(), *pattern) == both.end()) {
                both.push_back(std::move(*pattern));
            }
        }
        if (both.size() > kPatternsBytesMax) {
            return Error{Errc::invalid, "the lists of action patterns are too long to be combined"};
        }
    }
    // No pattern left means no event, while an empty list would mean all of them.
    if (both.empty())
        impossible_ = true;
    else
        filter_.actions = std::move(both);
    return ok();
}

Result<void> FilterBuilder::add_prefix(const annal_term& term) {
    BOOST_OUTCOME_TRY(std::string prefix, text_of(term, kTextBytesMax));
    auto& slot = filter_.action_prefix;
    if (slot && !slot->starts_with(prefix) && !prefix.starts_with(*slot)) impossible_ = true;
    if (!slot || prefix.size() > slot->size()) slot = std::move(prefix);
    return ok();
}

Result<void> FilterBuilder::add_contains(const annal_term& term) {
    BOOST_OUTCOME_TRY(std::string needle, text_of(term, kTextBytesMax));
    if (needle.empty()) return ok();
    if (filter_.text && *filter_.text != needle) {
        return Error{Errc::invalid, "the term text CONTAINS may be given once"};
    }
    filter_.text = std::move(needle);
    return ok();
}

void FilterBuilder::narrow(
    std::optional<TimeUs>& from, std::optional<TimeUs>& before, std::uint32_t op, TimeUs at
) {
    if (op == ANNAL_OP_BEFORE) {
        before = before ? std::min(*before, at) : at;
        return;
    }
    // Behind `at` means from the next microsecond on.
    if (op == ANNAL_OP_AFTER && at != std::numeric_limits<TimeUs>::max()) ++at;
    from = from ? std::max(*from, at) : at;
}

Result<void> FilterBuilder::add(const annal_term& term) {
    const bool is_time_op =
        term.op == ANNAL_OP_FROM || term.op == ANNAL_OP_BEFORE || term.op == ANNAL_OP_AFTER;
    if (term.op == ANNAL_OP_EQ) {
        for (const FieldColumn& known : kFieldColumns) {
            if (known.field == term.field) return add_equal(known.column, term);
        }
    }
    if (term.field == ANNAL_FIELD_ACTION && term.op == ANNAL_OP_MATCH) return add_patterns(term);
    if (term.field == ANNAL_FIELD_ACTION && term.op == ANNAL_OP_PREFIX) return add_prefix(term);
    if (term.field == ANNAL_FIELD_TEXT && term.op == ANNAL_OP_CONTAINS) return add_contains(term);
    if (term.field == ANNAL_FIELD_CREATED_AT && is_time_op) {
        narrow(filter_.from, filter_.before, term.op, term.time_us);
        return ok();
    }
    if (term.field == ANNAL_FIELD_OCCURRED_AT && is_time_op) {
        narrow(filter_.occurred_from, filter_.occurred_before, term.op, term.time_us);
        return ok();
    }
    return Error{
        Errc::invalid,
        "a filter term that does not exist: " + field_name(term.field) + " " + op_name(term.op)};
}

Filter FilterBuilder::finish() && {
    // Nothing was recorded before 1970.
    if (impossible_) filter_.before = 0;
    return std::move(filter_);
}

}  // namespace

Result<Filter> to_filter(const annal_filter* filter) {
    if (filter == nullptr) return Filter{};
    if (filter->struct_size < sizeof(annal_filter) ||
        (filter->count > 0 && filter->stride < sizeof(annal_term))) {
        return Error{
            Errc::invalid, "the filter's struct_size or stride is shorter than the contract's"};
    }
    if (filter->count > kTermsMax) return Error{Errc::invalid, "a filter takes at most 64 terms"};
    FilterBuilder builder;
    for (std::uint32_t i = 0; i < filter->count; ++i) {
        BOOST_OUTCOME_TRY(builder.add(*ANNAL_AT(annal_term, filter->terms, filter->stride, i)));
    }
    return std::move(builder).finish();
}

Result<Column> to_column(std::uint32_t field) {
    for (const FieldColumn& known : kFieldColumns) {
        if (known.field == field) return known.column;
    }
    return Error{Errc::invalid, "events can't be grouped or counted by " + field_name(field)};
}

}  // namespace annal
