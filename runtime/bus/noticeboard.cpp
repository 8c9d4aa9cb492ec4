#include "runtime/bus/noticeboard.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <mutex>
#include <vector>

#include "runtime/core/crypto.h"
#include "runtime/core/limits.h"
#include "runtime/core/pause.h"
#include "runtime/core/task_impl.h"
#include "runtime/store/suspend.h"

namespace annal {
namespace asio = boost::asio;
namespace {

const std::string kSpace = "host.notices";
constexpr const char* kKey = "changed";
constexpr unsigned kBuckets = 64;
constexpr std::size_t kTokenBytes = 8;

std::string bucket_of(const std::string& project) {
    return std::to_string(sha256(project).front() % kBuckets);
}

/// Who waits for a look that begins after `after`.
struct Waiter {
    std::uint64_t after = 0;
    std::shared_ptr<Done> done;
    Result<void>* result = nullptr;
};

}  // namespace

struct Noticeboard::State : std::enable_shared_from_this<Noticeboard::State> {
    State(EventStore& s, const Clock& c, Nodes n, asio::any_io_executor e)
        : store(s), clock(c), nodes(n), executor(std::move(e)) {}

    EventStore& store;
    const Clock& clock;
    const Nodes nodes;
    const asio::any_io_executor executor;
    std::vector<Reader> readers;

    // Of the look under way alone.
    std::map<std::string, std::string> buckets, projects;  // to the newest token that was read

    mutable std::mutex mutex;  // guards what follows
    bool looking = false;
    std::uint64_t looks = 0;  // begun
    std::int64_t begun_us = 0;
    std::int64_t as_of_us = 0;  // begin of the last look that went well
    std::vector<Waiter> waiters;

    void enlist(Waiter waiter);
    std::int64_t begin_look();
    bool end_look(const Result<void>& result);
    Task<Result<void>> look(bool read);
    Task<Result<void>> look_at(std::string bucket, bool read);
    Task<Result<void>> read_anew(std::string project);
    Task<void> run(std::shared_ptr<State> self);
};

void Noticeboard::State::enlist(Waiter waiter) {
    bool start = false;
    {
        const std::lock_guard lock(mutex);
        waiter.after = looks;
        waiters.push_back(std::move(waiter));
        start = !std::exchange(looking, true);
    }
    if (start) asio::co_spawn(executor, run(shared_from_this()), asio::detached);
}

std::int64_t Noticeboard::State::begin_look() {
    const std::lock_guard lock(mutex);
    ++looks;
    return begun_us = clock.monotonic_us();
}

/// Tells those whom it was for; whether others wait. A failure is for all: the store would keep
/// them waiting as long again.
bool Noticeboard::State::end_look(const Result<void>& result) {
    std::vector<Waiter> served;
    bool more = false;
    {
        const std::lock_guard lock(mutex);
        if (result) as_of_us = begun_us;
        const auto waits = std::partition(waiters.begin(), waiters.end(), [&](const Waiter& w) {
            return result && w.after >= looks;
        });
        std::move(waits, waiters.end(), std::back_inserter(served));
        waiters.erase(waits, waiters.end());
        more = looking = !waiters.empty();
    }
    for (const Waiter& waiter : served) {
        *waiter.result = result;
        (*waiter.done)();
    }
    return more;
}

Task<void> Noticeboard::State::run(std::shared_ptr<State> /*self*/) {
    asio::steady_timer pause(executor);
    for (bool more = true; more;) {
        std::int64_t next_us = 0;
        {
            const std::lock_guard lock(mutex);
            if (looks > 0) next_us = begun_us + std::chrono::microseconds(kSpacing).count();
        }
        if (const std::int64_t early_us = next_us - clock.monotonic_us(); early_us > 0) {
            pause.expires_after(std::chrono::microseconds(early_us));
            co_await pause.async_wait(asio::use_awaitable);
        }
        begin_look();
        const Result<void> result = co_await look(true);
        more = end_look(result);
    }
}

/// @param read  false: what is new is only noted
Task<Result<void>> Noticeboard::State::look(bool read) {
    // Rows of no project come first.
    auto rows = co_await store.kv_scan(kSpace, "", "", "", kBuckets);
    if (!rows) co_return rows.error();
    for (const KvRow& row : rows.value()) {
        if (buckets[row.key] == row.value) continue;
        std::string bucket = row.key;
        BOOST_OUTCOME_CO_TRYV(co_await look_at(std::move(bucket), read));
        buckets[row.key] = row.value;
    }
    co_return ok();
}

Task<Result<void>> Noticeboard::State::look_at(std::string bucket, bool read) {
    std::string after;
    for (;;) {
        std::string space = kSpace + "." + bucket;
        auto rows = co_await store.kv_scan(std::move(space), "", "", after, kPageMax);
        if (!rows) co_return rows.error();
        if (rows.value().empty()) co_return ok();
        for (const KvRow& row : rows.value()) {
            if (projects[row.project] == row.value) continue;
            if (read) {
                std::string project = row.project;
                BOOST_OUTCOME_CO_TRYV(co_await read_anew(std::move(project)));
            }
            projects[row.project] = row.value;
        }
        after = rows.value().back().project + '\0' + rows.value().back().key;
    }
}

Task<Result<void>> Noticeboard::State::read_anew(std::string project) {
    for (const Reader& reader : readers) {
        std::string name = project;
        BOOST_OUTCOME_CO_TRYV(co_await reader(std::move(name)));
    }
    co_return ok();
}

Noticeboard::Noticeboard(
    EventStore& store, const Clock& clock, Nodes nodes, asio::any_io_executor executor
)
    : state_(std::make_shared<State>(store, clock, nodes, std::move(executor))) {}

Noticeboard::~Noticeboard() = default;

void Noticeboard::add_reader(Reader reader) {
    state_->readers.push_back(std::move(reader));
}

Task<Result<void>> Noticeboard::begin() {
    if (!has_other_nodes()) co_return ok();
    const std::int64_t begun = state_->begin_look();
    BOOST_OUTCOME_CO_TRYV(co_await state_->look(false));
    const std::lock_guard lock(state_->mutex);
    state_->as_of_us = begun;
    co_return ok();
}

void Noticeboard::put_up(AppendUnit& unit, const std::string& project) const {
    if (!has_other_nodes()) return;
    const std::string token = random_token("", kTokenBytes), bucket = bucket_of(project);
    unit.kv.push_back({KvOp::Kind::put, kSpace, "", bucket, token});
    unit.kv.push_back({KvOp::Kind::put, kSpace + "." + bucket, project, kKey, token});
}

bool Noticeboard::has_other_nodes() const {
    return state_->nodes == Nodes::many;
}

bool Noticeboard::is_stale() const {
    return has_other_nodes() && age() > kFresh;
}

std::chrono::milliseconds Noticeboard::age() const {
    const std::lock_guard lock(state_->mutex);
    return std::chrono::milliseconds((state_->clock.monotonic_us() - state_->as_of_us) / 1'000);
}

Task<void> Noticeboard::wait_for_others() const {
    if (!has_other_nodes()) co_return;
    co_await pause_for(kFresh);
}

Task<Result<void>> Noticeboard::catch_up() {
    Result<void> result = ok();
    if (!has_other_nodes()) co_return result;
    // The state owns who waits, who must not own it: a node may end before the look does.
    std::function<void(std::shared_ptr<Done>)> start = [&](std::shared_ptr<Done> done) {
        state_->enlist({0, std::move(done), &result});
    };
    co_await suspend(std::move(start));
    co_return result;
}

Task<Result<void>> Noticeboard::read_anew(std::vector<std::string> projects) {
    if (has_other_nodes()) co_return co_await catch_up();
    for (const std::string& project : projects) {
        std::string name = project;
        BOOST_OUTCOME_CO_TRYV(co_await state_->read_anew(std::move(name)));
    }
    co_return ok();
}

}  // namespace annal
