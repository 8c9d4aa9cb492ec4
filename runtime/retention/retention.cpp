#include "runtime/retention/retention.h"

#include <algorithm>
#include <boost/json.hpp>
#include <utility>

#include "runtime/core/limits.h"
#include "runtime/core/log.h"
#include "runtime/core/pause.h"
#include "runtime/core/task_impl.h"
#include "runtime/core/time_text.h"
#include "runtime/core/turn.h"
#include "runtime/retention/cutoff.h"
#include "runtime/retention/destination_archive.h"
#include "runtime/retention/folder_archive.h"
#include "runtime/store/read_space.h"

namespace annal {
namespace {

namespace json = boost::json;

constexpr const char *kSpace = "host.retention", *kDecided = "decided";
constexpr int kTriesMax = 20;
constexpr std::chrono::milliseconds kAgain{50}, kCountBudget{60'000};
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
    if (!policy.archive.empty() && !policy.archive_to.empty())
        return Error{
            Errc::unprocessable,
            "archive and archive_to exclude each other; leave one of them out"};
    return ok();
}

json::object policy_json(const RetentionPolicy& policy) {
    json::object object;
    object["months"] = policy.months;
    object["forward_months"] = policy.forward_months;
    object["unread_days"] = policy.unread_days;
    object["archive"] =
        policy.archive.empty() ? json::value() : json::value(policy.archive.string());
    object["archive_to"] =
        policy.archive_to.empty() ? json::value() : json::value(policy.archive_to);
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
    : environment_(environment), defaults_(std::move(defaults)) {}

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

Result<void> Retention::start() const {
    const std::lock_guard lock(mutex_);
    if (!declared_) return ok();
    if (!declared_->archive_to.empty()) {
        BOOST_OUTCOME_TRYV(
            DestinationArchive::check(environment_.destinations, declared_->archive_to)
        );
    }
    if (declared_->months >= kYearOfMonths) return ok();
    log::warn(
        "retention.short",
        {{"months", std::to_string(declared_->months)},
         {"detail",
          "PCI DSS 10.5.1 asks for at least 12 months of audit history; set "
          "AUTHIO_AUDIT_RETENTION_MONTHS to 12 or more where it applies"}}
    );
    return ok();
}

Task<void> Retention::stop() {
    stopping_ = true;
    while (cleaning_ > 0) co_await pause_for(std::chrono::milliseconds(5));
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

/// The first event of the log at or behind `floor` and not older than `from`; tombstones count.
Task<Result<std::optional<Retention::Place>>> Retention::find(
    std::string project, Seq floor, std::optional<TimeUs> from
) {
    ScanRequest request;
    request.project = project;
    request.filter.from = from;
    request.newest_first = false;
    request.tombstones = true;
    request.limit = 1;
    request.after = floor - 1;
    for (;;) {
        ScanRequest next = request;
        BOOST_OUTCOME_CO_TRY(
            const ScanPage page, co_await environment_.host.store->scan(std::move(next))
        );
        if (!page.batch.events.empty()) {
            const Event& event = page.batch.events.front();
            co_return Place{event.seq, event.created_at};
        }
        if (page.exhausted) co_return std::nullopt;
        request.after = page.scanned;
    }
}

/// One behind the newest when all are older.
Task<Result<Seq>> Retention::first_from(std::string project, TimeUs at) {
    BOOST_OUTCOME_CO_TRY(const LogState log, co_await environment_.host.store->log_state(project));
    BOOST_OUTCOME_CO_TRY(const auto found, co_await find(project, log.first_seq, at));
    co_return found ? found->seq : log.head_seq + 1;
}

/// Events of [first, floor) that can be read.
Task<Result<std::int64_t>> Retention::count(std::string project, Seq first, Seq floor) {
    Filter filter;
    BOOST_OUTCOME_CO_TRY(const auto begin, co_await find(project, first, std::nullopt));
    BOOST_OUTCOME_CO_TRY(const auto end, co_await find(project, floor, std::nullopt));
    if (!begin) co_return std::int64_t{0};
    filter.from = begin->created_at;
    if (end) filter.before = end->created_at;
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
    BOOST_OUTCOME_CO_TRY(plan.decided, co_await host.store->kv_get(kSpace, project, kDecided));
    const Seq decided = plan.decided ? std::stoll(*plan.decided) : 0;
    plan.pending = decided > log.first_seq;
    plan.first = std::max(plan.first, decided);
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

/// As the store has it, whatever this node has heard.
Task<Result<bool>> Retention::is_held(std::string project) {
    KvOp hold = Settings::unless_held(project);
    BOOST_OUTCOME_CO_TRY(
        const auto row,
        co_await environment_.host.store->kv_get(
            std::move(hold.space), std::move(hold.project), std::move(hold.key)
        )
    );
    co_return row.has_value();
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
    const auto expected = plan.decided ? KvOp::Kind::require_equals : KvOp::Kind::require_absent;
    unit.kv.push_back({expected, kSpace, plan.project, kDecided, plan.decided.value_or("")});
    unit.kv.push_back({KvOp::Kind::put, kSpace, plan.project, kDecided, std::to_string(plan.floor)}
    );
    unit.memory = std::move(event);
    const auto outcome = co_await environment_.host.appender->append(std::move(unit));
    if (outcome) co_return ok();
    if (outcome.error().code != Errc::conflict) co_return outcome.error();
    BOOST_OUTCOME_CO_TRY(const bool held, co_await is_held(plan.project));
    if (held) co_return Settings::held(plan.project);
    co_return Error{
        Errc::conflict,
        "what goes of project " + plan.project + " was decided elsewhere at the same moment"};
}

/// Null: the policy has none.
std::unique_ptr<Archive> Retention::open_archive(IsOver is_over) const {
    RetentionPolicy policy = this->policy();
    EventStore& store = *environment_.host.store;
    if (!policy.archive.empty())
        return std::make_unique<FolderArchive>(
            store, policy.archive, environment_.sink_pool, std::move(is_over)
        );
    if (policy.archive_to.empty()) return nullptr;
    return std::make_unique<DestinationArchive>(
        DestinationArchive::Environment{
            environment_.host,
            environment_.destinations,
            environment_.sink_pool,
            std::move(is_over)},
        policy.archive_to
    );
}

/// One at a time of each project: a run and a cleanup would write the same files.
Task<Result<void>> Retention::keep(Plan& plan, Archive* archive) {
    if (archive == nullptr) co_return ok();
    {
        const std::lock_guard lock(mutex_);
        if (!archiving_.insert(plan.project).second)
            co_return Error{
                Errc::conflict,
                "what goes of project " + plan.project + " is being archived already; ask later"};
    }
    ArchiveRange range{plan.project, plan.first, plan.floor - 1, plan.events};
    auto kept = co_await archive->keep(std::move(range));
    {
        const std::lock_guard lock(mutex_);
        archiving_.erase(plan.project);
    }
    BOOST_OUTCOME_CO_TRY(plan.archive, std::move(kept));
    co_return ok();
}

/// Archive, then record; what goes then is decided.
Task<Result<void>> Retention::decide(Plan& plan, Archive* archive) {
    BOOST_OUTCOME_CO_TRYV(co_await keep(plan, archive));
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

Task<Result<std::string>> Retention::run(bool dry_run, IsOver is_over) {
    const Turn turn(running_);
    if (!turn.mine()) co_return Error{Errc::conflict, "a run is under way; wait for its end"};
    IsOver either = [this, asked = std::move(is_over)] { return stopping_ || asked(); };
    co_return co_await run_once(dry_run, std::move(either));
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
        const auto events = co_await count(project, found.first, found.floor);
        if (events) found.events = events.value();
        if (!events) done = events.error();
    }
    if (!done) note(found.error, done.error(), project);
    co_return found;
}

/// A hold that has come since a project's part was decided, which may be long ago where much had to
/// be archived, keeps it for now.
Task<Result<void>> Retention::spare_held(std::vector<Plan>& plans) {
    for (Plan& plan : plans) {
        if (!plan.is_to_do()) continue;
        BOOST_OUTCOME_CO_TRY(plan.held, co_await is_held(plan.project));
        if (plan.held) note(plan.error, Settings::held(plan.project), plan.project);
    }
    co_return ok();
}

/// Everything has been decided and recorded.
Task<Result<void>> Retention::apply(std::vector<Plan>& plans, const std::vector<Month>& months) {
    EventStore& store = *environment_.host.store;
    Result<void> outcome = ok();
    for (const Month month : months) {
        const std::int64_t begun = environment_.host.clock->monotonic_us();
        outcome = co_await store.drop_month(month);
        if (!outcome) {
            log::error(
                "retention.failed",
                {{"month", format_month(month)}, {"error", outcome.error().detail}}
            );
            break;
        }
        const auto took =
            static_cast<double>(environment_.host.clock->monotonic_us() - begun) / 1e3;
        log::info("retention.month_dropped", {{"month", format_month(month)}, {"ms", took}});
    }
    for (Plan& plan : plans) {
        if (!plan.is_to_do()) continue;
        const auto raised = co_await store.raise_floor(plan.project, plan.floor_now());
        if (!raised) note(plan.error, raised.error(), plan.project);
    }
    co_return outcome;
}

Task<Result<std::string>> Retention::run_once(bool dry_run, IsOver is_over) {
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
    const Error over{Errc::cancelled, "the run was told to end; the next one goes on"};
    const auto archive = open_archive(is_over);
    std::vector<Plan> plans;
    for (const std::string& id : ids) {
        if (is_over()) co_return over;
        Plan made = co_await plan_of_run(id, now);
        if (!dry_run && made.is_due()) {
            const auto decided = co_await decide(made, archive.get());
            if (!decided) note(made.error, decided.error(), id);
        }
        plans.push_back(std::move(made));
    }
    if (is_over()) co_return over;
    if (!dry_run) {
        BOOST_OUTCOME_CO_TRYV(co_await spare_held(plans));
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
    ++cleaning_;
    auto outcome = co_await clean_up_in_turn(std::move(project), std::move(actor));
    --cleaning_;
    co_return outcome;
}

Task<Result<Cleanup>> Retention::clean_up_in_turn(std::string project, Actor actor) {
    Result<Cleanup> outcome = Cleanup();
    if (stopping_) co_return Error{Errc::unavailable, "the node stops"};
    for (int tries = 0; tries < kTriesMax; ++tries) {
        outcome = co_await clean_up_once(project, actor);
        if (outcome || outcome.error().code != Errc::conflict) break;
        BOOST_OUTCOME_CO_TRY(const bool held, co_await is_held(project));
        if (held) break;
        co_await pause_for(kAgain);  // the other's commit may be under way, and not to be read yet
    }
    co_return outcome;
}

/// @error Errc::conflict  Somebody else has decided meanwhile.
Task<Result<Cleanup>> Retention::clean_up_once(std::string project, Actor actor) {
    HostEnvironment& host = environment_.host;
    BOOST_OUTCOME_CO_TRY(const TimeUs now, co_await host.store->now());
    BOOST_OUTCOME_CO_TRYV(co_await host.settings->catch_up());
    BOOST_OUTCOME_CO_TRY(Plan made, co_await plan(project, now));
    if (made.held) co_return Settings::held(project);
    Cleanup cleanup;
    cleanup.cutoff = made.cutoff;
    cleanup.days = made.days > 0 ? made.days : days_since(made.cutoff, now);
    if (made.is_due()) {
        BOOST_OUTCOME_CO_TRY(made.events, co_await count(project, made.first, made.floor));
        cleanup.deleted = made.events;
        const auto archive = open_archive([this] { return stopping_.load(); });
        BOOST_OUTCOME_CO_TRYV(co_await keep(made, archive.get()));
        json::object more;
        more["retention_days"] = cleanup.days;
        if (!made.archive.empty()) more["archive"] = made.archive;
        BOOST_OUTCOME_CO_TRYV(
            co_await record(made, "audit_log.cleaned_up", std::move(actor), std::move(more))
        );
    }
    if (!made.is_to_do()) co_return cleanup;
    BOOST_OUTCOME_CO_TRY(const bool held, co_await is_held(project));
    if (held) co_return Settings::held(project);
    BOOST_OUTCOME_CO_TRYV(co_await host.store->raise_floor(project, made.floor_now()));
    co_return cleanup;
}

}  // namespace annal
