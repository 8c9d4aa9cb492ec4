#include "runtime/retention/retention.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <utility>

#include "runtime/core/limits.h"
#include "runtime/core/log.h"
#include "runtime/core/task_impl.h"
#include "runtime/core/time_text.h"
#include "runtime/core/turn.h"
#include "runtime/retention/archive.h"
#include "runtime/retention/cutoff.h"
#include "runtime/store/read_space.h"

namespace annal {
namespace {

namespace json = boost::json;

constexpr std::chrono::milliseconds kCountBudget{60'000};
constexpr std::uint32_t kYearOfMonths = 12;

/// A number in [least, most], or what is wrong with it.
Result<void> check_range(
    const char* name, std::uint32_t value, std::uint32_t least, std::uint32_t most
) {
    if (value >= least && value <= most) return ok();
    return Error{
        Errc::unprocessable,
        std::string(name) + " must be from " + std::to_string(least) + " to " +
            std::to_string(most) + ", not " + std::to_string(value)};
}

Result<void> check(const RetentionPolicy& policy) {
    BOOST_OUTCOME_TRYV(check_range("months", policy.months, 1, RetentionPolicy::kMonthsMax));
    BOOST_OUTCOME_TRYV(
        check_range("forward_months", policy.forward_months, 1, RetentionPolicy::kForwardMonthsMax)
    );
    BOOST_OUTCOME_TRYV(
        check_range("unread_days", policy.unread_days, 0, RetentionPolicy::kUnreadDaysMax)
    );
    if (!policy.archive.empty() && !policy.archive.is_absolute())
        return Error{
            Errc::unprocessable,
            "archive must be an absolute path, not " + policy.archive.string()};
    return ok();
}

json::object policy_json(const RetentionPolicy& policy) {
    json::object object;
    object["months"] = policy.months;
    object["forward_months"] = policy.forward_months;
    object["unread_days"] = policy.unread_days;
    object["archive"] =
        policy.archive.empty() ? json::value() : json::value(policy.archive.string());
    return object;
}

json::array texts(const std::vector<std::string>& from) {
    json::array array;
    for (const std::string& text : from) array.emplace_back(text);
    return array;
}

/// A failure of one project, which does not keep the others from their turn.
void note(std::string& error, const Error& why, const std::string& project) {
    error = why.detail;
    log::error("retention.failed", {{"project", project}, {"error", why.detail}});
}

Task<void> keep(Task<Result<ArchiveFile>> work, std::optional<Result<ArchiveFile>>& outcome) {
    outcome.emplace(co_await std::move(work));
}

}  // namespace

json::object Retention::to_json(const Plan& plan) {
    json::object object;
    object["project_id"] = plan.project;
    object["from_seq"] = plan.first;
    object["to_seq"] = plan.floor - 1;
    object["events"] = plan.events;
    object["cutoff"] = format_time(plan.cutoff);
    object["audit_retention_days"] = plan.days > 0 ? json::value(plan.days) : json::value();
    object["held"] = plan.held;
    object["kept_for_streams"] = texts(plan.kept_for);
    object["archive"] = plan.archive.empty() ? json::value() : json::value(plan.archive);
    object["error"] = plan.error.empty() ? json::value() : json::value(plan.error);
    return object;
}

Retention::Retention(Environment environment, RetentionPolicy defaults)
    : environment_(environment),
      defaults_(std::move(defaults)),
      files_(std::make_unique<boost::asio::thread_pool>(1)) {}

Retention::~Retention() {
    files_->join();
}

Result<void> Retention::declare(const std::string& instance, RetentionPolicy policy) {
    BOOST_OUTCOME_TRYV(check(policy));
    {
        const std::lock_guard lock(mutex_);
        if (declared_)
            return Error{
                Errc::conflict,
                "the node's retention is declared by " + declared_by_ +
                    " already; there is one policy a node"};
        declared_ = policy;
        declared_by_ = instance;
    }
    return ok();
}

void Retention::start() const {
    const std::lock_guard lock(mutex_);
    if (!declared_ || declared_->months >= kYearOfMonths) return;
    log::warn(
        "retention.short",
        {{"months", std::to_string(declared_->months)},
         {"detail",
          "PCI DSS 10.5.1 asks for at least 12 months of audit history; set "
          "AUTHIO_AUDIT_RETENTION_MONTHS to 12 or more where it applies"}}
    );
}

void Retention::retract() {
    const std::lock_guard lock(mutex_);
    declared_.reset();
}

RetentionPolicy Retention::policy() const {
    const std::lock_guard lock(mutex_);
    return declared_.value_or(defaults_);
}

Task<Result<std::vector<std::string>>> Retention::projects() {
    BOOST_OUTCOME_CO_TRY(
        const auto rows, co_await read_space(*environment_.host.store, "host.projects")
    );
    std::vector<std::string> projects;
    for (const KvRow& row : rows) projects.push_back(row.project);
    co_return projects;
}

/// Of the project's own days, or of the policy's months.
TimeUs Retention::cutoff_of(const Plan& plan, TimeUs now) const {
    return plan.days > 0 ? day_cutoff(now, plan.days) : month_cutoff(now, policy().months);
}

/// One behind the newest when all are older.
Task<Result<Seq>> Retention::first_from(std::string project, TimeUs at) {
    ScanRequest request;
    request.project = project;
    request.filter.from = at;
    request.newest_first = false;
    request.tombstones = true;
    request.limit = 1;
    for (;;) {
        ScanRequest next = request;
        BOOST_OUTCOME_CO_TRY(
            const ScanPage page, co_await environment_.host.store->scan(std::move(next))
        );
        if (!page.batch.events.empty()) co_return page.batch.events.front().seq;
        if (page.exhausted) break;
        request.after = page.scanned;
    }
    BOOST_OUTCOME_CO_TRY(const LogState log, co_await environment_.host.store->log_state(project));
    co_return log.head_seq + 1;
}

/// Events below `floor` that can be read.
Task<Result<std::int64_t>> Retention::count(std::string project, Seq floor) {
    Filter filter;
    ScanRequest request;
    request.project = project;
    request.newest_first = false;
    request.tombstones = true;
    request.limit = 1;
    request.after = floor - 1;
    BOOST_OUTCOME_CO_TRY(
        const ScanPage page, co_await environment_.host.store->scan(std::move(request))
    );
    if (!page.batch.events.empty()) filter.before = page.batch.events.front().created_at;
    BOOST_OUTCOME_CO_TRY(
        const Total total, co_await environment_.host.store->count(project, filter, kCountBudget)
    );
    co_return total.count;
}

Task<Result<Retention::Plan>> Retention::plan(std::string project, TimeUs now) {
    HostEnvironment& host = environment_.host;
    Plan plan;
    plan.project = project;
    BOOST_OUTCOME_CO_TRY(const LogState log, co_await host.store->log_state(project));
    plan.first = plan.floor = log.first_seq;
    plan.held = host.settings->is_held(project);
    BOOST_OUTCOME_CO_TRY(
        const std::string days, host.settings->get(project, "audit_retention_days")
    );
    if (days != "null") plan.days = static_cast<std::uint32_t>(std::stoul(days));
    plan.cutoff = cutoff_of(plan, now);
    if (plan.held || log.head_seq == kNoSeq) co_return plan;
    BOOST_OUTCOME_CO_TRY(const Seq wanted, co_await first_from(project, plan.cutoff));
    plan.floor = std::max(plan.first, wanted);
    co_return plan;
}

/// Lowers the floor to what the slowest stream has read, but not below what has waited long enough.
Task<Result<void>> Retention::keep_unread(Plan& plan, TimeUs now) {
    if (plan.floor <= plan.first) co_return ok();
    BOOST_OUTCOME_CO_TRY(const auto positions, co_await environment_.unread(plan.project));
    Seq read = plan.floor;
    for (const auto& [stream, next] : positions) read = std::min(read, next);
    if (read >= plan.floor) co_return ok();
    const TimeUs then = now - std::int64_t{policy().unread_days} * kDayUs;
    BOOST_OUTCOME_CO_TRY(
        const Seq overdue, co_await first_from(plan.project, cutoff_of(plan, then))
    );
    const Seq floor = std::clamp(std::max(read, overdue), plan.first, plan.floor);
    for (const auto& [stream, next] : positions) {
        if (next < plan.floor && floor < plan.floor) plan.kept_for.push_back(stream);
    }
    plan.floor = floor;
    co_return ok();
}

Task<Result<void>> Retention::record(
    const Plan& plan, std::string action, Actor actor, json::object more
) {
    json::object metadata;
    metadata["from_seq"] = plan.first;
    metadata["to_seq"] = plan.floor - 1;
    metadata["events"] = plan.events;
    metadata["cutoff"] = format_time(plan.cutoff);
    for (auto& [key, value] : more) metadata[key] = std::move(value);
    auto event = std::make_shared<HostEvent>();
    event->action = std::move(action);
    event->actor_type = std::move(actor.type);
    event->actor_id = std::move(actor.id);
    event->target_type = "audit_log";
    event->target_id = plan.project;
    event->metadata = json::serialize(metadata);
    AppendUnit unit;
    unit.project = plan.project;
    unit.events.push_back(event->draft());
    unit.kv.push_back(Settings::unless_held(plan.project));
    unit.memory = std::move(event);
    const auto outcome = co_await environment_.host.appender->append(std::move(unit));
    if (!outcome && outcome.error().code == Errc::conflict) co_return Settings::held(plan.project);
    if (!outcome) co_return outcome.error();
    co_return ok();
}

/// On a thread that may block.
Task<Result<void>> Retention::archive(Plan& plan) {
    const auto folder = policy().archive;
    if (folder.empty()) co_return ok();
    auto work =
        write_archive(*environment_.host.store, folder, plan.project, plan.first, plan.floor - 1);
    std::optional<Result<ArchiveFile>> made;
    auto kept = keep(std::move(work), made);
    co_await boost::asio::co_spawn(
        files_->get_executor(), std::move(kept), boost::asio::use_awaitable
    );
    if (!*made) co_return std::move(*made).error();
    const ArchiveFile& file = made->value();
    if (file.events != plan.events)
        co_return Error{
            Errc::conflict,
            "archive " + file.path.string() + " has " + std::to_string(file.events) +
                " events, the log " + std::to_string(plan.events)};
    plan.archive["file"] = file.path.string();
    plan.archive["events"] = file.events;
    plan.archive["sha256"] = file.sha256;
    co_return ok();
}

/// Archive, then record; what goes then is decided.
Task<Result<void>> Retention::decide(Plan& plan) {
    BOOST_OUTCOME_CO_TRYV(co_await archive(plan));
    json::object more;
    if (plan.days > 0) {
        more["audit_retention_days"] = plan.days;
    } else {
        more["months"] = policy().months;
    }
    if (!plan.archive.empty()) more["archive"] = plan.archive;
    Actor actor{"system", "retention"};
    co_return co_await record(plan, "audit_log.expired", std::move(actor), std::move(more));
}

/// Whether each project's floor lies behind the month.
Task<Result<bool>> Retention::nobody_wants(const std::vector<Plan>& plans, Month month) {
    for (const Plan& plan : plans) {
        if (!plan.error.empty()) co_return false;
        BOOST_OUTCOME_CO_TRY(
            const Seq end, co_await first_from(plan.project, start_of(next(month)))
        );
        if (end > plan.floor) co_return false;
    }
    co_return true;
}

/// The oldest, as long as they are past the policy and nobody wants anything of them.
Task<Result<std::vector<Month>>> Retention::months_to_drop(
    const std::vector<Plan>& plans, TimeUs now
) {
    BOOST_OUTCOME_CO_TRY(const auto months, co_await environment_.host.store->months());
    const Month first_kept = month_of(month_cutoff(now, policy().months));
    std::vector<Month> droppable;
    for (const MonthInfo& info : months) {
        if (info.month >= first_kept) break;
        BOOST_OUTCOME_CO_TRY(const bool unwanted, co_await nobody_wants(plans, info.month));
        if (!unwanted) break;
        droppable.push_back(info.month);
    }
    co_return droppable;
}

Task<Result<std::string>> Retention::run(bool dry_run) {
    const Turn turn(running_);
    if (!turn.mine()) co_return Error{Errc::conflict, "a run is under way; wait for its end"};
    co_return co_await run_once(dry_run);
}

/// With what keeps it from going on in it.
Task<Retention::Plan> Retention::plan_of_run(std::string project, TimeUs now) {
    auto made = co_await plan(project, now);
    Plan found;
    found.project = project;
    if (made) found = std::move(made).value();
    Result<void> done = made ? ok() : Result<void>(made.error());
    if (done) done = co_await keep_unread(found, now);
    if (done && found.floor > found.first) {
        const auto events = co_await count(project, found.floor);
        if (events) found.events = events.value();
        if (!events) done = events.error();
    }
    if (!done) note(found.error, done.error(), project);
    co_return found;
}

/// Everything has been decided and recorded.
Task<Result<void>> Retention::apply(std::vector<Plan>& plans, const std::vector<Month>& months) {
    EventStore& store = *environment_.host.store;
    Result<void> outcome = ok();
    for (const Month month : months) {
        outcome = co_await store.drop_month(month);
        if (!outcome) {
            log::error(
                "retention.failed",
                {{"month", format_month(month)}, {"error", outcome.error().detail}}
            );
            break;
        }
        log::info("retention.month_dropped", {{"month", format_month(month)}});
    }
    for (Plan& plan : plans) {
        if (!plan.is_due()) continue;
        const auto raised = co_await store.raise_floor(plan.project, plan.floor);
        if (!raised) note(plan.error, raised.error(), plan.project);
    }
    co_return outcome;
}

Task<Result<std::string>> Retention::run_once(bool dry_run) {
    HostEnvironment& host = environment_.host;
    const RetentionPolicy policy = this->policy();
    BOOST_OUTCOME_CO_TRY(const TimeUs now, co_await host.store->now());
    BOOST_OUTCOME_CO_TRYV(co_await host.settings->catch_up());
    if (!dry_run) {
        BOOST_OUTCOME_CO_TRYV(
            co_await host.store->make_months(static_cast<int>(policy.forward_months))
        );
    }
    BOOST_OUTCOME_CO_TRY(const auto ids, co_await projects());
    std::vector<Plan> plans;
    for (const std::string& id : ids) {
        if (stopping_) co_return Error{Errc::cancelled, "the node stops; the next run goes on"};
        Plan made = co_await plan_of_run(id, now);
        if (!dry_run && made.is_due()) {
            const auto decided = co_await decide(made);
            if (!decided) note(made.error, decided.error(), id);
        }
        plans.push_back(std::move(made));
    }
    BOOST_OUTCOME_CO_TRY(const auto months, co_await months_to_drop(plans, now));
    Result<void> applied = ok();
    if (!dry_run) applied = co_await apply(plans, months);

    json::array dropped, of_projects;
    for (const Month month : months) dropped.emplace_back(format_month(month));
    bool failed = !applied;
    for (const Plan& plan : plans) {
        failed = failed || !plan.error.empty();
        if (plan.says_something()) of_projects.push_back(to_json(plan));
    }
    json::object report;
    report["dry_run"] = dry_run;
    report["at"] = format_time(now);
    report["policy"] = policy_json(policy);
    report["months"] = std::move(dropped);
    report["projects"] = std::move(of_projects);
    report["error"] = applied ? json::value() : json::value(applied.error().detail);
    report["failed"] = failed;
    co_return json::serialize(report);
}

Task<Result<Cleanup>> Retention::clean_up(std::string project, Actor actor) {
    HostEnvironment& host = environment_.host;
    BOOST_OUTCOME_CO_TRY(const TimeUs now, co_await host.store->now());
    BOOST_OUTCOME_CO_TRYV(co_await host.settings->catch_up());
    BOOST_OUTCOME_CO_TRY(Plan made, co_await plan(project, now));
    if (made.held) co_return Settings::held(project);
    Cleanup cleanup;
    cleanup.cutoff = made.cutoff;
    cleanup.days = made.days > 0 ? made.days : days_since(made.cutoff, now);
    if (made.floor <= made.first) co_return cleanup;
    BOOST_OUTCOME_CO_TRY(made.events, co_await count(project, made.floor));
    cleanup.deleted = made.events;
    json::object more;
    more["retention_days"] = cleanup.days;
    BOOST_OUTCOME_CO_TRYV(
        co_await record(made, "audit_log.cleaned_up", std::move(actor), std::move(more))
    );
    BOOST_OUTCOME_CO_TRYV(co_await host.store->raise_floor(project, made.floor));
    co_return cleanup;
}

}  // namespace annal
