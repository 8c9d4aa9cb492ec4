#include "list_parameters.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <utility>

namespace logging {
namespace {

constexpr std::uint32_t kLimitMax = 250;
constexpr std::size_t kOperatorsMax = 4;
constexpr std::size_t kValueBytesMax = 1024;
constexpr std::size_t kActionsMax = 100;
constexpr std::string_view kJoint = "__";

using Wrong = std::optional<std::string>;  // what is wrong with a value
using Read = Wrong (*)(const annal::Host& host, std::string_view value, ListParameters& out);

struct Operator {
    std::string_view name;
    Read read = nullptr;
};

struct Field {
    std::string_view name, type;
    bool is_sortable = false;
    /// The operator of a bare `field=value`; empty: one has to be named.
    std::string_view default_operator;
    std::array<Operator, kOperatorsMax> operators{};

    [[nodiscard]] std::vector<Operator> listed() const {
        std::vector<Operator> out;
        std::copy_if(operators.begin(), operators.end(), std::back_inserter(out), [](auto& op) {
            return op.read != nullptr;
        });
        return out;
    }
};

Wrong too_long(std::string_view value) {
    return value.size() <= kValueBytesMax
               ? Wrong()
               : "must be at most " + std::to_string(kValueBytesMax) + " bytes long";
}

/// The bare name and the one with its operator are two parameters that say the same.
Wrong add_once(std::uint32_t field, std::uint32_t op, std::string_view value, ListParameters& out) {
    for (const annal_term& term : out.filter.terms()) {
        if (term.field == field && term.op == op) {
            return "is given more than once, with and without its operator";
        }
    }
    op == ANNAL_OP_EQ ? out.filter.equals(field, value) : out.filter.contains(value);
    return too_long(value);
}

template <std::uint32_t FieldId>
Wrong equals(const annal::Host&, std::string_view value, ListParameters& out) {
    return add_once(FieldId, ANNAL_OP_EQ, value, out);
}

Wrong equals_ip(const annal::Host& host, std::string_view value, ListParameters& out) {
    const std::string text(value);
    in6_addr address{};
    if (inet_pton(AF_INET, text.c_str(), &address) != 1 &&
        inet_pton(AF_INET6, text.c_str(), &address) != 1) {
        return "must be an IPv4 or IPv6 address";
    }
    return equals<ANNAL_FIELD_IP>(host, value, out);
}

Wrong contains(const annal::Host&, std::string_view value, ListParameters& out) {
    return add_once(ANNAL_FIELD_TEXT, ANNAL_OP_CONTAINS, value, out);
}

Wrong action_starts_with(const annal::Host&, std::string_view value, ListParameters& out) {
    out.filter.action_prefix(value);
    return too_long(value);
}

/// Two segments and more, of a-z, 0-9 and _. Keeps the host's patterns out of a list of actions.
bool is_action(std::string_view text) {
    const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
    });
    return plain && text.find('.') != std::string_view::npos && text.front() != '.' &&
           text.back() != '.' && text.find("..") == std::string_view::npos;
}

Wrong action_in(const annal::Host&, std::string_view value, ListParameters& out) {
    std::string_view rest = value;
    std::size_t count = 0;
    for (bool more = true; more;) {
        if (++count > kActionsMax) {
            return "must list at most " + std::to_string(kActionsMax) + " actions";
        }
        const auto comma = rest.find(',');
        const std::string_view one = rest.substr(0, comma);
        if (!is_action(one)) {
            return "must be a comma-separated list of actions such as user.created; this is none: "
                   "\"" +
                   std::string(one) + "\"";
        }
        more = comma != std::string_view::npos;
        rest = more ? rest.substr(comma + 1) : std::string_view();
    }
    out.filter.actions(value);
    return std::nullopt;
}

Wrong read_time(const annal::Host& host, std::string_view value, std::int64_t& at) {
    if (host.parse_time(value, at)) {
        return std::nullopt;
    }
    return "must be an ISO 8601 time with a zone, such as 2026-05-14T18:42:13Z (write + as %2B)";
}

template <std::uint32_t Op>
Wrong time(const annal::Host& host, std::string_view value, ListParameters& out) {
    std::int64_t at = 0;
    Wrong wrong = read_time(host, value, at);
    out.filter.time(ANNAL_FIELD_CREATED_AT, Op, at);
    return wrong;
}

/// Times are whole microseconds: up to one is before the next.
Wrong time_up_to(const annal::Host& host, std::string_view value, ListParameters& out) {
    std::int64_t at = 0;
    Wrong wrong = read_time(host, value, at);
    at += at < std::numeric_limits<std::int64_t>::max() ? 1 : 0;
    out.filter.time(ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE, at);
    return wrong;
}

template <std::uint32_t FieldId>
constexpr Field text_field(std::string_view name) {
    return {name, "string", false, "eq", {{{"eq", equals<FieldId>}}}};
}

/// What an entry shows and the store has an index for.
constexpr Field kFields[] = {
    {"timestamp",
     "datetime",
     true,
     "",
     {{{"gt", time<ANNAL_OP_AFTER>},
       {"gte", time<ANNAL_OP_FROM>},
       {"lt", time<ANNAL_OP_BEFORE>},
       {"lte", time_up_to}}}},
    {"id", "string", true, "", {}},
    {"action",
     "string",
     false,
     "eq",
     {{{"eq", equals<ANNAL_FIELD_ACTION>}, {"in", action_in}, {"startswith", action_starts_with}}}},
    text_field<ANNAL_FIELD_ACTOR_TYPE>("actor_type"),
    text_field<ANNAL_FIELD_ACTOR_ID>("actor_id"),
    text_field<ANNAL_FIELD_ACTOR_EMAIL>("actor_email"),
    text_field<ANNAL_FIELD_USER_ID>("user_id"),
    text_field<ANNAL_FIELD_ORGANIZATION_ID>("organization_id"),
    text_field<ANNAL_FIELD_TARGET_TYPE>("target_type"),
    text_field<ANNAL_FIELD_TARGET_ID>("target_id"),
    {"ip", "string", false, "eq", {{{"eq", equals_ip}}}},
    {"search", "string", false, "contains", {{{"contains", contains}}}},
};

/// What a search looks into.
constexpr std::string_view kSearched[] = {"action", "actor_id", "target_id", "description"};

std::string joined(const std::vector<std::string>& words) {
    std::string out;
    for (const std::string& word : words) {
        out += (out.empty() ? "" : ", ") + word;
    }
    return out;
}

/// Both sort by the log's order: ids and times rise with it.
std::vector<std::string> sortable_fields() {
    std::vector<std::string> out;
    for (const Field& field : kFields) {
        if (field.is_sortable) {
            out.emplace_back(field.name);
        }
    }
    return out;
}

const annal::Parameter<ListParameters> kPageParameters[] = {
    {"cursor",
     [](const annal::Host&, std::string_view value, ListParameters& out) -> Wrong {
         out.cursor = annal::to_str(value);
         return std::nullopt;
     }},
    {"limit",
     [](const annal::Host&, std::string_view value, ListParameters& out) -> Wrong {
         const auto limit = annal::parse_integer(value, 1, kLimitMax);
         out.limit = static_cast<std::uint32_t>(limit.value_or(0));
         return limit ? Wrong() : "must be a number from 1 to " + std::to_string(kLimitMax);
     }},
    {"sort_by",
     [](const annal::Host&, std::string_view value, ListParameters&) -> Wrong {
         const auto fields = sortable_fields();
         const bool known = std::find(fields.begin(), fields.end(), value) != fields.end();
         return known ? Wrong() : "must be a field that can be sorted by: " + joined(fields);
     }},
    {"sort_order",
     [](const annal::Host&, std::string_view value, ListParameters& out) -> Wrong {
         out.oldest_first = value == "asc";
         return value == "asc" || value == "desc" ? Wrong() : Wrong("must be asc or desc");
     }},
    {"include_total",
     [](const annal::Host&, std::string_view value, ListParameters& out) -> Wrong {
         out.include_total = value == "true";
         return value == "true" || value == "false" ? Wrong() : Wrong("must be true or false");
     }},
};

/// The names under which the list takes `field`.
std::vector<std::string> forms(const Field& field) {
    std::vector<std::string> out;
    if (!field.default_operator.empty()) {
        out.emplace_back(field.name);
    }
    for (const Operator& op : field.listed()) {
        out.push_back(std::string(field.name) + std::string(kJoint) + std::string(op.name));
    }
    return out;
}

std::string unknown(std::string_view name) {
    const std::string_view stem = name.substr(0, name.find(kJoint));
    std::vector<std::string> known;
    for (const auto& parameter : kPageParameters) {
        known.emplace_back(parameter.name);
    }
    for (const Field& field : kFields) {
        const auto names = forms(field);
        if (!names.empty()) {
            known.emplace_back(field.name);
        }
        if (field.name == stem) {
            return "unknown query parameter: " + std::string(name) + "; " + std::string(stem) +
                   (names.empty() ? " can be sorted by, but is no filter"
                                  : " is filtered by " + joined(names));
        }
    }
    return "unknown query parameter: " + std::string(name) + "; this list takes " + joined(known) +
           "; the operators of each filter are listed at /api/logging/audit/filters";
}

}  // namespace

ListGrammar::ListGrammar() {
    table_.assign(std::begin(kPageParameters), std::end(kPageParameters));
    const auto take = [this](std::string name, Read value_reader) {
        table_.push_back({names_.emplace_back(std::move(name)), value_reader});
    };
    for (const Field& field : kFields) {
        for (const Operator& op : field.listed()) {
            take(std::string(field.name) + std::string(kJoint) + std::string(op.name), op.read);
            if (op.name == field.default_operator) {
                take(std::string(field.name), op.read);
            }
        }
    }
}

std::optional<std::string> ListGrammar::read(const annal::Request& request, ListParameters& out)
    const {
    const std::span<const annal::Parameter<ListParameters>> table(table_);
    const auto fault = annal::read_parameters(request, table, annal::ParameterRules{}, out);
    if (!fault) {
        return std::nullopt;
    }
    return fault->is_unknown ? unknown(fault->name) : fault->text();
}

void append_filter_metadata(Json& json) {
    json.begin_object().key("filters").begin_array();
    for (const Field& field : kFields) {
        json.begin_object().member("field", field.name).member("type", field.type);
        json.key("operators").begin_array();
        for (const Operator& op : field.listed()) {
            json.value(op.name);
        }
        json.end_array().key("default_operator");
        field.default_operator.empty() ? json.value(nullptr) : json.value(field.default_operator);
        json.member("sortable", field.is_sortable);
        if (field.name == "search") {
            json.key("searches").begin_array();
            for (const std::string_view searched : kSearched) {
                json.value(searched);
            }
            json.end_array();
        }
        json.end_object();
    }
    json.end_array().key("sort").begin_object().key("fields").begin_array();
    for (const std::string& field : sortable_fields()) {
        json.value(field);
    }
    json.end_array().member("default", "timestamp");
    json.key("orders").begin_array().value("asc").value("desc").end_array();
    json.member("default_order", "desc").end_object();
    json.key("limit").begin_object().member("min", 1).member("max", kLimitMax);
    json.member("default", ListParameters().limit).end_object().end_object();
}

}  // namespace logging
