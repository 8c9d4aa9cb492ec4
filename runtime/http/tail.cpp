#include "runtime/http/tail.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <chrono>
#include <deque>
#include <map>
#include <mutex>
#include <set>

#include "runtime/core/log.h"
#include "runtime/core/pause.h"
#include "runtime/core/task_impl.h"
#include "runtime/http/signal.h"
#include "runtime/http/tail_feed.h"

namespace annal::http {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

constexpr std::size_t kWriteBytes = 64U << 10;
constexpr std::uint32_t kFullRetryMs = 5'000;
constexpr auto kReadRetryAfter = milliseconds(200);
/// What a browser waits before it connects again.
constexpr std::string_view kOpening = "retry: 2000\n";

/// Fine enough for the heartbeat, and for keys that lose their force.
milliseconds tick_of(const Limits& limits) {
    return milliseconds(std::clamp<std::uint32_t>(limits.tail_heartbeat_ms / 8, 5, 250));
}

}  // namespace

struct TailHub::State : std::enable_shared_from_this<TailHub::State> {
    State(HostEnvironment& e, Nodes n, KeyCheck check)
        : environment(e),
          nodes(n),
          in_force(std::move(check)),
          strand(asio::make_strand(*e.executor)),
          tick_timer(strand),
          open_tails(e.metrics->define(MetricKind::gauge, "annal_tails", "Live tails.")),
          events(e.metrics->define(
              MetricKind::counter, "annal_tail_events_total", "Events sent to live tails."
          )),
          shared_scans(define_scans("shared")),
          catch_up_scans(define_scans("catch_up")),
          lagging(e.metrics->define(
              MetricKind::counter,
              "annal_tail_lagging_total",
              "Times that a live tail fell behind what is kept for its project."
          )),
          refused(e.metrics->define(
              MetricKind::counter,
              "annal_tail_refused_total",
              "Live tails refused because the node had its maximum."
          )) {}

    struct Room {
        std::shared_ptr<TailFeed> feed;
        std::size_t tails = 0;
    };

    Metric& define_scans(const char* kind) {
        return environment.metrics->define(
            MetricKind::counter,
            "annal_tail_scans_total",
            "Reads of the store for live tails.",
            {{"kind", kind}}
        );
    }

    // What tails ask for.
    Result<void> enter(const std::shared_ptr<Tail>& tail);
    /// From now on it misses nothing: it counts as live.
    void located(Tail& tail);
    void leave(Tail& tail);
    bool take_slot(Tail& tail);
    void give_slot_back();
    void offer_slots();

    void start_ticking();
    Task<void> tick(std::shared_ptr<State> self);
    void look_at_tails();
    void poll();
    bool quiet();

    HostEnvironment& environment;
    const Nodes nodes;
    const KeyCheck in_force;
    asio::strand<asio::any_io_executor> strand;
    asio::steady_timer tick_timer;  // on the strand
    std::int64_t polled_us = 0;     // on the strand
    Metric& open_tails;
    Metric& events;
    Metric& shared_scans;
    Metric& catch_up_scans;
    Metric& lagging;
    Metric& refused;

    std::atomic<int> loops{0};  ///< coroutines of the hub's own that have not ended
    std::atomic<bool> closed{false};

    std::mutex mutex;  // guards what follows
    std::set<std::shared_ptr<Tail>> tails;
    std::size_t live = 0;  ///< of them, those that know where they are
    std::map<std::string, Room> rooms;
    bool ticking = false;
    std::uint32_t slots = kCatchUpsMax;
    std::deque<Tail*> slot_queue;
};

/// One client: its position in the log, and the answer that it is reading.
class TailHub::Tail : public std::enable_shared_from_this<Tail> {
public:
    Tail(
        std::shared_ptr<State> hub,
        std::string the_project,
        TailRequest request,
        std::shared_ptr<Exchange> exchange
    )
        : project(std::move(the_project)),
          signal(std::make_shared<Signal>()),
          hub_(std::move(hub)),
          request_(std::move(request)),
          exchange_(std::move(exchange)) {}

    /// Finds out where to begin. @error  nothing has been answered.
    Task<Result<void>> locate();
    Task<Result<void>> serve();
    /// What the hub looks at a few times a second.
    void look(std::int64_t now_us);

    const std::string project;
    const std::shared_ptr<Signal> signal;
    std::shared_ptr<TailFeed> feed;  ///< set by the hub
    bool live = false;               ///< the hub's, under its mutex

private:
    [[nodiscard]] bool over() const { return hub_->closed || shut_ || exchange_->hung_up(); }
    [[nodiscard]] std::int64_t now_us() const { return hub_->environment.clock->monotonic_us(); }
    [[nodiscard]] std::int64_t heartbeat_us() const {
        return std::int64_t{hub_->environment.limits->tail_heartbeat_ms} * 1'000;
    }
    Task<Result<void>> open();
    Task<Result<void>> answer_head();
    Task<Result<void>> advance();
    Task<Result<void>> wait();
    Task<Result<void>> send(const TailPage& page);
    Task<Result<void>> catch_up();
    Task<Result<ScanPage>> read_behind();
    Task<Result<void>> heartbeat();
    Task<Result<void>> write(std::string_view text);

    const std::shared_ptr<State> hub_;
    const TailRequest request_;
    const std::shared_ptr<Exchange> exchange_;
    Seq position_ = kNoSeq;  ///< everything up to here has been sent, or passed over
    Seq said_ = kNoSeq;      ///< the last id that the client got
    bool live_ = false;      ///< the last page came from the feed
    TailPageSize page_size_;
    std::atomic<bool> shut_{false};  ///< the key is in force no more
    std::atomic<std::int64_t> quiet_since_us_{INT64_MAX};
};

Task<Result<void>> TailHub::Tail::locate() {
    auto state = co_await hub_->environment.store->log_state(project);
    if (!state) co_return std::move(state).error();
    const Seq head = state.value().head_seq;
    position_ = request_.after.value_or(head);
    if (position_ > head) {
        co_return Error{
            Errc::invalid,
            "there is no event " + std::to_string(position_) +
                " to go on behind: the newest has seq " + std::to_string(head),
            "after"};
    }
    said_ = position_;
    co_return ok();
}

void TailHub::Tail::look(std::int64_t now_us) {
    if (!hub_->in_force(exchange_->principal())) shut_ = true;
    const bool due = now_us - quiet_since_us_ >= heartbeat_us();
    if (due || shut_ || exchange_->hung_up()) signal->wake();
}

Task<Result<void>> TailHub::Tail::write(std::string_view text) {
    auto written = co_await exchange_->write(text);
    quiet_since_us_ = now_us();
    co_return written;
}

Task<Result<void>> TailHub::Tail::open() {
    Pairs headers = {
        {"Content-Type", "text/event-stream; charset=utf-8"},
        {"Cache-Control", "no-store"},
        {"X-Accel-Buffering", "no"},
    };
    BOOST_OUTCOME_CO_TRYV(exchange_->start(200, std::move(headers)));
    // A client that gets no event for a while must still know where it was.
    const std::string text = std::string(kOpening) + "id: " + std::to_string(position_) + "\n\n";
    co_return co_await write(text);
}

/// Only the headers are wanted: the exchange sends them by itself, and takes no more then.
Task<Result<void>> TailHub::Tail::answer_head() {
    constexpr int kTriesMax = 1'000;
    for (int tries = 0; tries < kTriesMax && !over(); ++tries) {
        const auto written = co_await exchange_->write({});
        if (!written) break;
        co_await pause_for(milliseconds(1));
    }
    co_return ok();
}

Task<Result<void>> TailHub::Tail::serve() {
    BOOST_OUTCOME_CO_TRYV(co_await open());
    if (exchange_->request().method == "HEAD") co_return co_await answer_head();
    while (!over()) {
        auto advanced = co_await advance();
        if (!advanced) co_return advanced;
    }
    if (exchange_->cancelled()) co_return Error{Errc::cancelled, "the client is gone"};
    Pairs no_trailers;
    co_return co_await exchange_->finish(std::move(no_trailers));
}

Task<Result<void>> TailHub::Tail::advance() {
    std::shared_ptr<const TailPage> page;
    switch (feed->next(position_, page)) {
        case TailFeed::Next::page:
            live_ = true;
            co_return co_await send(*page);
        case TailFeed::Next::behind:
            co_return co_await catch_up();
        case TailFeed::Next::none:
            break;
    }
    live_ = true;
    co_return co_await wait();
}

Task<Result<void>> TailHub::Tail::wait() {
    auto beaten = co_await heartbeat();
    if (!beaten) co_return beaten;
    co_await signal->wait();
    co_return ok();
}

Task<Result<void>> TailHub::Tail::heartbeat() {
    if (now_us() - quiet_since_us_ < heartbeat_us()) co_return ok();
    std::string text = ": heartbeat\n";
    if (said_ != position_) text += "id: " + std::to_string(position_) + "\n";
    said_ = position_;
    text += "\n";
    co_return co_await write(text);
}

Task<Result<void>> TailHub::Tail::send(const TailPage& page) {
    std::string text;
    std::size_t count = 0;
    const std::vector<Event>& events = page.events();
    for (std::size_t i = 0; i < events.size() && !over(); ++i) {
        const Event& event = events[i];
        if (event.seq <= position_ || !request_.filter.matches(event)) continue;
        text += page.message(i);
        said_ = event.seq;
        ++count;
        if (text.size() < kWriteBytes) continue;
        auto written = co_await write(text);
        if (!written) co_return written;
        text.clear();
    }
    position_ = page.to();
    if (count > 0) hub_->events.record(static_cast<double>(count));
    if (!text.empty()) co_return co_await write(text);
    co_return co_await heartbeat();
}

/// Goes on from the store, until the feed's pages are reached.
Task<Result<void>> TailHub::Tail::catch_up() {
    if (live_) hub_->lagging.record(1);
    live_ = false;
    if (!hub_->take_slot(*this)) co_return co_await wait();
    // Read before the store: what it has not come to yet is not part of this page.
    const Seq end = feed->end();
    std::shared_ptr<void> slot(nullptr, [hub = hub_](void*) { hub->give_slot_back(); });
    auto read = co_await read_behind();
    slot.reset();
    if (!read) {
        // The client can't be told any more; the store may be back soon.
        co_await pause_for(kReadRetryAfter);
        co_return co_await heartbeat();
    }
    ScanPage& found = read.value();
    page_size_.learn(found.batch);
    const Seq to = found.exhausted ? std::max(found.scanned, end) : found.scanned;
    const TailPage page(position_, to, std::move(found.batch));
    co_return co_await send(page);
}

Task<Result<ScanPage>> TailHub::Tail::read_behind() {
    ScanRequest request;
    request.project = project;
    request.filter = request_.filter;
    request.newest_first = false;
    request.after = position_;
    request.limit = page_size_.rows();
    request.tombstones = request_.filter.matches_all();
    request.budget = milliseconds(hub_->environment.limits->scan_budget_ms);
    hub_->catch_up_scans.record(1);
    co_return co_await hub_->environment.store->scan(std::move(request));
}

// --- The hub
// -----------------------------------------------------------------------------------------------------------

namespace {

Task<void> follow(std::shared_ptr<TailFeed> feed) {
    TailFeed& running = *feed;
    co_await running.run(std::move(feed));
}

/// Runs `task`, and counts it until it has ended.
Task<void> counted(std::shared_ptr<std::atomic<int>> running, Task<void> task) {
    co_await std::move(task);
    --*running;
}

}  // namespace

Result<void> TailHub::State::enter(const std::shared_ptr<Tail>& tail) {
    const std::lock_guard lock(mutex);
    if (closed) return Error{Errc::unavailable, "the node is stopping", {}, kFullRetryMs};
    if (tails.size() >= environment.limits->tails_max) {
        refused.record(1);
        return Error{
            Errc::unavailable,
            "the node has its maximum of " + std::to_string(environment.limits->tails_max) +
                " live tails; try again, or end others",
            {},
            kFullRetryMs};
    }
    Room& room = rooms[tail->project];
    if (++room.tails == 1) {
        room.feed = std::make_shared<TailFeed>(environment, tail->project, shared_scans);
        ++loops;
        const std::shared_ptr<std::atomic<int>> running(shared_from_this(), &loops);
        asio::co_spawn(*environment.executor, counted(running, follow(room.feed)), asio::detached);
    }
    tail->feed = room.feed;
    tail->feed->listen(tail->signal);
    tails.insert(tail);
    start_ticking();
    return ok();
}

void TailHub::State::located(Tail& tail) {
    const std::lock_guard lock(mutex);
    tail.live = true;
    open_tails.record(static_cast<double>(++live));
}

void TailHub::State::leave(Tail& tail) {
    tail.feed->leave(tail.signal);
    const std::lock_guard lock(mutex);
    tails.erase(tail.shared_from_this());
    if (tail.live) open_tails.record(static_cast<double>(--live));
    const auto room = rooms.find(tail.project);
    if (--room->second.tails == 0) {
        room->second.feed->stop();
        rooms.erase(room);
    }
    slot_queue.erase(std::remove(slot_queue.begin(), slot_queue.end(), &tail), slot_queue.end());
}

/// Whether `tail` may read from the store now; if not it is woken when it may.
bool TailHub::State::take_slot(Tail& tail) {
    const std::lock_guard lock(mutex);
    const auto place = std::find(slot_queue.begin(), slot_queue.end(), &tail);
    if (slots == 0) {
        if (place == slot_queue.end()) slot_queue.push_back(&tail);
        return false;
    }
    if (place != slot_queue.end()) slot_queue.erase(place);
    --slots;
    return true;
}

void TailHub::State::give_slot_back() {
    const std::lock_guard lock(mutex);
    ++slots;
    offer_slots();
}

/// Whoever is offered a slot and is busy with a slow client instead does not keep it from others:
/// it is taken by who comes first, and offered again with the next tick.
void TailHub::State::offer_slots() {
    for (std::uint32_t i = 0; i < slots && !slot_queue.empty(); ++i) {
        slot_queue.front()->signal->wake();
        slot_queue.pop_front();
    }
}

void TailHub::State::start_ticking() {
    if (ticking) return;
    ticking = true;
    ++loops;
    const std::shared_ptr<std::atomic<int>> running(shared_from_this(), &loops);
    asio::co_spawn(strand, counted(running, tick(shared_from_this())), asio::detached);
}

Task<void> TailHub::State::tick(std::shared_ptr<State>) {
    const milliseconds time = tick_of(*environment.limits);
    bool goes_on = true;
    while (goes_on) {
        tick_timer.expires_after(time);
        boost::system::error_code ignored;
        co_await tick_timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        look_at_tails();
        if (nodes == Nodes::many) poll();
        const std::lock_guard lock(mutex);
        goes_on = ticking = !tails.empty();
    }
}

void TailHub::State::look_at_tails() {
    std::vector<std::shared_ptr<Tail>> all;
    {
        const std::lock_guard lock(mutex);
        all.assign(tails.begin(), tails.end());
        offer_slots();
    }
    const std::int64_t now_us = environment.clock->monotonic_us();
    for (const auto& tail : all) tail->look(now_us);
}

void TailHub::State::poll() {
    const std::chrono::microseconds interval = kPollInterval;
    const std::int64_t now_us = environment.clock->monotonic_us();
    if (now_us - polled_us < interval.count()) return;
    polled_us = now_us;
    const std::lock_guard lock(mutex);
    for (const auto& [project, room] : rooms) room.feed->wake();
}

bool TailHub::State::quiet() {
    const std::lock_guard lock(mutex);
    return tails.empty() && loops == 0;
}

TailHub::TailHub(HostEnvironment& environment, Nodes nodes, KeyCheck in_force)
    : state_(std::make_shared<State>(environment, nodes, std::move(in_force))) {}

TailHub::~TailHub() = default;

Task<Result<void>> TailHub::run(
    std::string project, TailRequest request, std::shared_ptr<Exchange> exchange
) {
    const std::shared_ptr<State> state = state_;
    const auto tail =
        std::make_shared<Tail>(state, std::move(project), std::move(request), std::move(exchange));
    BOOST_OUTCOME_CO_TRYV(state->enter(tail));
    const std::shared_ptr<void> presence(nullptr, [state, tail](void*) { state->leave(*tail); });
    BOOST_OUTCOME_CO_TRYV(co_await tail->locate());
    state->located(*tail);
    co_return co_await tail->serve();
}

void TailHub::close() {
    const std::shared_ptr<State> state = state_;
    const std::lock_guard lock(state->mutex);
    state->closed = true;
    for (const auto& tail : state->tails) tail->signal->wake();
}

Task<void> TailHub::drain() {
    const std::shared_ptr<State> state = state_;
    while (!state->quiet()) {
        asio::post(state->strand, [state] { state->tick_timer.cancel(); });
        co_await pause_for(milliseconds(2));
    }
}

}  // namespace annal::http
