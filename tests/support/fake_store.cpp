#include "tests/support/fake_store.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include "runtime/core/task_impl.h"
#include "runtime/store/aggregate.h"

namespace annal::test {
namespace {

namespace asio = boost::asio;

Event copy_event(const Event& event, Arena& arena) {
    Event out = event;
    out.project_id = arena.copy(event.project_id);
    for (Text& text : out.columns) text = arena.copy(text);
    return out;
}

}  // namespace

void FakeStore::fail_appends(Error error, int times) {
    const std::lock_guard lock(mutex_);
    append_fault_ = {std::move(error), times};
}

void FakeStore::fail_reads(Error error, int times) {
    const std::lock_guard lock(mutex_);
    read_fault_ = {std::move(error), times};
}

void FakeStore::fail_leases(Error error, int times) {
    const std::lock_guard lock(mutex_);
    lease_fault_ = {std::move(error), times};
}

void FakeStore::fail_floors(Error error, int times) {
    const std::lock_guard lock(mutex_);
    floor_fault_ = {std::move(error), times};
}

std::optional<Error> FakeStore::fault(Fault& fault) {
    const std::lock_guard lock(mutex_);
    if (fault.times == 0) return std::nullopt;
    --fault.times;
    return fault.error;
}

Task<void> FakeStore::enter() {
    if (hop) co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
}

Task<void> FakeStore::sleep(std::int64_t ms) {
    asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(ms));
    co_await timer.async_wait(asio::use_awaitable);
}

void FakeStore::fill(const std::string& project, const EventDraft& draft, std::int64_t count) {
    const std::lock_guard lock(mutex_);
    std::vector<Receipt> receipts;
    while (count > 0) {
        const auto n = std::min<std::int64_t>(count, kBatchEventsMax);
        const std::vector<EventDraft> drafts(static_cast<std::size_t>(n), draft);
        write(logs_[project], project, drafts, receipts);
        count -= n;
    }
}

Event* FakeStore::find(Log& log, Seq seq) {
    if (seq < log.first || seq > log.head.seq) return nullptr;
    return &log.events[static_cast<std::size_t>(seq - log.first)];
}

void FakeStore::write(
    Log& log,
    const std::string& project,
    std::span<const EventDraft> drafts,
    std::vector<Receipt>& receipts
) {
    const SealedBatch batch = seal(log.head, project, drafts, clock_.wall_us(), kNoTime);
    Arena& arena = log.memory.emplace_back();
    for (std::size_t i = 0; i < drafts.size(); ++i) {
        Event event;
        event.id = batch.events[i].id;
        event.seq = batch.events[i].seq;
        event.created_at = batch.events[i].created_at;
        event.occurred_at = drafts[i].occurred_at;
        event.project_id = project;
        event.columns = drafts[i].columns;
        log.events.push_back(copy_event(event, arena));
        receipts.push_back({event.id, event.seq, event.created_at, false});
    }
    log.head = {batch.last_seq, batch.last_at, batch.digest};
}

std::optional<Error> FakeStore::check_kv(const AppendUnit& unit) const {
    for (const KvOp& op : unit.kv) {
        const auto found = kv_.find({{op.space, op.project}, op.key});
        if (op.kind == KvOp::Kind::require_absent && found != kv_.end()) {
            return Error{Errc::conflict, "the key " + op.key + " exists"};
        }
        if (op.kind == KvOp::Kind::require_equals &&
            (found == kv_.end() || found->second != op.value)) {
            return Error{Errc::conflict, "the key " + op.key + " has another value"};
        }
    }
    return std::nullopt;
}

Result<std::vector<Receipt>> FakeStore::append_events(Log& log, const AppendUnit& unit) {
    // Every key is checked before anything is written.
    std::vector<std::optional<Receipt>> known(unit.events.size());
    std::vector<EventDraft> fresh;
    std::map<std::string_view, Digest> here;
    for (std::size_t i = 0; i < unit.events.size(); ++i) {
        const EventDraft& draft = unit.events[i];
        if (!draft.idempotency_key.is_null()) {
            const Digest content = content_digest({&draft, 1});
            const auto found = log.event_keys.find(std::string(draft.idempotency_key.view()));
            const auto twin = here.find(draft.idempotency_key.view());
            if ((found != log.event_keys.end() && found->second.content != content) ||
                (twin != here.end() && twin->second != content)) {
                return Error{Errc::conflict, "the idempotency key was used with other content"};
            }
            if (found != log.event_keys.end()) {
                known[i] = found->second.receipts.front();
                continue;
            }
            here.emplace(draft.idempotency_key.view(), content);
        }
        fresh.push_back(draft);
    }
    std::vector<Receipt> written;
    if (!fresh.empty()) write(log, unit.project, fresh, written);
    std::vector<Receipt> receipts;
    auto next_written = written.begin();
    for (std::size_t i = 0; i < unit.events.size(); ++i) {
        if (known[i]) {
            known[i]->replayed = true;
            receipts.push_back(*known[i]);
            continue;
        }
        const Text& key = unit.events[i].idempotency_key;
        if (!key.is_null()) {
            log.event_keys[std::string(key.view())] = {
                content_digest({&unit.events[i], 1}), {*next_written}};
        }
        receipts.push_back(*next_written++);
    }
    return receipts;
}

Seq FakeStore::cursor_of(const std::string& project, const std::string& subscription) const {
    const auto found = cursors_.find({project, subscription});
    return found == cursors_.end() ? kNoSeq : found->second;
}

Result<void> FakeStore::check_fences(const AppendUnit& unit) const {
    std::map<std::string, Seq> here;
    for (const CursorMove& move : unit.cursors) {
        const auto [at, is_first] = here.try_emplace(move.subscription);
        if (is_first) at->second = cursor_of(unit.project, move.subscription);
        if (move.fence != 0) {
            BOOST_OUTCOME_TRY(leases_.check(unit.project, move));
            BOOST_OUTCOME_TRY(check_forward(move, at->second));
        }
        at->second = move.to;
    }
    return ok();
}

AppendOutcome FakeStore::apply(const AppendUnit& unit) {
    Log& log = logs_[unit.project];
    const Digest content = content_digest(unit.events);
    if (!unit.request_key.empty()) {
        const auto found = log.unit_keys.find(unit.request_key);
        if (found != log.unit_keys.end()) {
            if (found->second.content != content) {
                return Error{Errc::conflict, "the idempotency key was used with other content"};
            }
            auto receipts = found->second.receipts;
            for (Receipt& receipt : receipts) receipt.replayed = true;
            return receipts;
        }
    }
    if (auto error = check_kv(unit)) return *error;
    for (const Seq seq : unit.erase) {
        const Event* event = find(log, seq);
        if (event == nullptr || event->deleted) return Error{Errc::not_found, "no such event"};
    }
    BOOST_OUTCOME_TRY(check_fences(unit));
    BOOST_OUTCOME_TRY(auto receipts, append_events(log, unit));
    for (const Seq seq : unit.erase) {
        Event& event = *find(log, seq);
        event.columns = {};
        event.occurred_at = kNoTime;
        event.deleted = true;
    }
    for (const Scrub& scrub : unit.scrub) {
        Event* const event = find(log, scrub.seq);
        if (event == nullptr || event->deleted) continue;
        Scrub{scrub.seq, scrub.columns | Scrub::kAlways}.apply(event->columns);
        event->erased = true;
    }
    for (const KvOp& op : unit.kv) {
        if (op.kind == KvOp::Kind::put) kv_[{{op.space, op.project}, op.key}] = op.value;
        if (op.kind == KvOp::Kind::erase) kv_.erase({{op.space, op.project}, op.key});
    }
    for (const CursorMove& move : unit.cursors)
        cursors_[{unit.project, move.subscription}] = move.to;
    if (!unit.request_key.empty()) log.unit_keys[unit.request_key] = {content, receipts};
    return receipts;
}

Task<std::vector<AppendOutcome>> FakeStore::append(std::span<const AppendUnit> units) {
    co_await enter();
    if (append_delay_ms > 0) co_await sleep(append_delay_ms);
    while (hold_appends) co_await sleep(1);
    ++appends;
    std::vector<AppendOutcome> outcomes;
    for (const AppendUnit& unit : units) {
        if (auto error = fault(append_fault_)) {
            outcomes.emplace_back(*error);
            continue;
        }
        const std::lock_guard lock(mutex_);
        outcomes.push_back(apply(unit));
    }
    co_return outcomes;
}

Task<Result<ScanPage>> FakeStore::scan(ScanRequest request) {
    co_await enter();
    ++scans;
    const int at_once = ++scans_at_once;
    int most = scans_at_once_max;
    while (at_once > most && !scans_at_once_max.compare_exchange_weak(most, at_once)) {
    }
    if (scan_delay_ms > 0) co_await sleep(scan_delay_ms);
    --scans_at_once;
    if (auto error = fault(read_fault_)) co_return *error;
    const std::lock_guard lock(mutex_);
    Log& log = logs_[request.project];
    const Seq step = request.newest_first ? -1 : 1;
    Seq seq = request.newest_first ? log.head.seq : log.first;
    if (request.after) {
        seq = request.newest_first ? std::min(*request.after - 1, seq)
                                   : std::max(*request.after + 1, seq);
    }
    ScanPage page;
    page.scanned = request.after.value_or(seq - step);
    std::uint32_t looked = 0;
    while (true) {
        const Event* event = find(log, seq);
        if (event == nullptr) {
            page.exhausted = true;
            break;
        }
        if (page.batch.events.size() == request.limit || looked++ == scan_window) break;
        const bool take = event->deleted ? request.tombstones : request.filter.matches(*event);
        if (take) page.batch.events.push_back(copy_event(*event, page.batch.arena));
        page.scanned = seq;
        seq += step;
    }
    co_return page;
}

Task<Result<EventBatch>> FakeStore::get(std::string project, EventId id) {
    co_await enter();
    if (auto error = fault(read_fault_)) co_return *error;
    const std::lock_guard lock(mutex_);
    Log& log = logs_[project];
    const auto found = std::lower_bound(
        log.events.begin(),
        log.events.end(),
        id,
        [](const Event& e, const EventId& i) { return e.id < i; }
    );
    if (found == log.events.end() || found->id != id || found->deleted) {
        co_return Error{Errc::not_found, "no event has this id"};
    }
    EventBatch batch;
    batch.events.push_back(copy_event(*found, batch.arena));
    co_return batch;
}

Task<Result<std::vector<ActionCount>>> FakeStore::action_counts(std::string project, TimeUs since) {
    co_await enter();
    if (auto error = fault(read_fault_)) co_return *error;
    const std::lock_guard lock(mutex_);
    std::map<std::string, ActionCount, std::less<>> counted;
    for (const Event& event : logs_[project].events) {
        if (event.deleted || event.created_at < since) continue;
        const std::string action(event[Column::action].view());
        ActionCount& count = counted[action];
        count.action = action;
        ++count.count;
        count.last_seen = event.created_at;
    }
    std::vector<ActionCount> rows;
    for (auto& [action, count] : counted) rows.push_back(std::move(count));
    std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
        return a.count > b.count;
    });
    co_return rows;
}

Task<Result<Total>> FakeStore::count(
    std::string project, Filter filter, std::chrono::milliseconds
) {
    co_await enter();
    ++counts;
    if (auto error = fault(read_fault_)) co_return *error;
    const std::lock_guard lock(mutex_);
    Total total;
    for (const Event& event : logs_[project].events)
        total.count += !event.deleted && filter.matches(event) ? 1 : 0;
    co_return total;
}

Task<Result<std::vector<AggregateRow>>> FakeStore::aggregate(AggregateRequest request) {
    co_await enter();
    if (auto error = fault(read_fault_)) co_return *error;
    const std::lock_guard lock(mutex_);
    AggregateCounts groups(request);
    for (const Event& event : logs_[request.project].events) {
        if (!event.deleted && request.filter.matches(event)) groups.add(event);
    }
    co_return groups.rows();
}

Task<Result<std::string>> FakeStore::epoch() {
    co_return epoch_name;
}

Task<Result<LogState>> FakeStore::log_state(std::string project) {
    co_await enter();
    if (auto error = fault(read_fault_)) co_return *error;
    const std::lock_guard lock(mutex_);
    const Log& log = logs_[project];
    co_return LogState{log.first, log.head.seq, log.head.at, log.head.digest};
}

Task<Result<std::vector<MonthInfo>>> FakeStore::months() {
    co_await enter();
    const std::lock_guard lock(mutex_);
    std::map<Month, MonthInfo> found;
    for (const auto& [project, log] : logs_) {
        for (const Event& event : log.events) {
            MonthInfo& info = found[month_of(event.created_at)];
            info.month = month_of(event.created_at);
            ++info.events;
            info.bytes += sizeof(Event);
        }
    }
    std::vector<MonthInfo> rows;
    for (const auto& [month, info] : found) rows.push_back(info);
    co_return rows;
}

void FakeStore::drop_before(const std::string& project, Seq first) {
    const std::lock_guard lock(mutex_);
    Log& log = logs_.at(project);
    for (; log.first < first && !log.events.empty(); ++log.first) log.events.pop_front();
}

Task<Result<TimeUs>> FakeStore::now() {
    co_return clock_.wall_us();
}

Task<Result<void>> FakeStore::raise_floor(std::string project, Seq first_seq) {
    co_await enter();
    if (auto error = fault(floor_fault_)) co_return *error;
    const std::lock_guard lock(mutex_);
    const auto found = logs_.find(project);
    if (found == logs_.end()) co_return Error{Errc::not_found, "there is no such log"};
    auto& log = found->second;
    if (first_seq > log.first + static_cast<Seq>(log.events.size()))
        co_return Error{Errc::conflict, "the log does not reach that far"};
    for (; log.first < first_seq; ++log.first) log.events.pop_front();
    co_return ok();
}

Task<Result<void>> FakeStore::drop_month(Month month) {
    co_await enter();
    const std::lock_guard lock(mutex_);
    if (month >= month_of(clock_.wall_us()))
        co_return Error{Errc::conflict, "the month is still open"};
    bool any = false;
    for (auto& [project, log] : logs_) {
        while (!log.events.empty() && month_of(log.events.front().created_at) <= month) {
            any = any || month_of(log.events.front().created_at) == month;
            log.events.pop_front();
            ++log.first;
        }
    }
    if (!any) co_return Error{Errc::not_found, "no event was recorded in this month"};
    co_return ok();
}

Task<Result<std::optional<std::string>>> FakeStore::kv_get(
    std::string space, std::string project, std::string key
) {
    co_await enter();
    if (auto error = fault(read_fault_)) co_return *error;
    const std::lock_guard lock(mutex_);
    const auto found = kv_.find({{space, project}, key});
    std::optional<std::string> value;
    if (found != kv_.end()) value = found->second;
    co_return value;
}

Task<Result<std::vector<KvRow>>> FakeStore::kv_scan(
    std::string space,
    std::string project,
    std::string prefix,
    std::string after,
    std::uint32_t limit,
    KvOrder order
) {
    co_await enter();
    if (auto error = fault(read_fault_)) co_return *error;
    const std::lock_guard lock(mutex_);
    std::vector<KvRow> rows;
    if (order == KvOrder::descending) {
        const auto [first, end] = std::pair(kv_.begin(), kv_.end());
        for (auto it = end; it != first && rows.size() < limit;) {
            const auto& [where, value] = *--it;
            if (where.first != std::pair(space, project)) continue;
            const bool behind = !after.empty() && where.second >= after;
            if (!behind && where.second.starts_with(prefix))
                rows.push_back({project, where.second, value});
        }
        co_return rows;
    }
    for (const auto& [where, value] : kv_) {
        const auto& [row_space, row_project] = where.first;
        if (row_space != space || (!project.empty() && row_project != project)) continue;
        if (!where.second.starts_with(prefix)) continue;
        const std::string position =
            project.empty() ? row_project + '\0' + where.second : where.second;
        if (!after.empty() && position <= after) continue;
        if (rows.size() == limit) break;
        rows.push_back({row_project, where.second, value});
    }
    co_return rows;
}

Task<Result<Seq>> FakeStore::cursor(std::string project, std::string subscription) {
    co_await enter();
    if (auto error = fault(read_fault_)) co_return *error;
    const std::lock_guard lock(mutex_);
    co_return cursor_of(project, subscription);
}

Task<Result<Lease>> FakeStore::lease(LeaseRequest request) {
    co_await enter();
    ++leases_asked;
    if (auto error = fault(lease_fault_)) co_return *error;
    const std::lock_guard lock(mutex_);
    co_return leases_.lease(request);
}

Task<Result<void>> FakeStore::release_lease(
    std::string project, std::string name, std::string owner
) {
    co_await enter();
    const std::lock_guard lock(mutex_);
    leases_.release(project, name, owner);
    co_return ok();
}

}  // namespace annal::test
