#include "runtime/webhooks/webhook_worker.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <map>

#include "annal/sdk/retry_after.hpp"
#include "runtime/core/crypto.h"
#include "runtime/core/json_text.h"
#include "runtime/core/log.h"
#include "runtime/core/log_repeats.h"
#include "runtime/core/version.h"
#include "runtime/delivery/backoff.h"
#include "runtime/delivery/change_events.h"
#include "runtime/delivery/lease_holder_impl.h"
#include "runtime/plugin/http_client.h"
#include "runtime/store/read_space.h"
#include "runtime/webhooks/event_bodies.h"
#include "runtime/webhooks/lane.h"
#include "runtime/webhooks/retry_schedule.h"
#include "runtime/webhooks/webhook_metrics.h"

namespace annal {
namespace asio = boost::asio;
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using LanePtr = std::shared_ptr<Lane>;

constexpr std::uint32_t kEventsPerPage = 500;
constexpr std::size_t kRowsPerCommit = 2'000;  // of the fan-out; one event's may be more
constexpr std::size_t kGroup = 256;            // what came of attempts
constexpr microseconds kGroupWait{5'000};
constexpr std::size_t kFreshMax = 1'024, kFreshLow = 64;  // of a lane, in memory
constexpr std::uint32_t kPlacesPerRead = 256, kDuePerRead = 64;
constexpr std::size_t kAnswerBytesMax = 4'096;
// A fan-out that concerns nobody still moves, so that a restart does not read it all again.
constexpr Seq kIdleMoveSeqs = 10'000;
constexpr seconds kPoll{5}, kHousekeeping{1}, kPurgeEvery{3'600};
constexpr milliseconds kShortWait{100}, kPermitWait{10};
constexpr int kTooManyRequests = 429, kUnavailable = 503, kGone = 410;
constexpr std::int64_t kOverloadUs = kSecondUs;  // when an endpoint does not say for how long
constexpr std::uint32_t kRowsPerSweep = 500;

/// Text of anybody's, as it may stand in a row: what is no UTF-8 becomes '?'.
std::string as_text(std::string_view bytes) {
    std::string text;
    while (!bytes.empty()) {
        const std::size_t size = utf8_character_size(bytes);
        if (size == 0 || bytes.front() == '\0') {
            text += '?';
            bytes.remove_prefix(1);
        } else {
            text += bytes.substr(0, size);
            bytes.remove_prefix(size);
        }
    }
    return text;
}

std::string_view header_of(const OutboundResponse& answer, std::string_view name) {
    for (const auto& [key, value] : answer.headers)
        if (key == name) return value;
    return {};
}

std::string failure_of(const OutboundResponse& answer) {
    std::string text = "the endpoint answered " + std::to_string(answer.status);
    if (answer.status / 100 == 3)
        text += ", which is not followed; to " +
                quote_bounded(header_of(answer, "location").substr(0, 200));
    return text;
}

bool is_overload(const OutboundResponse& answer) {
    if (answer.status == kTooManyRequests) return true;
    return answer.status == kUnavailable && !header_of(answer, "retry-after").empty();
}

}  // namespace

struct WebhookWorker::State : std::enable_shared_from_this<WebhookWorker::State> {
    /// What the next commit holds.
    struct Batch {
        std::vector<KvOp> ops;
        Seq cursor = kNoSeq;
        struct Settled {
            LanePtr lane;
            Seq seq = kNoSeq;
            TimeUs next_at = INT64_MAX;  ///< its new place in the queue
        };
        std::vector<Settled> settled;
        std::vector<std::function<void()>> after;
        bool urgent = false;

        [[nodiscard]] bool empty() const { return ops.empty() && cursor == kNoSeq; }
    };
    /// One attempt under way.
    struct Flight {
        LanePtr lane;
        Place place;
        EventBodies::Shared body;
        TimeUs at = kNoTime;
        std::int64_t began_us = 0;
        std::uint64_t tenure = 0;
    };

    State(std::string p, Environment e)
        : project(std::move(p)),
          environment(e),
          host(e.host),
          options(e.options),
          strand(asio::make_strand(*e.host.executor)),
          lease(
              *e.host.store,
              *e.host.clock,
              strand,
              {project, kLease, e.host.node, milliseconds(e.host.limits->lease_ms)},
              [this] { wake_all(); }
          ),
          metrics(*e.host.metrics, project),
          bodies(*e.host.store, *e.host.clock, project),
          main_wake(strand),
          fan_wake(strand),
          shared_wake(strand),
          commit_wake(strand),
          house_wake(strand),
          swept_wake(strand) {}

    const std::string project;
    const Environment environment;
    HostEnvironment& host;
    const WebhookOptions& options;
    const WakeUp::Strand strand;
    LeaseHolder lease;
    WebhookMetrics metrics;
    EventBodies bodies;
    std::shared_ptr<void> wakes;
    std::atomic<bool> stopping{false}, running{false}, leasing{false};

    // On the strand.
    WakeUp main_wake, fan_wake, shared_wake, commit_wake, house_wake, swept_wake;
    std::uint64_t tenure = 0;
    int tasks = 0;  // coroutines of the tenure that commit nothing themselves
    bool committing = false;
    std::size_t flights = 0;
    std::map<std::string, LanePtr> lanes;
    Seq cursor = kNoSeq, scanned = kNoSeq;  // committed; looked at
    Batch batch;
    std::int64_t batch_since_us = 0;
    bool look_for_recoveries = true;
    std::set<std::string> swept;  // revoked, with nothing in the queue any more
    log::Repeats repeats;

    // --- life

    [[nodiscard]] bool over() const { return stopping || lease.is_lost(); }
    [[nodiscard]] TimeUs wall() const { return host.clock->wall_us(); }
    [[nodiscard]] std::int64_t now() const { return host.clock->monotonic_us(); }

    void wake_all() {
        main_wake.wake();
        wake_tasks();
    }
    void wake_tasks() {
        for (WakeUp* each : {&fan_wake, &shared_wake, &commit_wake, &house_wake, &swept_wake})
            each->wake();
        for (const auto& [id, lane] : lanes) lane->wake.wake();
    }
    void tell(const char* event, const std::string& error) {
        if (repeats.is_due(event + error))
            log::warn(event, {{"project", project}, {"error", error}});
    }

    Task<void> keep_lease();
    Task<void> run();
    Task<void> serve();
    Task<Result<void>> begin_tenure();
    Task<Result<void>> pass_gap(Seq first_seq);
    Task<Result<bool>> has_gap_before(const ScanPage& page);
    Task<Result<bool>> is_to_come(std::string endpoint, Seq first_seq);
    [[nodiscard]] bool is_permitted() const;
    Task<void> hold_permission(LanePtr lane);

    void spawn(Task<void> task);
    void sync_lanes();

    Task<void> fan_out();
    Task<Result<bool>> share_out();
    void share(const Event& event, Batch& to, std::vector<std::pair<LanePtr, Place>>& places);
    [[nodiscard]] Filter filter() const;

    Task<void> run_lane(LanePtr lane);
    Task<void> step(LanePtr lane);
    Task<Result<void>> read_queue(LanePtr lane);
    Task<Result<void>> read_fresh(LanePtr lane);
    Task<Result<void>> read_due(LanePtr lane);
    void queue_fresh(const LanePtr& lane, Place place);
    Place take(Lane& lane);
    void put_back(const LanePtr& lane, Seq seq);
    [[nodiscard]] bool has_permit(const Lane& lane) const;
    bool open_secrets(Lane& lane);
    void send(const LanePtr& lane, Place place, EventBodies::Shared body);
    void landed(const std::shared_ptr<Flight>& flight, const Result<OutboundResponse>& outcome);
    void judge(Flight& flight, const Result<OutboundResponse>& outcome);
    void record(Flight& flight, WebhookAttempt attempt, std::int64_t wait_us);
    void settle(const LanePtr& lane, const Place& place, const WebhookDelivery& delivery);
    void note_failure(const LanePtr& lane);
    void note_success(const LanePtr& lane);
    void disable(const LanePtr& lane, std::string why);
    Task<void> tell_disabled(LanePtr lane, std::string why, TimeUs failing_since);

    void put(const char* space, std::string key, std::string value) {
        add(KvOp::Kind::put, space, std::move(key), std::move(value));
    }
    void erase(const char* space, std::string key) {
        add(KvOp::Kind::erase, space, std::move(key), {});
    }
    void add(KvOp::Kind kind, const char* space, std::string key, std::string value) {
        if (batch.empty()) batch_since_us = now();
        batch.ops.push_back({kind, space, project, std::move(key), std::move(value)});
    }
    Task<void> keep_committing();
    Task<bool> commit(const Batch& what);
    Task<bool> commit_with_next(WakeUp& done);

    Task<void> keep_house();
    Task<Result<void>> recover();
    Task<Result<void>> recover(LanePtr lane, Recovery recovery);
    Task<Result<std::set<Seq>>> known(const char* space, std::string endpoint, Seq from, Seq to);
    [[nodiscard]] bool let_go(Lane& lane);
    Task<Result<void>> sweep(std::string endpoint);
    Task<Result<void>> purge(std::string endpoint);
    Task<Result<void>> measure();
};

// --- life

Task<void> WebhookWorker::State::keep_lease() {
    auto self = shared_from_this();
    co_await lease.keep();
    leasing = false;
}

Task<void> WebhookWorker::State::run() {
    auto self = shared_from_this();
    while (!stopping) {
        if (!lease.begin()) {
            metrics.stands_by(lease.is_elsewhere());
            co_await main_wake.wait_for(kPoll);
            continue;
        }
        metrics.stands_by(false);
        co_await serve();
        if (!stopping) log::warn("webhook.lease_lost", {{"project", project}});
    }
    running = false;
    lease.leave();
}

/// One tenure.
Task<void> WebhookWorker::State::serve() {
    ++tenure;
    const auto begun = co_await begin_tenure();
    if (!begun) {
        tell("webhook.not_started", begun.error().detail);
        if (!over()) co_await main_wake.wait_for(seconds(1));
        co_return;
    }
    committing = true;
    asio::co_spawn(strand, keep_committing(), asio::detached);
    spawn(fan_out());
    spawn(keep_house());
    sync_lanes();
    while (!over()) co_await main_wake.wait_for(kPoll);
    const std::int64_t patience = now() + microseconds(options.drain).count();
    while (tasks > 0 || flights > 0 || committing) {
        if (lease.is_lost() || now() >= patience)
            for (const auto& [id, lane] : lanes) lane->given_up->store(true);
        wake_tasks();
        co_await main_wake.wait_for(milliseconds(5));
    }
    lanes.clear();
    metrics.under_way(0);
    metrics.lags(0);  // is the next one's to say
}

void WebhookWorker::State::spawn(Task<void> task) {
    ++tasks;
    asio::co_spawn(strand, std::move(task), [self = shared_from_this()](std::exception_ptr) {
        --self->tasks;
        self->main_wake.wake();
    });
}

/// Nothing of an earlier tenure counts in this one.
Task<Result<void>> WebhookWorker::State::begin_tenure() {
    EventStore& store = *host.store;
    lanes.clear();
    bodies.clear();
    swept.clear();
    batch = Batch();
    look_for_recoveries = true;
    BOOST_OUTCOME_CO_TRYV(co_await environment.keeper.reload(project));
    BOOST_OUTCOME_CO_TRY(cursor, co_await store.cursor(project, kLease));
    BOOST_OUTCOME_CO_TRY(const LogState log, co_await store.log_state(project));
    if (cursor > log.head_seq)
        co_return Error{
            Errc::conflict,
            "webhooks were shared out up to seq " + std::to_string(cursor) +
                " but the log ends at " + std::to_string(log.head_seq) +
                ": the store was restored from an older copy"};
    scanned = cursor;
    for (WebhookEndpoint& endpoint : environment.keeper.endpoints_of(project)) {
        std::string id = endpoint.id;
        lanes.emplace(std::move(id), std::make_shared<Lane>(strand, std::move(endpoint)));
    }
    BOOST_OUTCOME_CO_TRY(
        const auto rows, co_await read_space(store, EndpointState::kSpace, project)
    );
    for (const KvRow& row : rows) {
        const auto lane = lanes.find(row.key);
        if (lane != lanes.end()) lane->second->state = EndpointState::from_text(row.value);
    }
    if (!lanes.empty() && cursor + 1 < log.first_seq) {
        BOOST_OUTCOME_CO_TRYV(co_await pass_gap(log.first_seq));
    }
    co_return ok();
}

/// Retention has dropped events that were not shared out: said, not passed over in silence.
Task<Result<void>> WebhookWorker::State::pass_gap(Seq first_seq) {
    boost::json::object metadata;
    metadata["from_seq"] = cursor + 1;
    metadata["to_seq"] = first_seq - 1;
    log::error(
        "webhook.gap", {{"project", project}, {"from_seq", cursor + 1}, {"to_seq", first_seq - 1}}
    );
    AppendUnit unit;
    unit.project = project;
    const Actor engine{"system", ""};
    ChangeEvents(engine, "project", project).add("webhook.gap", metadata).put_into(unit);
    unit.cursors.push_back({kLease, first_seq - 1, lease.fence()});
    for (const auto& [id, lane] : lanes) {
        if (lane->state.start != kNoSeq) continue;
        BOOST_OUTCOME_CO_TRY(const bool to_come, co_await is_to_come(id, first_seq));
        if (to_come) continue;
        EndpointState state = lane->state;
        state.start = first_seq - 1;
        unit.kv.push_back({KvOp::Kind::put, EndpointState::kSpace, project, id, state.to_text()});
        lane->state = state;
    }
    const auto done = co_await host.appender->append(std::move(unit));
    if (!done) co_return done.error();
    cursor = scanned = first_seq - 1;
    co_return ok();
}

/// Whether retention has dropped events between what was looked at and `page`, which came behind.
Task<Result<bool>> WebhookWorker::State::has_gap_before(const ScanPage& page) {
    const auto& events = page.batch.events;
    const bool adjoins = !events.empty() && events.front().seq == scanned + 1;
    if (adjoins || page.scanned <= scanned || lanes.empty()) co_return false;
    BOOST_OUTCOME_CO_TRY(const LogState log, co_await host.store->log_state(project));
    co_return log.first_seq > scanned + 1;
}

/// Whether its creation is still in the log, or was dropped with the rest.
Task<Result<bool>> WebhookWorker::State::is_to_come(std::string endpoint, Seq first_seq) {
    ScanRequest request;
    request.project = project;
    request.filter.actions.push_back({ActionPattern::Kind::exact, kCreatedAction});
    request.filter.equals[static_cast<std::size_t>(Column::target_id)] = std::move(endpoint);
    request.newest_first = false;
    request.limit = 1;
    request.after = first_seq - 1;
    for (;;) {
        ScanRequest step = request;
        BOOST_OUTCOME_CO_TRY(const ScanPage page, co_await host.store->scan(std::move(step)));
        if (!page.batch.events.empty()) co_return true;
        if (page.exhausted) co_return false;
        request.after = page.scanned;
    }
}

/// The lanes become what the keeper says, and those that have something to do run.
void WebhookWorker::State::sync_lanes() {
    for (WebhookEndpoint& endpoint : environment.keeper.endpoints_of(project)) {
        LanePtr& lane = lanes[endpoint.id];
        if (!lane) lane = std::make_shared<Lane>(strand, endpoint);
        if (lane->endpoint.revision != endpoint.revision) {
            lane->secrets.reset();
            lane->endpoint = std::move(endpoint);
        }
        if (!lane->is_active()) {
            lane->given_up->store(true);
        } else if (lane->given_up->load()) {
            lane->given_up = std::make_shared<std::atomic<bool>>(false);
        }
        if (lane->is_active() && !lane->runs && !over()) {
            lane->runs = true;
            spawn(run_lane(lane));
        }
        lane->wake.wake();
    }
}

/// That the lease holds, and that this node hears what others change.
bool WebhookWorker::State::is_permitted() const {
    return !over() && lease.is_valid() && !environment.keeper.is_out_of_date();
}

/// Waits until attempts are permitted, or the tenure is over.
Task<void> WebhookWorker::State::hold_permission(LanePtr lane) {
    while (!over() && !is_permitted()) co_await lane->wake.wait_for(kShortWait);
}

// --- fan-out

Filter WebhookWorker::State::filter() const {
    Filter filter;
    filter.actions.push_back({ActionPattern::Kind::prefix, "webhook.endpoint."});
    for (const auto& [id, lane] : lanes) {
        if (!lane->is_active()) continue;
        for (const ActionPattern& pattern : lane->endpoint.patterns) {
            if (pattern.kind == ActionPattern::Kind::any) return {};
            const auto& known = filter.actions;
            if (std::find(known.begin(), known.end(), pattern) == known.end())
                filter.actions.push_back(pattern);
        }
    }
    return filter;
}

Task<void> WebhookWorker::State::fan_out() {
    while (!over()) {
        const auto more = co_await share_out();
        if (over()) break;
        if (!more) {
            tell("webhook.fan_out_failed", more.error().detail);
            co_await fan_wake.wait_for(seconds(1));
        } else if (!more.value()) {
            co_await fan_wake.wait_for(kPoll);
        }
    }
}

/// What `event` means for each endpoint.
void WebhookWorker::State::share(
    const Event& event, Batch& to, std::vector<std::pair<LanePtr, Place>>& places
) {
    const std::string_view action = event[Column::action].view();
    const std::string_view target = event[Column::target_id].view();
    std::string event_id;
    for (const auto& [id, lane] : lanes) {
        if (lane->state.start == kNoSeq) {
            if (action != kCreatedAction || target != id) continue;
            lane->state.start = event.seq;
            to.ops.push_back(
                {KvOp::Kind::put, EndpointState::kSpace, project, id, lane->state.to_text()}
            );
            continue;
        }
        if (!lane->is_active() || event.seq <= lane->state.start) continue;
        if (!lane->takes(action)) continue;
        if (event_id.empty()) {
            event_id = event.id.text();
            bodies.add(event);
        }
        Place place;
        place.at.seq = event.seq;
        place.delivery.id = {id, event.seq};
        place.delivery.event_id = event_id;
        to.ops.push_back(
            {KvOp::Kind::put, WebhookDelivery::kQueue, project, place.at.key(id), event_id}
        );
        places.emplace_back(lane, std::move(place));
    }
}

/// One page of the log. False: there is nothing more just now.
Task<Result<bool>> WebhookWorker::State::share_out() {
    ScanRequest request;
    request.project = project;
    request.filter = filter();
    request.newest_first = false;
    request.limit = kEventsPerPage;
    if (scanned != kNoSeq) request.after = scanned;
    BOOST_OUTCOME_CO_TRY(const ScanPage page, co_await host.store->scan(std::move(request)));
    BOOST_OUTCOME_CO_TRY(const bool gap, co_await has_gap_before(page));
    if (gap) {
        lease.drop();  // a tenure begins with what retention has dropped
        main_wake.wake();
        co_return false;
    }
    Seq through = page.scanned;
    Batch rows;
    std::vector<std::pair<LanePtr, Place>> places;
    bool whole = true, changed = false;
    Seq last = kNoSeq;
    for (const Event& event : page.batch.events) {
        const bool changes = event[Column::action].view().starts_with("webhook.endpoint.");
        // The endpoints may be others now, and so may what was asked for.
        if (changed && !changes) break;
        if (changes && !changed) {
            changed = true;
            BOOST_OUTCOME_CO_TRYV(co_await environment.keeper.reload(project));
            sync_lanes();
        }
        share(event, rows, places);
        last = event.seq;
        whole = rows.ops.size() < kRowsPerCommit;
        if (!whole) break;
    }
    whole = whole && !changed;
    if (!whole) through = last;
    if (over() || through == kNoSeq) co_return false;
    if (rows.ops.empty() && through - cursor < kIdleMoveSeqs) {
        scanned = std::max(scanned, through);
        co_return !whole || !page.exhausted;
    }
    if (batch.empty()) batch_since_us = now();
    std::move(rows.ops.begin(), rows.ops.end(), std::back_inserter(batch.ops));
    batch.cursor = std::max(batch.cursor, through);
    batch.after.emplace_back([this, places = std::move(places)] {
        for (const auto& [lane, place] : places) queue_fresh(lane, place);
    });
    const bool done = co_await commit_with_next(shared_wake);
    if (done) scanned = std::max(scanned, through);
    co_return done && (!whole || !page.exhausted);
}

// --- lanes

void WebhookWorker::State::queue_fresh(const LanePtr& lane, Place place) {
    lane->wake.wake();
    if (!lane->is_active()) {
        lane->fresh_more = true;
        swept.erase(lane->endpoint.id);  // revoked while this was being committed
        return;
    }
    if (lane->fresh_more || lane->reading || lane->fresh.size() >= kFreshMax) {
        lane->fresh_more = true;
        return;
    }
    if (!lane->held.insert(place.at.seq).second) return;
    lane->fresh_after = place.at.key(lane->endpoint.id);
    lane->fresh.push_back(std::move(place));
}

Task<Result<void>> WebhookWorker::State::read_fresh(LanePtr lane) {
    lane->fresh_more = false;
    if (std::exchange(lane->fresh_anew, false)) lane->fresh_after.clear();
    auto rows = co_await host.store->kv_scan(
        WebhookDelivery::kQueue,
        project,
        fresh_rows_of(lane->endpoint.id),
        lane->fresh_after,
        kPlacesPerRead
    );
    if (!rows) {
        lane->fresh_more = true;
        co_return rows.error();
    }
    for (KvRow& row : rows.value()) {
        lane->fresh_after = row.key;
        const auto at = QueuePlace::of_key(row.key);
        if (!at || lane->settled.contains(at->seq)) continue;
        if (!lane->held.insert(at->seq).second) continue;
        Place place;
        place.at = *at;
        place.delivery.id = {lane->endpoint.id, at->seq};
        place.delivery.event_id = std::move(row.value);
        lane->fresh.push_back(std::move(place));
    }
    if (rows.value().size() == kPlacesPerRead) lane->fresh_more = true;
    co_return ok();
}

/// Those whose time has come, from the first on: what is held already is passed over.
Task<Result<void>> WebhookWorker::State::read_due(LanePtr lane) {
    const std::string id = lane->endpoint.id;
    const TimeUs at = wall();
    const auto limit =
        static_cast<std::uint32_t>(std::min<std::size_t>(kDuePerRead + lane->held.size(), kPageMax)
        );
    lane->next_due = INT64_MAX;
    BOOST_OUTCOME_CO_TRY(
        const auto rows,
        co_await host.store->kv_scan(
            WebhookDelivery::kQueue, project, rows_of(id), behind_fresh_rows_of(id), limit
        )
    );
    for (const KvRow& row : rows) {
        const auto place = QueuePlace::of_key(row.key);
        if (!place) continue;
        if (place->due > at) {
            lane->next_due = std::min(lane->next_due, place->due);
            co_return ok();
        }
        if (lane->held.contains(place->seq)) continue;
        const DeliveryId wanted{id, place->seq};
        BOOST_OUTCOME_CO_TRY(
            const auto stored,
            co_await host.store->kv_get(WebhookDelivery::kRetrying, project, delivery_key(wanted))
        );
        std::optional<WebhookDelivery> delivery;
        if (stored) {
            const KvRow found{project, delivery_key(wanted), *stored};
            auto read = WebhookDelivery::from_row(found, WebhookDelivery::Status::pending);
            if (read && read.value().next_at == place->due) delivery = std::move(read.value());
        }
        if (!delivery) {
            erase(WebhookDelivery::kQueue, row.key);  // it has moved to another place, or is done
            commit_wake.wake();
            continue;
        }
        if (!lane->held.insert(place->seq).second) continue;
        Place due;
        due.at = *place;
        due.delivery = std::move(*delivery);
        lane->due.push_back(std::move(due));
    }
    if (rows.size() >= limit) lane->next_due = at;
    co_return ok();
}

Task<Result<void>> WebhookWorker::State::read_queue(LanePtr lane) {
    lane->reading = true;
    lane->settled.clear();
    Result<void> done = ok();
    if (lane->next_due <= wall() && lane->due.empty()) {
        done = co_await read_due(lane);
        if (!done) lane->next_due = wall() + kSecondUs;
    }
    if (done && lane->fresh_more && lane->fresh.size() < kFreshLow)
        done = co_await read_fresh(lane);
    lane->reading = false;
    co_return done;
}

Place WebhookWorker::State::take(Lane& lane) {
    // By turns: neither what is new nor what has waited goes without.
    lane.due_turn = lane.fresh.empty() || (!lane.due.empty() && !lane.due_turn);
    auto& from = lane.due_turn ? lane.due : lane.fresh;
    Place place = std::move(from.front());
    from.pop_front();
    return place;
}

/// It stays in the queue, and is read from there again.
void WebhookWorker::State::put_back(const LanePtr& lane, Seq seq) {
    lane->held.erase(seq);
    lane->fresh_more = lane->fresh_anew = true;
    lane->next_due = 0;
    lane->wake.wake();
    if (!lane->is_active()) house_wake.wake();
}

/// Endpoints that do not answer get no more than half of what the node has.
bool WebhookWorker::State::has_permit(const Lane& lane) const {
    const std::size_t most = options.attempts_max / (lane.pace.is_suspect() ? 2 : 1);
    return environment.attempts < most;
}

bool WebhookWorker::State::open_secrets(Lane& lane) {
    if (!lane.secrets) {
        auto secrets = environment.keeper.secrets_of(lane.endpoint);
        if (!secrets) {
            tell("webhook.no_secret", lane.endpoint.id + ": " + secrets.error().detail);
            return false;
        }
        lane.secrets = std::move(secrets.value());
    }
    if (wall() >= lane.endpoint.before_until) lane.secrets->before.clear();
    return true;
}

Task<void> WebhookWorker::State::run_lane(LanePtr lane) {
    while (!over() && lane->is_active()) co_await step(lane);
    lane->runs = false;
    house_wake.wake();
}

/// Begins one attempt, or waits until there may be one to begin.
Task<void> WebhookWorker::State::step(LanePtr lane) {
    const std::int64_t turn = lane->pace.next_us(now());
    if (turn > now()) {
        co_await lane->wake.wait_for(std::min(microseconds(turn - now()), microseconds(kPoll)));
        co_return;
    }
    if (lane->fresh.size() < kFreshLow) {
        const auto read = co_await read_queue(lane);
        if (!read) tell("webhook.queue_unreadable", read.error().detail);
    }
    if (lane->fresh.empty() && lane->due.empty()) {
        const auto until =
            std::clamp<std::int64_t>(lane->next_due - wall(), 1'000, microseconds(kPoll).count());
        if (!lane->fresh_more || lane->next_due > wall())
            co_await lane->wake.wait_for(microseconds(until));
        co_return;
    }
    if (!has_permit(*lane)) {
        co_await lane->wake.wait_for(kPermitWait);
        co_return;
    }
    Place place = take(*lane);
    const Seq seq = place.at.seq;
    const Seq through = lane->fresh.empty() ? seq : std::max(seq, lane->fresh.back().at.seq);
    co_await hold_permission(lane);
    // Last, so that nothing goes out that was erased while this waited.
    const auto body = co_await bodies.get(seq, through);
    const bool still =
        is_permitted() && environment.keeper.may_send(lane->endpoint) && open_secrets(*lane);
    if (!body || !still) {
        if (!body) tell("webhook.event_unreadable", body.error().detail);
        put_back(lane, seq);
        if (!over()) co_await lane->wake.wait_for(kShortWait);
        co_return;
    }
    if (body.value() == nullptr) {
        WebhookDelivery gone = std::move(place.delivery);
        gone.status = WebhookDelivery::Status::failed;
        gone.next_at = kNoTime;
        gone.ended_at = wall();
        gone.reason = "the event is not in the log any more";
        settle(lane, place, gone);
        co_return;
    }
    send(lane, std::move(place), body.value());
}

// --- attempts

void WebhookWorker::State::send(const LanePtr& lane, Place place, EventBodies::Shared body) {
    auto flight = std::make_shared<Flight>();
    flight->lane = lane;
    flight->body = std::move(body);
    flight->at = wall();
    flight->began_us = now();
    flight->tenure = tenure;
    OutboundRequest request;
    request.method = "POST";
    request.url = lane->endpoint.url;
    request.body = flight->body->text;
    request.timeout_ms = static_cast<std::uint32_t>(options.timeout.count());
    request.response_bytes_max = kAnswerBytesMax;
    request.allowed = {"*:*"};
    request.cancelled = [given_up = lane->given_up] { return given_up->load(); };
    request.headers = {
        {"Content-Type", "application/json"},
        {"User-Agent", "Annal/" + std::string(version())},
        {"Authio-Webhook-Id", place.delivery.id.text()},
        {"Authio-Webhook-Endpoint", lane->endpoint.id},
        {"Authio-Event", flight->body->action}};
    SignatureHeaders signatures = signature_headers(
        *lane->secrets,
        lane->endpoint.scheme,
        flight->body->event_id,
        flight->at / kSecondUs,
        flight->body->text
    );
    std::move(signatures.begin(), signatures.end(), std::back_inserter(request.headers));
    flight->place = std::move(place);
    lane->pace.began(flight->began_us);
    metrics.under_way(++flights);
    ++environment.attempts;
    environment.client.send(
        std::move(request),
        [self = shared_from_this(), flight](Result<OutboundResponse> outcome) {
            auto kept = std::make_shared<Result<OutboundResponse>>(std::move(outcome));
            asio::post(self->strand, [self, flight, kept] { self->landed(flight, *kept); });
        }
    );
}

void WebhookWorker::State::landed(
    const std::shared_ptr<Flight>& flight, const Result<OutboundResponse>& outcome
) {
    metrics.under_way(--flights);
    --environment.attempts;
    if (flight->tenure == tenure) judge(*flight, outcome);
    flight->lane->wake.wake();
}

void WebhookWorker::State::judge(Flight& flight, const Result<OutboundResponse>& outcome) {
    const LanePtr& lane = flight.lane;
    WebhookAttempt attempt;
    attempt.number = flight.place.delivery.attempts + 1;
    attempt.at = flight.at;
    attempt.latency_us = now() - flight.began_us;
    if (!outcome && outcome.error().code == Errc::cancelled) {
        lane->pace.cancelled();
        return put_back(lane, flight.place.at.seq);
    }
    if (!outcome) {
        attempt.error = as_text(outcome.error().detail);
        lane->pace.failed(now(), random_u64());
        return record(flight, std::move(attempt), 0);
    }
    const OutboundResponse& answer = outcome.value();
    attempt.status = answer.status;
    attempt.latency_us = answer.latency.count();
    if (answer.status / 100 == 2) {
        lane->pace.succeeded(now());
        return record(flight, std::move(attempt), 0);
    }
    attempt.error = failure_of(answer);
    attempt.answer = as_text(std::string_view(answer.body).substr(0, kAnswerBytesMax));
    const std::string_view retry_after = header_of(answer, "retry-after");
    const std::int64_t wait_us = 1'000LL * read_retry_after(retry_after, wall());
    if (is_overload(answer)) {
        lane->pace.overloaded(now(), wait_us > 0 ? wait_us : kOverloadUs);
    } else {
        lane->pace.failed(now(), random_u64());
    }
    record(flight, std::move(attempt), wait_us);
    if (answer.status == kGone) disable(lane, "the endpoint answered 410 Gone");
}

/// What an attempt leaves of a delivery.
void WebhookWorker::State::record(Flight& flight, WebhookAttempt attempt, std::int64_t wait_us) {
    const LanePtr& lane = flight.lane;
    const bool succeeded = attempt.succeeded();
    metrics.attempted(succeeded, attempt.latency_us);
    WebhookDelivery delivery = std::move(flight.place.delivery);
    delivery.attempts = attempt.number;
    ++delivery.tries;
    delivery.next_at = kNoTime;
    if (!succeeded)
        put(WebhookDelivery::kAttempts, attempt_key(delivery.id, attempt.number), attempt.to_text()
        );
    delivery.last = std::move(attempt);
    if (succeeded) {
        note_success(lane);
        delivery.status = WebhookDelivery::Status::delivered;
        delivery.ended_at = wall();
        return settle(lane, flight.place, delivery);
    }
    note_failure(lane);
    auto delay = retry_delay(delivery.tries, random_u64());
    if (!delay) {
        delivery.status = WebhookDelivery::Status::failed;
        delivery.ended_at = wall();
        metrics.given_up();
        return settle(lane, flight.place, delivery);
    }
    if (options.retry_delay.count() > 0) delay = options.retry_delay;
    delivery.next_at = wall() + std::max<std::int64_t>(microseconds(*delay).count(), wait_us);
    settle(lane, flight.place, delivery);
}

/// Where the delivery stands from now on.
void WebhookWorker::State::settle(
    const LanePtr& lane, const Place& place, const WebhookDelivery& delivery
) {
    const std::string key = delivery_key(delivery.id);
    erase(WebhookDelivery::kQueue, place.at.key(lane->endpoint.id));
    switch (delivery.status) {
        case WebhookDelivery::Status::pending:
            put_in_queue(batch.ops, project, delivery);
            break;
        case WebhookDelivery::Status::delivered:
            put(WebhookDelivery::kDelivered, key, delivery.to_text());
            break;
        case WebhookDelivery::Status::failed:
            put(WebhookDelivery::kFailed, key, delivery.to_text());
            break;
    }
    if (place.at.due > 0 && delivery.status != WebhookDelivery::Status::pending)
        erase(WebhookDelivery::kRetrying, key);
    const bool again = delivery.status == WebhookDelivery::Status::pending;
    batch.settled.push_back({lane, delivery.id.seq, again ? delivery.next_at : INT64_MAX});
    if (batch.settled.size() == 1 || batch.settled.size() >= kGroup) commit_wake.wake();
}

void WebhookWorker::State::note_success(const LanePtr& lane) {
    if (lane->state.failing_since == kNoTime) return;
    lane->state.failing_since = kNoTime;
    put(EndpointState::kSpace, lane->endpoint.id, lane->state.to_text());
}

void WebhookWorker::State::note_failure(const LanePtr& lane) {
    if (lane->state.failing_since == kNoTime) {
        lane->state.failing_since = wall();
        return put(EndpointState::kSpace, lane->endpoint.id, lane->state.to_text());
    }
    const auto failing = microseconds(wall() - lane->state.failing_since);
    if (failing < options.disable_after) return;
    disable(
        lane,
        "nothing but failures for " +
            std::to_string(std::chrono::duration_cast<std::chrono::hours>(failing).count()) +
            " hours"
    );
}

void WebhookWorker::State::disable(const LanePtr& lane, std::string why) {
    if (!lane->is_active()) return;
    lane->endpoint.status = WebhookEndpoint::Status::disabled;  // at once, here
    lane->endpoint.revision = 0;                                // until the keeper has its own
    const TimeUs since = std::exchange(lane->state.failing_since, kNoTime);
    put(EndpointState::kSpace, lane->endpoint.id, lane->state.to_text());
    spawn(tell_disabled(lane, std::move(why), since));
}

Task<void> WebhookWorker::State::tell_disabled(LanePtr lane, std::string why, TimeUs since) {
    const auto self = shared_from_this();
    const std::string id = lane->endpoint.id;
    const auto done = co_await environment.keeper.disable(project, id, std::move(why));
    if (done) {
        metrics.disabled();
    } else {
        tell("webhook.not_disabled", id + ": " + done.error().detail);
        // It has failed for as long as before: the next failure tries again.
        lane->state.failing_since = since;
        put(EndpointState::kSpace, id, lane->state.to_text());
    }
    if (!over()) sync_lanes();
}

// --- commits

/// Until the tenure is over and nothing is under way or left.
Task<void> WebhookWorker::State::keep_committing() {
    auto self = shared_from_this();
    while (!lease.is_lost()) {
        if (batch.empty()) {
            if (stopping && tasks == 0 && flights == 0) break;
            co_await commit_wake.wait_for(stopping ? milliseconds(20) : milliseconds(kPoll));
            continue;
        }
        const auto waited = microseconds(now() - batch_since_us);
        const bool full = batch.settled.size() >= kGroup || batch.urgent || stopping;
        if (!full && waited < kGroupWait) {
            co_await commit_wake.wait_for(kGroupWait - waited);
            continue;
        }
        Batch next = std::move(batch);
        batch = Batch();
        const bool done = co_await commit(next);
        if (!done) break;
        for (const auto& [lane, seq, next_at] : next.settled) {
            lane->held.erase(seq);
            if (lane->reading) lane->settled.insert(seq);
            lane->next_due = std::min(lane->next_due, next_at);
            lane->wake.wake();
            if (!lane->is_active()) house_wake.wake();
        }
        for (const auto& then : next.after) then();
    }
    committing = false;
    wake_all();
}

/// False: nothing was written, and this tenure may write no more.
Task<bool> WebhookWorker::State::commit(const Batch& what) {
    const Seq to = std::max(cursor, what.cursor);
    for (std::uint32_t failures = 0;; ++failures) {
        while (!lease.is_lost() && !lease.is_valid() && !(stopping && !lease.trouble().empty()))
            co_await commit_wake.wait_for(kShortWait);
        if (!lease.is_valid()) co_return false;
        AppendUnit unit;
        unit.project = project;
        unit.kv = what.ops;
        if (to != kNoSeq) unit.cursors.push_back({kLease, to, lease.fence()});
        const auto done = co_await host.appender->append(std::move(unit));
        if (done) break;
        tell("webhook.commit_failed", done.error().detail);
        if (done.error().code == Errc::conflict) {
            lease.drop();
            main_wake.wake();
            co_return false;
        }
        if (stopping && failures > 2) co_return false;  // tried again by whoever comes next
        const milliseconds delay = backoff(failures + 1, random_u64());
        co_await commit_wake.wait_for(delay);
    }
    cursor = to;
    co_return true;
}

/// Waits until what is in the batch now is committed. False: it will not be.
Task<bool> WebhookWorker::State::commit_with_next(WakeUp& done) {
    auto committed = std::make_shared<bool>(false);
    batch.urgent = true;
    batch.after.emplace_back([committed, &done] {
        *committed = true;
        done.wake();
    });
    commit_wake.wake();
    while (!*committed && committing) co_await done.wait_for(seconds(1));
    co_return *committed;
}

// --- now and then

Task<void> WebhookWorker::State::keep_house() {
    std::int64_t purge_at = now() + microseconds(seconds(60)).count();
    while (!over()) {
        Result<void> done = co_await measure();
        if (done && !over()) done = co_await recover();
        std::vector<std::string> revoked, all;
        for (const auto& [id, lane] : lanes) {
            all.push_back(id);
            if (lane->endpoint.status == WebhookEndpoint::Status::revoked && !swept.contains(id))
                revoked.push_back(id);
        }
        for (std::size_t i = 0; done && !over() && i < revoked.size(); ++i)
            done = co_await sweep(revoked[i]);
        if (now() >= purge_at) {
            purge_at = now() + microseconds(kPurgeEvery).count();
            for (std::size_t i = 0; done && !over() && i < all.size(); ++i)
                done = co_await purge(all[i]);
        }
        if (!done) tell("webhook.housekeeping_failed", done.error().detail);
        if (!over()) co_await house_wake.wait_for(kHousekeeping);
    }
}

Task<Result<void>> WebhookWorker::State::measure() {
    BOOST_OUTCOME_CO_TRY(const LogState log, co_await host.store->log_state(project));
    metrics.lags(std::max<Seq>(0, log.head_seq - std::max(scanned, log.first_seq - 1)));
    co_return ok();
}

Task<Result<void>> WebhookWorker::State::recover() {
    if (!look_for_recoveries) co_return ok();
    BOOST_OUTCOME_CO_TRY(
        const auto rows, co_await read_space(*host.store, Recovery::kSpace, project)
    );
    look_for_recoveries = !rows.empty();
    for (const KvRow& row : rows) {
        const auto recovery = Recovery::from_text(row.value);
        const auto lane = lanes.find(row.key);
        if (!recovery || lane == lanes.end()) continue;
        BOOST_OUTCOME_CO_TRYV(co_await recover(lane->second, *recovery));
    }
    co_return ok();
}

Task<Result<std::set<Seq>>> WebhookWorker::State::known(
    const char* space, std::string endpoint, Seq from, Seq to
) {
    std::set<Seq> seqs;
    const bool queue = std::string_view(space) == WebhookDelivery::kQueue;
    const QueuePlace before{0, from - 1};
    const DeliveryId before_it{endpoint, from - 1};
    std::string after;
    if (from > 0) after = queue ? before.key(endpoint) : delivery_key(before_it);
    const std::string prefix = queue ? fresh_rows_of(endpoint) : rows_of(endpoint);
    for (;;) {
        BOOST_OUTCOME_CO_TRY(
            const auto rows,
            co_await host.store->kv_scan(space, project, prefix, after, kRowsPerSweep)
        );
        for (const KvRow& row : rows) {
            const Seq seq = std::stoll(row.key.substr(row.key.rfind('/') + 1), nullptr, 16);
            if (seq > to) co_return seqs;
            seqs.insert(seq);
        }
        if (rows.size() < kRowsPerSweep) co_return seqs;
        after = rows.back().key;
    }
}

/// A second's worth of what the endpoint lacks: neither delivered nor pending.
Task<Result<void>> WebhookWorker::State::recover(LanePtr lane, Recovery recovery) {
    const std::string id = lane->endpoint.id;
    if (lane->endpoint.status == WebhookEndpoint::Status::disabled) co_return ok();
    const bool revoked = lane->endpoint.status == WebhookEndpoint::Status::revoked;
    // The fan-out has to have been there; and what was queued before goes first.
    if (!revoked && (scanned < recovery.next || !lane->due.empty())) co_return ok();
    ScanRequest request;
    request.project = project;
    request.filter.actions = lane->endpoint.patterns;
    request.newest_first = false;
    request.limit = static_cast<std::uint32_t>(options.recovered_per_second);
    if (recovery.next > 0) request.after = recovery.next - 1;
    BOOST_OUTCOME_CO_TRY(const ScanPage page, co_await host.store->scan(std::move(request)));
    std::set<Seq> pending, done;
    // No further than the fan-out has been: what that is about to queue is not lacking.
    const Seq last = std::min({page.scanned, recovery.until, scanned});
    if (!revoked && last >= recovery.next) {
        BOOST_OUTCOME_CO_TRY(
            pending, co_await known(WebhookDelivery::kQueue, id, recovery.next, last)
        );
        BOOST_OUTCOME_CO_TRY(
            const auto retrying, co_await known(WebhookDelivery::kRetrying, id, recovery.next, last)
        );
        BOOST_OUTCOME_CO_TRY(
            done, co_await known(WebhookDelivery::kDelivered, id, recovery.next, last)
        );
        pending.insert(retrying.begin(), retrying.end());
    }
    const TimeUs due = wall();
    std::vector<std::pair<Seq, std::string>> lacking;
    for (const Event& event : page.batch.events) {
        const bool wanted = event.seq <= last && event.seq > lane->state.start && !revoked;
        if (wanted && !pending.contains(event.seq) && !done.contains(event.seq) &&
            !lane->held.contains(event.seq))
            lacking.emplace_back(event.seq, event.id.text());
    }
    for (const auto& [seq, event_id] : lacking) {
        WebhookDelivery delivery;
        delivery.id = {id, seq};
        delivery.event_id = event_id;
        const std::string key = delivery_key(delivery.id);
        BOOST_OUTCOME_CO_TRY(
            const auto failed, co_await host.store->kv_get(WebhookDelivery::kFailed, project, key)
        );
        if (failed) {
            const KvRow row{project, key, *failed};
            auto before = WebhookDelivery::from_row(row, WebhookDelivery::Status::pending);
            if (before) delivery.attempts = before.value().attempts;
            if (before) delivery.last = before.value().last;
            erase(WebhookDelivery::kFailed, key);
        }
        delivery.next_at = due;
        if (batch.empty()) batch_since_us = now();
        put_in_queue(batch.ops, project, delivery);
    }
    recovery.queued += static_cast<std::int64_t>(lacking.size());
    recovery.next = std::max(recovery.next, last + 1);
    const bool all_seen = page.exhausted && last == page.scanned;
    const bool ended = revoked || all_seen || recovery.next > recovery.until;
    if (ended) {
        erase(Recovery::kSpace, id);
    } else {
        put(Recovery::kSpace, id, recovery.to_text());
    }
    const bool committed = co_await commit_with_next(swept_wake);
    if (!committed) co_return ok();
    lane->next_due = 0;
    lane->wake.wake();
    if (!ended || revoked) co_return ok();
    AppendUnit unit;
    unit.project = project;
    boost::json::object metadata;
    metadata["deliveries"] = recovery.queued;
    const Actor engine{"system", ""};
    ChangeEvents(engine, "webhook_endpoint", id)
        .add("webhook.endpoint.recovered", metadata)
        .put_into(unit);
    const auto told = co_await host.appender->append(std::move(unit));
    if (!told) co_return told.error();
    co_return ok();
}

/// Of a lane that has ended: whether nothing of its queue is held any more.
bool WebhookWorker::State::let_go(Lane& lane) {
    if (lane.runs) return false;
    for (auto* places : {&lane.fresh, &lane.due}) {
        for (const Place& place : *places) lane.held.erase(place.at.seq);
        places->clear();
    }
    return lane.held.empty();
}

/// What a revoked endpoint did not get any more has failed.
Task<Result<void>> WebhookWorker::State::sweep(std::string endpoint) {
    // What is under way, or was and is not committed, says itself what became of it.
    if (!let_go(*lanes.at(endpoint))) co_return ok();
    BOOST_OUTCOME_CO_TRY(
        const auto rows,
        co_await host.store->kv_scan(
            WebhookDelivery::kQueue, project, rows_of(endpoint), "", kRowsPerSweep
        )
    );
    if (rows.empty()) {
        swept.insert(endpoint);
        co_return ok();
    }
    for (const KvRow& row : rows) {
        const auto place = QueuePlace::of_key(row.key);
        erase(WebhookDelivery::kQueue, row.key);
        if (!place) continue;
        WebhookDelivery delivery;
        delivery.id = {endpoint, place->seq};
        delivery.event_id = row.value;
        const std::string key = delivery_key(delivery.id);
        if (place->due > 0) {
            BOOST_OUTCOME_CO_TRY(
                const auto stored,
                co_await host.store->kv_get(WebhookDelivery::kRetrying, project, key)
            );
            if (!stored) continue;
            const KvRow found{project, key, *stored};
            auto read = WebhookDelivery::from_row(found, WebhookDelivery::Status::pending);
            if (read) delivery = std::move(read.value());
            erase(WebhookDelivery::kRetrying, key);
        }
        delivery.status = WebhookDelivery::Status::failed;
        delivery.next_at = kNoTime;
        delivery.ended_at = wall();
        delivery.reason = "the endpoint was revoked";
        put(WebhookDelivery::kFailed, key, delivery.to_text());
    }
    (void)co_await commit_with_next(swept_wake);  // if not, it is done again
    house_wake.wake();
    co_return ok();
}

/// What has ended and is older than is kept goes. Rows are in the order of their events, and end
/// later than these.
Task<Result<void>> WebhookWorker::State::purge(std::string endpoint) {
    const TimeUs oldest = wall() - microseconds(options.keep).count();
    for (const char* space : {WebhookDelivery::kDelivered, WebhookDelivery::kFailed}) {
        std::string after;
        for (bool more = true; more && !over();) {
            BOOST_OUTCOME_CO_TRY(
                const auto rows,
                co_await host.store->kv_scan(
                    space, project, rows_of(endpoint), after, kRowsPerSweep
                )
            );
            more = rows.size() == kRowsPerSweep;
            bool any = false;
            for (const KvRow& row : rows) {
                after = row.key;
                const auto read =
                    WebhookDelivery::from_row(row, WebhookDelivery::Status::delivered);
                if (!read) continue;
                const auto event = EventId::parse(read.value().event_id);
                if (event && event->created_at() >= oldest) more = false;
                if (read.value().ended_at >= oldest) continue;
                any = true;
                erase(space, row.key);
                for (std::int64_t n = 1; n <= read.value().attempts; ++n)
                    erase(WebhookDelivery::kAttempts, attempt_key(read.value().id, n));
            }
            if (!any) continue;
            const bool done = co_await commit_with_next(swept_wake);
            if (!done) co_return ok();
        }
    }
    co_return ok();
}

// --- from outside

WebhookWorker::WebhookWorker(std::string project, Environment environment)
    : state_(std::make_shared<State>(std::move(project), environment)) {}

WebhookWorker::~WebhookWorker() = default;

void WebhookWorker::start() {
    std::weak_ptr<State> weak = state_;
    state_->wakes = state_->host.appender->subscribe(state_->project, [weak] {
        auto state = weak.lock();
        if (state) asio::post(state->strand, [state] { state->fan_wake.wake(); });
    });
    state_->running = true;
    state_->leasing = true;
    // Later: whoever starts this may hold what the tenure's beginning asks for.
    asio::post(state_->strand, [state = state_] {
        asio::co_spawn(state->strand, state->keep_lease(), asio::detached);
        asio::co_spawn(state->strand, state->run(), asio::detached);
    });
}

void WebhookWorker::look() {
    asio::post(state_->strand, [state = state_] {
        if (state->over() || !state->committing) return;
        state->look_for_recoveries = true;
        state->sync_lanes();
        for (const auto& [id, lane] : state->lanes) lane->next_due = 0;
        state->house_wake.wake();
    });
}

Task<void> WebhookWorker::cut_off(std::string endpoint) {
    const auto state = state_;
    const auto left = std::make_shared<std::atomic<int>>(1);
    asio::steady_timer timer(co_await asio::this_coro::executor);
    while (*left > 0) {
        asio::post(state->strand, [state, left, endpoint] {
            const auto found = state->lanes.find(endpoint);
            if (found != state->lanes.end()) found->second->given_up->store(true);
            *left = found == state->lanes.end() ? 0 : found->second->pace.under_way();
        });
        timer.expires_after(milliseconds(10));
        co_await timer.async_wait(asio::use_awaitable);
    }
}

void WebhookWorker::begin_stop() {
    state_->wakes.reset();
    state_->stopping = true;
    asio::post(state_->strand, [state = state_] { state->wake_all(); });
}

Task<void> WebhookWorker::stop() {
    begin_stop();
    asio::steady_timer timer(co_await asio::this_coro::executor);
    while (state_->running || state_->leasing) {
        asio::post(state_->strand, [state = state_] { state->main_wake.wake(); });
        timer.expires_after(milliseconds(5));
        co_await timer.async_wait(asio::use_awaitable);
    }
}

}  // namespace annal
