#include "runtime/delivery/stream.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <mutex>

#include "runtime/core/log.h"
#include "runtime/core/log_repeats.h"
#include "runtime/core/task_impl.h"
#include "runtime/delivery/backoff.h"
#include "runtime/delivery/lease_holder.h"
#include "runtime/plugin/call.h"

namespace annal {
namespace asio = boost::asio;
namespace {

// A wake-up may be lost only by a defect; the poll behind it bounds the damage.
constexpr auto kPollInterval = std::chrono::seconds(5);
constexpr std::size_t kPayloadBytesMax = 64U << 20;
// A filter that matches little still moves the cursor, so that a restart does not scan it all
// again.
constexpr Seq kIdleMoveSeqs = 10'000;

/// What became of one attempt.
struct Attempt {
    enum class Outcome { delivered, retry, reject, pause } outcome = Outcome::retry;
    std::string detail;
};

const char* word(Attempt::Outcome outcome) {
    switch (outcome) {
        case Attempt::Outcome::delivered:
            return "delivered";
        case Attempt::Outcome::reject:
            return "reject";
        case Attempt::Outcome::pause:
            return "pause";
        case Attempt::Outcome::retry:
            break;
    }
    return "retry";
}

Attempt::Outcome worse(Attempt::Outcome a, Attempt::Outcome b) {
    using enum Attempt::Outcome;
    for (Attempt::Outcome o : {retry, pause, reject})
        if (a == o || b == o) return o;
    return delivered;
}

/// Turns a sink's report into one outcome for the batch. Whatever is not understood is a retry.
Attempt judge(
    std::uint32_t fallback,
    const annal_verdict* exceptions,
    std::uint32_t count,
    const annal_error* error,
    std::uint32_t events
) {
    auto outcome_of = [](std::uint32_t verdict) {
        switch (verdict) {
            case ANNAL_DELIVERED:
                return Attempt::Outcome::delivered;
            case ANNAL_REJECT:
                return Attempt::Outcome::reject;
            case ANNAL_PAUSE:
                return Attempt::Outcome::pause;
            default:
                return Attempt::Outcome::retry;
        }
    };
    Attempt attempt{outcome_of(fallback), error ? to_error(*error).detail : std::string()};
    for (std::uint32_t i = 0; i < count; ++i) {
        if (exceptions[i].index >= events)
            return {Attempt::Outcome::retry, "the sink reported an event that is not in the batch"};
        attempt.outcome = worse(attempt.outcome, outcome_of(exceptions[i].verdict));
        if (attempt.detail.empty()) attempt.detail = std::string(to_view(exceptions[i].detail));
    }
    return attempt;
}

/// One batch on its way. Shared with the sink until it reports.
struct Shipment {
    explicit Shipment(std::string project)
        : call(std::make_shared<Call>(options(std::move(project)))), payload(kPayloadBytesMax) {}
    static Call::Options options(std::string project) {
        Call::Options o;
        o.project = std::move(project);
        o.actor_type = "system";
        return o;
    }

    EventBatch events;  // first, so that it outlives what points into it
    std::shared_ptr<Call> call;
    annal_batch batch{};
    WriteBuffer payload;
    std::vector<std::uint64_t> ends;
    Seq last_seq = kNoSeq;
    std::string idempotency_key;

    // One attempt at a time.
    annal_delivery delivery{};
    std::shared_ptr<Call> attempt_call;
    std::mutex mutex;
    bool reported = true;
    Attempt result;
    std::function<void()> on_report;
    std::shared_ptr<Shipment> self;  // while the sink holds the delivery
};

void report(
    void* d,
    std::uint32_t fallback,
    const annal_verdict* exceptions,
    std::uint32_t count,
    const annal_error* error
) {
    auto* shipment = static_cast<Shipment*>(d);
    std::function<void()> wake;
    std::shared_ptr<Shipment> self;
    {
        const std::lock_guard lock(shipment->mutex);
        if (shipment->reported) return;  // a second report of one attempt changes nothing
        shipment->reported = true;
        shipment->result = judge(fallback, exceptions, count, error, shipment->batch.count);
        wake = std::move(shipment->on_report);
        self = std::move(shipment->self);
    }
    shipment->attempt_call->complete(nullptr);
    if (wake) wake();
}

/// Ends an attempt that the sink does not hear of.
void refuse(Shipment& shipment) {
    constexpr std::string_view kWhy = "the lease ran out before the batch was sent";
    annal_error error{};
    error.struct_size = sizeof(error);
    error.code = ANNAL_UNAVAILABLE;
    error.text_len = kWhy.size();
    kWhy.copy(error.text, kWhy.size());
    report(&shipment, ANNAL_RETRY, nullptr, 0, &error);
}

}  // namespace

struct Stream::State : std::enable_shared_from_this<Stream::State> {
    State(
        const EventsTrigger& t,
        std::shared_ptr<Instance> s,
        HostEnvironment& e,
        asio::thread_pool& pool
    )
        : trigger(t),
          sink(std::move(s)),
          environment(e),
          strand(asio::make_strand(*e.executor)),
          sink_executor(pool.get_executor()),
          signal(strand),
          name(sink->manifest().instance + "/" + trigger.name),
          subscription("stream." + name + "." + trigger.project),
          lease(
              *e.store,
              *e.clock,
              strand,
              {trigger.project,
               subscription,
               e.node,
               std::chrono::milliseconds(e.limits->lease_ms)},
              [this] {
                  woken = true;
                  signal.cancel();
              }
          ) {
        status.name = name;
        status.project = trigger.project;
        status.state = "starting";
        filter.actions = trigger.patterns;
        const bool everything =
            std::any_of(trigger.patterns.begin(), trigger.patterns.end(), [](const auto& p) {
                return p.kind == ActionPattern::Kind::any;
            });
        if (everything) filter.actions.clear();
        const std::map<std::string, std::string> labels{
            {"stream", status.name}, {"project", trigger.project}};
        cursor_gauge = &e.metrics->define(
            MetricKind::gauge,
            "annal_stream_cursor_seq",
            "Newest seq that the destination has acknowledged.",
            labels
        );
        lag_gauge = &e.metrics->define(
            MetricKind::gauge,
            "annal_stream_lag_events",
            "Events behind the head of the log.",
            labels
        );
        lag_seconds_gauge = &e.metrics->define(
            MetricKind::gauge,
            "annal_stream_lag_seconds",
            "Age of the oldest event that the destination lacks; 0 when it has all.",
            labels
        );
        blocked_gauge = &e.metrics->define(
            MetricKind::gauge,
            "annal_stream_blocked",
            "1 while the stream waits for somebody to mend its destination.",
            labels
        );
        standby_gauge = &e.metrics->define(
            MetricKind::gauge,
            "annal_stream_standby",
            "1 while another node delivers the stream.",
            labels
        );
        delivered_total = &e.metrics->define(
            MetricKind::counter,
            "annal_stream_delivered_events_total",
            "Events that the destination has acknowledged.",
            labels
        );
        attempt_seconds = &e.metrics->define(
            MetricKind::histogram,
            "annal_stream_delivery_seconds",
            "Time until the sink reported on an attempt.",
            labels
        );
        for (auto o :
             {Attempt::Outcome::delivered,
              Attempt::Outcome::retry,
              Attempt::Outcome::reject,
              Attempt::Outcome::pause}) {
            auto with_outcome = labels;
            with_outcome["outcome"] = word(o);
            outcomes[static_cast<std::size_t>(o)] = &e.metrics->define(
                MetricKind::counter,
                "annal_stream_deliveries_total",
                "Attempts by outcome.",
                with_outcome
            );
        }
    }

    const EventsTrigger trigger;
    const std::shared_ptr<Instance> sink;
    HostEnvironment& environment;
    asio::strand<asio::any_io_executor> strand;
    asio::thread_pool::executor_type sink_executor;
    asio::steady_timer signal;  // cancelled to wake the loop; on the strand
    bool woken = false;         // on the strand
    std::atomic<bool> stopping{false};
    std::atomic<bool> running{false};
    std::atomic<bool> leasing{false};
    const std::string name;
    const std::string subscription;
    LeaseHolder lease;
    Filter filter;
    std::shared_ptr<void> wakes;

    // On the strand.
    Seq cursor = kNoSeq;             // committed
    Seq scanned = kNoSeq;            // looked at; never behind cursor
    TimeUs lacking_since = kNoTime;  // no event that the destination lacks is older
    bool scan_failing = false;
    log::Repeats scan_errors;

    mutable std::mutex mutex;  // guards status
    StreamStatus status;
    Metric* cursor_gauge = nullptr;
    Metric* lag_gauge = nullptr;
    Metric* lag_seconds_gauge = nullptr;
    Metric* blocked_gauge = nullptr;
    Metric* standby_gauge = nullptr;
    Metric* delivered_total = nullptr;
    Metric* attempt_seconds = nullptr;
    std::array<Metric*, 4> outcomes{};

    const annal_sink_v1& table() const { return sink->table<annal_sink_v1>(); }

    void wake() {
        asio::post(strand, [self = shared_from_this()] {
            self->woken = true;
            self->signal.cancel();
        });
    }

    /// Until a wake-up or `delay`; at once when one came since the last pause.
    Task<void> pause(std::chrono::milliseconds delay) {
        if (!woken && !stopping) {
            signal.expires_after(delay);
            boost::system::error_code ignored;
            co_await signal.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
        woken = false;
    }

    /// A failure's delay: wake-ups by appends do not shorten it, stopping and losing the lease do.
    Task<void> back_off(std::chrono::milliseconds delay) {
        const auto until = std::chrono::steady_clock::now() + delay;
        while (!stopping && !lease.is_lost() && std::chrono::steady_clock::now() < until) {
            signal.expires_at(until);
            boost::system::error_code ignored;
            co_await signal.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
    }

    void set_state(std::string state, std::string error = {}) {
        blocked_gauge->record(state == "blocked" ? 1 : 0);
        standby_gauge->record(state == "standby" ? 1 : 0);
        const std::lock_guard lock(mutex);
        status.state = std::move(state);
        status.last_error = std::move(error);
    }

    Task<void> run();
    Task<void> keep_lease();
    Task<bool> take_lease();
    Task<bool> hold_lease();
    void stand_by();
    Task<void> deliver();
    Task<Result<void>> find_start();
    Task<Result<Seq>> destination_position();
    Task<bool> step();
    void tell_of_scan(const std::string& error);
    Task<void> ship(std::shared_ptr<Shipment> shipment);
    Task<Result<std::shared_ptr<Shipment>>> encode(EventBatch events);
    Task<Attempt> attempt(std::shared_ptr<Shipment> shipment, std::uint32_t number);
    Task<bool> commit(Seq to);
    Task<void> measure();
};

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
        signal.expires_after(kPollInterval);
        boost::system::error_code ignored;
        co_await signal.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
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
        signal.expires_after(std::chrono::milliseconds(100));
        boost::system::error_code ignored;
        co_await signal.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    if (lease.is_valid()) set_state(before.state, before.last_error);
    co_return lease.is_valid();
}

/// What this node knew of the log and the destination is the other node's to say now.
void Stream::State::stand_by() {
    if (status.state == "standby") return;
    log::info("stream.standby", {{"stream", name}, {"project", trigger.project}});
    set_state("standby");
    lag_gauge->record(0);
    lag_seconds_gauge->record(0);
    const std::lock_guard lock(mutex);
    status.lag_events = 0;
}

Task<Result<Seq>> Stream::State::destination_position() {
    if (!ANNAL_HAS(&table(), annal_sink_v1, position)) co_return kNoSeq;
    co_await asio::post(asio::bind_executor(sink_executor, asio::use_awaitable));
    std::int64_t seq = kNoSeq;
    annal_error error{};
    error.struct_size = sizeof(error);
    const annal_status status_code =
        table().position(sink->self(), to_abi(std::string_view(trigger.project)), &seq, &error);
    co_await asio::post(asio::bind_executor(strand, asio::use_awaitable));
    if (status_code != ANNAL_OK) {
        error.code = status_code;
        co_return to_error(error);
    }
    co_return seq;
}

/// The stored cursor, or where the manifest says to begin, or what the destination holds already:
/// whichever is furthest.
Task<Result<void>> Stream::State::find_start() {
    EventStore& store = *environment.store;
    BOOST_OUTCOME_CO_TRY(const Seq stored, co_await store.cursor(trigger.project, subscription));
    BOOST_OUTCOME_CO_TRY(const LogState state, co_await store.log_state(trigger.project));
    BOOST_OUTCOME_CO_TRY(const Seq held, co_await destination_position());
    if (held > state.head_seq) {
        co_return Error{
            Errc::conflict,
            "the destination holds seq " + std::to_string(held) + " but the log ends at " +
                std::to_string(state.head_seq) +
                ": it belongs to another log, or the log was restored from an older copy; give the "
                "sink a new destination"};
    }
    Seq start = stored;
    if (start == kNoSeq && trigger.from == EventsTrigger::From::latest) start = state.head_seq;
    cursor = stored;
    scanned = std::max(start, held);
    lacking_since = kNoTime;
    if (scanned > cursor) (void)co_await commit(scanned);  // also if not, what is held is not sent
    co_return ok();
}

/// False: the cursor is where it was, and may not be this node's to move any more.
Task<bool> Stream::State::commit(Seq to) {
    for (std::uint32_t failures = 0;; ++failures) {
        const bool held = co_await hold_lease();
        if (!held) co_return false;
        AppendUnit unit;
        unit.project = trigger.project;
        unit.cursors.push_back({subscription, to, lease.fence()});
        AppendOutcome outcome = co_await environment.appender->append(std::move(unit));
        if (outcome.has_value()) break;
        log::warn(
            "stream.cursor_commit_failed",
            {{"stream", status.name}, {"error", outcome.error().detail}}
        );
        if (outcome.error().code == Errc::conflict) {
            lease.drop();
            co_return false;
        }
        if (stopping) co_return false;  // sent, but not recorded: the promise's one duplicate
        co_await back_off(backoff(failures + 1, random_u64()));
    }
    cursor = to;
    cursor_gauge->record(static_cast<double>(to));
    const std::lock_guard lock(mutex);
    status.cursor_seq = to;
    co_return true;
}

Task<Result<std::shared_ptr<Shipment>>> Stream::State::encode(EventBatch events) {
    auto shipment = std::make_shared<Shipment>(trigger.project);
    shipment->events = std::move(events);
    auto& list = shipment->events.events;
    if (!ANNAL_HAS(&table(), annal_sink_v1, encode)) {
        shipment->batch = *to_abi(*shipment->call, trigger.project, list);
    } else {
        co_await asio::post(asio::bind_executor(sink_executor, asio::use_awaitable));
        annal_error error{};
        error.struct_size = sizeof(error);
        annal_status code = ANNAL_OK;
        // Halve the batch until its encoded form fits; a single event is sent whatever its size.
        for (;;) {
            shipment->batch = *to_abi(*shipment->call, trigger.project, list);
            shipment->payload.clear();
            shipment->ends.assign(list.size(), 0);
            const annal_writer writer = shipment->payload.writer();
            code = table().encode(
                sink->self(), &shipment->batch, &writer, shipment->ends.data(), &error
            );
            const bool fits =
                code == ANNAL_OK && shipment->payload.view().size() <= trigger.batch_bytes_max;
            if (fits || list.size() == 1 || (code != ANNAL_OK && code != ANNAL_TOO_LARGE)) break;
            list.resize(list.size() / 2);
        }
        co_await asio::post(asio::bind_executor(strand, asio::use_awaitable));
        if (code != ANNAL_OK) {
            error.code = code;
            co_return to_error(error);
        }
    }
    shipment->last_seq = list.back().seq;
    shipment->idempotency_key = subscription + "/" + std::to_string(list.front().seq) + "-" +
                                std::to_string(shipment->last_seq);
    co_return shipment;
}

Task<Attempt> Stream::State::attempt(std::shared_ptr<Shipment> shipment, std::uint32_t number) {
    const std::int64_t deadline = environment.clock->monotonic_us() + sink->manifest().timeout_us;
    annal_delivery& d = shipment->delivery;
    d = annal_delivery{};
    d.struct_size = sizeof(d);
    d.attempt = number;
    d.batch = &shipment->batch;
    const std::string_view bytes = shipment->payload.view();
    d.payload = {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
    d.ends = shipment->ends.empty() ? nullptr : shipment->ends.data();
    d.idempotency_key = to_abi(std::string_view(shipment->idempotency_key));
    d.deadline_us = deadline;
    d.d = shipment.get();
    d.done = &report;
    Call::Options options = Shipment::options(trigger.project);
    options.deadline_us = deadline;
    options.cancelled = [state = shared_from_this()] {
        return state->stopping || state->lease.is_lost();
    };
    shipment->attempt_call = std::make_shared<Call>(std::move(options));
    d.call = shipment->attempt_call->open();
    {
        const std::lock_guard lock(shipment->mutex);
        shipment->reported = false;
        shipment->self = shipment;
        shipment->on_report = [state = shared_from_this()] {
            asio::post(state->strand, [state] { state->signal.cancel(); });
        };
    }
    asio::post(sink_executor, [state = shared_from_this(), shipment] {
        // It may have waited for a thread for longer than the lease lasted.
        if (!state->lease.is_valid()) return refuse(*shipment);
        state->table().send(state->sink->self(), &shipment->delivery);
    });
    // A sink that misses its deadline still holds the batch: nothing else may be sent before it
    // lets go, or order is lost.
    for (bool late = false;;) {
        {
            const std::lock_guard lock(shipment->mutex);
            if (shipment->reported) {
                if (late)
                    co_return Attempt{Attempt::Outcome::retry, "the sink missed its deadline"};
                co_return shipment->result;
            }
        }
        if (!late && environment.clock->monotonic_us() >= deadline) {
            late = true;
            log::error(
                "stream.sink_stuck",
                {{"stream", status.name}, {"timeout_ms", sink->manifest().timeout_us / 1000}}
            );
            set_state("retrying", "the sink missed its deadline and has not come back");
        }
        signal.expires_after(std::chrono::milliseconds(100));
        boost::system::error_code ignored;
        co_await signal.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
}

Task<void> Stream::State::ship(std::shared_ptr<Shipment> shipment) {
    const auto& events = shipment->events.events;
    lacking_since = events.front().created_at;
    for (std::uint32_t number = 1;; ++number) {
        const bool held = co_await hold_lease();
        if (!held) co_return;
        const std::int64_t begin = environment.clock->monotonic_us();
        Attempt result = co_await attempt(shipment, number);
        const std::int64_t took = environment.clock->monotonic_us() - begin;
        attempt_seconds->record(static_cast<double>(took) / kSecondUs);
        outcomes[static_cast<std::size_t>(result.outcome)]->record(1);
        if (result.outcome == Attempt::Outcome::delivered) break;
        if (lease.is_lost()) co_return;
        const bool blocked = result.outcome != Attempt::Outcome::retry;
        log::warn(
            blocked ? "stream.blocked" : "stream.retry",
            {{"stream", status.name},
             {"attempt", number},
             {"outcome", word(result.outcome)},
             {"first_seq", events.front().seq},
             {"last_seq", shipment->last_seq},
             {"error", result.detail}}
        );
        set_state(blocked ? "blocked" : "retrying", result.detail);
        co_await measure();  // the lag grows while nothing gets through: that is when it matters
        co_await back_off(backoff(blocked ? 20 : number, random_u64()));
        if (stopping || lease.is_lost()) co_return;
    }
    set_state("active");
    lacking_since = events.back().created_at;
    delivered_total->record(static_cast<double>(events.size()));
    (void)co_await commit(shipment->last_seq);
    if (lease.is_lost()) co_return;
    scanned = std::max(cursor, shipment->last_seq);
}

void Stream::State::tell_of_scan(const std::string& error) {
    scan_failing = true;
    if (scan_errors.is_due(error))
        log::warn("stream.scan_failed", {{"stream", status.name}, {"error", error}});
}

/// One batch, if there is one. True when more may follow at once.
Task<bool> Stream::State::step() {
    ScanRequest request;
    request.project = trigger.project;
    request.filter = filter;
    request.newest_first = false;
    if (scanned != kNoSeq) request.after = scanned;
    request.limit = std::min(trigger.batch_events_max, kPageMax);
    request.tombstones = true;
    auto page = co_await environment.store->scan(std::move(request));
    if (!page) {
        tell_of_scan(page.error().detail);
        set_state("retrying", page.error().detail);
        co_await back_off(backoff(3, random_u64()));
        co_return true;
    }
    if (std::exchange(scan_failing, false)) set_state("active");
    ScanPage& got = page.value();
    const bool exhausted = got.exhausted;
    if (got.batch.events.empty()) {
        scanned = std::max(scanned, got.scanned);
        if (scanned - cursor >= kIdleMoveSeqs) (void)co_await commit(scanned);  // or later
        co_return !exhausted;
    }
    const std::size_t scanned_events = got.batch.events.size();
    auto shipment = co_await encode(std::move(got.batch));
    if (!shipment) {
        log::error(
            "stream.encode_failed", {{"stream", status.name}, {"error", shipment.error().detail}}
        );
        set_state("blocked", shipment.error().detail);
        co_await back_off(backoff(20, random_u64()));
        co_return true;
    }
    const bool whole = shipment.value()->events.events.size() == scanned_events;
    co_await ship(std::move(shipment.value()));
    co_return !whole || !exhausted;
}

Task<void> Stream::State::measure() {
    auto head = co_await environment.store->log_state(trigger.project);
    if (!head) co_return;
    const std::int64_t lag = head.value().head_seq - scanned;
    lag_gauge->record(static_cast<double>(lag));
    const TimeUs since = lacking_since == kNoTime ? head.value().head_at : lacking_since;
    const TimeUs age = lag > 0 ? environment.clock->wall_us() - since : 0;
    lag_seconds_gauge->record(std::max(0.0, static_cast<double>(age) / kSecondUs));
    const std::lock_guard lock(mutex);
    status.lag_events = lag;
}

/// One tenure, from the cursor that it finds; what it leaves behind is the next one's to find.
Task<void> Stream::State::deliver() {
    for (std::uint32_t failures = 1; !stopping && !lease.is_lost(); ++failures) {
        auto found = co_await find_start();
        if (found) break;
        log::error(
            "stream.start_failed", {{"stream", status.name}, {"error", found.error().detail}}
        );
        set_state(
            found.error().code == Errc::conflict ? "blocked" : "retrying", found.error().detail
        );
        co_await back_off(backoff(failures, random_u64()));
    }
    if (!stopping && !lease.is_lost()) {
        set_state("active");
        log::info(
            "stream.started",
            {{"stream", status.name}, {"project", trigger.project}, {"after_seq", scanned}}
        );
    }
    while (!stopping && !lease.is_lost()) {
        const bool more = co_await step();
        if (lease.is_lost()) break;
        co_await measure();
        if (!more && !stopping) co_await pause(kPollInterval);
    }
    if (!lease.is_lost() && scanned > cursor) (void)co_await commit(scanned);  // the last chance
}

Task<void> Stream::State::run() {
    auto self = shared_from_this();
    for (;;) {
        const bool ours = co_await take_lease();
        if (!ours) break;
        co_await deliver();
        if (stopping) break;
        log::warn("stream.lease_lost", {{"stream", name}, {"project", trigger.project}});
        stand_by();
    }
    set_state("stopped");
    running = false;
    lease.leave();
}

Stream::Stream(
    const EventsTrigger& trigger,
    std::shared_ptr<Instance> sink,
    HostEnvironment& environment,
    asio::thread_pool& sink_pool
)
    : state_(std::make_shared<State>(trigger, std::move(sink), environment, sink_pool)) {}

Stream::~Stream() = default;

void Stream::start() {
    std::weak_ptr<State> weak = state_;
    state_->wakes = state_->environment.appender->subscribe(state_->trigger.project, [weak] {
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

StreamStatus Stream::status() const {
    const std::lock_guard lock(state_->mutex);
    return state_->status;
}

}  // namespace annal
