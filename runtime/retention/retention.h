#pragma once

#include <atomic>
#include <boost/json/object.hpp>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/delivery/destinations.h"
#include "runtime/plugin/instance.h"
#include "runtime/plugin/retention_port.h"
#include "runtime/retention/archive.h"

namespace boost::asio {
class thread_pool;
}

namespace annal {

/// Lets events go when their time is over: whole months where nobody may want any of them, else
/// each project's part.
///
/// A project keeps what its setting audit_retention_days says, in days from midnight UTC; without
/// it the policy's months. Under legal hold it keeps everything. What a stream that is not revoked
/// has not delivered stays longer, for the policy's unread_days at most; then the stream records
/// the gap. Where the policy has an archive, nothing goes that is not in it; a project whose part
/// can't be archived keeps it until the next run.
///
/// Each decision is an event of the project's log (audit_log.expired, audit_log.cleaned_up) that is
/// committed before anything goes, with a row of space "host.retention" that says up to where, on
/// condition that nobody else has decided meanwhile and that there is no hold. What a crash
/// prevents is done by the next run, and not recorded a second time.
///
/// Threads: any. Lifetime: no call is under way when it ends.
class Retention final : public RetentionPort {
public:
    struct Environment {
        HostEnvironment& host;
        /// By stream of a project that is not revoked: the first event that it has not delivered.
        std::function<Task<Result<std::map<std::string, Seq>>>(std::string project)> unread;
        const Destinations& destinations;
        boost::asio::thread_pool& sink_pool;
    };
    Retention(Environment environment, RetentionPolicy defaults);

    [[nodiscard]] const RetentionPolicy& defaults() const override { return defaults_; }
    [[nodiscard]] Result<void> declare(const std::string& instance, RetentionPolicy policy)
        override;
    void retract() override;
    [[nodiscard]] Task<Result<std::string>> run(bool dry_run, std::function<bool()> is_over)
        override;
    [[nodiscard]] Task<Result<Cleanup>> clean_up(std::string project, Actor actor) override;
    /// The node serves: says once what its operator should know of the policy.
    /// @error Errc::unprocessable  Its archive can't be one.
    [[nodiscard]] Result<void> start() const;
    /// A run that is under way ends soon, between two projects; the next one does the rest. Waits
    /// for cleanups; runs are their job's.
    [[nodiscard]] Task<void> stop();

private:
    /// What is to go of one project, and why not more.
    struct Plan {
        std::string project;
        Seq first = 0, floor = 0;  ///< [first, floor) goes
        bool pending = false;      ///< what is before `first` was recorded, and is still there
        std::optional<std::string> decided;  ///< the row that says so
        std::int64_t events = 0;             ///< of those that can be read
        TimeUs cutoff = kNoTime;
        std::uint32_t days = 0;  ///< of the project's own; 0: the policy's months
        bool held = false;
        std::vector<std::string> kept_for;  ///< streams
        boost::json::object archive;
        std::string error;
        [[nodiscard]] bool is_due() const { return floor > first && error.empty(); }
        [[nodiscard]] bool is_to_do() const { return is_due() || (pending && !held); }
        /// What of it may go now.
        [[nodiscard]] Seq floor_now() const { return is_due() ? floor : first; }
        [[nodiscard]] bool says_something() const {
            return floor > first || held || !kept_for.empty() || !error.empty();
        }
    };
    [[nodiscard]] static boost::json::object to_json(const Plan& plan);
    [[nodiscard]] RetentionPolicy policy() const;
    [[nodiscard]] Task<Result<std::vector<std::string>>> projects();
    [[nodiscard]] TimeUs cutoff_of(const Plan& plan, TimeUs now) const;
    struct Place {
        Seq seq = 0;
        TimeUs created_at = kNoTime;
    };
    [[nodiscard]] Task<Result<std::optional<Place>>> find(
        std::string project, Seq floor, std::optional<TimeUs> from
    );
    [[nodiscard]] Task<Result<Seq>> first_from(std::string project, TimeUs at);
    [[nodiscard]] Task<Result<std::int64_t>> count(std::string project, Seq first, Seq floor);
    [[nodiscard]] Task<Result<Plan>> plan(std::string project, TimeUs now);
    [[nodiscard]] Task<Plan> plan_of_run(std::string project, TimeUs now);
    [[nodiscard]] Task<Result<void>> keep_unread(Plan& plan, TimeUs now);
    using IsOver = std::function<bool()>;
    [[nodiscard]] std::unique_ptr<Archive> open_archive(IsOver is_over) const;
    [[nodiscard]] Task<Result<void>> decide(Plan& plan, Archive* archive);
    [[nodiscard]] Task<Result<bool>> is_held(std::string project);
    [[nodiscard]] Task<Result<void>> record(
        const Plan& plan, std::string action, Actor actor, boost::json::object more
    );
    [[nodiscard]] Task<Result<void>> keep(Plan& plan, Archive* archive);
    [[nodiscard]] Task<Result<void>> spare_held(std::vector<Plan>& plans);
    [[nodiscard]] Task<Result<std::vector<Month>>> months_to_drop(
        const std::vector<Plan>& plans, TimeUs now
    );
    [[nodiscard]] Task<Result<bool>> nobody_wants(const std::vector<Plan>& plans, Month month);
    [[nodiscard]] Task<Result<std::string>> run_once(bool dry_run, IsOver is_over);
    [[nodiscard]] Task<Result<Cleanup>> clean_up_in_turn(std::string project, Actor actor);
    [[nodiscard]] Task<Result<Cleanup>> clean_up_once(std::string project, Actor actor);
    [[nodiscard]] Task<Result<void>> apply(
        std::vector<Plan>& plans, const std::vector<Month>& months
    );

    Environment environment_;
    const RetentionPolicy defaults_;
    mutable std::mutex mutex_;
    std::optional<RetentionPolicy> declared_;
    std::string declared_by_;
    std::set<std::string> archiving_;  ///< projects
    std::atomic<bool> running_{false}, stopping_{false};
    std::atomic<int> cleaning_{0};
};

}  // namespace annal
