#include "parameters.h"

#include <annal/sdk/parameters.hpp>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

namespace porta {
namespace {

using Wrong = std::optional<std::string>;  // what is wrong with a value
using Parameter = annal::Parameter<ListParameters>;

constexpr std::size_t kTextBytesMax = 1024;  // what the store compares

static_assert(kPageMax <= INT64_MAX / kPageSizeMax);

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

Wrong read_page(const annal::Host&, std::string_view value, ListParameters& out) {
    const auto page = annal::parse_integer(value, 1, kPageMax);
    if (!page) {
        return "must be an integer from 1 to " + std::to_string(kPageMax);
    }
    out.page = *page;
    return std::nullopt;
}

Wrong read_page_size(const annal::Host&, std::string_view value, ListParameters& out) {
    std::int64_t size = 0;
    const char* const end = value.data() + value.size();
    const auto [stop, error] = std::from_chars(value.data(), end, size);
    if (error == std::errc::result_out_of_range && is_digit(value.front())) {
        size = kPageSizeMax;  // however large
    } else if (error != std::errc()) {
        size = 0;
    }
    if (stop != end || size < 1) {
        return "must be an integer of at least 1; above " + std::to_string(kPageSizeMax) +
               " it counts as " + std::to_string(kPageSizeMax);
    }
    out.page_size = std::min(size, kPageSizeMax);
    return std::nullopt;
}

template <std::uint32_t Field>
Wrong read_text(const annal::Host&, std::string_view value, ListParameters& out) {
    if (value.size() > kTextBytesMax) {
        return "is longer than " + std::to_string(kTextBytesMax) + " bytes";
    }
    out.filter.equals(Field, value);
    return std::nullopt;
}

/// One segment or more, of what actions are made of.
bool is_namespace(std::string_view text) {
    bool at_start = true;
    for (const char c : text) {
        if (c == '.' && !at_start) {
            at_start = true;
        } else if ((c >= 'a' && c <= 'z') || is_digit(c) || (c == '_' && !at_start)) {
            at_start = false;
        } else {
            return false;
        }
    }
    return !at_start;
}

bool is_pattern(std::string_view text) {
    constexpr std::size_t kPatternBytesMax = 128;
    return text == "*" || (text.size() <= kPatternBytesMax && text.ends_with(".*") &&
                           is_namespace(text.substr(0, text.size() - 2)));
}

Wrong read_action(const annal::Host& host, std::string_view value, ListParameters& out) {
    if (is_pattern(value)) {
        out.filter.actions(value);
        return std::nullopt;
    }
    // No action has either, so that it would silently find nothing.
    if (value.find_first_of("*,") != std::string_view::npos) {
        return "must be one action type, such as user.created, or all of a namespace, such as "
               "user.*";
    }
    return read_text<ANNAL_FIELD_ACTION>(host, value, out);
}

/// "2024-01-15"
bool is_plain_date(std::string_view text) {
    constexpr std::string_view kShape = "0000-00-00";
    return text.size() == kShape.size() &&
           std::equal(text.begin(), text.end(), kShape.begin(), [](char c, char shape) {
               return shape == '0' ? is_digit(c) : c == shape;
           });
}

template <std::uint32_t Op>
Wrong read_time(const annal::Host& host, std::string_view value, ListParameters& out) {
    std::string text(value);
    if (is_plain_date(value)) {
        text += "T00:00:00Z";
    }
    std::int64_t at = 0;
    if (!host.parse_time(text, at)) {
        return "must be an ISO 8601 time with a zone, such as 2024-01-15T10:30:00.000Z (write + "
               "as %2B), or a date, such as 2024-01-15, which begins at midnight UTC";
    }
    out.filter.time(ANNAL_FIELD_CREATED_AT, Op, at);
    return std::nullopt;
}

constexpr Parameter kParameters[] = {
    {"page", read_page},
    {"pageSize", read_page_size},
    {"action", read_action},
    {"entity_type", read_text<ANNAL_FIELD_TARGET_TYPE>},
    {"entity_id", read_text<ANNAL_FIELD_TARGET_ID>},
    {"actor_id", read_text<ANNAL_FIELD_ACTOR_ID>},
    {"organization_id", read_text<ANNAL_FIELD_ORGANIZATION_ID>},
    {"from", read_time<ANNAL_OP_FROM>},
    {"to", read_time<ANNAL_OP_BEFORE>},
};
constexpr annal::ParameterRules kRules{.ignores_unknown = true, .absent_if_empty = true};

}  // namespace

std::optional<annal::Problem> read_list_parameters(
    const annal::Request& request, ListParameters& out
) {
    const auto fault = annal::read_parameters<ListParameters>(request, kParameters, kRules, out);
    if (!fault) {
        return std::nullopt;
    }
    return annal::Problem(400, "invalid_parameter").detail(fault->text());
}

}  // namespace porta
