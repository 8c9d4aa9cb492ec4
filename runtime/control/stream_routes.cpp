#include "runtime/control/stream_routes.h"

#include <algorithm>
#include <boost/json.hpp>

#include "runtime/control/body.h"
#include "runtime/core/task_impl.h"
#include "runtime/core/time_text.h"
#include "runtime/delivery/pattern_list.h"

namespace annal::control {
namespace json = boost::json;
namespace {

constexpr std::size_t kNameBytesMax = 128, kFormatBytesMax = 64;
constexpr std::size_t kSeqsMax = 1'000;
constexpr std::int64_t kBatchBytesMin = 1'024, kBatchBytesMax = 64LL << 20;
constexpr double kRateMax = 10'000;
constexpr std::uint32_t kLettersMax = 200, kLettersDefault = 50;

using OnPoison = StreamDefinition::OnPoison;

Error wrong(std::string detail, std::string pointer) {
    return {Errc::unprocessable, std::move(detail), std::move(pointer)};
}

// --- what a body says

Result<OnPoison> on_poison_of(const json::value& value) {
    for (const OnPoison choice : {OnPoison::dead_letter, OnPoison::block})
        if (value.is_string() && value.get_string() == word(choice)) return choice;
    return wrong("on_poison must be dead_letter or block", "/on_poison");
}

Result<const json::object*> object_of(
    const json::value& value, const std::vector<std::string_view>& known, const std::string& pointer
) {
    const json::object* object = value.if_object();
    if (object == nullptr) return wrong("must be an object", pointer);
    BOOST_OUTCOME_TRYV(check_fields(*object, known, pointer));
    return object;
}

Result<void> read_batch(const json::value& value, Streams::Change& change) {
    BOOST_OUTCOME_TRY(
        const json::object* batch, object_of(value, {"max_events", "max_bytes"}, "/batch")
    );
    if (const json::value* events = batch->if_contains("max_events")) {
        BOOST_OUTCOME_TRY(
            const std::int64_t n, integer_of(*events, 1, kPageMax, "/batch/max_events")
        );
        change.batch_events_max = static_cast<std::uint32_t>(n);
    }
    if (const json::value* bytes = batch->if_contains("max_bytes")) {
        BOOST_OUTCOME_TRY(
            const std::int64_t n,
            integer_of(*bytes, kBatchBytesMin, kBatchBytesMax, "/batch/max_bytes")
        );
        change.batch_bytes_max = static_cast<std::uint64_t>(n);
    }
    return ok();
}

Result<void> read_rate(const json::value& value, Streams::Change& change) {
    if (value.is_null()) {
        change.requests_per_second = 0;
        return ok();
    }
    BOOST_OUTCOME_TRY(
        const json::object* limit, object_of(value, {"requests_per_second"}, "/rate_limit")
    );
    const json::value* rate = limit->if_contains("requests_per_second");
    const double n = rate != nullptr && rate->is_number() ? rate->to_number<double>() : 0;
    if (!(n > 0 && n <= kRateMax))
        return wrong("must be a number above 0, at most 10000", "/rate_limit/requests_per_second");
    change.requests_per_second = n;
    return ok();
}

/// What a new stream and a changed one have in common.
Result<Streams::Change> read_change(const json::object& body) {
    Streams::Change change;
    if (body.contains("name")) {
        BOOST_OUTCOME_TRY(change.name, string_member(body, "name", kNameBytesMax));
    }
    if (const json::value* config = body.if_contains("config")) {
        if (!config->is_object()) return wrong("config must be an object", "/config");
        change.config = config->get_object();
    }
    if (const json::value* events = body.if_contains("events")) {
        BOOST_OUTCOME_TRY(change.patterns, patterns_of(*events, "/events"));
    }
    if (const json::value* poison = body.if_contains("on_poison")) {
        BOOST_OUTCOME_TRY(change.on_poison, on_poison_of(*poison));
    }
    if (const json::value* batch = body.if_contains("batch")) {
        BOOST_OUTCOME_TRYV(read_batch(*batch, change));
    }
    if (const json::value* format = body.if_contains("format")) {
        change.format = std::string();
        if (!format->is_null()) {
            BOOST_OUTCOME_TRY(change.format, string_member(body, "format", kFormatBytesMax));
        }
    }
    if (const json::value* rate = body.if_contains("rate_limit")) {
        BOOST_OUTCOME_TRYV(read_rate(*rate, change));
    }
    return change;
}

Result<void> read_start(const json::value& value, Streams::Request& request) {
    const Error error = wrong(
        "start must be \"latest\", \"earliest\", {\"seq\": n} or {\"time\": "
        "\"2026-05-14T00:00:00Z\"}",
        "/start"
    );
    if (value.is_string()) {
        request.start =
            value.get_string() == "earliest" ? Streams::Start::earliest : Streams::Start::latest;
        const bool known = value.get_string() == "earliest" || value.get_string() == "latest";
        if (!known) return error;
        return ok();
    }
    const json::object* object = value.if_object();
    if (object == nullptr || object->size() != 1) return error;
    if (const json::value* seq = object->if_contains("seq")) {
        request.start = Streams::Start::at_seq;
        BOOST_OUTCOME_TRY(request.start_seq, integer_of(*seq, 0, kSeqMax, "/start/seq"));
        return ok();
    }
    const json::value* time = object->if_contains("time");
    if (time == nullptr || !time->is_string()) return error;
    auto at = parse_time({time->get_string().data(), time->get_string().size()});
    if (!at) return wrong(at.error().detail, "/start/time");
    request.start = Streams::Start::at_time;
    request.start_time = at.value();
    return ok();
}

Result<Streams::Request> read_request(const json::object& body) {
    Streams::Request request;
    BOOST_OUTCOME_TRY(request.name, string_member(body, "name", kNameBytesMax));
    BOOST_OUTCOME_TRY(request.destination, string_member(body, "destination", 64));
    BOOST_OUTCOME_TRY(Streams::Change said, read_change(body));
    request.patterns = said.patterns.value_or(std::vector<ActionPattern>{ActionPattern{}});
    request.config = said.config.value_or(json::object());
    request.on_poison = said.on_poison.value_or(request.on_poison);
    request.batch_events_max = said.batch_events_max.value_or(request.batch_events_max);
    request.batch_bytes_max = said.batch_bytes_max.value_or(request.batch_bytes_max);
    request.format = said.format.value_or("");
    request.requests_per_second = said.requests_per_second.value_or(0);
    if (const json::value* start = body.if_contains("start")) {
        BOOST_OUTCOME_TRYV(read_start(*start, request));
    }
    if (const json::value* probe = body.if_contains("probe")) {
        if (!probe->is_bool()) return wrong("probe must be true or false", "/probe");
        request.probe = probe->get_bool();
    }
    return request;
}

Result<std::vector<Seq>> seqs_of(const json::object& body) {
    std::vector<Seq> seqs;
    const json::value* value = body.if_contains("seqs");
    if (value == nullptr) return seqs;
    const json::array* list = value->if_array();
    if (list == nullptr || list->empty() || list->size() > kSeqsMax)
        return wrong("seqs must list 1 to 1000 seqs; leave it out for all", "/seqs");
    for (std::size_t i = 0; i < list->size(); ++i) {
        BOOST_OUTCOME_TRY(
            const std::int64_t seq, integer_of((*list)[i], 0, kSeqMax, "/seqs/" + std::to_string(i))
        );
        seqs.push_back(seq);
    }
    return seqs;
}

// --- what an answer says

json::object to_json(const DeadLetter& letter) {
    json::object object;
    object["seq"] = letter.seq;
    object["event_id"] = letter.event_id;
    object["reason"] = letter.reason;
    object["at"] = format_time(letter.at);
    object["attempts"] = letter.attempts;
    object["status"] = letter.redriving ? "redriving" : "dead";
    return object;
}

json::object to_json(const AuditStream& stream, const std::vector<std::string>& secrets) {
    json::object object;
    object["id"] = stream.id;
    object["name"] = stream.name;
    object["destination"] = stream.destination;
    object["config"] = stream.config;
    // Named, so that one sees that they are there; shown never again.
    object["secrets"] =
        stream.sealed.empty() ? json::array() : json::array(secrets.begin(), secrets.end());
    object["events"] = annal::to_json(stream.patterns);
    object["on_poison"] = word(stream.on_poison);
    json::object batch;
    batch["max_events"] = stream.batch_events_max;
    batch["max_bytes"] = stream.batch_bytes_max;
    object["batch"] = std::move(batch);
    object["format"] = nullptr;
    if (!stream.format.empty()) object["format"] = stream.format;
    object["rate_limit"] = nullptr;
    if (stream.requests_per_second > 0) {
        json::object limit;
        limit["requests_per_second"] = stream.requests_per_second;
        object["rate_limit"] = std::move(limit);
    }
    object["status"] = word(stream.status);
    object["created_at"] = format_time(stream.created_at);
    object["updated_at"] = format_time(stream.updated_at);
    return object;
}

class StreamRoutes {
public:
    StreamRoutes(Streams& streams, const Destinations& destinations, EventStore& store)
        : streams_(streams), destinations_(destinations), store_(store) {}

    Task<Result<void>> create(std::shared_ptr<http::Exchange> exchange) {
        std::vector<std::string_view> known{
            "name",
            "destination",
            "config",
            "events",
            "start",
            "on_poison",
            "batch",
            "format",
            "rate_limit",
            "probe"};
        BOOST_OUTCOME_CO_TRY(
            const json::object body, co_await read_object(*exchange, std::move(known))
        );
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        BOOST_OUTCOME_CO_TRY(Streams::Request request, read_request(body));
        BOOST_OUTCOME_CO_TRYV(may_use(*exchange, request.destination));
        Actor actor = actor_of(exchange->principal());
        auto made = co_await streams_.create(std::move(project), std::move(request), actor);
        if (!made) co_return made.error();
        co_return co_await answer(*exchange, 201, std::move(made.value()));
    }

    Task<Result<void>> list(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        BOOST_OUTCOME_CO_TRY(auto streams, co_await streams_.list(project));
        json::array data;
        for (const AuditStream& stream : streams) {
            if (stream.is_replay()) continue;
            BOOST_OUTCOME_CO_TRY(json::object object, co_await shown(stream));
            data.push_back(std::move(object));
        }
        json::object body;
        body["data"] = std::move(data);
        const json::value value(std::move(body));
        co_return co_await respond_json(*exchange, 200, value);
    }

    Task<Result<void>> get(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRY(AuditStream stream, co_await wanted(*exchange));
        co_return co_await answer(*exchange, 200, std::move(stream));
    }

    Task<Result<void>> patch(std::shared_ptr<http::Exchange> exchange) {
        std::vector<std::string_view> known{
            "name", "config", "events", "on_poison", "batch", "format", "rate_limit"};
        BOOST_OUTCOME_CO_TRY(
            const json::object body, co_await read_object(*exchange, std::move(known))
        );
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        BOOST_OUTCOME_CO_TRY(Streams::Change change, read_change(body));
        BOOST_OUTCOME_CO_TRY(const AuditStream before, co_await wanted(*exchange));
        if (change.config) {
            BOOST_OUTCOME_CO_TRYV(may_use(*exchange, before.destination));
        }
        Actor actor = actor_of(exchange->principal());
        auto changed =
            co_await streams_.change(std::move(project), before.id, std::move(change), actor);
        if (!changed) co_return changed.error();
        co_return co_await answer(*exchange, 200, std::move(changed.value()));
    }

    Task<Result<void>> pause(std::shared_ptr<http::Exchange> exchange) {
        co_return co_await steer(exchange, &Streams::pause);
    }
    Task<Result<void>> resume(std::shared_ptr<http::Exchange> exchange) {
        co_return co_await steer(exchange, &Streams::resume);
    }
    Task<Result<void>> probe(std::shared_ptr<http::Exchange> exchange) {
        co_return co_await steer(exchange, &Streams::probe);
    }

    Task<Result<void>> revoke(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        std::string id(exchange->request().param("id"));
        Actor actor = actor_of(exchange->principal());
        BOOST_OUTCOME_CO_TRYV(co_await streams_.revoke(std::move(project), std::move(id), actor));
        http::Pairs none;
        BOOST_OUTCOME_CO_TRYV(exchange->start(204, none));
        co_return co_await exchange->finish(std::move(none));
    }

    Task<Result<void>> replay(std::shared_ptr<http::Exchange> exchange) {
        std::vector<std::string_view> known{"from_seq", "to_seq"};
        BOOST_OUTCOME_CO_TRY(
            const json::object body, co_await read_object(*exchange, std::move(known))
        );
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        const json::value none;
        const json::value* from = body.if_contains("from_seq");
        const json::value* to = body.if_contains("to_seq");
        BOOST_OUTCOME_CO_TRY(
            const Seq first, integer_of(from != nullptr ? *from : none, 0, kSeqMax, "/from_seq")
        );
        BOOST_OUTCOME_CO_TRY(
            const Seq last, integer_of(to != nullptr ? *to : none, 0, kSeqMax, "/to_seq")
        );
        std::string id(exchange->request().param("id"));
        Actor actor = actor_of(exchange->principal());
        auto replay =
            co_await streams_.replay(std::move(project), std::move(id), first, last, actor);
        if (!replay) co_return replay.error();
        json::object answered;
        answered["replay_id"] = replay.value();
        answered["from_seq"] = first;
        answered["to_seq"] = last;
        const json::value value(std::move(answered));
        co_return co_await respond_json(*exchange, 202, value);
    }

    Task<Result<void>> dead_letters(std::shared_ptr<http::Exchange> exchange) {
        const http::Request& request = exchange->request();
        BOOST_OUTCOME_CO_TRY(
            const std::int64_t limit,
            query_integer(request, "limit", kLettersDefault, 1, kLettersMax)
        );
        BOOST_OUTCOME_CO_TRY(
            const std::int64_t after, query_integer(request, "cursor", kNoSeq, 0, kSeqMax)
        );
        BOOST_OUTCOME_CO_TRY(const AuditStream stream, co_await wanted(*exchange));
        BOOST_OUTCOME_CO_TRY(
            const auto letters,
            co_await streams_.dead_letters(
                stream.project, stream.id, after, static_cast<std::uint32_t>(limit + 1)
            )
        );
        json::array data;
        const bool more = letters.size() > static_cast<std::size_t>(limit);
        for (std::size_t i = 0; i < letters.size() - (more ? 1 : 0); ++i)
            data.push_back(to_json(letters[i]));
        json::object body;
        body["next_cursor"] = nullptr;
        if (more) body["next_cursor"] = std::to_string(letters[letters.size() - 2].seq);
        body["data"] = std::move(data);
        body["has_more"] = more;
        const json::value value(std::move(body));
        co_return co_await respond_json(*exchange, 200, value);
    }

    Task<Result<void>> redrive(std::shared_ptr<http::Exchange> exchange) {
        std::vector<std::string_view> known{"seqs"};
        BOOST_OUTCOME_CO_TRY(
            const json::object body, co_await read_object(*exchange, std::move(known))
        );
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        BOOST_OUTCOME_CO_TRY(std::vector<Seq> seqs, seqs_of(body));
        std::string id(exchange->request().param("id"));
        Actor actor = actor_of(exchange->principal());
        BOOST_OUTCOME_CO_TRY(
            const std::size_t count,
            co_await streams_.redrive(std::move(project), std::move(id), std::move(seqs), actor)
        );
        json::object answered;
        answered["redriving"] = count;
        const json::value value(std::move(answered));
        co_return co_await respond_json(*exchange, 202, value);
    }

private:
    using Steer = Task<Result<AuditStream>> (Streams::*)(std::string, std::string, Actor);

    Task<Result<void>> steer(std::shared_ptr<http::Exchange> exchange, Steer what) {
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        std::string id(exchange->request().param("id"));
        Actor actor = actor_of(exchange->principal());
        auto done = co_await (streams_.*what)(std::move(project), std::move(id), actor);
        if (!done) co_return done.error();
        co_return co_await answer(*exchange, 200, std::move(done.value()));
    }

    [[nodiscard]] Result<void> may_use(const http::Exchange& exchange, const std::string& name)
        const {
        const SinkOffer* destination = destinations_.find(name);
        if (destination == nullptr) {
            return wrong("unknown destination; there are: " + destinations_.list(), "/destination");
        }
        if (destination->scope.empty() || exchange.principal().may(destination->scope)) return ok();
        return Error{
            Errc::denied,
            "a stream to " + name + " needs the scope " + destination->scope +
                " besides streams:write"};
    }

    Task<Result<AuditStream>> wanted(const http::Exchange& exchange) {
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(exchange));
        std::string id(exchange.request().param("id"));
        co_return co_await streams_.get(std::move(project), std::move(id));
    }

    /// With where it stands, which the store knows on every node.
    Task<Result<json::object>> shown(AuditStream stream) {
        const SinkOffer* destination = destinations_.find(stream.destination);
        json::object object = to_json(
            stream,
            destination != nullptr ? Destinations::secret_keys(*destination)
                                   : std::vector<std::string>()
        );
        BOOST_OUTCOME_CO_TRY(
            const Seq cursor, co_await store_.cursor(stream.project, stream.subscription())
        );
        BOOST_OUTCOME_CO_TRY(const LogState log, co_await store_.log_state(stream.project));
        object["cursor_seq"] = cursor;
        const auto here = streams_.status(stream.project, stream.id);
        const Seq settled = std::max(cursor, here ? here->settled_seq : kNoSeq);
        object["lag_events"] = log.head_seq - std::max(settled, log.first_seq - 1);
        object["state"] = here ? here->state : "stopped";
        object["lag_seconds"] = here ? json::value(here->lag_seconds) : json::value(nullptr);
        const bool idle = stream.status != AuditStream::Status::active;
        object["last_error"] = text_or_null(
            idle   ? stream.reason
            : here ? here->last_error
                   : std::string()
        );
        co_return object;
    }

    Task<Result<void>> answer(http::Exchange& exchange, int status, AuditStream stream) {
        BOOST_OUTCOME_CO_TRY(json::object object, co_await shown(std::move(stream)));
        const json::value value(std::move(object));
        co_return co_await respond_json(exchange, status, value);
    }

    Streams& streams_;
    const Destinations& destinations_;
    EventStore& store_;
};

constexpr RouteEntry<StreamRoutes> kEntries[] = {
    {"POST", "/v1/audit/streams", "streams:write", &StreamRoutes::create},
    {"GET", "/v1/audit/streams", "streams:read", &StreamRoutes::list},
    {"GET", "/v1/audit/streams/{id}", "streams:read", &StreamRoutes::get},
    {"PATCH", "/v1/audit/streams/{id}", "streams:write", &StreamRoutes::patch},
    {"DELETE", "/v1/audit/streams/{id}", "streams:write", &StreamRoutes::revoke},
    {"POST", "/v1/audit/streams/{id}/pause", "streams:write", &StreamRoutes::pause},
    {"POST", "/v1/audit/streams/{id}/resume", "streams:write", &StreamRoutes::resume},
    {"POST", "/v1/audit/streams/{id}/probe", "streams:write", &StreamRoutes::probe},
    {"POST", "/v1/audit/streams/{id}/replay", "streams:write", &StreamRoutes::replay},
    {"GET", "/v1/audit/streams/{id}/dead-letters", "streams:read", &StreamRoutes::dead_letters},
    {"POST",
     "/v1/audit/streams/{id}/dead-letters/redrive",
     "streams:write",
     &StreamRoutes::redrive}};

}  // namespace

Result<void> add_stream_routes(
    http::Router& router, Streams& streams, const Destinations& destinations, EventStore& store
) {
    const auto routes = std::make_shared<StreamRoutes>(streams, destinations, store);
    return add_routes<StreamRoutes>(router, routes, kEntries, "streams");
}

}  // namespace annal::control
