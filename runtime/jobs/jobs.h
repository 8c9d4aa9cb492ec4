#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/jobs/job_run.h"
#include "runtime/plugin/instance.h"

namespace boost::asio {
class thread_pool;
}

namespace annal {

/// The scheduled work of a node: instances of annal.job/1 and the schedule triggers of their
/// manifests.
///
/// A schedule is counted from the start of its last run, by whichever node, which is a row of the
/// store; a run that fell due while no node was there is made up for once. Nodes that share a store
/// take turns by a lease that is renewed while a run lasts: of what is due, one does it. A run
/// whose lease another node has got is cancelled. atStart is for each node's start. An instance
/// never runs twice at the same time on a node.
///
/// Threads: any. Lifetime: `stop` has returned before what it was given ends.
class Jobs {
public:
    /// @param pool  where the functions of instances run
    Jobs(HostEnvironment& host, boost::asio::thread_pool& pool);
    ~Jobs();

    /// What is said of a job's manifest without a schedule.
    [[nodiscard]] static Error no_schedule();
    /// @error Errc::invalid  Its manifest has no schedule.
    [[nodiscard]] Result<void> add(std::shared_ptr<Instance> instance);
    void start();
    /// Tells runs that are under way to end, and waits for them.
    [[nodiscard]] Task<void> stop();
    /// Lets go of the instances; after `stop`, or instead of `start`.
    void clear();

    struct Schedule {
        std::string instance, trigger;
        std::int64_t every_us = 0;  ///< 0: only when somebody asks
        bool at_start = false, running = false;
        std::optional<JobRun> last;
    };
    /// By instance, as the manifests say.
    [[nodiscard]] Task<Result<std::vector<Schedule>>> list();
    /// Runs it now, on this node, whatever its schedule.
    /// @error Errc::not_found  No such job, or no such trigger of it; the detail names those there
    /// are. @error Errc::conflict  It runs already, here or on another node.
    [[nodiscard]] Task<Result<JobRun>> run(std::string instance, std::string trigger);

private:
    struct Job;
    struct Watch;
    [[nodiscard]] Result<Watch*> find(const std::string& instance, const std::string& trigger);
    [[nodiscard]] Task<void> keep(Watch* watch);
    [[nodiscard]] Task<void> run_if_due(Watch& watch);
    [[nodiscard]] Task<Result<JobRun>> take_turn(Watch& watch, TimeUs scheduled, bool only_if_due);
    [[nodiscard]] Task<void> renew(
        Watch* watch, LeaseRequest request, std::chrono::steady_clock::time_point asked
    );
    [[nodiscard]] Task<JobRun> execute(Watch& watch, TimeUs scheduled);
    [[nodiscard]] Task<Result<void>> read_last(Watch& watch);
    [[nodiscard]] TimeUs due(const Watch& watch) const;

    HostEnvironment& host_;
    boost::asio::thread_pool& pool_;
    mutable std::mutex mutex_;
    std::atomic<bool> stopping_{false};
    std::vector<std::unique_ptr<Watch>> watches_;
    std::size_t keeping_ = 0;  ///< of the watches
};

}  // namespace annal
