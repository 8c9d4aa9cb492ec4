/// Lets events go when their time is over, and makes months ready ahead.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: job-retention}
///     spec:
///       library: {name: job_retention}
///       config: {months: 12, archive: /var/lib/annal-archive}
///       triggers:            # what has the name dry-run takes nothing away
///         - {name: daily, schedule: {every: 24h, atStart: true}}
///         - {name: dry-run, schedule: {every: never}}
///       limits: {timeout: 1h}
///       permissions: {retention: true}
///
/// The host decides what goes, project by project, and records it; this says how long, and when.
#include <annal/sdk.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>

class RetentionJob : public annal::Job {
public:
    static constexpr auto kName = "retention";
    static auto config() {
        return std::tuple{
            annal::optional("months", &RetentionJob::months_, 0)
                .range(0, 1200)
                .about("whole months that stay beside the current one; 0: what "
                       "AUTHIO_AUDIT_RETENTION_MONTHS says, or 3"),
            annal::optional("forward_months", &RetentionJob::forward_months_, 0)
                .range(0, 120)
                .about("months that are made ready ahead; 0: what AUTHIO_AUDIT_FORWARD_MONTHS "
                       "says, or 3"),
            annal::optional("unread_days", &RetentionJob::unread_days_, 7)
                .range(0, 366)
                .about("how much longer events stay that a stream has not read"),
            annal::optional("archive", &RetentionJob::archive_, "")
                .range(0, 4096)
                .about("folder for a file of whatever goes; empty: none"),
            annal::optional("archive_to", &RetentionJob::archive_to_, "")
                .range(0, 256)
                .about("destination for whatever goes, in place of a folder; its manifest sets "
                       "all that it needs"),
        };
    }

    annal::Status open() {
        annal::Status status = host().require(ANNAL_SERVICE_RETENTION);
        if (!status.ok()) {
            return status;
        }
        annal_retention_policy policy{};
        policy.struct_size = sizeof(policy);
        policy.months = static_cast<std::uint32_t>(months_);
        policy.forward_months = static_cast<std::uint32_t>(forward_months_);
        policy.unread_days = static_cast<std::uint32_t>(unread_days_);
        policy.archive = archive_.empty() ? annal::kNull : annal::to_str(archive_);
        policy.archive_to = archive_to_.empty() ? annal::kNull : annal::to_str(archive_to_);
        annal_error error{};
        error.struct_size = sizeof(error);
        const annal_status code = host().retention()->declare(host().context(), &policy, &error);
        return code == ANNAL_OK ? annal::Status() : annal::Status::from(&error);
    }

    annal::Task<annal::Status> run(const annal::Call& call, annal::JobRun run) {
        const bool dry_run = run.trigger() == "dry-run";
        const annal::RetentionReport report = co_await call.run_retention(dry_run);
        if (!report.ok()) {
            co_return report.status;
        }
        call.report(report.json);
        const bool failed = report.json.find("\"failed\":true") != std::string::npos;
        if (failed) {
            co_return annal::Status(
                ANNAL_UNAVAILABLE,
                "not everything that is due could go; the report says what and why"
            );
        }
        co_return annal::Status();
    }

private:
    std::int64_t months_ = 0, forward_months_ = 0, unread_days_ = 7;
    std::string archive_, archive_to_;
};

ANNAL_PLUGIN("annal.job-retention", "1.0.0", "Annal", "Apache-2.0", RetentionJob)
