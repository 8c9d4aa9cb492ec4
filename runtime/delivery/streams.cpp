#include "runtime/delivery/streams.h"

#include <algorithm>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/json.hpp>

#include "runtime/core/log.h"
#include "runtime/core/task_impl.h"
#include "runtime/delivery/batch_plan.h"
#include "runtime/delivery/change_events.h"
#include "runtime/delivery/followed_epoch.h"
#include "runtime/delivery/sink_calls.h"
#include "runtime/store/read_space.h"

namespace annal {
namespace asio = boost::asio;
namespace json = boost::json;
namespace {

using Status = AuditStream::Status;

constexpr std::uint32_t kRowsPerRead = 500;
constexpr std::size_t kReplaysMax = 8;  // of one stream at a time
// A sink that can't be made is tried again after so many looks; a change is seen at the next one.
constexpr int kLooksBeforeRetry = 300;
constexpr auto kLook = std::chrono::milliseconds(200);

ChangeEvents events_of(const Actor& actor, const std::string& stream) {
    return {actor, "audit_stream", stream};
}

json::object because(std::string reason) {
    json::object metadata;
    metadata["reason"] = std::move(reason);
    return metadata;
}

json::object about(const AuditStream& stream) {
    json::object metadata;
    metadata["destination"] = stream.destination;
    metadata["name"] = stream.name;
    return metadata;
}

Error unknown_stream(const std::string& id) {
    return {Errc::not_found, "there is no stream " + id};
}

/// Moves what the schema calls secret out of `whole` and seals it.
void keep_config(
    AuditStream& stream,
    const json::object& whole,
    const SinkOffer& destination,
    const SecretBox& box
) {
    const std::vector<std::string> keys = Destinations::secret_keys(destination);
    json::object secrets;
    stream.config = {};
    for (const auto& member : whole) {
        const bool secret = std::find(keys.begin(), keys.end(), member.key()) != keys.end();
        (secret ? secrets : stream.config)[member.key()] = member.value();
    }
    stream.sealed =
        secrets.empty() ? "" : box.seal(stream.project, stream.id, json::serialize(secrets));
}

bool keeps_position(const SinkOffer& destination) {
    const auto& table = *static_cast<const annal_sink_v1*>(destination.component->vtable);
    return ANNAL_HAS(&table, annal_sink_v1, position) ||
           ANNAL_HAS(&table, annal_sink_v1, find_position);
}

/// `unit`, and the row from what it was, empty where there was none, to what it is to be.
AppendUnit with_row(
    AppendUnit unit, const AuditStream& stream, const std::string& before, const std::string& row
) {
    const auto guard = before.empty() ? KvOp::Kind::require_absent : KvOp::Kind::require_equals;
    const char* space = AuditStream::kSpace;
    unit.kv.insert(unit.kv.begin(), {guard, space, stream.project, stream.id, before});
    unit.kv.push_back({KvOp::Kind::put, space, stream.project, stream.id, row});
    return unit;
}

/// Whether `now` is `was` with its secrets sealed anew; then `stream`, which was to replace it, has
/// them so, too, unless it has others.
bool take_resealed(AuditStream& stream, const KvRow& was, const std::string& now) {
    const auto old = AuditStream::from_row(was);
    auto found = AuditStream::from_row({was.project, was.key, now});
    if (!old || !found || found.value().sealed == old.value().sealed) return false;
    const std::string sealed = std::exchange(found.value().sealed, old.value().sealed);
    if (found.value().to_row() != old.value().to_row()) return false;
    if (stream.sealed == old.value().sealed) stream.sealed = sealed;
    return true;
}

}  // namespace

/// A stream that this node knows, and what it does about it.
struct Streams::Slot {
    AuditStream stream;
    std::string row;
    bool gone = false;  // the row is not there any more
    bool busy = false;  // keep_settled runs
    std::shared_ptr<Stream> running;
    std::int64_t running_start = -1;  // its stream's `starts`
    std::string trouble;              // why it does not run although it should
};

Streams::Streams(Environment environment) : environment_(environment) {}

Streams::~Streams() = default;

// --- rows

Task<Result<void>> Streams::load() {
    BOOST_OUTCOME_CO_TRY(
        const auto rows, co_await read_space(*environment_.host.store, AuditStream::kSpace)
    );
    for (const KvRow& row : rows) {
        BOOST_OUTCOME_CO_TRY(AuditStream stream, AuditStream::from_row(row));
        take_row(std::move(stream), row.value);
    }
    co_return ok();
}

Task<Result<void>> Streams::reload(std::string project) {
    for (;;) {
        std::uint64_t before = 0;
        {
            const std::lock_guard lock(mutex_);
            before = edits_;
        }
        std::map<std::string, Known> found;
        BOOST_OUTCOME_CO_TRY(
            const auto rows,
            co_await read_space(*environment_.host.store, AuditStream::kSpace, project)
        );
        for (const KvRow& row : rows) {
            BOOST_OUTCOME_CO_TRY(AuditStream stream, AuditStream::from_row(row));
            found[row.key] = Known{std::move(stream), row.value};
        }
        std::vector<std::shared_ptr<Slot>> here;
        std::vector<std::shared_ptr<Stream>> running;
        {
            const std::lock_guard lock(mutex_);
            if (edits_ != before) continue;  // what was read may be older than that
            for (auto& [id, known] : found) place(std::move(known.stream), std::move(known.row));
            for (const auto& [id, slot] : slots_) {
                if (id.first != project) continue;
                slot->gone = !found.contains(id.second);
                here.push_back(slot);
                if (slot->running) running.push_back(slot->running);
            }
        }
        // What was changed may have been its dead letters.
        for (const auto& stream : running) stream->redrive();
        for (const auto& slot : here) settle(slot);
        co_return ok();
    }
}

void Streams::take_row(AuditStream stream, std::string row) {
    const Id id{stream.project, stream.id};
    std::shared_ptr<Slot> slot;
    {
        const std::lock_guard lock(mutex_);
        slot = place(std::move(stream), std::move(row));
    }
    settle(slot);
    settle_replays(id);
}

/// With the mutex held.
std::shared_ptr<Streams::Slot> Streams::place(AuditStream stream, std::string row) {
    auto& slot = slots_[Id{stream.project, stream.id}];
    if (!slot) slot = std::make_shared<Slot>();
    slot->stream = std::move(stream);
    slot->row = std::move(row);
    slot->gone = false;
    // From this moment on nothing begins that the row does not want.
    const bool other = slot->running_start != slot->stream.starts;
    if (slot->running && (other || slot->stream.status != Status::active))
        slot->running->begin_stop();
    return slot;
}

// --- what runs

Result<void> Streams::add(const EventsTrigger& trigger, std::shared_ptr<Instance> sink) {
    StreamDefinition definition =
        StreamDefinition::of(sink->manifest().instance, sink->component().name, trigger);
    BOOST_OUTCOME_TRY(Outlet outlet, with_format(std::move(sink), trigger.format));
    declared_.push_back(std::make_unique<Stream>(
        std::move(definition), std::move(outlet), environment_.host, environment_.sink_pool
    ));
    return ok();
}

void Streams::start() {
    std::vector<std::shared_ptr<Slot>> all;
    {
        const std::lock_guard lock(mutex_);
        started_ = true;
        for (const auto& [id, slot] : slots_) all.push_back(slot);
    }
    for (const auto& stream : declared_) stream->start();
    for (const auto& slot : all) settle(slot);
}

Task<void> Streams::stop() {
    std::vector<std::shared_ptr<Slot>> all;
    bool started = false;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        started = started_;
        for (const auto& [id, slot] : slots_) {
            if (slot->running) slot->running->begin_stop();
            all.push_back(slot);
        }
    }
    if (!started) co_return;
    // All at once: each may have to wait for its sink and for the store.
    for (const auto& stream : declared_) stream->begin_stop();
    for (const auto& slot : all) settle(slot);
    for (const auto& stream : declared_) co_await stream->stop();
    asio::steady_timer timer(co_await asio::this_coro::executor);
    for (const auto& slot : all) {
        for (;;) {
            {
                const std::lock_guard lock(mutex_);
                if (!slot->busy && !slot->running) break;
            }
            timer.expires_after(std::chrono::milliseconds(5));
            co_await timer.async_wait(asio::use_awaitable);
        }
    }
}

void Streams::settle(const std::shared_ptr<Slot>& slot) {
    {
        const std::lock_guard lock(mutex_);
        if (!started_ || slot->busy) return;
        slot->busy = true;
    }
    asio::co_spawn(*environment_.host.executor, keep_settled(slot), asio::detached);
}

/// They run only while their stream does.
void Streams::settle_replays(const Id& parent) {
    std::vector<std::shared_ptr<Slot>> replays;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& [id, slot] : slots_)
            if (id.first == parent.first && slot->stream.parent == parent.second)
                replays.push_back(slot);
    }
    for (const auto& slot : replays) settle(slot);
}

/// With the mutex held.
bool Streams::is_wanted(const Slot& slot) const {
    if (stopping_ || slot.gone || slot.stream.status != Status::active) return false;
    if (!slot.stream.is_replay()) return true;
    const auto parent = slots_.find({slot.stream.project, slot.stream.parent});
    return parent != slots_.end() && parent->second->stream.status == Status::active;
}

/// Until what runs is what the row wants.
Task<void> Streams::keep_settled(std::shared_ptr<Slot> slot) {
    for (;;) {
        std::shared_ptr<Stream> to_end;
        std::optional<AuditStream> to_begin;
        {
            const std::lock_guard lock(mutex_);
            const bool wanted = is_wanted(*slot);
            const bool right = slot->running && slot->running_start == slot->stream.starts;
            if (slot->running && (!wanted || !right)) {
                to_end = slot->running;
            } else if (!slot->running && wanted) {
                to_begin = slot->stream;
            } else {
                slot->busy = false;
                if (slot->gone) slots_.erase({slot->stream.project, slot->stream.id});
                co_return;
            }
        }
        if (to_end) {
            co_await end_running(slot, std::move(to_end));
        } else {
            co_await begin_running(slot, std::move(*to_begin));
        }
    }
}

Task<void> Streams::end_running(std::shared_ptr<Slot> slot, std::shared_ptr<Stream> stream) {
    co_await stream->stop();
    const std::lock_guard lock(mutex_);
    slot->running.reset();
    slot->running_start = -1;
}

/// Makes the sink, where it may block, and sets the stream to work; or waits for a while, or for a
/// change, when there can be no sink.
Task<void> Streams::begin_running(std::shared_ptr<Slot> slot, AuditStream wanted) {
    const auto executor = *environment_.host.executor;
    co_await asio::post(
        asio::bind_executor(environment_.sink_pool.get_executor(), asio::use_awaitable)
    );
    auto outlet = make_outlet(wanted);
    co_await asio::post(asio::bind_executor(executor, asio::use_awaitable));
    if (outlet) {
        const std::lock_guard lock(mutex_);
        slot->trouble.clear();
        if (!is_wanted(*slot)) co_return;
        slot->running = std::make_shared<Stream>(
            wanted.definition(),
            std::move(outlet.value()),
            environment_.host,
            environment_.sink_pool,
            this
        );
        slot->running_start = wanted.starts;
        slot->running->start();
        co_return;
    }
    log::error("stream.no_sink", {{"stream", wanted.id}, {"error", outlet.error().detail}});
    {
        const std::lock_guard lock(mutex_);
        slot->trouble = outlet.error().detail;
    }
    asio::steady_timer timer(executor);
    for (int looks = 0; looks < kLooksBeforeRetry; ++looks) {
        {
            const std::lock_guard lock(mutex_);
            if (!is_wanted(*slot) || slot->stream.starts != wanted.starts) co_return;
        }
        timer.expires_after(kLook);
        co_await timer.async_wait(asio::use_awaitable);
    }
}

Result<Outlet> Streams::make_outlet(const AuditStream& stream) const {
    const SinkOffer* destination = environment_.destinations.find(stream.destination);
    if (destination == nullptr)
        return Error{
            Errc::unprocessable,
            "no manifest of this node offers the destination " + stream.destination +
                "; there are: " + environment_.destinations.list(),
            "/destination"};
    BOOST_OUTCOME_TRY(const json::object config, stream.whole_config(environment_.secrets));
    BOOST_OUTCOME_TRY(auto sink, environment_.destinations.create(*destination, stream.id, config));
    return with_format(std::move(sink), stream.format);
}

Result<Outlet> Streams::with_format(std::shared_ptr<Instance> sink, const std::string& format)
    const {
    Outlet outlet;
    outlet.sink = std::move(sink);
    if (format.empty()) return outlet;
    const annal_sink_v1& table = outlet.sink->table<annal_sink_v1>();
    const std::uint64_t flags = ANNAL_HAS(&table, annal_sink_v1, flags) ? table.flags : 0;
    if ((flags & ANNAL_SINK_TAKES_FORMATS) == 0)
        return Error{
            Errc::unprocessable,
            std::string("the destination ") + outlet.sink->component().name +
                " writes its events in a form of its own; leave the format out",
            "/format"};
    const auto found = environment_.formats.find(format);
    if (!found) return Error{Errc::unprocessable, found.error().detail, "/format"};
    outlet.format = found.value();
    return outlet;
}

/// Whether there can be such a sink, and, when asked for, whether its destination answers.
Task<Result<void>> Streams::check_sink(AuditStream stream, bool probe) {
    const auto executor = *environment_.host.executor;
    co_await asio::post(
        asio::bind_executor(environment_.sink_pool.get_executor(), asio::use_awaitable)
    );
    auto outlet = make_outlet(stream);
    co_await asio::post(asio::bind_executor(executor, asio::use_awaitable));
    if (!outlet) {
        Error error = outlet.error();
        // The component's own word on its configuration.
        if (error.code != Errc::unavailable) error.code = Errc::unprocessable;
        if (error.pointer.empty()) error.pointer = "/config";
        co_return error;
    }
    if (!probe) co_return ok();
    SinkCalls calls(outlet.value(), environment_.sink_pool, asio::make_strand(executor));
    const auto answer = co_await calls.probe(stream.project, *environment_.host.clock);
    if (answer || answer.error().code == Errc::unsupported) co_return ok();
    co_return Error{Errc::unprocessable, "the probe failed: " + answer.error().detail, "/config"};
}

// --- changes

/// Writes the row with what `unit` holds besides, if it is still as it was but for the key that its
/// secrets are sealed under.
Task<Result<AuditStream>> Streams::commit(AuditStream stream, std::string before, AppendUnit unit) {
    stream.updated_at = environment_.host.clock->wall_us();
    if (stream.created_at == kNoTime) stream.created_at = stream.updated_at;
    unit.project = stream.project;
    environment_.board.put_up(unit, stream.project);
    std::string row;
    for (;;) {
        row = stream.to_row();
        AppendUnit attempt = with_row(unit, stream, before, row);
        const auto done = co_await environment_.host.appender->append(std::move(attempt));
        if (done) break;
        if (done.error().code != Errc::conflict) co_return done.error();
        const KvRow was{stream.project, stream.id, before};
        BOOST_OUTCOME_CO_TRY(
            const auto now,
            co_await environment_.host.store->kv_get(AuditStream::kSpace, stream.project, stream.id)
        );
        if (!now || !take_resealed(stream, was, *now))
            co_return Error{
                Errc::conflict,
                "stream " + stream.id +
                    " was changed by somebody else at the same time; look at it "
                    "and try again"};
        before = *now;
    }
    std::shared_ptr<Slot> slot;
    {
        const std::lock_guard lock(mutex_);
        ++edits_;
        slot = place(stream, std::move(row));
    }
    settle(slot);
    settle_replays({stream.project, stream.id});
    co_return stream;
}

/// The seq behind which a new stream begins.
Task<Result<Seq>> Streams::cursor_before(std::string project, Request request) {
    EventStore& store = *environment_.host.store;
    BOOST_OUTCOME_CO_TRY(const LogState log, co_await store.log_state(project));
    switch (request.start) {
        case Start::latest:
            co_return log.head_seq;
        case Start::earliest:
            co_return log.first_seq - 1;
        case Start::at_seq:
            if (request.start_seq > log.head_seq + 1)
                co_return Error{
                    Errc::unprocessable,
                    "the log ends at seq " + std::to_string(log.head_seq),
                    "/start/seq"};
            co_return std::max(request.start_seq, log.first_seq) - 1;
        case Start::at_time:
            break;
    }
    ScanRequest scan;
    scan.project = project;
    scan.newest_first = false;
    scan.limit = 1;
    scan.tombstones = true;
    scan.filter.from = request.start_time;
    for (;;) {
        ScanRequest step = scan;
        BOOST_OUTCOME_CO_TRY(const ScanPage page, co_await store.scan(std::move(step)));
        if (!page.batch.events.empty()) co_return page.batch.events.front().seq - 1;
        if (page.exhausted) co_return log.head_seq;
        scan.after = page.scanned;
    }
}

Task<Result<AuditStream>> Streams::create(std::string project, Request request, Actor actor) {
    AuditStream stream;
    stream.id = random_token("aud_", 16);
    stream.project = project;
    stream.name = request.name;
    stream.destination = request.destination;
    stream.patterns = request.patterns;
    stream.batch_events_max = request.batch_events_max;
    stream.batch_bytes_max = request.batch_bytes_max;
    stream.format = request.format;
    stream.requests_per_second = request.requests_per_second;
    stream.on_poison = request.on_poison;
    const SinkOffer* destination = environment_.destinations.find(request.destination);
    if (destination != nullptr)
        keep_config(stream, request.config, *destination, environment_.secrets);
    BOOST_OUTCOME_CO_TRYV(co_await check_sink(stream, request.probe));
    {
        const std::lock_guard lock(mutex_);
        const auto revoked = std::count_if(slots_.begin(), slots_.end(), [](const auto& slot) {
            return slot.second->stream.status == Status::revoked;
        });
        if (slots_.size() - static_cast<std::size_t>(revoked) >= kStreamsMax)
            co_return Error{
                Errc::busy,
                "there are " + std::to_string(kStreamsMax) + " streams; revoke one first"};
    }
    BOOST_OUTCOME_CO_TRY(const Seq behind, co_await cursor_before(project, request));
    AppendUnit unit;
    unit.project = project;
    events_of(actor, stream.id).add("audit_stream.created", about(stream)).put_into(unit);
    if (behind != kNoSeq) unit.cursors.push_back({stream.subscription(), behind, 0});
    FollowedEpoch followed;
    BOOST_OUTCOME_CO_TRY(followed.epoch, co_await environment_.host.store->epoch());
    if (!followed.epoch.empty()) followed.put_into(unit, stream.subscription());
    co_return co_await commit(std::move(stream), {}, std::move(unit));
}

Task<Result<Streams::Known>> Streams::find(std::string project, std::string id) {
    BOOST_OUTCOME_CO_TRYV(co_await environment_.board.catch_up());
    const std::lock_guard lock(mutex_);
    const auto found = slots_.find({project, id});
    if (found == slots_.end() || found->second->gone || found->second->stream.is_replay())
        co_return unknown_stream(id);
    Known known{found->second->stream, found->second->row};
    co_return known;
}

Task<Result<AuditStream>> Streams::change(
    std::string project, std::string id, Change change, Actor actor
) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find(project, id));
    AuditStream stream = known.stream;
    if (stream.status == Status::revoked)
        co_return Error{Errc::conflict, "stream " + id + " is revoked"};
    json::array fields;
    if (change.name) stream.name = *change.name, fields.emplace_back("name");
    if (change.patterns) stream.patterns = *change.patterns, fields.emplace_back("events");
    if (change.on_poison) stream.on_poison = *change.on_poison, fields.emplace_back("on_poison");
    if (change.batch_events_max || change.batch_bytes_max) fields.emplace_back("batch");
    stream.batch_events_max = change.batch_events_max.value_or(stream.batch_events_max);
    stream.batch_bytes_max = change.batch_bytes_max.value_or(stream.batch_bytes_max);
    if (change.requests_per_second) {
        stream.requests_per_second = *change.requests_per_second;
        fields.emplace_back("rate_limit");
    }
    if (change.config) {
        const SinkOffer* destination = environment_.destinations.find(stream.destination);
        BOOST_OUTCOME_CO_TRY(json::object whole, stream.whole_config(environment_.secrets));
        for (const auto& member : *change.config) {
            if (member.value().is_null()) {
                whole.erase(member.key());
            } else {
                whole[member.key()] = member.value();
            }
        }
        if (destination != nullptr) keep_config(stream, whole, *destination, environment_.secrets);
        fields.emplace_back("config");
    }
    if (change.format) stream.format = *change.format, fields.emplace_back("format");
    if (change.format || change.config) {
        BOOST_OUTCOME_CO_TRYV(co_await check_sink(stream, false));
    }
    if (fields.empty()) co_return stream;
    ++stream.revision;
    ++stream.starts;
    json::object metadata = about(stream);
    metadata["fields"] = std::move(fields);
    ChangeEvents events = events_of(actor, id);
    events.add("audit_stream.updated", std::move(metadata));
    if (stream.status == Status::failed) {
        stream.status = Status::active;
        stream.reason.clear();
        events.add("audit_stream.resumed", because("updated"));
    }
    AppendUnit unit;
    events.put_into(unit);
    if (known.stream.status == Status::failed) {
        BOOST_OUTCOME_CO_TRYV(co_await accept_epoch(unit, stream));
    }
    co_return co_await commit(std::move(stream), std::move(known.row), std::move(unit));
}

Task<Result<AuditStream>> Streams::set_status(
    Known known, Status status, std::string reason, Actor actor
) {
    AuditStream stream = known.stream;
    if (stream.status == status) co_return stream;
    if (stream.status == Status::revoked)
        co_return Error{Errc::conflict, "stream " + stream.id + " is revoked"};
    ChangeEvents events = events_of(actor, stream.id);
    if (status == Status::active) {
        events.add("audit_stream.resumed", because(reason));
        ++stream.starts;
        reason.clear();
    } else {
        events.add("audit_stream.revoked", because(reason));
        if (status == Status::paused) events.add("audit_stream.paused", about(stream));
    }
    stream.status = status;
    stream.reason = std::move(reason);
    AppendUnit unit;
    events.put_into(unit);
    if (status == Status::active && known.stream.status == Status::failed) {
        BOOST_OUTCOME_CO_TRYV(co_await accept_epoch(unit, stream));
    }
    if (status == Status::revoked) {
        stream.sealed.clear();
        unit.kv.push_back(
            {KvOp::Kind::erase, FollowedEpoch::kSpace, stream.project, stream.subscription(), {}}
        );
        unit.kv.push_back(
            {KvOp::Kind::erase, BatchPlan::kSpace, stream.project, stream.subscription(), {}}
        );
    }
    co_return co_await commit(std::move(stream), std::move(known.row), std::move(unit));
}

/// Who lets a failed stream go on lets it go on with the log as it is now.
Task<Result<void>> Streams::accept_epoch(AppendUnit& unit, const AuditStream& stream) {
    EventStore& store = *environment_.host.store;
    BOOST_OUTCOME_CO_TRY(const std::string epoch, co_await store.epoch());
    BOOST_OUTCOME_CO_TRY(
        const auto row,
        co_await store.kv_get(FollowedEpoch::kSpace, stream.project, stream.subscription())
    );
    auto followed = row ? FollowedEpoch::from_text(*row) : std::nullopt;
    if (!followed || followed->epoch == epoch) co_return ok();
    followed->accepted = true;
    unit.project = stream.project;
    followed->put_into(unit, stream.subscription());
    co_return ok();
}

Task<Result<AuditStream>> Streams::pause(std::string project, std::string id, Actor actor) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find(project, id));
    auto paused = co_await set_status(std::move(known), Status::paused, "paused", actor);
    co_await environment_.board.wait_for_others();
    co_return paused;
}

Task<Result<AuditStream>> Streams::resume(std::string project, std::string id, Actor actor) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find(project, id));
    co_return co_await set_status(std::move(known), Status::active, "resumed", actor);
}

Task<Result<void>> Streams::revoke(std::string project, std::string id, Actor actor) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find(project, id));
    const auto revoked = co_await set_status(std::move(known), Status::revoked, "removed", actor);
    if (!revoked) co_return revoked.error();
    co_await environment_.board.wait_for_others();
    co_return co_await drop_dead_letters(std::move(project), std::move(id));
}

Task<Result<void>> Streams::drop_dead_letters(std::string project, std::string id) {
    for (;;) {
        BOOST_OUTCOME_CO_TRY(
            const auto rows,
            co_await environment_.host.store->kv_scan(
                DeadLetter::kSpace, project, DeadLetter::prefix(id), "", kRowsPerRead
            )
        );
        if (rows.empty()) co_return ok();
        AppendUnit unit;
        unit.project = project;
        for (const KvRow& row : rows)
            unit.kv.push_back({KvOp::Kind::erase, DeadLetter::kSpace, project, row.key, {}});
        auto done = co_await environment_.host.appender->append(std::move(unit));
        if (!done) co_return done.error();
    }
}

Task<Result<AuditStream>> Streams::probe(std::string project, std::string id, Actor actor) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find(project, id));
    if (known.stream.status == Status::revoked)
        co_return Error{Errc::conflict, "stream " + id + " is revoked"};
    BOOST_OUTCOME_CO_TRYV(co_await check_sink(known.stream, true));
    if (known.stream.status != Status::failed) co_return known.stream;
    co_return co_await set_status(std::move(known), Status::active, "probed", actor);
}

Task<Result<std::string>> Streams::replay(
    std::string project, std::string id, Seq from, Seq to, Actor actor
) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find(project, id));
    if (known.stream.status == Status::revoked)
        co_return Error{Errc::conflict, "stream " + id + " is revoked"};
    const SinkOffer* destination = environment_.destinations.find(known.stream.destination);
    if (destination != nullptr && keeps_position(*destination))
        co_return Error{
            Errc::conflict,
            "this destination keeps its own position and takes no event twice; make a stream to "
            "another place that starts at seq " +
                std::to_string(from)};
    BOOST_OUTCOME_CO_TRY(const LogState log, co_await environment_.host.store->log_state(project));
    if (from > to || from < log.first_seq || to > log.head_seq)
        co_return Error{
            Errc::unprocessable,
            "from_seq and to_seq must lie in [" + std::to_string(log.first_seq) + ", " +
                std::to_string(log.head_seq) + "], the first not behind the second",
            "/from_seq"};
    AuditStream replay = known.stream;
    replay.id = random_token("rpl_", 16);
    replay.parent = id;
    replay.until = to;
    replay.status = Status::active;
    replay.reason.clear();
    replay.created_at = kNoTime;
    {
        const std::lock_guard lock(mutex_);
        const auto running = std::count_if(slots_.begin(), slots_.end(), [&](const auto& slot) {
            return slot.first.first == project && slot.second->stream.parent == id;
        });
        if (static_cast<std::size_t>(running) >= kReplaysMax)
            co_return Error{
                Errc::busy,
                std::to_string(kReplaysMax) +
                    " replays of this stream are under way; wait for one"};
    }
    json::object metadata = about(known.stream);
    metadata["from_seq"] = from;
    metadata["to_seq"] = to;
    metadata["replay_id"] = replay.id;
    AppendUnit unit;
    events_of(actor, id).add("audit_stream.replayed", std::move(metadata)).put_into(unit);
    if (from > 0) unit.cursors.push_back({replay.subscription(), from - 1, 0});
    std::string replay_id = replay.id;
    auto made = co_await commit(std::move(replay), {}, std::move(unit));
    if (!made) co_return made.error();
    co_return replay_id;
}

// --- dead letters

Task<Result<std::vector<DeadLetter>>> Streams::dead_letters(
    std::string project, std::string id, Seq after, std::uint32_t limit
) {
    DeadLetter last;
    last.stream = id;
    last.seq = after;
    const std::string behind = after == kNoSeq ? "" : last.key();
    BOOST_OUTCOME_CO_TRY(
        const auto rows,
        co_await environment_.host.store->kv_scan(
            DeadLetter::kSpace, project, DeadLetter::prefix(id), behind, limit
        )
    );
    std::vector<DeadLetter> letters;
    for (const KvRow& row : rows)
        if (auto letter = DeadLetter::from_row(row)) letters.push_back(std::move(*letter));
    co_return letters;
}

Task<Result<std::size_t>> Streams::redrive(
    std::string project, std::string id, std::vector<Seq> seqs, Actor actor
) {
    BOOST_OUTCOME_CO_TRY(const Known known, co_await find(project, id));
    std::size_t asked = 0;
    for (std::string after;;) {
        BOOST_OUTCOME_CO_TRY(
            const auto rows,
            co_await environment_.host.store->kv_scan(
                DeadLetter::kSpace, project, DeadLetter::prefix(id), after, kRowsPerRead
            )
        );
        if (rows.empty()) break;
        after = rows.back().key;
        AppendUnit unit;
        unit.project = project;
        std::int64_t count = 0;
        for (const KvRow& row : rows) {
            auto letter = DeadLetter::from_row(row);
            const bool chosen =
                letter && !letter->redriving &&
                (seqs.empty() || std::find(seqs.begin(), seqs.end(), letter->seq) != seqs.end());
            if (!chosen) continue;
            letter->redriving = true;
            unit.kv.insert(
                unit.kv.begin(),
                {KvOp::Kind::require_equals, DeadLetter::kSpace, project, row.key, row.value}
            );
            unit.kv.push_back(
                {KvOp::Kind::put, DeadLetter::kSpace, project, row.key, letter->to_text()}
            );
            ++count;
        }
        if (count == 0) continue;
        json::object metadata = about(known.stream);
        metadata["events"] = count;
        events_of(actor, id).add("audit_stream.redriven", std::move(metadata)).put_into(unit);
        environment_.board.put_up(unit, project);
        auto done = co_await environment_.host.appender->append(std::move(unit));
        if (!done) co_return done.error();
        asked += static_cast<std::size_t>(count);
    }
    const std::lock_guard lock(mutex_);
    const auto slot = slots_.find({project, id});
    if (slot != slots_.end() && slot->second->running) slot->second->running->redrive();
    co_return asked;
}

// --- what the engine says

Task<Result<void>> Streams::stream_failed(
    StreamDefinition stream, std::int64_t fence, std::string why
) {
    Known known;
    {
        const std::lock_guard lock(mutex_);
        const auto found = slots_.find({stream.project, stream.id});
        const bool same = found != slots_.end() && !found->second->gone &&
                          found->second->stream.revision == stream.revision &&
                          found->second->stream.status == Status::active;
        if (!same) co_return Error{Errc::conflict, "the stream has been changed meanwhile"};
        known = Known{found->second->stream, found->second->row};
    }
    BOOST_OUTCOME_CO_TRY(
        const Seq cursor,
        co_await environment_.host.store->cursor(stream.project, stream.subscription)
    );
    AuditStream failed = known.stream;
    failed.status = Status::failed;
    failed.reason = why;
    const Actor engine{"system", ""};
    json::object metadata = about(failed);
    metadata["error"] = why;
    metadata["cursor_seq"] = cursor;
    AppendUnit unit;
    events_of(engine, stream.id)
        .add("audit_stream.revoked", because("failed: " + why))
        .add("audit_stream.failed", std::move(metadata))
        .put_into(unit);
    unit.cursors.push_back({stream.subscription, cursor, fence});
    log::error(
        "stream.failed", {{"stream", stream.id}, {"project", stream.project}, {"error", why}}
    );
    const auto done = co_await commit(std::move(failed), std::move(known.row), std::move(unit));
    if (!done) co_return done.error();
    co_return ok();
}

Task<Result<void>> Streams::replay_done(StreamDefinition stream, std::int64_t fence) {
    BOOST_OUTCOME_CO_TRY(
        const Seq cursor,
        co_await environment_.host.store->cursor(stream.project, stream.subscription)
    );
    const Actor engine{"system", ""};
    json::object metadata;
    metadata["replay_id"] = stream.id;
    metadata["to_seq"] = *stream.until;
    AppendUnit unit;
    unit.project = stream.project;
    events_of(engine, stream.known_as)
        .add("audit_stream.replay_completed", std::move(metadata))
        .put_into(unit);
    unit.cursors.push_back({stream.subscription, cursor, fence});
    for (const char* space : {AuditStream::kSpace, BatchPlan::kSpace}) {
        const std::string key = space == AuditStream::kSpace ? stream.id : stream.subscription;
        unit.kv.push_back({KvOp::Kind::erase, space, stream.project, key, {}});
    }
    environment_.board.put_up(unit, stream.project);
    const auto done = co_await environment_.host.appender->append(std::move(unit));
    if (!done) co_return done.error();
    std::shared_ptr<Slot> slot;
    {
        const std::lock_guard lock(mutex_);
        ++edits_;
        const auto found = slots_.find({stream.project, stream.id});
        if (found != slots_.end()) slot = found->second;
        if (slot) slot->gone = true;
    }
    if (slot) settle(slot);
    co_return ok();
}

// --- reading

Task<Result<std::vector<AuditStream>>> Streams::list(std::string project) {
    BOOST_OUTCOME_CO_TRYV(co_await environment_.board.catch_up());
    std::vector<AuditStream> streams;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& [id, slot] : slots_)
            if (id.first == project && !slot->gone && slot->stream.status != Status::revoked)
                streams.push_back(slot->stream);
    }
    std::stable_sort(streams.begin(), streams.end(), [](const auto& a, const auto& b) {
        return a.created_at < b.created_at;
    });
    co_return streams;
}

Task<Result<std::map<std::string, Seq>>> Streams::positions(std::string project) {
    BOOST_OUTCOME_CO_TRY(const auto made, co_await list(project));
    std::vector<StreamDefinition> definitions;
    for (const AuditStream& stream : made) definitions.push_back(stream.definition());
    {
        const std::lock_guard lock(mutex_);
        for (const auto& stream : declared_) {
            if (stream->definition().project == project)
                definitions.push_back(stream->definition());
        }
    }
    std::map<std::string, Seq> positions;
    for (const StreamDefinition& definition : definitions) {
        BOOST_OUTCOME_CO_TRY(
            const Seq cursor,
            co_await environment_.host.store->cursor(definition.project, definition.subscription)
        );
        // One that has just been made with the newest event has no cursor yet, and wants nothing
        // old.
        if (cursor == kNoSeq && definition.from == StreamDefinition::From::latest) continue;
        positions[definition.id] = cursor + 1;
    }
    co_return positions;
}

std::chrono::milliseconds Streams::longest_attempt(const std::string& project) const {
    std::chrono::microseconds longest{0};
    const std::lock_guard lock(mutex_);
    for (const auto& stream : declared_)
        if (stream->definition().project == project) longest = std::max(longest, stream->timeout());
    for (const auto& [id, slot] : slots_) {
        const SinkOffer* offer = environment_.destinations.find(slot->stream.destination);
        if (id.first != project || offer == nullptr) continue;
        longest = std::max(longest, std::chrono::microseconds(offer->manifest.timeout_us));
    }
    return std::chrono::ceil<std::chrono::milliseconds>(longest);
}

Task<Result<AuditStream>> Streams::get(std::string project, std::string id) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find(std::move(project), std::move(id)));
    co_return std::move(known.stream);
}

std::optional<StreamStatus> Streams::status(const std::string& project, const std::string& id)
    const {
    const std::lock_guard lock(mutex_);
    const auto found = slots_.find({project, id});
    if (found == slots_.end()) return std::nullopt;
    const Slot& slot = *found->second;
    if (slot.running) return slot.running->status();
    if (slot.trouble.empty()) return std::nullopt;
    StreamStatus status;
    status.id = id;
    status.name = slot.stream.name;
    status.project = project;
    status.state = "blocked";
    status.last_error = slot.trouble;
    return status;
}

std::vector<StreamStatus> Streams::statuses() const {
    std::vector<StreamStatus> all;
    for (const auto& stream : declared_) all.push_back(stream->status());
    const std::lock_guard lock(mutex_);
    for (const auto& [id, slot] : slots_)
        if (slot->running) all.push_back(slot->running->status());
    return all;
}

}  // namespace annal
