#include "runtime/jobs/jobs.h"

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "runtime/core/log.h"
#include "runtime/core/pause.h"
#include "runtime/core/task_impl.h"
#include "runtime/core/time_text.h"
#include "runtime/plugin/call.h"
#include "runtime/store/suspend.h"

namespace annal {
namespace {

namespace asio = boost::asio;

constexpr const char* kSpace = "host.jobs";
/// No project's name has a dot.
constexpr const char* kNobody = "host.jobs";
constexpr std::chrono::milliseconds kLook{500}, kRetry{10'000};

}  // namespace

/// An instance: one run at a time.
struct Jobs::Job {
    std::shared_ptr<Instance> instance;
    std::uint16_t owner = 0;
    std::atomic<bool> running{false};
};

/// One schedule of an instance.
struct Jobs::Watch {
    std::shared_ptr<Job> job;
    ScheduleTrigger trigger;
    TimeUs begun = kNoTime;  ///< when this node began to look
    bool start_due = false;
    std::optional<JobRun> last;
    std::atomic<bool> running{false};
    std::atomic<bool> renewing{false}, ends{false};  ///< the lease, during a run
    std::atomic<bool> lost{false};                   ///< the lease is another node's

    [[nodiscard]] const std::string& instance() const { return job->instance->manifest().instance; }
    [[nodiscard]] std::string key() const { return instance() + "/" + trigger.name; }
};

Jobs::Jobs(HostEnvironment& host, asio::thread_pool& pool) : host_(host), pool_(pool) {}
Jobs::~Jobs() = default;

Error Jobs::no_schedule() {
    return {
        Errc::invalid,
        "a job needs a schedule, as in triggers: [{name: daily, schedule: {every: 24h}}]"};
}

Result<void> Jobs::add(std::shared_ptr<Instance> instance) {
    const Manifest& manifest = instance->manifest();
    if (manifest.schedules.empty()) return no_schedule();
    auto job = std::make_shared<Job>();
    job->owner = Call::owner_of(manifest.instance);
    job->instance = std::move(instance);
    for (const ScheduleTrigger& trigger : manifest.schedules) {
        auto watch = std::make_unique<Watch>();
        watch->job = job;
        watch->trigger = trigger;
        watches_.push_back(std::move(watch));
    }
    return ok();
}

void Jobs::start() {
    for (const auto& watch : watches_) {
        watch->begun = host_.clock->wall_us();
        watch->start_due = watch->trigger.at_start;
        if (watch->trigger.every_us == 0 && !watch->trigger.at_start) continue;
        {
            const std::lock_guard lock(mutex_);
            ++keeping_;
        }
        asio::co_spawn(*host_.executor, keep(watch.get()), asio::detached);
    }
}

Task<void> Jobs::stop() {
    stopping_ = true;
    for (;;) {
        bool busy = false;
        {
            const std::lock_guard lock(mutex_);
            busy = keeping_ > 0;
        }
        for (const auto& watch : watches_) busy = busy || watch->running;
        if (!busy) break;
        co_await pause_for(std::chrono::milliseconds(5));
    }
}

void Jobs::clear() {
    watches_.clear();
}

/// The end of the schedule's time, as far as this node knows.
TimeUs Jobs::due(const Watch& watch) const {
    if (watch.start_due) return watch.begun;
    if (watch.trigger.every_us == 0) return INT64_MAX;
    const std::lock_guard lock(mutex_);
    return (watch.last ? watch.last->started : watch.begun) + watch.trigger.every_us;
}

Task<void> Jobs::keep(Watch* watch) {
    bool known = false;
    auto next = std::chrono::steady_clock::now();
    while (!stopping_) {
        if (std::chrono::steady_clock::now() >= next) {
            if (!known) {
                const auto read = co_await read_last(*watch);
                known = read.has_value();
            }
            const bool is_due = known && host_.clock->wall_us() >= due(*watch);
            if (is_due) co_await run_if_due(*watch);
            // Another node does it, or the store does not answer: no haste.
            const bool still = !known || host_.clock->wall_us() >= due(*watch);
            next = std::chrono::steady_clock::now() + (still ? kRetry : kLook);
        }
        if (!stopping_) co_await pause_for(std::chrono::milliseconds(100));
    }
    const std::lock_guard lock(mutex_);
    --keeping_;
}

Task<void> Jobs::run_if_due(Watch& watch) {
    const TimeUs scheduled = due(watch);
    const auto ran = co_await take_turn(watch, scheduled, !watch.start_due);
    if (!ran && ran.error().code != Errc::conflict)
        log::warn("job.not_run", {{"job", watch.key()}, {"error", ran.error().detail}});
    // Whoever has the turn does it; a start is made up for by no other node.
    if (ran) watch.start_due = false;
}

Task<Result<void>> Jobs::read_last(Watch& watch) {
    std::string key = watch.key();
    BOOST_OUTCOME_CO_TRY(const auto row, co_await host_.store->kv_get(kSpace, "", std::move(key)));
    if (row) {
        auto run = JobRun::of_row(*row);
        const std::lock_guard lock(mutex_);
        if (run) watch.last = std::move(run);
    }
    co_return ok();
}

Task<Result<JobRun>> Jobs::take_turn(Watch& watch, TimeUs scheduled, bool only_if_due) {
    const Error busy{Errc::conflict, "the job " + watch.instance() + " runs already"};
    if (watch.job->running.exchange(true)) co_return busy;
    watch.running = true;
    LeaseRequest request;
    request.project = kNobody;
    request.name = watch.instance();
    request.owner = host_.node;
    request.ttl = std::chrono::milliseconds(host_.limits->lease_ms);
    Result<JobRun> outcome = busy;
    const auto asked = std::chrono::steady_clock::now();
    const auto lease = co_await host_.store->lease(request);
    if (!lease) outcome = lease.error();
    if (lease && lease.value().mine) {
        const auto read = co_await read_last(watch);
        if (!read) outcome = read.error();
        if (read && (!only_if_due || host_.clock->wall_us() >= due(watch))) {
            watch.lost = watch.ends = false;
            watch.renewing = true;
            asio::co_spawn(*host_.executor, renew(&watch, request, asked), asio::detached);
            outcome = co_await execute(watch, scheduled);
            watch.ends = true;
            while (watch.renewing) co_await pause_for(std::chrono::milliseconds(5));
        }
        (void)co_await host_.store->release_lease(request.project, request.name, request.owner);
    }
    watch.running = false;
    watch.job->running = false;
    co_return outcome;
}

/// So that a node that dies in a run holds up the others for one lease only, however long runs may
/// take.
Task<void> Jobs::renew(
    Watch* watch, LeaseRequest request, std::chrono::steady_clock::time_point asked
) {
    const auto third = request.ttl / 3;
    const std::int64_t timeout_us = watch->job->instance->manifest().timeout_us;
    const std::int64_t end_us = host_.clock->monotonic_us() + timeout_us;
    auto next = asked + third;
    auto valid_until = asked + request.ttl;
    while (!watch->ends) {
        const auto now = std::chrono::steady_clock::now();
        // One that does not come back holds nobody up for longer than it may take.
        const bool late = host_.clock->monotonic_us() > end_us;
        if (now >= next && !late) {
            next = now + third;
            const auto lease = co_await host_.store->lease(request);
            if (lease && lease.value().mine) valid_until = now + request.ttl;
            if (lease && !lease.value().mine) watch->lost = true;
        }
        if (late || now >= valid_until) watch->lost = true;
        co_await pause_for(std::chrono::milliseconds(20));
    }
    watch->renewing = false;
}

Task<JobRun> Jobs::execute(Watch& watch, TimeUs scheduled) {
    const Manifest& manifest = watch.job->instance->manifest();
    JobRun run;
    run.instance = manifest.instance;
    run.trigger = watch.trigger.name;
    run.node = host_.node;
    run.scheduled = scheduled;
    run.started = host_.clock->wall_us();
    struct Outcome {
        std::string error;
    };
    auto outcome = std::make_shared<Outcome>();
    std::shared_ptr<Call> call;
    std::function<void(std::shared_ptr<Done>)> begin = [&](std::shared_ptr<Done> done) {
        Call::Options options;
        options.actor_type = "system";
        options.actor_id = manifest.instance;
        options.owner = watch.job->owner;
        options.deadline_us = host_.clock->monotonic_us() + manifest.timeout_us;
        options.cancelled = [this, &watch] { return stopping_ || watch.lost; };
        options.on_complete = [outcome, done](const annal_error* error) {
            if (error != nullptr) outcome->error = to_error(*error).detail;
            if (error != nullptr && outcome->error.empty())
                outcome->error = "failed without a word";
            (*done)();
        };
        call = std::make_shared<Call>(std::move(options));
        asio::post(pool_, [&watch, handle = call->open(), scheduled] {
            const Instance& instance = *watch.job->instance;
            instance.table<annal_job_v1>().run(
                instance.self(), handle, to_abi(std::string_view(watch.trigger.name)), scheduled
            );
        });
    };
    co_await suspend(std::move(begin));
    run.ended = host_.clock->wall_us();
    run.error = outcome->error;
    run.report = call->report();
    AppendUnit unit;
    unit.kv.push_back({KvOp::Kind::put, kSpace, "", watch.key(), run.to_row()});
    const std::span<const AppendUnit> units(&unit, 1);
    const auto kept = co_await host_.store->append(units);
    if (!kept.front())
        log::warn(
            "job.not_recorded", {{"job", watch.key()}, {"error", kept.front().error().detail}}
        );
    if (run.error.empty()) {
        log::info(
            "job.ran",
            {{"job", watch.key()}, {"ms", std::to_string((run.ended - run.started) / 1'000)}}
        );
    } else {
        log::error("job.failed", {{"job", watch.key()}, {"error", run.error}});
    }
    const std::lock_guard lock(mutex_);
    watch.last = run;
    co_return run;
}

Result<Jobs::Watch*> Jobs::find(const std::string& instance, const std::string& trigger) {
    std::string known;
    for (const auto& watch : watches_) {
        if (watch->instance() == instance && watch->trigger.name == trigger) return watch.get();
        known += (known.empty() ? "" : ", ") + watch->key();
    }
    return Error{
        Errc::not_found,
        "there is no job " + instance + "/" + trigger +
            (known.empty() ? "; this node has none" : "; there are: " + known)};
}

Task<Result<JobRun>> Jobs::run(std::string instance, std::string trigger) {
    BOOST_OUTCOME_CO_TRY(Watch * watch, find(instance, trigger));
    if (stopping_) co_return Error{Errc::unavailable, "the node stops"};
    co_return co_await take_turn(*watch, host_.clock->wall_us(), false);
}

Task<Result<std::vector<Jobs::Schedule>>> Jobs::list() {
    std::vector<Schedule> schedules;
    for (const auto& watch : watches_) {
        BOOST_OUTCOME_CO_TRYV(co_await read_last(*watch));
        Schedule schedule;
        schedule.instance = watch->instance();
        schedule.trigger = watch->trigger.name;
        schedule.every_us = watch->trigger.every_us;
        schedule.at_start = watch->trigger.at_start;
        schedule.running = watch->running;
        const std::lock_guard lock(mutex_);
        schedule.last = watch->last;
        schedules.push_back(std::move(schedule));
    }
    co_return schedules;
}

}  // namespace annal
