#include "runtime/delivery/stream.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/json.hpp>
#include <mutex>

#include "runtime/core/log.h"
#include "runtime/core/log_repeats.h"
#include "runtime/core/task_impl.h"
#include "runtime/delivery/backoff.h"
#include "runtime/delivery/change_events.h"
#include "runtime/delivery/dead_letter.h"
#include "runtime/delivery/followed_epoch.h"
#include "runtime/delivery/lease_holder_impl.h"
#include "runtime/delivery/sink_calls.h"
#include "runtime/delivery/stream_metrics.h"
#include "runtime/event/host_event.h"

namespace annal {
namespace asio = boost::asio;
namespace {

// A wake-up may be lost only by a defect; the poll behind it bounds the damage.
constexpr auto kPollInterval = std::chrono::seconds(5);
// A filter that matches little still moves the cursor, so that a restart does not scan it all
// again.
constexpr Seq kIdleMoveSeqs = 10'000;
// So many refusals without one delivery between them: it is not the events that are wrong.
constexpr std::uint32_t kRefusalsInARowMax = 50;
constexpr std::uint32_t kSlowAttempt = 20;  // for `backoff`: once a minute
constexpr std::int64_t kRetryAfterMsMax = 24LL * 60 * 60 * 1'000;
// A batch that waited for its turn longer than this is read again: something may be erased by now.
constexpr std::int64_t kMadeForUs = 2 * kSecondUs;
constexpr std::int64_t kLongAgo = INT64_MIN / 2;
constexpr std::uint32_t kRedrivesPerLook = 100;

using Shipped = std::shared_ptr<Shipment>;

constexpr const char* kGapAction = "audit_stream.gap";

std::string range_text(const BatchPlan& plan) {
    return std::to_string(plan.first) + "-" + std::to_string(plan.last);
}

Error refusal(Seq seq, const std::string& why) {
    return Error{Errc::unprocessable, "event " + std::to_string(seq) + " is refused: " + why};
}

/// What a destination says of its configuration when it is asked for its position.
bool is_for_people(Errc code) {
    return code == Errc::denied || code == Errc::unauthenticated || code == Errc::not_found ||
           code == Errc::invalid || code == Errc::unprocessable;
}

/// An attempt as its metric counts it.
Verdict outcome_of(const Settlement& settlement) {
    switch (settlement.next) {
        case Settlement::Next::retry:
            return Verdict::retry;
        case Settlement::Next::bisect:
            return Verdict::reject;
        case Settlement::Next::fail:
            return Verdict::pause;
        case Settlement::Next::go_on:
            break;
    }
    return settlement.rejected.empty() ? Verdict::delivered : Verdict::reject;
}

}  // namespace

struct Stream::State : std::enable_shared_from_this<Stream::State> {
    State(
        StreamDefinition d, Outlet o, HostEnvironment& e, asio::thread_pool& pool, StreamKeeper* k
    )
        : definition(std::move(d)),
          sending(definition),
          environment(e),
          keeper(k),
          strand(asio::make_strand(*e.executor)),
          calls(std::move(o), pool, strand),
          signal(strand),
          metrics(*e.metrics, definition.id, definition.project),
          lease(
              *e.store,
              *e.clock,
              strand,
              {definition.project,
               definition.subscription,
               e.node,
               std::chrono::milliseconds(e.limits->lease_ms)},
              [this] {
                  woken = true;
                  signal.cancel();
              }
          ),
          batch_limit(std::min(definition.batch_events_max, kPageMax)) {
        status.id = definition.id;
        status.name = definition.name;
        status.project = definition.project;
        status.state = "starting";
        if (definition.takes_everything()) return;
        filter.actions = definition.patterns;
        filter.actions.push_back({ActionPattern::Kind::exact, kGapAction});
    }

    const StreamDefinition definition;
    StreamDefinition sending;  // the same, by the name that the destination knows
    HostEnvironment& environment;
    StreamKeeper* const keeper;
    SinkCalls::Strand strand;
    SinkCalls calls;
    asio::steady_timer signal;  // cancelled to wake the loop; on the strand
    bool woken = false;         // on the strand
    std::atomic<bool> stopping{false};
    std::atomic<bool> running{false};
    std::atomic<bool> leasing{false};
    StreamMetrics metrics;
    LeaseHolder lease;
    Filter filter;
    std::shared_ptr<void> wakes;

    // Of the tenure, on the strand.
    Seq cursor = kNoSeq;   // committed
    Seq settled = kNoSeq;  // nothing up to here is to be sent; never behind the cursor
    bool unsaved = false;  // a delivery up to `settled` is not committed yet
    std::vector<DeadLetter> unsaved_letters;
    std::optional<BatchPlan> stored_plan;
    std::uint32_t batch_limit;                  // lower while a refused event is looked for
    Seq suspect_until = kNoSeq;                 // it lies no further than this
    std::map<Seq, Report::Exception> foretold;  // what the destination said of events ahead
    std::uint32_t refusals_in_a_row = 0;
    std::int64_t send_not_before_us = 0;
    TimeUs lacking_since = kNoTime;  // no event that the destination lacks is older
    bool halted = false;             // the keeper knows; nothing is sent any more
    bool scan_failing = false;
    bool redrive_asked = true;
    log::Repeats scan_errors;

    mutable std::mutex mutex;  // guards status
    StreamStatus status;

    void wake() {
        asio::post(strand, [self = shared_from_this()] {
            self->woken = true;
            self->signal.cancel();
        });
    }
    /// No delivery may begin any more in this tenure.
    [[nodiscard]] bool over() const { return stopping || halted || lease.is_lost(); }

    Task<void> sleep_until(std::chrono::steady_clock::time_point until);
    Task<void> pause(std::chrono::milliseconds delay);
    Task<void> back_off(std::chrono::milliseconds delay);
    void set_state(std::string state, std::string error = {});

    Task<void> run();
    Task<void> keep_lease();
    Task<bool> take_lease();
    Task<bool> hold_lease();
    Task<bool> hold_permission();
    void stand_by();
    void forget();

    Task<void> deliver();
    Task<void> begin_tenure();
    Task<Result<void>> follow_epoch();
    Result<void> may_follow(const FollowedEpoch& followed) const;
    Task<Result<void>> find_start();
    [[nodiscard]] bool has_open_plan() const { return stored_plan && stored_plan->first > settled; }
    Task<Result<Shipped>> as_planned();
    Task<Result<Shipped>> rebuild(const BatchPlan& plan);
    Task<Result<EventBatch>> events_of(const BatchPlan& plan);
    Task<bool> step();
    Task<void> wait_out(Error error);
    void note_lag(const LogState& log);
    Task<Result<Shipped>> next_shipment(bool& more);
    Task<Result<ScanPage>> scan(Seq after, std::uint32_t limit);
    bool resolve_foretold(EventBatch& batch);
    bool find_hole(const EventBatch& batch);
    void refuse(const Event& event, std::string why);
    Task<void> ship(Shipped shipment);
    Task<Result<void>> pass_gap(Seq first_seq);
    void select(EventBatch& batch) const;
    [[nodiscard]] bool is_fresh(std::int64_t made_us) const {
        return environment.clock->monotonic_us() - made_us < kMadeForUs;
    }
    Task<void> await_turn();
    Task<Report> attempt(Shipped shipment, std::uint32_t number);
    bool apply(const Settlement& settlement, const Shipment& shipment, std::string& blocked_by);
    Task<void> fail(std::string why);
    AppendUnit commit_unit(const BatchPlan* next) const;
    Task<bool> commit(Shipped next, std::shared_ptr<HostEvent> event = {});
    std::shared_ptr<HostEvent> replanned(const BatchPlan& from, const BatchPlan& to) const;
    Task<void> redrive();
    Task<void> redrive(DeadLetter letter, std::string row);
    Task<void> measure();
    void tell_of_scan(const std::string& error);
};

// --- waiting

Task<void> Stream::State::sleep_until(std::chrono::steady_clock::time_point until) {
    signal.expires_at(until);
    boost::system::error_code ignored;
    co_await signal.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

/// Until a wake-up or `delay`; at once when one came since the last pause.
Task<void> Stream::State::pause(std::chrono::milliseconds delay) {
    if (!woken && !stopping) co_await sleep_until(std::chrono::steady_clock::now() + delay);
    woken = false;
}

/// A failure's delay: wake-ups by appends do not shorten it, stopping and losing the lease do.
Task<void> Stream::State::back_off(std::chrono::milliseconds delay) {
    const auto until = std::chrono::steady_clock::now() + delay;
    while (!over() && std::chrono::steady_clock::now() < until) co_await sleep_until(until);
}

void Stream::State::set_state(std::string state, std::string error) {
    metrics.show(state);
    const std::lock_guard lock(mutex);
    status.state = std::move(state);
    status.last_error = std::move(error);
}

// --- the lease

Task<void> Stream::State::keep_lease() {
    auto self = shared_from_this();
    co_await lease.keep();
    leasing = false;
}

/// Begins a tenure as soon as the lease can be had. False when stopping.
Task<bool> Stream::State::take_lease() {
    while (!stopping && !lease.begin()) {
        if (!lease.trouble().empty()) {
            set_state("retrying", "no lease: " + lease.trouble());
        } else if (lease.is_elsewhere()) {
            stand_by();
        }
        co_await sleep_until(std::chrono::steady_clock::now() + kPollInterval);
    }
    co_return !stopping;
}

/// Before each send and commit: waits while the lease has run out and may still be renewed. False:
/// the tenure is over, or the stream is stopping and the store does not answer.
Task<bool> Stream::State::hold_lease() {
    if (lease.is_valid()) co_return true;
    const StreamStatus before = status;  // written on the strand only
    while (!lease.is_lost() && !lease.is_valid() && !(stopping && !lease.trouble().empty())) {
        set_state("retrying", "the lease ran out and is not renewed yet: " + lease.trouble());
        co_await sleep_until(std::chrono::steady_clock::now() + std::chrono::milliseconds(100));
    }
    if (lease.is_valid()) set_state(before.state, before.last_error);
    co_return lease.is_valid();
}

/// Before each attempt: that the lease holds, and that nobody has told the stream to stop. False:
/// no attempt may begin in this tenure.
Task<bool> Stream::State::hold_permission() {
    while (!over() && keeper != nullptr && keeper->is_out_of_date()) {
        set_state("retrying", "this node does not hear what others change");
        co_await sleep_until(std::chrono::steady_clock::now() + std::chrono::milliseconds(100));
    }
    const bool held = co_await hold_lease();
    co_return held && !over();
}

/// What this node knew of the log and the destination is the other node's to say now.
void Stream::State::stand_by() {
    if (status.state == "standby") return;
    log::info("stream.standby", {{"stream", definition.id}, {"project", definition.project}});
    set_state("standby");
    metrics.lags(0, 0);
    const std::lock_guard lock(mutex);
    status.settled_seq = kNoSeq;
    status.lag_events = 0;
    status.lag_seconds = 0;
}

/// Nothing of an earlier tenure counts in the next.
void Stream::State::forget() {
    unsaved = false;
    unsaved_letters.clear();
    stored_plan.reset();
    batch_limit = std::min(definition.batch_events_max, kPageMax);
    suspect_until = kNoSeq;
    foretold.clear();
    refusals_in_a_row = 0;
    lacking_since = kNoTime;
    redrive_asked = true;
}

// --- where to go on

/// That the log is still the one that was delivered; or that somebody has decided to go on with
/// another.
Task<Result<void>> Stream::State::follow_epoch() {
    EventStore& store = *environment.store;
    BOOST_OUTCOME_CO_TRY(const std::string epoch, co_await store.epoch());
    sending = definition;
    if (epoch.empty()) co_return ok();
    BOOST_OUTCOME_CO_TRY(
        const auto row,
        co_await store.kv_get(FollowedEpoch::kSpace, definition.project, definition.subscription)
    );
    FollowedEpoch followed;
    followed.epoch = epoch;
    if (row) followed = FollowedEpoch::from_text(*row).value_or(followed);
    AppendUnit unit;
    unit.project = definition.project;
    if (followed.epoch != epoch) {
        BOOST_OUTCOME_CO_TRYV(may_follow(followed));
        ++followed.restarts;
        boost::json::object metadata;
        metadata["epoch_before"] = followed.epoch;
        metadata["epoch"] = epoch;
        metadata["known_as"] = followed.name_of(definition.known_as);
        followed.epoch = epoch;
        followed.accepted = false;
        const Actor engine{"system", ""};
        ChangeEvents(engine, "audit_stream", definition.id)
            .add("audit_stream.restarted", metadata)
            .put_into(unit);
        log::warn("stream.restarted", {{"stream", definition.id}, {"epoch", epoch}});
    } else if (row) {
        sending.known_as = followed.name_of(definition.known_as);
        co_return ok();
    }
    unit.kv.push_back(
        {row ? KvOp::Kind::require_equals : KvOp::Kind::require_absent,
         FollowedEpoch::kSpace,
         definition.project,
         definition.subscription,
         row.value_or("")}
    );
    followed.put_into(unit, definition.subscription);
    auto saved = co_await environment.appender->append(std::move(unit));
    if (!saved) {
        Error error = saved.error();
        if (error.code == Errc::conflict) error.code = Errc::unavailable;  // look again
        co_return error;
    }
    sending.known_as = followed.name_of(definition.known_as);
    co_return ok();
}

Result<void> Stream::State::may_follow(const FollowedEpoch& followed) const {
    const std::string what =
        "the store has gone back in time (a standby was promoted, or a copy restored), so that "
        "seqs may be given anew of which the destination holds other events: ";
    if (calls.knows_projects_only())
        return Error{
            Errc::unprocessable,
            what + "it keeps its own position by them; make a new stream to another place"};
    if (followed.accepted || environment.go_on_after_failover) return ok();
    return Error{
        Errc::unprocessable,
        what + "look at what it holds, then resume the stream; it goes on under another name"};
}

/// The stored cursor, or where the definition says to begin, or what the destination holds already:
/// whichever is furthest.
Task<Result<void>> Stream::State::find_start() {
    EventStore& store = *environment.store;
    BOOST_OUTCOME_CO_TRY(
        const Seq stored, co_await store.cursor(definition.project, definition.subscription)
    );
    settled = stored;  // for the lag of one that can't begin
    BOOST_OUTCOME_CO_TRYV(co_await follow_epoch());
    BOOST_OUTCOME_CO_TRY(const LogState log, co_await store.log_state(definition.project));
    if (stored > log.head_seq)
        co_return Error{
            Errc::conflict,
            "the stream has delivered up to seq " + std::to_string(stored) +
                " but the log ends at " + std::to_string(log.head_seq) +
                ": the store was restored from an older copy, and seqs would be given anew; make a "
                "new stream"};
    BOOST_OUTCOME_CO_TRY(
        const auto plan,
        co_await store.kv_get(BatchPlan::kSpace, definition.project, definition.subscription)
    );
    BOOST_OUTCOME_CO_TRY(const Seq held, co_await calls.position(sending, *environment.clock));
    if (held > log.head_seq) {
        co_return Error{
            Errc::conflict,
            "the destination holds seq " + std::to_string(held) + " but the log ends at " +
                std::to_string(log.head_seq) +
                ": it belongs to another log, or the log was restored from an older copy; give the "
                "sink a new destination"};
    }
    Seq start = stored;
    if (start == kNoSeq)
        start =
            definition.from == StreamDefinition::From::latest ? log.head_seq : log.first_seq - 1;
    forget();
    if (plan) stored_plan = BatchPlan::from_text(*plan);
    cursor = stored;
    settled = std::max(start, held);
    if (settled > cursor) {
        unsaved = true;
        // Also if not, what is held is not sent.
        if (!stored_plan || stored_plan->first <= settled) (void)co_await commit(nullptr);
    }
    note_lag(log);
    co_return ok();
}

/// The batch of the stored plan, as it comes out now. Where that differs from what was planned, it
/// is planned anew first, and that is recorded. Null: there is no plan, its first events can't be
/// read any more, or the tenure is over.
Task<Result<Shipped>> Stream::State::as_planned() {
    if (!has_open_plan()) co_return Shipped();
    const BatchPlan plan = *stored_plan;
    BOOST_OUTCOME_CO_TRY(Shipped shipment, co_await rebuild(plan));
    if (shipment != nullptr && shipment->plan().digest == plan.digest) co_return shipment;
    // Of a batch whose first events retention has dropped nothing goes out before the gap is told.
    BOOST_OUTCOME_CO_TRY(
        const LogState log, co_await environment.store->log_state(definition.project)
    );
    if (log.first_seq > plan.first) shipment.reset();
    const BatchPlan none;
    auto event = replanned(plan, shipment != nullptr ? shipment->plan() : none);
    const bool saved = co_await commit(shipment, std::move(event));
    co_return saved ? shipment : Shipped();
}

Task<Result<EventBatch>> Stream::State::events_of(const BatchPlan& plan) {
    EventBatch all;
    Seq after = plan.first - 1;
    while (after < plan.last) {
        BOOST_OUTCOME_CO_TRY(ScanPage page, co_await scan(after, plan.events));
        auto& events = page.batch.events;
        while (!events.empty() && events.back().seq > plan.last) events.pop_back();
        after = page.scanned;
        if (all.events.empty()) {
            all = std::move(page.batch);
        } else if (!events.empty()) {
            // A page that the time budget cut: the rest is copied behind it.
            for (Event event : events) {
                event.project_id = all.arena.copy(event.project_id);
                for (Text& text : event.columns) text = all.arena.copy(text);
                all.events.push_back(event);
            }
        }
        if (page.exhausted || all.events.size() >= plan.events) break;
    }
    co_return all;
}

/// The batch of a plan, as it comes out now. Null: none of its events can be read any more, or they
/// do not fit into one delivery any more.
Task<Result<Shipped>> Stream::State::rebuild(const BatchPlan& plan) {
    BOOST_OUTCOME_CO_TRY(EventBatch events, co_await events_of(plan));
    if (events.events.empty()) co_return Shipped();
    auto packed = co_await calls.pack(sending, std::move(events), true);
    if (!packed && packed.error().code == Errc::too_large) co_return Shipped();
    co_return packed;
}

std::shared_ptr<HostEvent> Stream::State::replanned(const BatchPlan& from, const BatchPlan& to)
    const {
    const bool encoder = !to.encoder.empty() && to.encoder != from.encoder;
    boost::json::object metadata;
    metadata["planned"] = range_text(from);
    metadata["planned_digest"] = to_hex(from.digest);
    metadata["reason"] = encoder ? "the encoder or the stream's settings have changed"
                                 : "events of the batch were erased or can't be read any more";
    auto event = std::make_shared<HostEvent>();
    event->action = "audit_stream.replanned";
    event->actor_type = "system";
    event->target_type = "audit_stream";
    event->target_id = definition.id;
    event->metadata = boost::json::serialize(metadata);
    log::warn(
        "stream.replanned",
        {{"stream", definition.id}, {"planned", range_text(from)}, {"encoder_changed", encoder}}
    );
    return event;
}

// --- commits

/// Everything that is not durable yet, and the plan of what is sent next.
AppendUnit Stream::State::commit_unit(const BatchPlan* next) const {
    AppendUnit unit;
    unit.project = definition.project;
    unit.cursors.push_back({definition.subscription, settled, lease.fence()});
    const auto add = [&](KvOp::Kind kind, const char* space, std::string key, std::string value) {
        unit.kv.push_back({kind, space, definition.project, std::move(key), std::move(value)});
    };
    for (const DeadLetter& letter : unsaved_letters)
        add(KvOp::Kind::put, DeadLetter::kSpace, letter.key(), letter.to_text());
    if (next != nullptr) {
        add(KvOp::Kind::put, BatchPlan::kSpace, definition.subscription, next->to_text());
    } else if (stored_plan) {
        add(KvOp::Kind::erase, BatchPlan::kSpace, definition.subscription, {});
    }
    return unit;
}

/// False: nothing has changed, and may not be this node's to change any more.
Task<bool> Stream::State::commit(Shipped next, std::shared_ptr<HostEvent> event) {
    for (std::uint32_t failures = 0;; ++failures) {
        const bool held = co_await hold_lease();
        if (!held) co_return false;
        AppendUnit unit = commit_unit(next != nullptr ? &next->plan() : nullptr);
        if (event) {
            unit.events.push_back(event->draft());
            unit.memory = event;
        }
        AppendOutcome outcome = co_await environment.appender->append(std::move(unit));
        if (outcome.has_value()) break;
        log::warn(
            "stream.cursor_commit_failed",
            {{"stream", definition.id}, {"error", outcome.error().detail}}
        );
        if (outcome.error().code == Errc::conflict) {
            lease.drop();
            co_return false;
        }
        if (stopping) co_return false;  // sent, but not recorded: the promise's one duplicate
        const auto delay = backoff(failures + 1, random_u64());
        const auto until = std::chrono::steady_clock::now() + delay;
        while (!stopping && !lease.is_lost() && std::chrono::steady_clock::now() < until)
            co_await sleep_until(until);
    }
    cursor = settled;
    unsaved = false;
    unsaved_letters.clear();
    stored_plan.reset();
    if (next != nullptr) stored_plan = next->plan();
    metrics.at(cursor);
    const std::lock_guard lock(mutex);
    status.cursor_seq = cursor;
    co_return true;
}

// --- one batch

Task<Result<ScanPage>> Stream::State::scan(Seq after, std::uint32_t limit) {
    ScanRequest request;
    request.project = definition.project;
    request.filter = filter;
    request.newest_first = false;
    if (after != kNoSeq) request.after = after;
    request.limit = limit;
    request.tombstones = true;
    co_return co_await environment.store->scan(std::move(request));
}

void Stream::State::tell_of_scan(const std::string& error) {
    scan_failing = true;
    if (scan_errors.is_due(error))
        log::warn("stream.scan_failed", {{"stream", definition.id}, {"error", error}});
}

/// Puts `event` aside; with the next commit it is recorded.
void Stream::State::refuse(const Event& event, std::string why) {
    DeadLetter letter;
    letter.stream = definition.known_as;
    letter.seq = event.seq;
    letter.event_id = event.id.text();
    letter.at = environment.clock->wall_us();
    // What the destination said may have been about the event as it was.
    letter.reason = event.erased ? DeadLetter::kErased : std::move(why);
    log::error(
        "stream.dead_letter",
        {{"stream", definition.id}, {"seq", letter.seq}, {"reason", letter.reason}}
    );
    metrics.dead_lettered();
    ++refusals_in_a_row;
    unsaved_letters.push_back(std::move(letter));
    unsaved = true;
}

/// Deals with leading events of which the destination has spoken already, and cuts the batch before
/// the next such one. False: the first may not be skipped.
bool Stream::State::resolve_foretold(EventBatch& batch) {
    auto& events = batch.events;
    std::size_t done = 0;
    for (; done < events.size(); ++done) {
        const auto known = foretold.find(events[done].seq);
        if (known == foretold.end()) break;
        if (known->second.verdict == Verdict::reject) {
            if (definition.on_poison == StreamDefinition::OnPoison::block) break;
            refuse(events[done], known->second.detail);
        }
        settled = events[done].seq;
        unsaved = true;
        foretold.erase(known);
    }
    events.erase(events.begin(), events.begin() + static_cast<std::ptrdiff_t>(done));
    if (!events.empty() && foretold.contains(events.front().seq)) return false;
    const auto next = std::find_if(events.begin(), events.end(), [this](const Event& event) {
        return foretold.contains(event.seq);
    });
    events.erase(next, events.end());
    return true;
}

/// A log has no holes; one in what was read means that something is lost, here or on the way.
bool Stream::State::find_hole(const EventBatch& batch) {
    if (!definition.takes_everything()) return false;
    Seq before = settled;
    for (const Event& event : batch.events) {
        const bool first = before == kNoSeq;
        if (!first && event.seq != before + 1) return true;
        before = event.seq;
    }
    return false;
}

/// Events that no pattern selects are there only because this stream's gap records always are.
void Stream::State::select(EventBatch& batch) const {
    if (definition.takes_everything()) return;
    std::erase_if(batch.events, [this](const Event& event) {
        if (event.deleted || matches_any(definition.patterns, event[Column::action].view()))
            return false;
        return event[Column::target_id].view() != definition.id;
    });
}

/// What retention has dropped before it was delivered is gone; the stream says so and goes on.
Task<Result<void>> Stream::State::pass_gap(Seq first_seq) {
    boost::json::object metadata;
    metadata["from_seq"] = settled + 1;
    metadata["to_seq"] = first_seq - 1;
    metadata["reason"] = "retention";
    auto event = std::make_shared<HostEvent>();
    event->action = kGapAction;
    event->actor_type = "system";
    event->target_type = "audit_stream";
    event->target_id = definition.id;
    event->metadata = boost::json::serialize(metadata);
    log::error(
        "stream.gap",
        {{"stream", definition.id}, {"from_seq", settled + 1}, {"to_seq", first_seq - 1}}
    );
    settled = first_seq - 1;
    const bool saved = co_await commit(nullptr, std::move(event));
    if (!saved) co_return Error{Errc::cancelled, "the stream is ending"};
    co_return ok();
}

/// What is to be sent next; null: nothing now. Moves `settled` over what no pattern selects.
Task<Result<Shipped>> Stream::State::next_shipment(bool& more) {
    const Seq last = definition.until.value_or(kSeqMax);
    for (more = true;;) {
        BOOST_OUTCOME_CO_TRY(ScanPage page, co_await scan(settled, batch_limit));
        // After the scan: what was dropped before it is known by now.
        BOOST_OUTCOME_CO_TRY(
            const LogState log, co_await environment.store->log_state(definition.project)
        );
        note_lag(log);
        if (log.first_seq > settled + 1) {
            BOOST_OUTCOME_CO_TRYV(co_await pass_gap(log.first_seq));
            continue;
        }
        auto& events = page.batch.events;
        while (!events.empty() && events.back().seq > last) events.pop_back();
        more = !page.exhausted;
        if (find_hole(page.batch))
            co_return Error{
                Errc::internal,
                "the log has a hole behind seq " + std::to_string(settled) +
                    "; nothing is sent over it: look for what is lost"};
        select(page.batch);
        if (events.empty()) {
            settled = std::max(settled, std::min(page.scanned, last));
            co_return Shipped();
        }
        const bool free = resolve_foretold(page.batch);
        if (!free) co_return refusal(events.front().seq, foretold.at(events.front().seq).detail);
        if (events.empty()) continue;
        const std::size_t count = events.size();
        const Event front = events.front();  // for its seq and id: its text goes with the batch
        auto packed = co_await calls.pack(sending, std::move(page.batch), false);
        if (packed) {
            more = more || packed.value()->events().size() < count;
            settled = std::max(settled, front.seq - 1);
            co_return packed;
        }
        if (packed.error().code != Errc::too_large) co_return packed.error();
        if (definition.on_poison == StreamDefinition::OnPoison::block)
            co_return refusal(front.seq, packed.error().detail);
        refuse(front, packed.error().detail);
        settled = front.seq;
    }
}

/// One batch, if there is one. True when more may follow at once.
Task<bool> Stream::State::step() {
    const bool searching = settled < suspect_until;
    if (!searching) {
        suspect_until = kNoSeq;
        batch_limit = std::min(definition.batch_events_max, kPageMax);
    }
    bool more = true;
    Result<Shipped> next = Shipped();
    const bool planned = has_open_plan() && !searching;
    if (planned) {
        next = co_await as_planned();
    } else {
        next = co_await next_shipment(more);
    }
    if (!next) {
        co_await wait_out(next.error());
        co_return true;
    }
    if (std::exchange(scan_failing, false)) set_state("active");
    Shipped shipment = std::move(next.value());
    if (shipment == nullptr) {
        const bool idle_move = settled - cursor >= kIdleMoveSeqs;
        if (unsaved || idle_move) (void)co_await commit(nullptr);
        co_return more;
    }
    const bool saved = planned || co_await commit(shipment);
    if (saved) co_await ship(std::move(shipment));
    co_return true;
}

/// Nothing could be made ready to be sent.
Task<void> Stream::State::wait_out(Error error) {
    if (unsaved) (void)co_await commit(nullptr);
    if (error.code != Errc::unavailable && error.code != Errc::timeout)
        co_return co_await fail(std::move(error.detail));
    tell_of_scan(error.detail);
    set_state("retrying", error.detail);
    co_await back_off(backoff(3, random_u64()));
}

/// As fast as the stream's own limit allows.
Task<void> Stream::State::await_turn() {
    if (definition.requests_per_second <= 0) co_return;
    const std::int64_t now = environment.clock->monotonic_us();
    if (send_not_before_us > now)
        co_await back_off(std::chrono::milliseconds((send_not_before_us - now + 999) / 1'000));
    const auto gap =
        static_cast<std::int64_t>(static_cast<double>(kSecondUs) / definition.requests_per_second);
    send_not_before_us = std::max(send_not_before_us, environment.clock->monotonic_us()) + gap;
}

Task<Report> Stream::State::attempt(Shipped shipment, std::uint32_t number) {
    const std::int64_t timeout_us = calls.sink().manifest().timeout_us;
    const std::int64_t deadline = environment.clock->monotonic_us() + timeout_us;
    Shipment::Attempt attempt;
    attempt.number = number;
    attempt.fence = lease.fence();
    attempt.deadline_us = deadline;
    attempt.cancelled = [state = shared_from_this()] {
        return state->stopping || state->lease.is_lost();
    };
    attempt.reported = [state = shared_from_this()] {
        asio::post(state->strand, [state] { state->signal.cancel(); });
    };
    shipment->begin(std::move(attempt));
    calls.send(shipment, [state = shared_from_this()] {
        return state->lease.is_valid() && !state->stopping;
    });
    // A sink that misses its deadline still holds the batch: nothing else may be sent before it
    // lets go, or order is lost.
    for (bool late = false;;) {
        if (shipment->is_reported()) {
            if (late) co_return Report::retry("the sink missed its deadline");
            co_return shipment->report();
        }
        if (!late && environment.clock->monotonic_us() >= deadline) {
            late = true;
            log::error(
                "stream.sink_stuck", {{"stream", definition.id}, {"timeout_ms", timeout_us / 1000}}
            );
            set_state("retrying", "the sink missed its deadline and has not come back");
        }
        co_await sleep_until(std::chrono::steady_clock::now() + std::chrono::milliseconds(100));
    }
}

/// Takes over what is settled. False: an event is refused and the stream may not go on without it;
/// `blocked_by` says which.
bool Stream::State::apply(
    const Settlement& settlement, const Shipment& shipment, std::string& blocked_by
) {
    const auto& events = shipment.events();
    const bool block = definition.on_poison == StreamDefinition::OnPoison::block;
    std::size_t over_with = settlement.settled;
    if (block && !settlement.rejected.empty()) over_with = settlement.rejected.front().index;
    if (over_with > settlement.rejected.size()) refusals_in_a_row = 0;
    for (const auto& rejected : settlement.rejected)
        if (!block) refuse(events[rejected.index], rejected.why);
    if (over_with > 0) {
        metrics.delivered(over_with - (block ? 0 : settlement.rejected.size()));
        settled = events[over_with - 1].seq;
        lacking_since = events[over_with - 1].created_at;
        unsaved = true;
    }
    for (const auto& [index, known] : settlement.foretold) foretold[events[index].seq] = known;
    if (!block || settlement.rejected.empty()) return true;
    const auto& first = settlement.rejected.front();
    blocked_by = refusal(events[first.index].seq, first.why).detail;
    return false;
}

Task<void> Stream::State::ship(Shipped shipment) {
    lacking_since = shipment->events().front().created_at;
    std::int64_t made_us = environment.clock->monotonic_us();
    for (std::uint32_t number = 1;; ++number) {
        co_await await_turn();
        for (;;) {
            const bool may_send = co_await hold_permission();
            if (!may_send) co_return;
            if (is_fresh(made_us)) break;
            // What was erased meanwhile must not go out.
            auto planned = co_await as_planned();
            if (!planned) tell_of_scan(planned.error().detail);
            if (!planned || planned.value() == nullptr) co_return;  // the next step goes on with it
            shipment = std::move(planned.value());
            made_us = environment.clock->monotonic_us();
        }
        const std::int64_t begin = environment.clock->monotonic_us();
        const Report report = co_await attempt(shipment, number);
        const std::size_t count = shipment->events().size();
        const Settlement settlement = settle(report, count);
        metrics.attempted(outcome_of(settlement), environment.clock->monotonic_us() - begin);
        const bool lost = lease.is_lost();
        std::string why;
        const bool may_go_on = apply(settlement, *shipment, why);
        if (may_go_on && settlement.next == Settlement::Next::go_on) {
            set_state("active");
            if (refusals_in_a_row > kRefusalsInARowMax)
                co_await fail("the destination refuses everything; the last: " + report.detail);
            co_return;
        }
        if (lost) co_return;
        if (why.empty()) why = settlement.why;
        const bool transient = may_go_on && settlement.next == Settlement::Next::retry;
        const bool bisect = may_go_on && settlement.next == Settlement::Next::bisect;
        log::warn(
            transient ? "stream.retry"
            : bisect  ? "stream.bisect"
                      : "stream.blocked",
            {{"stream", definition.id},
             {"attempt", number},
             {"first_seq", shipment->plan().first},
             {"last_seq", shipment->plan().last},
             {"error", why}}
        );
        if (bisect) {
            const std::size_t rest = count - settlement.settled;
            batch_limit = static_cast<std::uint32_t>(std::max<std::size_t>(1, rest / 2));
            suspect_until = shipment->plan().last;
            set_state("retrying", why);
            co_return;
        }
        if (!transient) co_return co_await fail(why);
        set_state("retrying", why);
        if (!unsaved_letters.empty()) (void)co_await commit(nullptr);  // the wait may be long
        co_await measure();  // the lag grows while nothing gets through: that is when it matters
        const std::int64_t asked =
            std::min<std::int64_t>(settlement.retry_after_ms, kRetryAfterMsMax);
        const auto own = backoff(number, random_u64());
        // A little later than asked for, so that not all streams to one destination come at once.
        const auto spread = static_cast<std::int64_t>(random_u64() % (asked / 10 + 1));
        co_await back_off(std::max(own, std::chrono::milliseconds(asked + spread)));
        if (over() || settlement.settled > 0) co_return;
        made_us = kLongAgo;
    }
}

/// Somebody has to mend something.
Task<void> Stream::State::fail(std::string why) {
    if (unsaved) (void)co_await commit(nullptr);
    if (lease.is_lost() || stopping) co_return;
    if (keeper == nullptr) {
        set_state("blocked", why);
        co_await measure();
        co_return co_await back_off(backoff(kSlowAttempt, random_u64()));
    }
    const auto told = co_await keeper->stream_failed(definition, lease.fence(), why);
    if (told) {
        halted = true;
        set_state("failed", why);
        co_return;
    }
    log::warn(
        "stream.failure_not_recorded", {{"stream", definition.id}, {"error", told.error().detail}}
    );
    if (told.error().code == Errc::conflict) co_return lease.drop();
    set_state("retrying", why);
    co_await back_off(backoff(3, random_u64()));
}

// --- dead letters once more

/// Sends one event by itself, outside the order.
Task<void> Stream::State::redrive(DeadLetter letter, std::string row) {
    BatchPlan plan;
    plan.first = plan.last = letter.seq;
    plan.events = 1;
    co_await await_turn();
    auto built = co_await rebuild(plan);
    const std::int64_t built_us = environment.clock->monotonic_us();
    const bool may_send = co_await hold_permission();
    if (!built || !may_send || !is_fresh(built_us)) co_return;  // the next look tries again
    Report report;
    if (built.value() == nullptr) {
        report.fallback = Verdict::reject;
        report.detail = "the event can't be read any more, or is too large for the destination";
    } else {
        report = co_await attempt(built.value(), letter.attempts + 1);
    }
    const std::string key = letter.key();
    AppendUnit unit;
    unit.project = definition.project;
    unit.cursors.push_back({definition.subscription, cursor, lease.fence()});
    const auto add = [&](KvOp::Kind kind, std::string value) {
        unit.kv.push_back({kind, DeadLetter::kSpace, definition.project, key, std::move(value)});
    };
    add(KvOp::Kind::require_equals, std::move(row));
    if (report.fallback == Verdict::delivered && report.exceptions.empty()) {
        add(KvOp::Kind::erase, {});
    } else if (report.fallback == Verdict::reject || report.fallback == Verdict::pause) {
        ++letter.attempts;
        letter.redriving = false;
        letter.reason = report.detail;
        letter.at = environment.clock->wall_us();
        add(KvOp::Kind::put, letter.to_text());
    } else {
        co_return co_await back_off(backoff(2, random_u64()));
    }
    const auto saved = co_await environment.appender->append(std::move(unit));
    if (!saved)
        log::warn(
            "stream.redrive_not_recorded",
            {{"stream", definition.id}, {"seq", letter.seq}, {"error", saved.error().detail}}
        );
}

Task<void> Stream::State::redrive() {
    std::string after;
    const std::string prefix = DeadLetter::prefix(definition.known_as);
    bool left = false;
    for (;;) {
        auto rows = co_await environment.store->kv_scan(
            DeadLetter::kSpace, definition.project, prefix, after, kRedrivesPerLook
        );
        if (!rows) co_return;  // asked again with the next wake-up
        for (const KvRow& row : rows.value()) {
            after = row.key;
            auto letter = DeadLetter::from_row(row);
            if (!letter || !letter->redriving) continue;
            co_await redrive(std::move(*letter), row.value);
            if (over()) co_return;
            left = true;
        }
        if (rows.value().size() < kRedrivesPerLook) break;
    }
    redrive_asked = left;  // once more, for those that met an outage
}

// --- the loop

Task<void> Stream::State::measure() {
    const auto log = co_await environment.store->log_state(definition.project);
    if (log) note_lag(log.value());
}

void Stream::State::note_lag(const LogState& log) {
    const std::int64_t lag = log.head_seq - settled;
    const TimeUs since = lacking_since == kNoTime ? log.head_at : lacking_since;
    const TimeUs age = lag > 0 ? environment.clock->wall_us() - since : 0;
    const double seconds = std::max(0.0, static_cast<double>(age) / kSecondUs);
    metrics.lags(lag, seconds);
    const std::lock_guard lock(mutex);
    status.settled_seq = settled;
    status.lag_events = lag;
    status.lag_seconds = seconds;
}

Task<void> Stream::State::begin_tenure() {
    for (std::uint32_t failures = 1; !over(); ++failures) {
        auto found = co_await find_start();
        if (found) break;
        log::error(
            "stream.start_failed", {{"stream", definition.id}, {"error", found.error().detail}}
        );
        const bool has_begun = settled != kNoSeq;
        if (has_begun || definition.from == StreamDefinition::From::earliest) co_await measure();
        if (is_for_people(found.error().code)) {
            co_await fail(found.error().detail);
            continue;
        }
        const bool hopeless = found.error().code == Errc::conflict;
        set_state(hopeless ? "blocked" : "retrying", found.error().detail);
        co_await back_off(backoff(failures, random_u64()));
    }
    if (over()) co_return;
    set_state("active");
    log::info(
        "stream.started",
        {{"stream", definition.id}, {"project", definition.project}, {"after_seq", settled}}
    );
}

/// One tenure, from the cursor that it finds; what it leaves behind is the next one's to find.
Task<void> Stream::State::deliver() {
    co_await begin_tenure();
    while (!over()) {
        if (std::exchange(redrive_asked, false) && !definition.until) co_await redrive();
        if (over()) break;
        const bool more = co_await step();
        if (over()) break;
        if (!more) co_await measure();
        if (definition.until && settled >= *definition.until) {
            if (unsaved) (void)co_await commit(nullptr);
            const auto done = co_await keeper->replay_done(definition, lease.fence());
            halted = done.has_value();
            if (halted) set_state("done");
        } else if (!more) {
            co_await pause(kPollInterval);
        }
    }
    const bool ours = !lease.is_lost() && !halted;
    if (ours && settled > cursor) (void)co_await commit(nullptr);  // the last chance
    while (halted && !stopping && !lease.is_lost())
        co_await sleep_until(std::chrono::steady_clock::now() + kPollInterval);
}

Task<void> Stream::State::run() {
    auto self = shared_from_this();
    for (;;) {
        const bool ours = co_await take_lease();
        if (!ours) break;
        co_await deliver();
        if (stopping) break;
        halted = false;
        log::warn(
            "stream.lease_lost", {{"stream", definition.id}, {"project", definition.project}}
        );
        stand_by();
    }
    set_state("stopped");
    running = false;
    lease.leave();
}

Stream::Stream(
    StreamDefinition definition,
    Outlet outlet,
    HostEnvironment& environment,
    asio::thread_pool& sink_pool,
    StreamKeeper* keeper
)
    : state_(std::make_shared<State>(
          std::move(definition), std::move(outlet), environment, sink_pool, keeper
      )) {}

Stream::~Stream() = default;

void Stream::start() {
    std::weak_ptr<State> weak = state_;
    state_->wakes = state_->environment.appender->subscribe(state_->definition.project, [weak] {
        if (auto state = weak.lock()) state->wake();
    });
    state_->running = true;
    state_->leasing = true;
    asio::co_spawn(state_->strand, state_->keep_lease(), asio::detached);
    asio::co_spawn(state_->strand, state_->run(), asio::detached);
}

void Stream::begin_stop() {
    state_->wakes.reset();
    state_->stopping = true;
    state_->wake();
}

Task<void> Stream::stop() {
    begin_stop();
    asio::steady_timer timer(co_await asio::this_coro::executor);
    while (state_->running || state_->leasing) {
        state_->wake();
        timer.expires_after(std::chrono::milliseconds(5));
        co_await timer.async_wait(asio::use_awaitable);
    }
}

void Stream::redrive() {
    asio::post(state_->strand, [state = state_] {
        state->redrive_asked = true;
        state->woken = true;
        state->signal.cancel();
    });
}

std::chrono::microseconds Stream::timeout() const {
    return std::chrono::microseconds(state_->calls.sink().manifest().timeout_us);
}

const StreamDefinition& Stream::definition() const {
    return state_->definition;
}

StreamStatus Stream::status() const {
    const std::lock_guard lock(state_->mutex);
    return state_->status;
}

}  // namespace annal
