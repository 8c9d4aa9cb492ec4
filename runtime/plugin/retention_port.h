#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "runtime/core/clock.h"
#include "runtime/core/result.h"
#include "runtime/core/task.h"
#include "runtime/event/host_event.h"

namespace annal {

/// How long events stay.
struct RetentionPolicy {
    static constexpr std::uint32_t kMonthsMax = 1'200, kForwardMonthsMax = 120,
                                   kUnreadDaysMax = 366;
    std::uint32_t months = 3;          ///< whole ones that stay beside the current one, at least 1
    std::uint32_t forward_months = 3;  ///< made ready ahead
    std::uint32_t unread_days = 7;     ///< how much longer what a stream has not read stays
    std::filesystem::path archive;     ///< folder for what goes; empty: none
    std::string archive_to;            ///< destination for what goes; empty: none
};

/// What retention took away for one project.
struct Cleanup {
    std::int64_t deleted = 0;
    std::uint32_t days = 0;
    TimeUs cutoff = kNoTime;
};

/// The other end of annal.retention/1 and of a store service's `clean_up`: runtime/retention.
///
/// Threads: any.
class RetentionPort {
public:
    virtual ~RetentionPort() = default;
    /// What the node's settings say; a policy may say otherwise.
    [[nodiscard]] virtual const RetentionPolicy& defaults() const = 0;
    /// @error Errc::conflict  Another instance has one. @error Errc::unprocessable  Its ranges.
    [[nodiscard]] virtual Result<void> declare(
        const std::string& instance, RetentionPolicy policy
    ) = 0;
    /// Lets go of what `declare` said: its instance ends.
    virtual void retract() = 0;
    /// @return  a JSON object: what was done, what not, and why.
    /// @error Errc::conflict  No policy, or a run is under way.
    /// @param is_over  asked now and then: whether the run is to end, between two projects
    [[nodiscard]] virtual Task<Result<std::string>> run(
        bool dry_run, std::function<bool()> is_over
    ) = 0;
    /// Takes away what is older than the project's own retention.
    /// @error Errc::conflict  The project is under legal hold.
    [[nodiscard]] virtual Task<Result<Cleanup>> clean_up(std::string project, Actor actor) = 0;
};

}  // namespace annal
