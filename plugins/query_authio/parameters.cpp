#include "parameters.h"

#include <arpa/inet.h>

#include <algorithm>
#include <span>
#include <vector>

namespace authio {
namespace {

constexpr std::uint32_t kLimitMax = 200;
constexpr std::uint32_t kRowsMax = 100'000;
constexpr std::string_view kTimeForm =
    "must be an ISO 8601 time with a zone, such as 2026-05-14T18:42:13Z (write + as %2B)";

using Wrong = std::optional<std::string>;  // what is wrong with a value

bool is_segment_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/// "*", "ns.*", or a name of two segments and more.
bool is_pattern(std::string_view text) {
    if (text == "*") {
        return true;
    }
    const bool whole_namespace = text.ends_with(".*");
    if (whole_namespace) {
        text.remove_suffix(2);
    }
    const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
        return is_segment_char(c) || c == '.';
    });
    const bool dotted = whole_namespace || text.find('.') != std::string_view::npos;
    return plain && dotted && !text.empty() && text.front() != '.' && text.back() != '.' &&
           text.find("..") == std::string_view::npos;
}

Wrong read_patterns(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    std::string_view rest = value;
    for (bool more = true; more;) {
        const auto comma = rest.find(',');
        const std::string_view one = rest.substr(0, comma);
        if (!is_pattern(one)) {
            return "must be a comma-separated list of actions, \"ns.*\" or \"*\"; this is none: "
                   "\"" +
                   std::string(one) + "\"";
        }
        more = comma != std::string_view::npos;
        rest = more ? rest.substr(comma + 1) : std::string_view();
    }
    out.filter.actions(value);
    return std::nullopt;
}

Wrong read_ip(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    const std::string text(value);
    in6_addr address{};
    if (inet_pton(AF_INET, text.c_str(), &address) != 1 &&
        inet_pton(AF_INET6, text.c_str(), &address) != 1) {
        return "must be an IPv4 or IPv6 address";
    }
    out.filter.equals(ANNAL_FIELD_IP, value);
    return std::nullopt;
}

template <std::uint32_t Parameters::*Member, std::uint32_t Max>
Wrong read_limit(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    const auto limit = annal::parse_integer(value, 1, Max);
    if (!limit) {
        return "must be a number from 1 to " + std::to_string(Max);
    }
    out.*Member = static_cast<std::uint32_t>(*limit);
    return std::nullopt;
}

Wrong read_after(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    if (out.after) {
        return "is given beside the other of after and last_event_id; send one of them";
    }
    out.after = read_seq(value);
    return out.after ? Wrong() : Wrong("must be the seq of an event, or -1 for all");
}

struct RouteParameter {
    unsigned set;  ///< the routes that take it
    annal::Parameter<Parameters> parameter;
};

template <std::uint32_t Field>
Wrong equals(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    out.filter.equals(Field, value);
    return std::nullopt;
}
template <std::uint32_t Field, std::uint32_t Op>
Wrong time(const annal::Host& host, std::string_view value, Parameters& out) {
    std::int64_t at = 0;
    if (!host.parse_time(value, at)) {
        return std::string(kTimeForm);
    }
    out.filter.time(Field, Op, at);
    return std::nullopt;
}

Wrong read_needle(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    out.filter.contains(value);
    return std::nullopt;
}

Wrong read_cursor(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    out.cursor = annal::to_str(value);
    return std::nullopt;
}

Wrong read_csv_safe(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    out.csv_safe = value;
    return value == "true" || value == "false" ? Wrong() : Wrong("must be true or false");
}

Wrong read_reason(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    out.reason = value;
    return value.size() <= 1024 ? Wrong() : Wrong("must be at most 1024 bytes long");
}

Wrong read_prefix(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    out.filter.action_prefix(value);
    return std::nullopt;
}

struct Dimension {
    std::string_view name;
    std::uint32_t field;
};
constexpr Dimension kDimensions[] = {
    {"action", ANNAL_FIELD_ACTION},
    {"actor_type", ANNAL_FIELD_ACTOR_TYPE},
    {"actor_id", ANNAL_FIELD_ACTOR_ID},
    {"actor_email", ANNAL_FIELD_ACTOR_EMAIL},
    {"auth_type", ANNAL_FIELD_AUTH_TYPE},
    {"user_id", ANNAL_FIELD_USER_ID},
    {"organization_id", ANNAL_FIELD_ORGANIZATION_ID},
    {"client_id", ANNAL_FIELD_CLIENT_ID},
    {"issuer_id", ANNAL_FIELD_ISSUER_ID},
    {"agent_id", ANNAL_FIELD_AGENT_ID},
    {"target_type", ANNAL_FIELD_TARGET_TYPE},
    {"target_id", ANNAL_FIELD_TARGET_ID},
    {"external_id", ANNAL_FIELD_EXTERNAL_ID},
    {"ip", ANNAL_FIELD_IP},
};

std::string dimension_names() {
    std::string names;
    for (const Dimension& dimension : kDimensions) {
        names += (names.empty() ? "" : ", ") + std::string(dimension.name);
    }
    return names;
}

std::optional<std::uint32_t> find_dimension(std::string_view name) {
    for (const Dimension& dimension : kDimensions) {
        if (dimension.name == name) {
            return dimension.field;
        }
    }
    return std::nullopt;
}

Wrong read_group_by(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    const auto field = find_dimension(value);
    if (!field) {
        return "must be one of " + dimension_names();
    }
    out.group_by = {value, *field};
    return std::nullopt;
}

Wrong read_unique(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    for (bool more = true; more;) {
        const auto comma = value.find(',');
        const std::string_view one = value.substr(0, comma);
        const auto field = find_dimension(one);
        if (!field) {
            return "must be a comma-separated list of " + dimension_names() + "; this is none: \"" +
                   std::string(one) + "\"";
        }
        const NamedField named{one, *field};
        if (std::find(out.unique.begin(), out.unique.end(), named) == out.unique.end()) {
            out.unique.push_back(named);
        }
        more = comma != std::string_view::npos;
        value = more ? value.substr(comma + 1) : std::string_view();
    }
    return std::nullopt;
}

Wrong read_interval(const annal::Host& /*host*/, std::string_view value, Parameters& out) {
    constexpr std::string_view kNames[] = {"hour", "day", "week"};
    constexpr std::uint32_t kIntervals[] = {
        ANNAL_INTERVAL_HOUR, ANNAL_INTERVAL_DAY, ANNAL_INTERVAL_WEEK};
    for (std::size_t i = 0; i < std::size(kNames); ++i) {
        if (kNames[i] == value) {
            out.interval = {value, kIntervals[i]};
            return std::nullopt;
        }
    }
    return "must be hour, day or week";
}

constexpr RouteParameter kParameters[] = {
    {kFilters, {"type", read_patterns}},
    {kFilters, {"user", equals<ANNAL_FIELD_USER_ID>}},
    {kFilters, {"actor", equals<ANNAL_FIELD_ACTOR_ID>}},
    {kFilters, {"organization", equals<ANNAL_FIELD_ORGANIZATION_ID>}},
    {kFilters, {"client", equals<ANNAL_FIELD_CLIENT_ID>}},
    {kFilters, {"issuer", equals<ANNAL_FIELD_ISSUER_ID>}},
    {kFilters, {"agent", equals<ANNAL_FIELD_AGENT_ID>}},
    {kFilters, {"auth_type", equals<ANNAL_FIELD_AUTH_TYPE>}},
    {kFilters, {"target_type", equals<ANNAL_FIELD_TARGET_TYPE>}},
    {kFilters, {"target", equals<ANNAL_FIELD_TARGET_ID>}},
    {kFilters, {"external_id", equals<ANNAL_FIELD_EXTERNAL_ID>}},
    {kFilters, {"ip", read_ip}},
    {kFilters, {"from", time<ANNAL_FIELD_CREATED_AT, ANNAL_OP_FROM>}},
    {kFilters, {"to", time<ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE>}},
    {kFilters, {"occurred_from", time<ANNAL_FIELD_OCCURRED_AT, ANNAL_OP_FROM>}},
    {kFilters, {"occurred_to", time<ANNAL_FIELD_OCCURRED_AT, ANNAL_OP_BEFORE>}},
    {kFilters, {"q", read_needle}},
    {kCursor, {"cursor", read_cursor}},
    {kLimit, {"limit", read_limit<&Parameters::limit, kLimitMax>}},
    {kRows, {"limit", read_limit<&Parameters::rows, kRowsMax>}},
    {kAfter, {"after", read_after}},
    {kAfter, {"last_event_id", read_after}},
    {kCsvSafe, {"csv_safe", read_csv_safe}},
    {kReason, {"reason", read_reason}},
    {kLegacy, {"before", time<ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE>}},
    {kLegacy, {"action_prefix", read_prefix}},
    {kShape, {"group_by", read_group_by}},
    {kShape, {"interval", read_interval}},
    {kShape, {"count_unique", read_unique}},
};

annal::Problem refuse(
    const annal::ParameterFault& fault, const std::vector<annal::Parameter<Parameters>>& route
) {
    if (!fault.is_unknown) {
        return annal::Problem(400, "invalid_parameter").detail(fault.text());
    }
    std::string takes;
    for (const auto& parameter : route) {
        takes += (takes.empty() ? "" : ", ") + std::string(parameter.name);
    }
    return annal::Problem(400, "unknown_parameter")
        .detail(fault.text() + "; this route takes " + (takes.empty() ? "none" : takes));
}

void append_encoded(std::string& out, std::string_view text) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    for (const char c : text) {
        const auto u = static_cast<unsigned char>(c);
        const bool alphanumeric =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (alphanumeric || std::string_view("-._~*,:").find(c) != std::string_view::npos) {
            out += c;
        } else {
            out += '%';
            out += kHex[u >> 4U];
            out += kHex[u & 15U];
        }
    }
}

}  // namespace

std::optional<annal::Problem> read_parameters(
    const annal::Request& request, unsigned set, Parameters& out
) {
    std::vector<annal::Parameter<Parameters>> route;
    for (const RouteParameter& known : kParameters) {
        if ((known.set & set) != 0) {
            route.push_back(known.parameter);
        }
    }
    const std::span<const annal::Parameter<Parameters>> table(route);
    if (const auto fault = annal::read_parameters(request, table, {}, out)) {
        return refuse(*fault, route);
    }
    return std::nullopt;
}

std::optional<std::int64_t> read_seq(std::string_view text) {
    return annal::parse_integer(text, -1, INT64_MAX);
}

std::string path_without_cursor(const annal::Request& request) {
    std::string path(request.path());
    char separator = '?';
    for (const annal_pair& pair : request.query()) {
        if (annal::view(pair.key) == "cursor") {
            continue;
        }
        path += separator;
        separator = '&';
        append_encoded(path, annal::view(pair.key));
        path += '=';
        append_encoded(path, annal::view(pair.value));
    }
    return path;
}

}  // namespace authio
