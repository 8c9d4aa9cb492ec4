#include "parameters.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <span>
#include <string>

namespace authpi {
namespace {

constexpr std::int64_t kLimitMax = 100;
constexpr std::size_t kValueBytesMax = 1024;  // of a filter, as the host has it
constexpr std::int64_t kUsPerMs = 1000;

using Wrong = std::optional<std::string>;  // what is wrong with a value
using Parameter = annal::Parameter<Parameters>;

constexpr Dimension kDimensions[] = {
    {"type", ANNAL_FIELD_ACTION},
    {"auth_type", ANNAL_FIELD_AUTH_TYPE},
    {"issuer_id", ANNAL_FIELD_ISSUER_ID},
    {"user_id", ANNAL_FIELD_USER_ID},
    {"client_id", ANNAL_FIELD_CLIENT_ID},
    {"org_id", ANNAL_FIELD_ORGANIZATION_ID},
    {"agent_id", ANNAL_FIELD_AGENT_ID},
};
constexpr std::string_view kDimensionNames =
    "type, auth_type, issuer_id, user_id, client_id, org_id or agent_id";

struct NamedInterval {
    std::string_view name;
    std::uint32_t interval;
};
constexpr NamedInterval kIntervals[] = {
    {"hour", ANNAL_INTERVAL_HOUR},
    {"day", ANNAL_INTERVAL_DAY},
    {"week", ANNAL_INTERVAL_WEEK},
};

const Dimension* find_dimension(std::string_view name) {
    const auto* const found = std::find_if(
        std::begin(kDimensions),
        std::end(kDimensions),
        [&](const Dimension& dimension) { return dimension.name == name; }
    );
    return found != std::end(kDimensions) ? found : nullptr;
}

/// A number with a fraction or an exponent, rounded to a whole millisecond on the side that keeps a
/// bound's meaning.
std::optional<std::int64_t> read_fraction(std::string_view text, double (*round)(double)) {
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    const std::string_view digits = text.substr(text.starts_with('-') ? 1 : 0);
    // from_chars reads "inf", "nan", ".5" and "5." as well.
    if (digits.empty() || !is_digit(digits.front()) || !is_digit(digits.back())) {
        return std::nullopt;
    }
    double number = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    // Beyond this no time fits into microseconds, and the conversion would not be defined.
    constexpr double kBeyond = 1e16;
    if (error != std::errc() || stop != end || !(std::abs(number) < kBeyond)) {
        return std::nullopt;
    }
    return static_cast<std::int64_t>(round(number));
}

/// Whole milliseconds in [min, max].
std::optional<std::int64_t> read_ms(
    std::string_view text, double (*round)(double), std::int64_t min, std::int64_t max
) {
    if (const auto whole = annal::parse_integer(text, min, max)) {
        return whole;
    }
    const auto rounded = read_fraction(text, round);
    return rounded && *rounded >= min && *rounded <= max ? rounded : std::nullopt;
}

Wrong bad_time() {
    return "must be a time in Unix milliseconds, such as 1745779200000";
}

constexpr std::int64_t kMsMin = std::numeric_limits<std::int64_t>::min() / kUsPerMs;
constexpr std::int64_t kMsMax = std::numeric_limits<std::int64_t>::max() / kUsPerMs;

/// Events show milliseconds, so what is after one begins with the next.
Wrong read_after(const annal::Host&, std::string_view value, Parameters& out) {
    const auto ms = read_ms(value, std::floor, kMsMin, kMsMax - 1);
    if (!ms) {
        return bad_time();
    }
    out.filter.time(ANNAL_FIELD_CREATED_AT, ANNAL_OP_FROM, (*ms + 1) * kUsPerMs);
    return std::nullopt;
}

Wrong read_before(const annal::Host&, std::string_view value, Parameters& out) {
    const auto ms = read_ms(value, std::ceil, kMsMin, kMsMax);
    if (!ms) {
        return bad_time();
    }
    out.filter.time(ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE, *ms * kUsPerMs);
    return std::nullopt;
}

template <std::uint32_t Field>
Wrong read_equal(const annal::Host&, std::string_view value, Parameters& out) {
    if (value.size() > kValueBytesMax) {
        return "must be at most " + std::to_string(kValueBytesMax) + " bytes long";
    }
    out.filter.equals(Field, value);
    return std::nullopt;
}

/// The host checks the list when it reads it: one grammar serves all who select events.
Wrong read_event_types(const annal::Host&, std::string_view value, Parameters& out) {
    out.filter.actions(value);
    return std::nullopt;
}

Wrong read_limit(const annal::Host&, std::string_view value, Parameters& out) {
    const auto limit = annal::parse_integer(value, 1, kLimitMax);
    if (!limit) {
        return "must be a number from 1 to " + std::to_string(kLimitMax);
    }
    out.limit = static_cast<std::uint32_t>(*limit);
    return std::nullopt;
}

Wrong read_cursor(const annal::Host&, std::string_view value, Parameters& out) {
    out.cursor = annal::to_str(value);
    return std::nullopt;
}

Wrong read_group_by(const annal::Host&, std::string_view value, Parameters& out) {
    out.group_by = find_dimension(value);
    if (out.group_by == nullptr) {
        return "must be one of " + std::string(kDimensionNames);
    }
    return std::nullopt;
}

Wrong read_interval(const annal::Host&, std::string_view value, Parameters& out) {
    for (const NamedInterval& known : kIntervals) {
        if (known.name == value) {
            out.interval = known.interval;
            out.interval_name = value;
            return std::nullopt;
        }
    }
    return "must be one of hour, day or week";
}

Wrong read_count_unique(const annal::Host&, std::string_view value, Parameters& out) {
    std::string_view rest = value;
    for (bool more = true; more;) {
        const auto comma = rest.find(',');
        const Dimension* const one = find_dimension(rest.substr(0, comma));
        if (one == nullptr) {
            return "must be a comma-separated list of " + std::string(kDimensionNames);
        }
        if (std::find(out.unique.begin(), out.unique.end(), one) == out.unique.end()) {
            out.unique.push_back(one);
        }
        more = comma != std::string_view::npos;
        rest = more ? rest.substr(comma + 1) : std::string_view();
    }
    return std::nullopt;
}

// The list takes all but the last three, an aggregate all but the first two.
constexpr Parameter kParameters[] = {
    {"limit", read_limit},
    {"cursor", read_cursor},
    {"issuer_id", read_equal<ANNAL_FIELD_ISSUER_ID>},
    {"user_id", read_equal<ANNAL_FIELD_USER_ID>},
    {"client_id", read_equal<ANNAL_FIELD_CLIENT_ID>},
    {"event_types", read_event_types},
    {"after", read_after},
    {"before", read_before},
    {"group_by", read_group_by},
    {"interval", read_interval},
    {"count_unique", read_count_unique},
};
constexpr std::span<const Parameter> kListParameters(kParameters, std::size(kParameters) - 3);
constexpr std::span<const Parameter> kAggregateParameters(
    kParameters + 2, std::size(kParameters) - 2
);

constexpr annal::ParameterRules kLenient{.ignores_unknown = true, .absent_if_empty = true};

}  // namespace

std::optional<annal::ParameterFault> read_list_parameters(
    const annal::Request& request, Parameters& out
) {
    return annal::read_parameters(request, kListParameters, kLenient, out);
}

std::optional<annal::ParameterFault> read_aggregate_parameters(
    const annal::Request& request, Parameters& out
) {
    return annal::read_parameters(request, kAggregateParameters, kLenient, out);
}

}  // namespace authpi
