#include "parameters.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <span>

namespace authio {
namespace {

constexpr std::uint32_t kLimitMax = 200;
constexpr std::uint32_t kRowsMax = 100'000;
constexpr std::string_view kTimeForm =
    "must be an ISO 8601 time with a zone, such as 2026-05-14T18:42:13Z (write + as %2B)";

using Wrong = std::optional<std::string>;  // what is wrong with a value

struct Reader {
    const annal::Host& host;
    Parameters& out;
};

Wrong read_time(Reader& reader, std::uint32_t field, std::uint32_t op, std::string_view value) {
    std::int64_t at = 0;
    if (!reader.host.parse_time(value, at)) {
        return std::string(kTimeForm);
    }
    reader.out.filter.time(field, op, at);
    return std::nullopt;
}

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

Wrong read_patterns(Reader& reader, std::string_view value) {
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
    reader.out.filter.actions(value);
    return std::nullopt;
}

Wrong read_ip(Reader& reader, std::string_view value) {
    const std::string text(value);
    in6_addr address{};
    if (inet_pton(AF_INET, text.c_str(), &address) != 1 &&
        inet_pton(AF_INET6, text.c_str(), &address) != 1) {
        return "must be an IPv4 or IPv6 address";
    }
    reader.out.filter.equals(ANNAL_FIELD_IP, value);
    return std::nullopt;
}

template <std::uint32_t Parameters::*Member, std::uint32_t Max>
Wrong read_limit(Reader& reader, std::string_view value) {
    std::uint32_t limit = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), limit);
    if (error != std::errc() || end != value.data() + value.size() || limit < 1 || limit > Max) {
        return "must be a number from 1 to " + std::to_string(Max);
    }
    reader.out.*Member = limit;
    return std::nullopt;
}

Wrong read_after(Reader& reader, std::string_view value) {
    if (reader.out.after) {
        return "is given beside the other of after and last_event_id; send one of them";
    }
    reader.out.after = read_seq(value);
    return reader.out.after ? Wrong() : Wrong("must be the seq of an event, or -1 for all");
}

struct Parameter {
    std::string_view name;
    unsigned set;
    Wrong (*read)(Reader& reader, std::string_view value);
};

template <std::uint32_t Field>
Wrong equals(Reader& reader, std::string_view value) {
    reader.out.filter.equals(Field, value);
    return std::nullopt;
}
template <std::uint32_t Field, std::uint32_t Op>
Wrong time(Reader& reader, std::string_view value) {
    return read_time(reader, Field, Op, value);
}

constexpr Parameter kParameters[] = {
    {"type", kFilters, read_patterns},
    {"user", kFilters, equals<ANNAL_FIELD_USER_ID>},
    {"actor", kFilters, equals<ANNAL_FIELD_ACTOR_ID>},
    {"organization", kFilters, equals<ANNAL_FIELD_ORGANIZATION_ID>},
    {"client", kFilters, equals<ANNAL_FIELD_CLIENT_ID>},
    {"issuer", kFilters, equals<ANNAL_FIELD_ISSUER_ID>},
    {"agent", kFilters, equals<ANNAL_FIELD_AGENT_ID>},
    {"auth_type", kFilters, equals<ANNAL_FIELD_AUTH_TYPE>},
    {"target_type", kFilters, equals<ANNAL_FIELD_TARGET_TYPE>},
    {"target", kFilters, equals<ANNAL_FIELD_TARGET_ID>},
    {"external_id", kFilters, equals<ANNAL_FIELD_EXTERNAL_ID>},
    {"ip", kFilters, read_ip},
    {"from", kFilters, time<ANNAL_FIELD_CREATED_AT, ANNAL_OP_FROM>},
    {"to", kFilters, time<ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE>},
    {"occurred_from", kFilters, time<ANNAL_FIELD_OCCURRED_AT, ANNAL_OP_FROM>},
    {"occurred_to", kFilters, time<ANNAL_FIELD_OCCURRED_AT, ANNAL_OP_BEFORE>},
    {"q",
     kFilters,
     [](Reader& reader, std::string_view value) -> Wrong {
         reader.out.filter.contains(value);
         return std::nullopt;
     }},
    {"cursor",
     kCursor,
     [](Reader& reader, std::string_view value) -> Wrong {
         reader.out.cursor = annal::to_str(value);
         return std::nullopt;
     }},
    {"limit", kLimit, read_limit<&Parameters::limit, kLimitMax>},
    {"limit", kRows, read_limit<&Parameters::rows, kRowsMax>},
    {"after", kAfter, read_after},
    {"last_event_id", kAfter, read_after},
    {"csv_safe",
     kCsvSafe,
     [](Reader& reader, std::string_view value) -> Wrong {
         reader.out.csv_safe = value;
         return value == "true" || value == "false" ? Wrong() : Wrong("must be true or false");
     }},
    {"reason",
     kReason,
     [](Reader& reader, std::string_view value) -> Wrong {
         reader.out.reason = value;
         return value.size() <= 1024 ? Wrong() : Wrong("must be at most 1024 bytes long");
     }},
    {"before", kLegacy, time<ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE>},
    {"action_prefix",
     kLegacy,
     [](Reader& reader, std::string_view value) -> Wrong {
         reader.out.filter.action_prefix(value);
         return std::nullopt;
     }},
};

annal::Problem invalid(std::string_view name, std::string_view what) {
    return annal::Problem(400, "invalid_parameter")
        .detail("query parameter " + std::string(name) + " " + std::string(what));
}

annal::Problem unknown(std::string_view name, unsigned set) {
    std::string detail = "unknown query parameter: " + std::string(name) + "; this route takes ";
    std::size_t count = 0;
    for (const Parameter& parameter : kParameters) {
        if ((parameter.set & set) != 0) {
            detail += (count++ > 0 ? ", " : "") + std::string(parameter.name);
        }
    }
    return annal::Problem(400, "unknown_parameter").detail(detail + (count == 0 ? "none" : ""));
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
    Reader reader{request.call().host(), out};
    unsigned long seen = 0;
    for (const annal_pair& pair : request.query()) {
        const std::string_view name = annal::view(pair.key);
        const std::string_view value = annal::view(pair.value);
        const auto* const known =
            std::find_if(std::begin(kParameters), std::end(kParameters), [&](const Parameter& p) {
                return p.name == name && (p.set & set) != 0;
            });
        if (known == std::end(kParameters)) {
            return unknown(name, set);
        }
        const unsigned long bit = 1UL << static_cast<unsigned>(known - std::begin(kParameters));
        if ((seen & bit) != 0) {
            return invalid(name, "is given more than once");
        }
        seen |= bit;
        if (value.empty()) {
            return invalid(name, "is empty");
        }
        if (const Wrong wrong = known->read(reader, value)) {
            return invalid(name, *wrong);
        }
    }
    return std::nullopt;
}

std::optional<std::int64_t> read_seq(std::string_view text) {
    std::int64_t seq = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seq);
    if (error != std::errc() || end != text.data() + text.size() || seq < -1) {
        return std::nullopt;
    }
    return seq;
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
