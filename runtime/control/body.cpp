#include "runtime/control/body.h"

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <optional>

#include "runtime/core/limits.h"
#include "runtime/core/task_impl.h"
#include "runtime/event/json_scanner.h"

namespace annal::control {
namespace json = boost::json;
namespace {

constexpr std::size_t kBodyBytesMax = 64U << 10;
constexpr std::size_t kDepthMax = 16;
constexpr std::size_t kPatternsMax = 100;

class ActionHandler final : public http::Handler {
public:
    explicit ActionHandler(Action action) : action_(std::move(action)) {}
    Task<void> handle(std::shared_ptr<http::Exchange> exchange) override {
        Result<void> done = co_await action_(exchange);
        if (!done && !exchange->started()) {
            http::Problem problem = http::problem_of(done.error());
            (void)co_await exchange->fail(std::move(problem));  // nobody is left to tell
        }
    }

private:
    Action action_;
};

/// "line 3, column 7" of a byte offset.
std::string position(std::string_view text, std::size_t offset) {
    const std::string_view before = text.substr(0, offset);
    const auto lines = std::count(before.begin(), before.end(), '\n');
    const auto start = before.rfind('\n');
    const std::size_t column = offset - (start == std::string_view::npos ? 0 : start + 1);
    return "line " + std::to_string(lines + 1) + ", column " + std::to_string(column + 1);
}

/// The first thing that the event codec would refuse, too: a key that is there twice, U+0000, bad
/// UTF-8.
class FirstProblem final : public JsonProblems {
public:
    void problem(std::string_view, std::size_t, std::string detail) override {
        if (error) return;
        error = Error{
            Errc::unprocessable, std::move(detail), scanner ? scanner->pointer() : std::string()};
    }
    const JsonScanner* scanner = nullptr;
    std::optional<Error> error;
};

Result<void> check_text(std::string_view text) {
    Arena arena;
    FirstProblem first;
    JsonScanner scanner(text, arena, first);
    first.scanner = &scanner;
    const bool read = scanner.peek() != JsonScanner::Kind::nothing && scanner.skip(kDepthMax);
    if (first.error) return std::move(*first.error);
    if (!read)
        return Error{
            Errc::invalid,
            "the body is not JSON: " + scanner.error_detail() + " at " +
                position(text, scanner.error_offset())};
    return ok();
}

Result<json::value> parse(std::string_view text) {
    json::parse_options options;
    options.max_depth = kDepthMax;
    json::stream_parser parser({}, options);
    boost::system::error_code error;
    const std::size_t used = parser.write_some(text.data(), text.size(), error);
    if (!error) parser.finish(error);
    if (!error && used == text.size()) {
        // Boost.JSON keeps the last of two members with one name, without a word.
        BOOST_OUTCOME_TRYV(check_text(text));
        return parser.release();
    }
    const std::string why = error ? error.message() : "extra characters after the document";
    return Error{Errc::invalid, "the body is not JSON: " + why + " at " + position(text, used)};
}

}  // namespace

std::shared_ptr<http::Handler> make_handler(Action action) {
    return std::make_shared<ActionHandler>(std::move(action));
}

namespace {

Task<Result<std::string>> read_text(http::Exchange& exchange) {
    std::string text;
    for (;;) {
        BOOST_OUTCOME_CO_TRY(const std::string_view chunk, co_await exchange.read());
        if (chunk.empty()) co_return text;
        if (text.size() + chunk.size() > kBodyBytesMax)
            co_return Error{Errc::too_large, "the body of this call may have 64 KiB"};
        text += chunk;
    }
}

Result<json::object> object_in(
    const std::string& text, const std::vector<std::string_view>& known
) {
    BOOST_OUTCOME_TRY(json::value value, parse(text));
    json::object* object = value.if_object();
    if (!object) return Error{Errc::invalid, "the body must be a JSON object"};
    BOOST_OUTCOME_TRYV(check_fields(*object, known, ""));
    return std::move(*object);
}

}  // namespace

Task<Result<json::object>> read_object(
    http::Exchange& exchange, std::vector<std::string_view> known
) {
    BOOST_OUTCOME_CO_TRY(const std::string text, co_await read_text(exchange));
    co_return object_in(text, known);
}

Task<Result<json::object>> read_object_if_any(
    http::Exchange& exchange, std::vector<std::string_view> known
) {
    BOOST_OUTCOME_CO_TRY(const std::string text, co_await read_text(exchange));
    co_return text.empty() ? Result<json::object>(json::object()) : object_in(text, known);
}

Result<void> check_fields(
    const json::object& object,
    const std::vector<std::string_view>& known,
    const std::string& pointer
) {
    for (const auto& member : object) {
        const std::string_view key(member.key().data(), member.key().size());
        if (std::find(known.begin(), known.end(), key) != known.end()) continue;
        std::string list;
        for (const std::string_view name : known)
            list += (list.empty() ? "" : ", ") + std::string(name);
        return Error{
            Errc::unprocessable,
            "unknown field; known are: " + list,
            pointer + "/" + std::string(key)};
    }
    return ok();
}

Result<std::vector<ActionPattern>> patterns_of(
    const json::value& value, const std::string& pointer
) {
    const Error error{
        Errc::unprocessable,
        "must list 1 to 100 patterns: an action, \"user.*\" or \"*\"",
        pointer};
    const json::array* list = value.if_array();
    if (list == nullptr || list->empty() || list->size() > kPatternsMax) return error;
    std::vector<ActionPattern> patterns;
    for (std::size_t i = 0; i < list->size(); ++i) {
        const json::string* text = (*list)[i].if_string();
        if (text == nullptr) return error;
        auto pattern = parse_pattern({text->data(), text->size()});
        if (!pattern)
            return Error{
                Errc::unprocessable, pattern.error().detail, pointer + "/" + std::to_string(i)};
        patterns.push_back(std::move(pattern.value()));
    }
    return patterns;
}

Result<std::int64_t> integer_of(
    const json::value& value, std::int64_t least, std::int64_t most, const std::string& pointer
) {
    if (value.is_int64() && value.get_int64() >= least && value.get_int64() <= most)
        return value.get_int64();
    return Error{
        Errc::unprocessable,
        "must be a whole number from " + std::to_string(least) + " to " + std::to_string(most),
        pointer};
}

Result<std::int64_t> query_integer(
    const http::Request& request,
    std::string_view name,
    std::int64_t fallback,
    std::int64_t least,
    std::int64_t most
) {
    const auto text = request.parameter(name);
    if (!text) return fallback;
    std::int64_t value = 0;
    const char* end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data(), end, value);
    if (error == std::errc() && stop == end && value >= least && value <= most) return value;
    return Error{
        Errc::invalid,
        std::string(name) + " must be a whole number from " + std::to_string(least) + " to " +
            std::to_string(most),
        std::string(name)};
}

Result<std::string> project_of(const http::Exchange& exchange) {
    const std::string& project = exchange.principal().project;
    if (!project.empty()) return project;
    return Error{Errc::unprocessable, "no project: name it in the header Annal-Project"};
}

json::value text_or_null(const std::string& text) {
    return text.empty() ? json::value(nullptr) : json::value(text);
}

Result<std::string> string_member(
    const json::object& object, std::string_view key, std::size_t size_max
) {
    const json::value* value = object.if_contains({key.data(), key.size()});
    const std::string pointer = "/" + std::string(key);
    if (!value) return Error{Errc::unprocessable, std::string(key) + " is missing", pointer};
    const json::string* text = value->if_string();
    if (!text || text->empty() || text->size() > size_max)
        return Error{
            Errc::unprocessable,
            std::string(key) + " must be a string of 1 to " + std::to_string(size_max) + " bytes",
            pointer};
    return std::string(text->data(), text->size());
}

Task<Result<void>> respond_json(http::Exchange& exchange, int status, const json::value& body) {
    std::string text = json::serialize(body);
    text += '\n';
    std::string type = "application/json";
    co_return co_await http::respond(exchange, status, std::move(type), std::move(text));
}

Actor actor_of(const http::Principal& principal) {
    if (principal.key_id == "local") return {"system", "local"};
    return {"api_key", principal.key_id};
}

}  // namespace annal::control
