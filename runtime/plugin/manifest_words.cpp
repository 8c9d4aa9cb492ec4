#include "runtime/plugin/manifest_words.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <vector>

#include "runtime/core/json_text.h"

namespace annal {
namespace {

constexpr std::size_t kQuotedBytesMax = 64;
constexpr std::size_t kRouteBytesMax = 512;

constexpr std::array<std::string_view, 14> kScopes = {
    "audit:read",
    "audit:write",
    "audit:ingest",
    "streams:read",
    "streams:write",
    "webhooks:read",
    "webhooks:write",
    "risk:read",
    "risk:write",
    "keys:read",
    "keys:write",
    "admin",
    "platform",
    "none"};
constexpr std::array<std::string_view, 5> kMethods = {"GET", "POST", "PUT", "PATCH", "DELETE"};

bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}
bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}
bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_alnum(char c) {
    return is_lower(c) || is_upper(c) || is_digit(c);
}

bool all_of(std::string_view text, std::string_view more) {
    return std::all_of(text.begin(), text.end(), [more](char c) {
        return is_alnum(c) || more.find(c) != std::string_view::npos;
    });
}

char folded(char c) {
    return is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c;
}

/// Optimal string alignment without regard to case: insertions, deletions, exchanges and swapped
/// neighbours count one each.
std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const bool same = folded(a[i - 1]) == folded(b[j - 1]);
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0U : 1U)});
            if (i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) &&
                folded(a[i - 2]) == folded(b[j - 1])) {
                row[j] = std::min(row[j], before[j - 2] + 1);
            }
        }
        before.swap(last);
        last.swap(row);
    }
    return last[b.size()];
}

std::optional<std::uint64_t> leading_number(std::string_view text, std::string_view& unit) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end == text.data()) return std::nullopt;
    unit = text.substr(static_cast<std::size_t>(end - text.data()));
    return number;
}

bool is_parameter_name(std::string_view name) {
    return !name.empty() && name.size() <= 32 && is_lower(name[0]) &&
           std::all_of(name.begin(), name.end(), [](char c) {
               return is_lower(c) || is_digit(c) || c == '_';
           });
}

std::optional<std::string> segment_defect(
    std::string_view segment, std::set<std::string_view>& names
) {
    if (segment.empty()) return "has an empty segment";
    if (segment == "." || segment == "..") return "has a segment " + in_quotes(segment);
    const auto open = segment.find('{');
    const auto literal = segment.substr(0, open);
    if (!all_of(literal, "-._~!$&'()*+,;=:@")) {
        return "has a character in " + in_quotes(segment) +
               " that paths may not hold unescaped (letters, digits and -._~!$&'()*+,;=:@ are "
               "fine)";
    }
    if (open == std::string_view::npos) return std::nullopt;
    const auto close = segment.find('}', open);
    if (close != segment.size() - 1) {
        return "segment " + in_quotes(segment) + " must hold at most one {name}, at its end";
    }
    const auto name = segment.substr(open + 1, close - open - 1);
    if (!is_parameter_name(name)) {
        return "parameter " + in_quotes(name) + " must match ^[a-z][a-z0-9_]{0,31}$";
    }
    if (!names.insert(name).second) return "names the parameter " + in_quotes(name) + " twice";
    return std::nullopt;
}

}  // namespace

std::string in_one_line(std::string_view text) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string out;
    while (!text.empty()) {
        const auto size = utf8_character_size(text);
        const auto byte = static_cast<unsigned char>(text.front());
        if (size == 0 || byte < 0x20 || byte == 0x7f) {
            out += "\\x";
            out += kDigits[byte >> 4];
            out += kDigits[byte & 15];
            text.remove_prefix(1);
        } else {
            out += text.substr(0, size);
            text.remove_prefix(size);
        }
    }
    return out;
}

std::string in_quotes(std::string_view text) {
    const bool cut = text.size() > kQuotedBytesMax;
    const auto shown = utf8_prefix(text, kQuotedBytesMax);
    return '"' + in_one_line(shown) + (cut ? "…\"" : "\"");
}

std::string either(std::span<const std::string_view> words) {
    std::string out;
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (i > 0) out += i + 1 == words.size() ? " or " : ", ";
        out += words[i];
    }
    return out;
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates) {
    if (word.empty() || word.size() > kQuotedBytesMax) return {};
    std::string_view best;
    std::size_t best_distance = word.size() <= 4 ? 2 : 3;
    for (const auto candidate : candidates) {
        const auto d = distance(word, candidate);
        if (d < best_distance) {
            best = candidate;
            best_distance = d;
        }
    }
    return best.empty() ? std::string() : " (did you mean " + in_quotes(best) + "?)";
}

std::string pointer_to(std::string_view parent, std::string_view key) {
    std::string out(parent);
    out += '/';
    append_pointer_token(out, key);
    return out;
}

std::span<const std::string_view> scope_words() {
    return kScopes;
}
std::span<const std::string_view> method_words() {
    return kMethods;
}

bool is_label_name(std::string_view text) {
    return !text.empty() && text.size() <= 63 && (is_lower(text[0]) || is_digit(text[0])) &&
           std::all_of(text.begin(), text.end(), [](char c) {
               return is_lower(c) || is_digit(c) || c == '-';
           });
}

bool is_library_name(std::string_view text) {
    return !text.empty() && text.size() <= 63 && is_alnum(text[0]) && all_of(text, "_.-");
}

std::optional<std::string> route_defect(std::string_view route) {
    if (route.empty() || route[0] != '/') return "must begin with /";
    if (route.size() > kRouteBytesMax) return "is longer than 512 bytes";
    if (route == "/") return std::nullopt;
    if (route.back() == '/')
        return "must not end with / (requests with a trailing slash match it anyway)";
    std::set<std::string_view> names;
    for (std::size_t begin = 1; begin <= route.size();) {
        const auto end = std::min(route.find('/', begin), route.size());
        if (auto defect = segment_defect(route.substr(begin, end - begin), names)) return defect;
        begin = end + 1;
    }
    return std::nullopt;
}

std::string route_shape(std::string_view route) {
    std::string out;
    for (std::size_t i = 0; i < route.size(); ++i) {
        out += route[i];
        if (route[i] == '{') i = std::min(route.find('}', i), route.size()) - 1;
    }
    return out;
}

bool is_host_port(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos || colon == 0 || text.size() > 300) return false;
    const auto host = text.substr(0, colon);
    if (text == "*:*") return true;
    std::string_view rest;
    const auto port = leading_number(text.substr(colon + 1), rest);
    if (!port || !rest.empty() || *port == 0 || *port > 65'535) return false;
    if (host == "*") return true;
    if (host.front() == '[') {
        const auto address = host.substr(1, host.size() - 2);
        return host.size() > 2 && host.back() == ']' &&
               address.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
    }
    return is_alnum(host.front()) && is_alnum(host.back()) && all_of(host, "-.") &&
           host.find("..") == std::string_view::npos;
}

bool is_secret_pattern(std::string_view text) {
    if (text.ends_with("/*")) text.remove_suffix(2);
    return !text.empty() && text.size() <= 128 && is_alnum(text[0]) && text.back() != '/' &&
           all_of(text, "_.-/") && text.find("//") == std::string_view::npos;
}

bool is_destination_name(std::string_view text) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    };
    return !text.empty() && text.size() <= 63 && text.front() >= 'a' && text.front() <= 'z' &&
           std::all_of(text.begin(), text.end(), allowed);
}

bool is_project_word(std::string_view text) {
    return !text.empty() && text.size() <= 64 && all_of(text, "_-.:");
}

}  // namespace annal
