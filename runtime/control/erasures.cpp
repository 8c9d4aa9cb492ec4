#include "runtime/control/erasures.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/json.hpp>
#include <cctype>
#include <set>

#include "runtime/bus/appender.h"
#include "runtime/core/crypto.h"
#include "runtime/core/json_row.h"
#include "runtime/core/log.h"
#include "runtime/core/pause.h"
#include "runtime/core/task_impl.h"
#include "runtime/delivery/audit_stream.h"
#include "runtime/delivery/dead_letter.h"
#include "runtime/plugin/settings.h"
#include "runtime/webhooks/webhook_delivery.h"
#include "runtime/webhooks/webhook_endpoint.h"

namespace annal::control {
namespace asio = boost::asio;
namespace json = boost::json;
namespace {

constexpr const char* kJobs = "host.erasure_jobs";
// By a person's key, the erasure that others may still join; behind that, the last who did.
constexpr const char* kOpen = "host.open_erasures";
constexpr const char* kJoined = "/joined";
constexpr const char* kLease = "erasure";
const std::string kBehindAllKeys = "~";
// A setting has a row while it is not at its default, which is no hold.
constexpr std::uint32_t kEventsAStep = 500, kRowsAStep = 200, kJobsALook = 100;
constexpr std::chrono::milliseconds kLookEvery{1'000}, kLeaseTtl{15'000}, kPurgeAgain{300},
    kAgain{20};
// A person whose events never cease: what comes after so many looks is new data.
constexpr std::int64_t kPassesMax = 8;
constexpr int kWaitsMax = 10, kStepsAVisit = 20, kTriesMax = 50;
// What is sent may have been read before that, and what was answered is committed a little later.
constexpr std::chrono::milliseconds kAfterAttempts{5'000};
constexpr const char* kGone = DeadLetter::kErased;

constexpr Column kIdentity[] = {Column::user_id, Column::actor_id, Column::target_id};
constexpr std::int64_t kTexts = std::size(kIdentity);  // the pass over what the host has recorded

/// What the host's own events have as actors and targets, but for "user".
constexpr std::string_view kActorsOfHost[] = {"api_key", "system"};
constexpr std::string_view kObjectsOfHost[] = {
    "api_key", "audit_event", "audit_log", "audit_stream", "setting", "webhook_endpoint"};

template <std::size_t N>
bool is_one_of(const Text& text, const std::string_view (&words)[N]) {
    return std::find(std::begin(words), std::end(words), text.view()) != std::end(words);
}

bool is_word(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

bool names(std::string_view text, std::string_view id) {
    for (std::size_t at = text.find(id); at != std::string_view::npos; at = text.find(id, at + 1)) {
        const std::size_t end = at + id.size();
        const bool begins = at == 0 || !is_word(text[at - 1]) || !is_word(id.front());
        const bool ends = end == text.size() || !is_word(text[end]) || !is_word(id.back());
        if (begins && ends) return true;
    }
    return false;
}

std::string new_id(TimeUs now) {
    std::string text = EventId::make(now, random_u64()).text();
    return "era_" + text.substr(text.find('_') + 1);
}

std::string key_of_subject(const std::string& project, const std::string& user_id) {
    const Digest digest = sha256("annal erasure " + project + '\n' + user_id);
    return "subject/" + to_hex(digest);
}

/// The seq in "endpoint/seq" and "endpoint/seq/number".
std::optional<Seq> seq_of_delivery(const std::string& key) {
    const auto first = key.find('/');
    if (first == std::string::npos) return std::nullopt;
    const auto second = key.find('/', first + 1);
    const std::string digits = key.substr(first + 1, second - first - 1);
    const auto place = QueuePlace::of_key(key.substr(0, first) + "/0/" + digits);
    return place ? std::optional(place->seq) : std::nullopt;
}

void add(
    AppendUnit& unit, KvOp::Kind kind, const char* space, std::string key, std::string value = {}
) {
    unit.kv.push_back({kind, space, unit.project, std::move(key), std::move(value)});
}

}  // namespace

bool names_subject(std::string_view text, std::string_view id) {
    if (names(text, id)) return true;
    const std::string quoted = json::serialize(json::value(json::string(id)));
    const std::string inside = quoted.substr(1, quoted.size() - 2);
    return inside != id && names(text, inside);
}

std::uint32_t columns_of_subject(const Event& event, std::string_view user_id) {
    const auto is = [&](Column column) {
        return !event[column].is_null() && event[column].view() == user_id;
    };
    // Keys and what else the host itself names are no persons: their events are evidence.
    const auto is_person = [&](Column column) {
        if (!is(column)) return false;
        if (column == Column::actor_id) return !is_one_of(event[Column::actor_type], kActorsOfHost);
        if (column == Column::target_id)
            return !is_one_of(event[Column::target_type], kObjectsOfHost);
        return true;
    };
    if (!std::any_of(std::begin(kIdentity), std::end(kIdentity), is_person)) return 0;
    std::uint32_t gone = Scrub::kAlways;
    for (std::size_t c = 0; c < kColumns; ++c) {
        const auto column = static_cast<Column>(c);
        if (column != Column::action && is(column)) gone |= Scrub::bit(column);
    }
    // An address without an id beside it is the person's whom the event is about.
    const bool own_address = is(Column::actor_id) || event[Column::actor_id].size() == 0;
    if (own_address) gone |= Scrub::bit(Column::actor_email);
    const Text& external = event[Column::external_id];
    if (external.view().find(user_id) != std::string_view::npos)
        gone |= Scrub::bit(Column::external_id);
    return gone;
}

// --- rows

std::string Erasure::to_text() const {
    json::object row;
    row["completed"] = completed;
    row["by_type"] = requested_by.type;
    row["by_id"] = requested_by.id;
    row["requested_at"] = requested_at;
    if (completed) row["completed_at"] = completed_at;
    row["through_seq"] = through_seq;
    row["events"] = events;
    row["dead_letters"] = dead_letters;
    row["attempts"] = attempts;
    row["plugin_rows"] = plugin_rows;
    row["objects"] = objects;
    return json::serialize(row);
}

Result<Erasure> Erasure::from_row(const KvRow& row) {
    const auto stored = parse_row(row.value);
    if (!stored) return Error{Errc::internal, "the row of erasure " + row.key + " is damaged"};
    const json::value* completed = stored->if_contains("completed");
    Erasure erasure;
    erasure.id = row.key;
    erasure.completed = completed != nullptr && completed->is_bool() && completed->get_bool();
    erasure.requested_by = {text_in(*stored, "by_type"), text_in(*stored, "by_id")};
    erasure.requested_at = integer_in(*stored, "requested_at", kNoTime);
    erasure.completed_at = integer_in(*stored, "completed_at", kNoTime);
    erasure.through_seq = integer_in(*stored, "through_seq", kNoSeq);
    erasure.events = integer_in(*stored, "events", 0);
    erasure.dead_letters = integer_in(*stored, "dead_letters", 0);
    erasure.attempts = integer_in(*stored, "attempts", 0);
    erasure.plugin_rows = integer_in(*stored, "plugin_rows", 0);
    erasure.objects = integer_in(*stored, "objects", 0);
    return erasure;
}

/// How far an erasure has come.
struct Erasures::Job {
    enum class Phase : std::int64_t { events, copies, purge, attempts };  // attempts: before copies
    std::string id, user_id;  ///< none once the data are gone
    Phase phase = Phase::events;
    std::int64_t pass = 0, part = 0, found = 0;  ///< part: of kIdentity, then the host's records
    Seq begin = kNoSeq;                          ///< a pass is about what comes behind it
    Seq until = kNoSeq;                          ///< up to this; kNoSeq: a pass begins
    std::string after;                           ///< the seq, or the key, that a part has come to
    TimeUs attempts_end = kNoTime;  ///< of those that may have been under way; kNoTime: not awaited
    std::string space;              ///< of the copies, that was done with; they go by name
    std::string joined;             ///< by whom, the last time that it began anew for that
    std::set<std::int32_t> months;

    [[nodiscard]] std::string to_text() const {
        json::object row;
        row["id"] = id;
        if (!user_id.empty()) row["user_id"] = user_id;
        row["phase"] = static_cast<std::int64_t>(phase);
        row["pass"] = pass;
        row["part"] = part;
        row["found"] = found;
        row["begin"] = begin;
        row["until"] = until;
        row["after"] = after;
        row["attempts_end"] = attempts_end;
        row["space"] = space;
        row["joined"] = joined;
        json::array all;
        for (const std::int32_t month : months) all.push_back(month);
        row["months"] = std::move(all);
        return json::serialize(row);
    }

    static std::optional<Job> from_text(std::string_view text) {
        const auto stored = parse_row(text);
        if (!stored) return std::nullopt;
        Job job;
        job.id = text_in(*stored, "id");
        job.user_id = text_in(*stored, "user_id");
        job.phase = static_cast<Phase>(integer_in(*stored, "phase", 0));
        job.pass = integer_in(*stored, "pass", 0);
        job.part = integer_in(*stored, "part", 0);
        job.found = integer_in(*stored, "found", 0);
        job.begin = integer_in(*stored, "begin", kNoSeq);
        job.until = integer_in(*stored, "until", kNoSeq);
        job.after = text_in(*stored, "after");
        job.attempts_end = integer_in(*stored, "attempts_end", kNoTime);
        job.space = text_in(*stored, "space");
        job.joined = text_in(*stored, "joined");
        if (const json::value* months = stored->if_contains("months"); months && months->is_array())
            for (const json::value& month : months->get_array())
                if (month.is_int64())
                    job.months.insert(static_cast<std::int32_t>(month.get_int64()));
        return job;
    }

    void next_part() {
        ++part;
        after.clear();
    }
    /// What has come since is looked at as well.
    void begin_pass(Seq behind) {
        part = found = 0;
        begin = behind;
        until = kNoSeq;
        after.clear();
    }
};

/// One step of a job: from the row as it was read to the one that is committed.
struct Erasures::Place {
    std::string project, key, was;
    Job job;
    Erasure record;
    AppendUnit unit;
    std::string next_key;  ///< where the job's row goes; empty: it is done with
    bool committed = false;
};

Erasures::Erasures(Environment environment)
    : environment_(std::move(environment)),
      strand_(asio::make_strand(*environment_.host.executor)),
      timer_(strand_) {}

Erasures::~Erasures() = default;

// --- what is asked

Task<Result<bool>> Erasures::is_held(std::string project) {
    Settings& settings = *environment_.host.settings;
    BOOST_OUTCOME_CO_TRYV(co_await settings.catch_up());
    co_return settings.is_held(project);
}

Task<Result<Erasure>> Erasures::create(std::string project, std::string user_id, Actor actor) {
    const std::string subject = key_of_subject(project, user_id);
    Error last;
    for (int tries = 0; tries < kTriesMax; ++tries) {
        BOOST_OUTCOME_CO_TRY(
            const auto open, co_await environment_.host.store->kv_get(kOpen, project, subject)
        );
        AppendUnit unit;
        unit.project = project;
        unit.kv.push_back(Settings::unless_held(project));
        Erasure erasure;
        if (open) {
            BOOST_OUTCOME_CO_TRY(erasure, co_await get(project, *open));
            add(unit, KvOp::Kind::require_equals, kOpen, subject, *open);
            add(unit, KvOp::Kind::put, kOpen, subject + kJoined, std::to_string(random_u64()));
        } else {
            const TimeUs now = environment_.host.clock->wall_us();
            erasure.id = new_id(now);
            erasure.requested_by = actor;
            erasure.requested_at = now;
            Job job;
            job.id = erasure.id;
            job.user_id = user_id;
            add(unit, KvOp::Kind::require_absent, kOpen, subject);
            add(unit, KvOp::Kind::put, kOpen, subject, erasure.id);
            add(unit, KvOp::Kind::put, kJobs, subject, job.to_text());
            add(unit, KvOp::Kind::put, Erasure::kSpace, erasure.id, erasure.to_text());
        }
        const AppendOutcome done = co_await environment_.host.appender->append(std::move(unit));
        if (done) {
            log::info(
                "erasure.requested",
                {{"project", project}, {"erasure", erasure.id}, {"joined", open.has_value()}}
            );
            wake();
            co_return erasure;
        }
        if (done.error().code != Errc::conflict) co_return done.error();
        last = done.error();
        BOOST_OUTCOME_CO_TRY(const bool held, co_await is_held(project));
        if (held) co_return Settings::held(project);
        co_await pause_for(kAgain);  // another's commit may be under way, and not to be read yet
    }
    co_return last;
}

Task<Result<Erasure>> Erasures::get(std::string project, std::string id) {
    BOOST_OUTCOME_CO_TRY(
        auto row, co_await environment_.host.store->kv_get(Erasure::kSpace, project, id)
    );
    if (!row) co_return Error{Errc::not_found, "no erasure has this id"};
    co_return Erasure::from_row({project, id, std::move(*row)});
}

Task<Result<std::vector<Erasure>>> Erasures::list(
    std::string project, std::string before, std::uint32_t limit
) {
    BOOST_OUTCOME_CO_TRY(
        const auto rows,
        co_await environment_.host.store->kv_scan(
            Erasure::kSpace, project, "", before, limit, KvOrder::descending
        )
    );
    std::vector<Erasure> found;
    for (const KvRow& row : rows) {
        BOOST_OUTCOME_CO_TRY(Erasure erasure, Erasure::from_row(row));
        found.push_back(std::move(erasure));
    }
    co_return found;
}

// --- the work

void Erasures::start() {
    started_ = true;
    asio::post(strand_, [this] { asio::co_spawn(strand_, keep_working(), asio::detached); });
}

Task<void> Erasures::stop() {
    stopping_ = true;
    while (started_) {
        asio::post(strand_, [this] { timer_.cancel(); });
        co_await pause_for(std::chrono::milliseconds(10));
    }
}

void Erasures::wake() {
    asio::post(strand_, [this] {
        woken_ = true;
        timer_.cancel();
    });
}

Task<void> Erasures::pause(std::chrono::milliseconds time) {
    if (stopping_) co_return;
    timer_.expires_after(time);
    boost::system::error_code cancelled;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
}

Task<void> Erasures::keep_working() {
    while (!stopping_) {
        woken_ = false;
        co_await look();
        if (!woken_) co_await pause(kLookEvery);
    }
    started_ = false;
}

Task<void> Erasures::look() {
    std::string after;
    for (;;) {
        auto rows = co_await environment_.host.store->kv_scan(kJobs, "", "", after, kJobsALook);
        if (!rows || rows.value().empty()) co_return;  // the store tells of its own troubles
        for (KvRow& row : rows.value()) {
            if (stopping_) co_return;
            const auto held = co_await is_held(row.project);
            if (!held) co_return;
            after = row.project + '\0' + (held.value() ? kBehindAllKeys : row.key);
            if (held.value()) break;  // all of its rows
            if (!is_due(row)) continue;
            co_await work_on(std::move(row));
        }
    }
}

/// Not while attempts may still be answered.
bool Erasures::is_due(const KvRow& row) const {
    const auto job = Job::from_text(row.value);
    return !job || job->phase != Job::Phase::attempts ||
           environment_.host.clock->wall_us() >= job->attempts_end;
}

/// Until the job is done, something is in its way, or it has been others' turn long enough: the
/// next look goes on.
Task<void> Erasures::work_on(KvRow row) {
    HostEnvironment& host = environment_.host;
    std::int64_t asked_us = INT64_MIN / 2;
    int waits = 0;
    for (int steps = 0; !stopping_; ++steps) {
        if (steps == kStepsAVisit) {
            woken_ = true;
            break;
        }
        const auto held = co_await is_held(row.project);
        if (!held || held.value()) co_return;
        if (host.clock->monotonic_us() - asked_us > kLeaseTtl.count() * 1'000 / 3) {
            asked_us = host.clock->monotonic_us();
            LeaseRequest request{row.project, kLease, host.node, kLeaseTtl};
            const auto lease = co_await host.store->lease(std::move(request));
            if (!lease || !lease.value().mine) co_return;
        }
        KvRow now{row.project, row.key, {}};
        auto stored = co_await host.store->kv_get(kJobs, row.project, row.key);
        if (!stored || !stored.value()) break;
        now.value = std::move(*stored.value());
        if (!is_due(now)) break;
        const auto more = co_await step(std::move(now));
        if (more && !more.value()) {
            // Whoever reads the old rows may do so for long; others' work must not wait for that.
            if (++waits > kWaitsMax) break;
            co_await pause(kPurgeAgain);
        }
        if (more) continue;
        if (more.error().code == Errc::conflict) {
            co_await pause(kAgain);
            continue;
        }
        log::warn(
            "erasure.step_failed", {{"project", row.project}, {"error", more.error().detail}}
        );
        co_return;
    }
    (void)co_await host.store->release_lease(row.project, kLease, host.node);
}

/// False: nothing can be done for a moment.
Task<Result<bool>> Erasures::step(KvRow row) {
    auto job = Job::from_text(row.value);
    if (!job) co_return Error{Errc::internal, "the row of an erasure is damaged"};
    Place place;
    place.project = row.project;
    place.key = place.next_key = row.key;
    place.was = std::move(row.value);
    place.job = std::move(*job);
    place.unit.project = row.project;
    BOOST_OUTCOME_CO_TRY(place.record, co_await get(row.project, place.job.id));
    if (place.job.phase == Job::Phase::purge) {
        std::vector<Month> months;
        for (const std::int32_t month : place.job.months) months.push_back(Month{month});
        BOOST_OUTCOME_CO_TRY(
            const bool gone, co_await environment_.host.store->purge_erased(std::move(months))
        );
        if (!gone) co_return false;
        BOOST_OUTCOME_CO_TRYV(co_await purge(place));
        co_return true;
    }
    if (place.job.phase == Job::Phase::attempts) {
        // What the host has recorded of them meanwhile is looked at as well.
        place.job.phase = Job::Phase::events;
        place.job.part = kTexts;
    } else if (place.job.phase == Job::Phase::events) {
        BOOST_OUTCOME_CO_TRYV(co_await erase_events(place));
    } else {
        BOOST_OUTCOME_CO_TRYV(co_await erase_copies(place));
    }
    if (!place.committed) {
        BOOST_OUTCOME_CO_TRYV(co_await commit(place));
    }
    co_return true;
}

/// On condition that no other node has changed the job, and that no hold has begun.
Task<Result<void>> Erasures::commit(Place& place) {
    AppendUnit& unit = place.unit;
    unit.kv.insert(
        unit.kv.begin(), {KvOp::Kind::require_equals, kJobs, place.project, place.key, place.was}
    );
    // One that is placed just now is seen when this is tried again.
    unit.kv.insert(unit.kv.begin(), Settings::unless_held(place.project));
    if (place.next_key != place.key) add(unit, KvOp::Kind::erase, kJobs, place.key);
    if (!place.next_key.empty())
        add(unit, KvOp::Kind::put, kJobs, place.next_key, place.job.to_text());
    add(unit, KvOp::Kind::put, Erasure::kSpace, place.record.id, place.record.to_text());
    const AppendOutcome done = co_await environment_.host.appender->append(std::move(unit));
    if (!done) co_return done.error();
    place.committed = true;
    co_return ok();
}

/// The next events of the part that may be about the person, oldest first.
Task<Result<ScanPage>> Erasures::next_events(Place& place) {
    const Job& job = place.job;
    ScanRequest request;
    request.project = place.project;
    if (job.part < kTexts) {
        const Column column = kIdentity[job.part];
        request.filter.equals[static_cast<std::size_t>(column)] = job.user_id;
    } else {
        // What destinations said is in what the host has recorded of them.
        BOOST_OUTCOME_CO_TRY(request.filter.actions, parse_patterns("audit_stream.*,webhook.*"));
    }
    request.newest_first = false;
    const Seq after = job.after.empty() ? job.begin : std::stoll(job.after);
    if (after != kNoSeq) request.after = after;
    request.limit = kEventsAStep;
    co_return co_await environment_.host.store->scan(std::move(request));
}

Task<Result<void>> Erasures::erase_events(Place& place) {
    Job& job = place.job;
    if (job.until == kNoSeq) {
        BOOST_OUTCOME_CO_TRY(
            const LogState log, co_await environment_.host.store->log_state(place.project)
        );
        job.until = log.head_seq;
    }
    BOOST_OUTCOME_CO_TRY(const ScanPage page, co_await next_events(place));
    for (const Event& event : page.batch.events) {
        if (event.seq > job.until) break;
        std::uint32_t columns = columns_of_subject(event, job.user_id);
        const bool told =
            job.part == kTexts && names_subject(event[Column::metadata].view(), job.user_id);
        if (columns == 0 && told) columns = Scrub::kAlways;
        if (columns == 0) continue;
        place.unit.scrub.push_back({event.seq, columns});
        job.months.insert(month_of(event.created_at).index);
        ++job.found;
        ++place.record.events;
    }
    job.after = std::to_string(page.scanned);
    if (!page.exhausted && page.scanned < job.until) co_return ok();
    job.next_part();
    if (job.part > kTexts) end_of_events(place);
    co_return ok();
}

/// Of a pass over them. Attempts that began with what is erased now may still be answered.
void Erasures::end_of_events(Place& place) {
    Job& job = place.job;
    job.phase = Job::Phase::copies;
    if (job.attempts_end != kNoTime) return;
    place.record.through_seq = std::max(place.record.through_seq, job.until);
    const bool again = job.found > 0 && ++job.pass < kPassesMax;
    job.begin_pass(job.until);
    if (again) {
        job.phase = Job::Phase::events;
        return;
    }
    const auto longest = environment_.longest_attempt(place.project);
    if (place.record.events == 0 || longest.count() == 0) return;
    job.phase = Job::Phase::attempts;
    const std::chrono::microseconds wait = longest + kAfterAttempts;
    job.attempts_end = environment_.host.clock->wall_us() + wait.count();
}

// --- copies

std::set<std::string> Erasures::spaces_of_copies() const {
    std::set<std::string> spaces{
        DeadLetter::kSpace,
        WebhookDelivery::kAttempts,
        WebhookDelivery::kRetrying,
        WebhookDelivery::kDelivered,
        WebhookDelivery::kFailed,
        AuditStream::kSpace,
        WebhookEndpoint::kSpace};
    for (std::string& space : environment_.plugin_spaces()) spaces.insert(std::move(space));
    return spaces;
}

Task<Result<void>> Erasures::erase_copies(Place& place) {
    Job& job = place.job;
    const auto spaces = spaces_of_copies();
    const auto next = spaces.upper_bound(job.space);
    if (next == spaces.end()) co_return co_await end_of_copies(place);
    const std::string space = *next;
    BOOST_OUTCOME_CO_TRY(
        auto rows,
        co_await environment_.host.store->kv_scan(space, place.project, "", job.after, kRowsAStep)
    );
    const bool last = rows.size() < kRowsAStep;
    if (!rows.empty()) job.after = rows.back().key;
    bool shared = false;
    for (KvRow& row : rows) {
        BOOST_OUTCOME_CO_TRY(const bool changed, co_await erase_copy(place, space, std::move(row)));
        const bool in_memory = space == AuditStream::kSpace || space == WebhookEndpoint::kSpace;
        shared = shared || (changed && in_memory);
    }
    if (last) {
        job.space = space;
        job.after.clear();
    }
    if (!shared) co_return ok();
    environment_.board.put_up(place.unit, place.project);
    BOOST_OUTCOME_CO_TRYV(co_await commit(place));
    std::vector<std::string> projects{place.project};
    co_return co_await environment_.board.read_anew(std::move(projects));
}

Task<Result<bool>> Erasures::is_erased(std::string project, Seq seq) {
    ScanRequest request;
    request.project = std::move(project);
    request.newest_first = false;
    request.tombstones = true;
    request.limit = 1;
    if (seq > 0) request.after = seq - 1;
    BOOST_OUTCOME_CO_TRY(
        const ScanPage page, co_await environment_.host.store->scan(std::move(request))
    );
    if (page.batch.events.empty() || page.batch.events.front().seq != seq) co_return true;
    co_return page.batch.events.front().erased || page.batch.events.front().deleted;
}

/// Begins anew for those who have joined; else nobody joins any more.
Task<Result<void>> Erasures::end_of_copies(Place& place) {
    Job& job = place.job;
    const std::string who = place.key + kJoined;
    BOOST_OUTCOME_CO_TRY(
        const auto joined, co_await environment_.host.store->kv_get(kOpen, place.project, who)
    );
    if (joined && *joined != job.joined) {
        job.joined = *joined;
        job.phase = Job::Phase::events;
        job.pass = 0;
        job.attempts_end = kNoTime;
        job.space.clear();
        job.begin_pass(place.record.through_seq);
        co_return ok();
    }
    const auto as_read = joined ? KvOp::Kind::require_equals : KvOp::Kind::require_absent;
    add(place.unit, as_read, kOpen, who, joined.value_or(""));
    add(place.unit, KvOp::Kind::erase, kOpen, who);
    add(place.unit, KvOp::Kind::erase, kOpen, place.key);
    // From here on nothing says whose data they were.
    job.user_id.clear();
    job.phase = Job::Phase::purge;
    place.next_key = "purge/" + job.id;
    co_return ok();
}

/// True: the row is to be changed.
Task<Result<bool>> Erasures::erase_copy(Place& place, std::string space, KvRow row) {
    const std::string& user_id = place.job.user_id;
    const bool named = names_subject(row.value, user_id);
    std::string now;  // empty: the row goes
    if (space.starts_with("plugin.")) {
        if (!named && !names_subject(row.key, user_id)) co_return false;
        ++place.record.plugin_rows;
    } else if (space == DeadLetter::kSpace) {
        auto letter = DeadLetter::from_row(row);
        if (!letter || letter->reason == kGone) co_return false;
        BOOST_OUTCOME_CO_TRY(const bool erased, co_await is_erased(place.project, letter->seq));
        if (!named && !erased) co_return false;
        letter->reason = kGone;
        now = letter->to_text();
        ++place.record.dead_letters;
    } else if (space == WebhookDelivery::kAttempts) {
        auto attempt = WebhookAttempt::from_text(row.value);
        const auto seq = seq_of_delivery(row.key);
        if (!attempt || !seq || (attempt->answer.empty() && !named)) co_return false;
        BOOST_OUTCOME_CO_TRY(const bool erased, co_await is_erased(place.project, *seq));
        if (!named && !erased) co_return false;
        attempt->answer.clear();
        if (names_subject(attempt->error, user_id)) attempt->error = kGone;
        now = attempt->to_text();
        ++place.record.attempts;
    } else if (space == AuditStream::kSpace || space == WebhookEndpoint::kSpace) {
        auto object = parse_row(row.value);
        if (!object || !names_subject(text_in(*object, "reason"), user_id)) co_return false;
        (*object)["reason"] = kGone;
        now = json::serialize(*object);
        ++place.record.objects;
    } else {
        auto delivery = WebhookDelivery::from_row(row, WebhookDelivery::Status::pending);
        const auto seq = seq_of_delivery(row.key);
        const bool answered =
            delivery && delivery.value().last && !delivery.value().last->answer.empty();
        if (!delivery || !seq || (!answered && !named)) co_return false;
        BOOST_OUTCOME_CO_TRY(const bool erased, co_await is_erased(place.project, *seq));
        if (!named && !erased) co_return false;
        // Member by member, since its other words are the queue's.
        auto object = parse_row(row.value);
        if (json::value* attempt = object->if_contains("last"); attempt && attempt->is_object()) {
            attempt->get_object().erase("answer");
            if (names_subject(text_in(attempt->get_object(), "error"), user_id))
                attempt->get_object()["error"] = kGone;
        }
        now = json::serialize(*object);
        ++place.record.attempts;
    }
    place.unit.kv.push_back({KvOp::Kind::require_equals, space, row.project, row.key, row.value});
    const auto kind = now.empty() ? KvOp::Kind::erase : KvOp::Kind::put;
    place.unit.kv.push_back({kind, space, row.project, row.key, std::move(now)});
    co_return true;
}

// --- the end

/// The files hold nothing of it any more: that is recorded.
Task<Result<void>> Erasures::purge(Place& place) {
    place.next_key.clear();
    Erasure& record = place.record;
    record.completed = true;
    record.completed_at = environment_.host.clock->wall_us();
    auto event = std::make_shared<HostEvent>();
    event->action = "user.data_purged";
    event->actor_type = record.requested_by.type;
    event->actor_id = record.requested_by.id;
    event->target_type = "user";
    json::object metadata;
    metadata["erasure_id"] = record.id;
    metadata["events"] = record.events;
    event->metadata = json::serialize(metadata);
    place.unit.events.push_back(event->draft());
    place.unit.memory = event;
    BOOST_OUTCOME_CO_TRYV(co_await commit(place));
    log::info(
        "erasure.completed",
        {{"project", place.project}, {"erasure", record.id}, {"events", record.events}}
    );
    co_return ok();
}

}  // namespace annal::control
