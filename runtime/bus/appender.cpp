#include "runtime/bus/appender.h"

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <deque>
#include <list>
#include <map>
#include <mutex>

#include "runtime/core/clock_guard.h"
#include "runtime/core/log.h"
#include "runtime/core/task_impl.h"

namespace annal {
namespace asio = boost::asio;
namespace {

// One commit takes what is queued, up to this much: enough to spread an fsync over many callers,
// little enough that the callers of the next commit do not wait long.
constexpr std::size_t kCommitEventsMax = 20'000;
constexpr std::size_t kCommitBytesMax = 16U << 20;
constexpr std::uint32_t kRetryAfterMs = 1'000;

/// Who waits for an outcome.
class Waiter {
public:
    virtual ~Waiter() = default;
    virtual void complete(AppendOutcome outcome) = 0;
};

template <class Handler>
class HandlerWaiter final : public Waiter {
public:
    explicit HandlerWaiter(Handler handler)
        : handler_(std::move(handler)), work_(asio::make_work_guard(handler_)) {}
    void complete(AppendOutcome outcome) override {
        auto executor = work_.get_executor();
        asio::post(
            executor,
            [handler = std::move(handler_), outcome = std::move(outcome)]() mutable {
                std::move(handler)(std::move(outcome));
            }
        );
        work_.reset();
    }

private:
    Handler handler_;
    asio::executor_work_guard<asio::associated_executor_t<Handler>> work_;
};

std::size_t weigh(const AppendUnit& unit) {
    std::size_t bytes = 256 + unit.request_key.size() + unit.cursors.size() * 64 +
                        unit.erase.size() * 8 + unit.scrub.size() * 16;
    for (const EventDraft& draft : unit.events) bytes += draft.weight();
    for (const KvOp& op : unit.kv) bytes += op.key.size() + op.value.size() + 64;
    return bytes;
}

struct Pending {
    AppendUnit unit;
    std::size_t bytes = 0;
    std::unique_ptr<Waiter> waiter;
};
using Queue = std::deque<Pending>;

/// Projects of which one append is under way at a time. A project always has the same lane.
struct Lane {
    Queue queue;
    bool running = false;
};

struct Subscription {
    std::string project;
    std::function<void()> wake;
};

}  // namespace

struct Appender::State : std::enable_shared_from_this<Appender::State> {
    State(
        EventStore& s, const Clock& c, const Limits& l, Metrics& m, const asio::any_io_executor& e
    )
        : store(s),
          clock(c),
          limits(l),
          guard(ClockReading::of(c)),
          lanes(std::max<std::size_t>(1, s.append_lanes())),
          held_max(std::max<std::size_t>(1, lanes.size() / 2)),
          strand(asio::make_strand(e)),
          events_total(
              m.define(MetricKind::counter, "annal_append_events_total", "Events made durable.")
          ),
          replayed_total(m.define(
              MetricKind::counter,
              "annal_append_replayed_events_total",
              "Events whose idempotency key was known: answered again, not stored again."
          )),
          bytes_total(m.define(
              MetricKind::counter, "annal_append_bytes_total", "Bytes of requests made durable."
          )),
          units_per_commit(m.define(
              MetricKind::histogram, "annal_append_commit_units", "Requests that shared one commit."
          )),
          events_per_commit(
              m.define(MetricKind::histogram, "annal_append_commit_events", "Events of one commit.")
          ),
          commit_seconds(m.define(
              MetricKind::histogram, "annal_append_commit_seconds", "Duration of one commit."
          )),
          queue_bytes_gauge(m.define(
              MetricKind::gauge, "annal_append_queue_bytes", "Bytes waiting for or in a commit."
          )),
          queue_units_gauge(m.define(
              MetricKind::gauge, "annal_append_queue_units", "Requests waiting for or in a commit."
          )),
          clock_behind(m.define(
              MetricKind::gauge,
              "annal_clock_behind_seconds",
              "How far the wall clock is behind the newest stamp."
          )),
          refused_busy(refused(m, "project_queue_full")),
          refused_queue(refused(m, "node_queue_full")),
          refused_clock(refused(m, "clock_jump")) {}

    static Metric& refused(Metrics& m, const char* reason) {
        return m.define(
            MetricKind::counter,
            "annal_append_refused_total",
            "Requests refused before they were queued.",
            {{"reason", reason}}
        );
    }

    EventStore& store;
    const Clock& clock;
    const Limits& limits;

    std::mutex mutex;  // guards what follows, up to the strand
    ClockGuard guard;
    std::vector<Lane> lanes;
    // Projects whose log another node is writing: what they have to append waits for it apart, so
    // that it holds up no lane.
    std::map<std::string, Queue> held;
    std::deque<std::string> held_turns;
    std::size_t held_running = 0;
    const std::size_t held_max;
    std::map<std::string, std::size_t> project_bytes;
    std::size_t bytes = 0, requests = 0;  // waiting for or in a commit
    std::list<Subscription> subscriptions;

    asio::strand<asio::any_io_executor> strand;
    Metric& events_total;
    Metric& replayed_total;
    Metric& bytes_total;
    Metric& units_per_commit;
    Metric& events_per_commit;
    Metric& commit_seconds;
    Metric& queue_bytes_gauge;
    Metric& queue_units_gauge;
    Metric& clock_behind;
    Metric& refused_busy;
    Metric& refused_queue;
    Metric& refused_clock;

    std::optional<std::int64_t> clock_jump();
    std::optional<Error> refuse(const AppendUnit& unit, std::size_t weight);
    void enqueue(AppendUnit unit, std::unique_ptr<Waiter> waiter);
    std::optional<Error> accept(Pending& pending);
    std::vector<Pending> take(Lane& lane);
    static std::vector<Pending> take(Queue& queue);
    void hold(std::vector<Pending>& batch, std::vector<AppendOutcome>& outcomes);
    void settle(std::vector<Pending>& batch, std::vector<AppendOutcome> outcomes);
    void show_queue();
    void wake(const std::vector<std::string>& projects);
    void wake_foreign(std::vector<std::string> projects);
    template <class Wanted>
    void wake_if(const Wanted& wanted);
    [[nodiscard]] bool is_idle() const;
    Task<std::vector<AppendOutcome>> commit(std::vector<Pending>& batch, bool wait);
    Task<void> run(Lane& lane);
    Task<void> run_held();
};

/// Of the clock that stamps events, when it is this node's. With the mutex held.
std::optional<std::int64_t> Appender::State::clock_jump() {
    if (store.guards_clock()) return std::nullopt;
    return guard.check(ClockReading::of(clock));
}

std::optional<Error> Appender::State::refuse(const AppendUnit& unit, std::size_t weight) {
    if (auto jump = clock_jump()) {
        refused_clock.record(1);
        return Error{
            Errc::unavailable,
            "the wall clock jumped forward by " + std::to_string(*jump / kSecondUs) +
                " s; set it right, or confirm it with `annal clock confirm`",
            {},
            30'000};
    }
    // A project may always have one request in the queue, however small its share is.
    auto share = project_bytes.find(unit.project);
    if (share != project_bytes.end() && share->second + weight > limits.project_queue_bytes_max) {
        refused_busy.record(1);
        return Error{
            Errc::busy,
            "the project's share of the append queue (" +
                std::to_string(limits.project_queue_bytes_max) +
                " bytes) is full; nothing was written",
            {},
            kRetryAfterMs};
    }
    if (bytes != 0 && bytes + weight > limits.queue_bytes_max) {
        refused_queue.record(1);
        return Error{
            Errc::unavailable,
            "the node's append queue (" + std::to_string(limits.queue_bytes_max) +
                " bytes) is full; nothing was written",
            {},
            kRetryAfterMs};
    }
    return std::nullopt;
}

void Appender::State::enqueue(AppendUnit unit, std::unique_ptr<Waiter> waiter) {
    const std::size_t weight = weigh(unit);
    Pending pending{std::move(unit), weight, std::move(waiter)};
    if (auto refusal = accept(pending)) pending.waiter->complete(std::move(*refusal));
}

/// Takes `pending` over, or says why not and leaves it as it is.
std::optional<Error> Appender::State::accept(Pending& pending) {
    Lane* start = nullptr;
    {
        const std::lock_guard lock(mutex);
        if (auto refusal = refuse(pending.unit, pending.bytes)) return refusal;
        const std::string& project = pending.unit.project;
        project_bytes[project] += pending.bytes;
        bytes += pending.bytes;
        ++requests;
        show_queue();
        if (auto waiting = held.find(project); waiting != held.end()) {
            waiting->second.push_back(std::move(pending));
            return std::nullopt;
        }
        Lane& lane = lanes[std::hash<std::string>{}(project) % lanes.size()];
        lane.queue.push_back(std::move(pending));
        if (!std::exchange(lane.running, true)) start = &lane;
    }
    if (start != nullptr) asio::co_spawn(strand, run(*start), asio::detached);
    return std::nullopt;
}

std::vector<Pending> Appender::State::take(Lane& lane) {
    const std::lock_guard lock(mutex);
    std::vector<Pending> batch = take(lane.queue);
    if (batch.empty()) lane.running = false;
    return batch;
}

/// With the mutex held.
std::vector<Pending> Appender::State::take(Queue& queue) {
    std::vector<Pending> batch;
    std::size_t events = 0, weight = 0;
    while (!queue.empty()) {
        const Pending& next = queue.front();
        const bool fits = events + next.unit.events.size() <= kCommitEventsMax &&
                          weight + next.bytes <= kCommitBytesMax;
        if (!batch.empty() && !fits) break;
        events += next.unit.events.size();
        weight += next.bytes;
        batch.push_back(std::move(queue.front()));
        queue.pop_front();
    }
    return batch;
}

/// Puts units whose log another node is writing aside, to be waited for. They stay in order: what
/// else their projects append queues up behind them.
void Appender::State::hold(std::vector<Pending>& batch, std::vector<AppendOutcome>& outcomes) {
    const auto is_busy = [](const AppendOutcome& outcome) {
        return outcome.has_error() && outcome.error().code == Errc::busy;
    };
    if (std::none_of(outcomes.begin(), outcomes.end(), is_busy)) return;
    std::vector<Pending> rest;
    std::vector<AppendOutcome> answers;
    std::size_t starts = 0;
    {
        const std::lock_guard lock(mutex);
        for (std::size_t i = 0; i < batch.size(); ++i) {
            if (!is_busy(outcomes[i])) {
                rest.push_back(std::move(batch[i]));
                answers.push_back(std::move(outcomes[i]));
                continue;
            }
            const std::string project = batch[i].unit.project;
            auto [queue, is_new] = held.try_emplace(project);
            queue->second.push_back(std::move(batch[i]));
            if (is_new) held_turns.push_back(project);
        }
        // What came while the commit was under way stands in the lanes.
        for (Lane& lane : lanes) {
            Queue staying;
            for (Pending& pending : lane.queue) {
                auto queue = held.find(pending.unit.project);
                (queue == held.end() ? staying : queue->second).push_back(std::move(pending));
            }
            lane.queue = std::move(staying);
        }
        starts = std::min(held_max - held_running, held_turns.size());
        held_running += starts;
    }
    batch = std::move(rest);
    outcomes = std::move(answers);
    for (std::size_t i = 0; i < starts; ++i) asio::co_spawn(strand, run_held(), asio::detached);
}

/// With the mutex held.
void Appender::State::show_queue() {
    queue_bytes_gauge.record(static_cast<double>(bytes));
    queue_units_gauge.record(static_cast<double>(requests));
}

void Appender::State::settle(std::vector<Pending>& batch, std::vector<AppendOutcome> outcomes) {
    std::vector<std::string> appended;
    std::size_t events = 0, replayed = 0, durable_bytes = 0;
    TimeUs newest = kNoTime;
    {
        const std::lock_guard lock(mutex);
        for (std::size_t i = 0; i < batch.size(); ++i) {
            auto share = project_bytes.find(batch[i].unit.project);
            if ((share->second -= batch[i].bytes) == 0) project_bytes.erase(share);
            bytes -= batch[i].bytes;
        }
        requests -= batch.size();
        show_queue();
    }
    for (std::size_t i = 0; i < batch.size(); ++i) {
        if (!outcomes[i].has_value()) continue;
        const auto& receipts = outcomes[i].value();
        const auto fresh = std::count_if(receipts.begin(), receipts.end(), [](const Receipt& r) {
            return !r.replayed;
        });
        events += static_cast<std::size_t>(fresh);
        replayed += receipts.size() - static_cast<std::size_t>(fresh);
        durable_bytes += batch[i].bytes;
        if (fresh > 0) appended.push_back(batch[i].unit.project);
        if (!receipts.empty()) newest = std::max(newest, receipts.back().created_at);
    }
    // Before anybody is answered: who has an answer may look at the metrics.
    events_total.record(static_cast<double>(events));
    replayed_total.record(static_cast<double>(replayed));
    bytes_total.record(static_cast<double>(durable_bytes));
    events_per_commit.record(static_cast<double>(events));
    if (newest != kNoTime) {
        const double behind = static_cast<double>(newest - clock.wall_us()) / kSecondUs;
        clock_behind.record(std::max(0.0, behind));
    }
    for (std::size_t i = 0; i < batch.size(); ++i)
        batch[i].waiter->complete(std::move(outcomes[i]));
    std::sort(appended.begin(), appended.end());
    appended.erase(std::unique(appended.begin(), appended.end()), appended.end());
    wake(appended);
}

void Appender::State::wake(const std::vector<std::string>& projects) {
    if (!projects.empty())
        wake_if([&](const std::string& project) {
            return project.empty() || std::binary_search(projects.begin(), projects.end(), project);
        });
}

void Appender::State::wake_foreign(std::vector<std::string> projects) {
    if (projects.empty()) return wake_if([](const std::string&) { return true; });
    std::sort(projects.begin(), projects.end());
    wake(projects);
}

template <class Wanted>
void Appender::State::wake_if(const Wanted& wanted) {
    std::vector<std::function<void()>> wakes;
    {
        const std::lock_guard lock(mutex);
        for (const Subscription& s : subscriptions)
            if (wanted(s.project)) wakes.push_back(s.wake);
    }
    for (const auto& call : wakes) call();
}

/// With the mutex held.
bool Appender::State::is_idle() const {
    const auto runs = [](const Lane& lane) { return lane.running; };
    return requests == 0 && std::none_of(lanes.begin(), lanes.end(), runs);
}

/// One call of the store.
/// @param wait  for logs that other nodes are writing
Task<std::vector<AppendOutcome>> Appender::State::commit(std::vector<Pending>& batch, bool wait) {
    std::vector<AppendUnit> units;
    units.reserve(batch.size());
    for (Pending& pending : batch) units.push_back(std::move(pending.unit));
    const std::int64_t begin = clock.monotonic_us();
    std::span<const AppendUnit> view(units);
    Task<std::vector<AppendOutcome>> call = wait ? store.append(view) : store.append_free(view);
    std::vector<AppendOutcome> outcomes = co_await std::move(call);
    commit_seconds.record(static_cast<double>(clock.monotonic_us() - begin) / kSecondUs);
    units_per_commit.record(static_cast<double>(batch.size()));
    for (std::size_t i = 0; i < batch.size(); ++i) batch[i].unit = std::move(units[i]);
    co_return outcomes;
}

Task<void> Appender::State::run(Lane& lane) {
    auto self = shared_from_this();
    for (;;) {
        std::vector<Pending> batch = take(lane);
        if (batch.empty()) co_return;
        std::vector<AppendOutcome> outcomes = co_await commit(batch, false);
        hold(batch, outcomes);
        settle(batch, std::move(outcomes));
    }
}

/// Takes turns among the projects that are held, one call each.
Task<void> Appender::State::run_held() {
    auto self = shared_from_this();
    for (;;) {
        std::string project;
        std::vector<Pending> batch;
        {
            const std::lock_guard lock(mutex);
            if (held_turns.empty()) {
                --held_running;
                co_return;
            }
            project = std::move(held_turns.front());
            held_turns.pop_front();
            batch = take(held[project]);
        }
        if (!batch.empty()) {
            std::vector<AppendOutcome> outcomes = co_await commit(batch, true);
            settle(batch, std::move(outcomes));
        }
        const std::lock_guard lock(mutex);
        auto queue = held.find(project);
        if (queue->second.empty()) {
            held.erase(queue);
        } else {
            held_turns.push_back(project);
        }
    }
}

Appender::Appender(
    EventStore& store,
    const Clock& clock,
    const Limits& limits,
    Metrics& metrics,
    asio::any_io_executor executor
)
    : state_(std::make_shared<State>(store, clock, limits, metrics, executor)) {
    std::weak_ptr<State> weak = state_;
    store.on_foreign_append([weak](const std::vector<std::string>& projects) {
        auto state = weak.lock();
        if (!state) return;
        asio::post(state->strand, [weak, projects] {
            if (auto still = weak.lock()) still->wake_foreign(projects);
        });
    });
}

Appender::~Appender() = default;

namespace {

/// Hands a unit and whoever awaits it to the queue. A named type, because GCC 12 destroys a
/// capturing lambda twice here.
template <class State>
struct Enqueue {
    explicit Enqueue(std::shared_ptr<State> s, AppendUnit u)
        : state(std::move(s)), unit(std::move(u)) {}
    std::shared_ptr<State> state;
    AppendUnit unit;
    template <class Handler>
    void operator()(Handler handler) {
        auto waiter = std::make_unique<HandlerWaiter<Handler>>(std::move(handler));
        state->enqueue(std::move(unit), std::move(waiter));
    }
};

}  // namespace

Task<AppendOutcome> Appender::append(AppendUnit unit) {
    Enqueue<State> initiation(state_, std::move(unit));
    co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(AppendOutcome)>(
        std::move(initiation), asio::use_awaitable
    );
}

std::shared_ptr<void> Appender::subscribe(std::string project, std::function<void()> wake) {
    const std::lock_guard lock(state_->mutex);
    auto position = state_->subscriptions.insert(
        state_->subscriptions.end(), Subscription{std::move(project), std::move(wake)}
    );
    std::weak_ptr<State> weak = state_;
    return std::shared_ptr<void>(nullptr, [weak, position](void*) {
        if (auto state = weak.lock()) {
            const std::lock_guard unlock(state->mutex);
            state->subscriptions.erase(position);
        }
    });
}

void Appender::confirm_clock() {
    state_->store.confirm_clock();
    const std::lock_guard lock(state_->mutex);
    state_->guard.confirm(ClockReading::of(state_->clock));
    log::warn("clock.confirmed");
}

std::string Appender::refusal() const {
    const std::lock_guard lock(state_->mutex);
    auto jump = state_->clock_jump();
    if (!jump) return {};
    return "the wall clock jumped forward by " + std::to_string(*jump / kSecondUs) +
           " s and has not been confirmed";
}

Task<void> Appender::drain() {
    asio::steady_timer timer(co_await asio::this_coro::executor);
    for (;;) {
        {
            const std::lock_guard lock(state_->mutex);
            if (state_->is_idle()) co_return;
        }
        timer.expires_after(std::chrono::milliseconds(2));
        co_await timer.async_wait(asio::use_awaitable);
    }
}

}  // namespace annal
