#include "runtime/http/router.h"

#include <algorithm>
#include <map>

#include "runtime/http/query.h"

namespace annal::http {
namespace {

bool is_token(std::string_view word) {
    constexpr std::string_view kSigns = "!#$%&'*+-.^_`|~";
    return !word.empty() && std::all_of(word.begin(), word.end(), [&](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               kSigns.find(c) != std::string_view::npos;
    });
}

bool is_name(std::string_view word) {
    return !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               c == '_';
    });
}

/// One segment of a pattern: a literal, or a prefix and the name of what follows it.
struct Segment {
    std::string text;
    std::string name;  // empty: a literal
};

/// The segments between slashes; a slash at the end adds none.
std::vector<std::string_view> split(std::string_view path) {
    std::vector<std::string_view> segments;
    if (path.starts_with('/')) path.remove_prefix(1);
    if (path.ends_with('/')) path.remove_suffix(1);
    while (!path.empty()) {
        const std::size_t slash = path.find('/');
        segments.push_back(path.substr(0, slash));
        if (slash == std::string_view::npos) break;
        path.remove_prefix(slash + 1);
        if (path.empty()) segments.emplace_back();
    }
    return segments;
}

Error bad_pattern(const Route& route, const std::string& why) {
    return {Errc::invalid, "route '" + route.pattern + "' of " + route.owner + ": " + why};
}

Result<Segment> parse_segment(const Route& route, std::string_view text) {
    Segment segment;
    const std::size_t open = text.find('{');
    if (open == std::string_view::npos) {
        if (text.empty()) return bad_pattern(route, "a segment is empty");
        if (text.find('}') != std::string_view::npos) {
            return bad_pattern(route, "'" + std::string(text) + "' has a } without its {");
        }
        segment.text = text;
        return segment;
    }
    if (text.back() != '}' || text.find('{', open + 1) != std::string_view::npos ||
        text.find('}') != text.size() - 1) {
        return bad_pattern(
            route,
            "a segment holds at most one {name}, at its end; '" + std::string(text) + "' does not"
        );
    }
    segment.text = text.substr(0, open);
    segment.name = text.substr(open + 1, text.size() - open - 2);
    if (!is_name(segment.name)) {
        return bad_pattern(route, "'{" + segment.name + "}' is no name: use letters, digits and _");
    }
    return segment;
}

Result<std::vector<Segment>> parse_pattern(const Route& route) {
    if (!route.pattern.starts_with('/')) return bad_pattern(route, "it must begin with /");
    std::vector<Segment> segments;
    for (std::string_view text : split(route.pattern)) {
        BOOST_OUTCOME_TRY(auto segment, parse_segment(route, text));
        const bool repeated = !segment.name.empty() &&
                              std::any_of(segments.begin(), segments.end(), [&](const Segment& s) {
                                  return s.name == segment.name;
                              });
        if (repeated) return bad_pattern(route, "{" + segment.name + "} occurs twice");
        segments.push_back(std::move(segment));
    }
    return segments;
}

}  // namespace

struct Router::Node {
    struct Entry {
        std::string method;
        const Route* route;
        std::vector<std::string> names;  // of the parameters, in path order
    };
    struct Parameter {
        std::string prefix;
        std::unique_ptr<Node> node;
    };
    std::map<std::string, std::unique_ptr<Node>, std::less<>> literals;
    std::vector<Parameter> parameters;  // longest prefix first, so that {name} alone is last
    std::vector<Entry> entries;
    const Route* first = nullptr;  // of those that pass through here, the one added first

    const Entry* find(std::string_view method) const {
        for (const Entry& entry : entries) {
            if (entry.method == method) return &entry;
        }
        return nullptr;
    }

    Node& child(const Segment& segment) {
        if (segment.name.empty()) {
            auto& slot = literals[segment.text];
            if (!slot) slot = std::make_unique<Node>();
            return *slot;
        }
        const auto place =
            std::find_if(parameters.begin(), parameters.end(), [&](const Parameter& p) {
                return p.prefix.size() < segment.text.size() || p.prefix == segment.text;
            });
        if (place != parameters.end() && place->prefix == segment.text) return *place->node;
        // Prefixes of one length that differ can stand in any order: at most one of them matches.
        for (Parameter& p : parameters) {
            if (p.prefix == segment.text) return *p.node;
        }
        return *parameters.insert(place, Parameter{segment.text, std::make_unique<Node>()})->node;
    }

    /// The best node for `segments` from `depth` on; `values` collects what the parameters matched.
    struct Walk {
        const std::vector<std::string>& segments;
        std::vector<std::string_view> values;
        std::size_t deepest = 0;
        const Route* nearest = nullptr;
    };
    const Node* walk(Walk& state, std::size_t depth) const {
        if (depth > state.deepest) {
            state.deepest = depth;
            state.nearest = first;
        }
        if (depth == state.segments.size()) return entries.empty() ? nullptr : this;
        const std::string& segment = state.segments[depth];
        if (const auto literal = literals.find(segment); literal != literals.end()) {
            if (const Node* found = literal->second->walk(state, depth + 1)) return found;
        }
        for (const Parameter& parameter : parameters) {
            if (segment.size() <= parameter.prefix.size() ||
                !segment.starts_with(parameter.prefix)) {
                continue;
            }
            state.values.push_back(std::string_view(segment).substr(parameter.prefix.size()));
            if (const Node* found = parameter.node->walk(state, depth + 1)) return found;
            state.values.pop_back();
        }
        return nullptr;
    }
};

Router::Router() : root_(std::make_unique<Node>()) {}
Router::~Router() = default;
Router::Router(Router&&) noexcept = default;
Router& Router::operator=(Router&&) noexcept = default;

Result<void> Router::add(Route route) {
    BOOST_OUTCOME_TRY(const auto segments, parse_pattern(route));
    if (route.methods.empty()) return bad_pattern(route, "it has no method");
    if (!route.handler) return bad_pattern(route, "it has no handler");
    auto kept = std::make_unique<Route>(std::move(route));
    Node* node = root_.get();
    std::vector<Node*> path{node};
    std::vector<std::string> names;
    for (const Segment& segment : segments) {
        node = &node->child(segment);
        path.push_back(node);
        if (!segment.name.empty()) names.push_back(segment.name);
    }
    std::vector<Node::Entry> entries;
    for (const std::string& method : kept->methods) {
        if (!is_token(method)) return bad_pattern(*kept, "'" + method + "' is no method");
        if (const Node::Entry* other = node->find(method)) {
            return Error{
                Errc::conflict,
                method + " " + kept->pattern + " is claimed twice: by " + other->route->owner +
                    " and by " + kept->owner + "; remove one of the two"};
        }
        const bool repeated = std::any_of(entries.begin(), entries.end(), [&](const auto& e) {
            return e.method == method;
        });
        if (!repeated) entries.push_back({method, kept.get(), names});
    }
    for (Node::Entry& entry : entries) node->entries.push_back(std::move(entry));
    for (Node* passed : path) {
        if (!passed->first) passed->first = kept.get();
    }
    routes_.push_back(std::move(kept));
    return ok();
}

Match Router::match(std::string_view method, std::string_view path) const {
    Match match;
    std::vector<std::string> segments;
    for (std::string_view raw : split(path)) {
        auto decoded = percent_decode(raw);
        if (!decoded) return match;
        segments.push_back(std::move(*decoded));
    }
    Node::Walk state{segments, {}, 0, nullptr};
    const Node* node = root_->walk(state, 0);
    match.nearest = state.nearest;
    if (!node) return match;
    const Node::Entry* entry = node->find(method);
    if (!entry && method == "HEAD") entry = node->find("GET");
    if (!entry) {
        match.nearest = node->entries.front().route;
        for (const Node::Entry& other : node->entries) match.allow.push_back(other.method);
        const auto has = [&](std::string_view m) {
            return std::find(match.allow.begin(), match.allow.end(), m) != match.allow.end();
        };
        if (has("GET") && !has("HEAD")) match.allow.emplace_back("HEAD");
        std::sort(match.allow.begin(), match.allow.end());
        return match;
    }
    match.route = entry->route;
    match.nearest = entry->route;
    for (std::size_t i = 0; i < entry->names.size(); ++i) {
        match.params.emplace_back(entry->names[i], std::string(state.values[i]));
    }
    return match;
}

}  // namespace annal::http
