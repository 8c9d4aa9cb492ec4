// Reads the query parameters of a list request. What is refused is a 400 that names the parameter;
// of what is accepted no parameter is repeated or empty, the limit is in its range, and the path to
// the next page has the same parameters but for the cursor.
//
// Input: the set of parameters that the route takes, then lines `name=value`.

#include <annal/sdk/http.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plugins/query_authio/parameters.h"
#include "tests/fuzz/fuzzing.h"
#include "tests/support/mini_host.h"

namespace {

using annal::fuzz::require;
using Pairs = std::vector<std::pair<std::string, std::string>>;

/// What the host's query parser lets through: no U+0000.
Pairs pairs_of(std::string_view text) {
    Pairs out;
    while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        const std::size_t equals = std::min(line.find('='), line.size());
        std::string name(line.substr(0, equals));
        std::string value(line.substr(std::min(equals + 1, line.size())));
        if ((name + value).find('\0') == std::string::npos) {
            out.emplace_back(std::move(name), std::move(value));
        }
    }
    return out;
}

int hex_digit(char c) {
    return c <= '9' ? c - '0' : c - 'A' + 10;
}

/// Undoes percent-encoding in its one form: %XX in upper case, no plus.
std::string decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        require(text[i] > ' ' && text[i] < 0x7F && text[i] != '+' && text[i] != '#');
        if (text[i] == '%') {
            require(i + 2 < text.size());
            out += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

Pairs query_of(std::string_view path) {
    Pairs out;
    require(path.starts_with("/v1/audit/events"));
    path.remove_prefix(std::string_view("/v1/audit/events").size());
    while (!path.empty()) {
        require(path.front() == (out.empty() ? '?' : '&'));
        path.remove_prefix(1);
        const std::string_view pair = path.substr(0, path.find('&'));
        path.remove_prefix(pair.size());
        const std::size_t equals = pair.find('=');
        require(equals != std::string_view::npos);
        out.emplace_back(decoded(pair.substr(0, equals)), decoded(pair.substr(equals + 1)));
    }
    return out;
}

annal::Host host_of(const annal::test::MiniHost& mini_host) {
    annal_init init{};
    init.struct_size = sizeof(init);
    init.host = mini_host.host();
    return annal::Host(init);
}

void check_accepted(const Pairs& pairs, const authio::Parameters& read) {
    std::set<std::string> names;
    for (const auto& [name, value] : pairs) {
        require(names.insert(name).second && !value.empty());
    }
    require(read.limit >= 1 && read.limit <= 200);
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    static annal::test::MiniHost mini_host;
    static const annal::Host host = host_of(mini_host);
    const unsigned set = annal::fuzz::take_byte(text) & 63U;
    const Pairs pairs = pairs_of(text);
    std::vector<annal_pair> raw_pairs;
    for (const auto& [name, value] : pairs) {
        raw_pairs.push_back({annal::to_str(name), annal::to_str(value)});
    }
    annal_request raw{};
    raw.struct_size = sizeof(raw);
    raw.path = annal::to_str("/v1/audit/events");
    raw.query = raw_pairs.data();
    raw.n_query = static_cast<std::uint32_t>(raw_pairs.size());
    const annal::Request request(host, nullptr, raw);
    authio::Parameters read;
    if (!authio::read_parameters(request, set, read)) {
        check_accepted(pairs, read);
    }
    Pairs kept = pairs;
    std::erase_if(kept, [](const auto& pair) { return pair.first == "cursor"; });
    require(query_of(authio::path_without_cursor(request)) == kept);
    return 0;
}
