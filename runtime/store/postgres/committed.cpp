#include "runtime/store/postgres/committed.h"

#include <algorithm>
#include <charconv>

#include "runtime/store/postgres/locks.h"

namespace annal::postgres {
namespace {

/// The clock and the newest month, as they are once the locks are held.
constexpr const char* kNow =
    "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint, "
    "(SELECT month FROM event_months ORDER BY month DESC LIMIT 1), "
    "(SELECT state FROM event_months ORDER BY month DESC LIMIT 1)";
// max() and no LIMIT: a database that is distributed by project can hand it down.
constexpr const char* kHeads =
    "SELECT b.project_id, b.last_seq, b.last_at, b.digest FROM unnest($1::text[]) p(project_id) "
    "JOIN event_batches b ON b.project_id = p.project_id AND b.first_seq = (SELECT "
    "max(e.first_seq) FROM event_batches e WHERE e.project_id = p.project_id)";
constexpr const char* kKeys =
    "SELECT k.name, k.content, k.receipts FROM unnest($1::text[], $2::bytea[]) a(project_id, name) "
    "JOIN idempotency_keys k ON k.project_id = a.project_id AND k.name = a.name "
    "AND k.project_id = ANY ($1) "
    "AND k.month >= date_trunc('month', $3::timestamptz AT TIME ZONE 'UTC')::date "
    "ORDER BY k.month";
constexpr const char* kKv =
    "SELECT k.space, k.project_id, k.key, k.value FROM unnest($1::text[], $2::text[], $3::text[]) "
    "a(space, project_id, key) JOIN kv k ON k.project_id = a.project_id AND k.space = a.space AND "
    "k.key = a.key";
constexpr const char* kLive =
    "SELECT e.project_id, e.seq FROM unnest($1::text[], $2::bigint[]) a(project_id, seq) "
    "JOIN audit_events e ON e.project_id = a.project_id AND e.seq = a.seq "
    "LEFT JOIN project_log l ON l.project_id = a.project_id "
    "WHERE e.project_id = ANY ($1) AND NOT e.deleted AND e.seq >= coalesce(l.first_seq, 0)";
constexpr const char* kCursors =
    "SELECT l.project_id, l.name, CASE WHEN l.owner = '' OR l.fence >> 32 < annal_timeline() THEN "
    "0 ELSE l.fence END, l.cursor_seq "
    "FROM leases l JOIN unnest($1::text[], "
    "$2::text[]) a(project_id, name) ON l.project_id = a.project_id AND l.name = a.name "
    "ORDER BY l.project_id, l.name FOR UPDATE OF l";

Digest digest_of(const std::string& bytes) {
    Digest digest{};
    std::copy_n(bytes.begin(), std::min(bytes.size(), digest.size()), digest.begin());
    return digest;
}

/// "unnest('{…}'::bigint[]) k"
std::string locks_of(const std::set<std::string>& projects) {
    std::set<std::int64_t> locks;
    for (const std::string& project : projects) locks.insert(append_lock(project));
    std::string list;
    for (const std::int64_t lock : locks) {
        if (!list.empty()) list += ',';
        list += std::to_string(lock);
    }
    return "unnest('{" + list + "}'::bigint[]) k";
}

/// The locks that others hold, "1,2,…" or null; takes the rest.
std::string busy_of(const std::set<std::string>& projects) {
    return "(SELECT string_agg(k::text, ',') FILTER (WHERE NOT pg_try_advisory_xact_lock(k)) "
           "FROM " +
           locks_of(projects) + ")";
}

/// "1,2,…"
std::set<std::int64_t> numbers_of(std::string_view list) {
    std::set<std::int64_t> numbers;
    std::int64_t number = 0;
    for (const char* at = list.data(); at < list.data() + list.size(); ++at) {
        at = std::from_chars(at, list.data() + list.size(), number).ptr;
        numbers.insert(number);
    }
    return numbers;
}

std::string_view view(const KeyName& name) {
    return {reinterpret_cast<const char*>(name.data()), name.size()};
}

}  // namespace

void AppendNeeds::add(const AppendUnit& unit) {
    if (!unit.events.empty() || !unit.erase.empty() || !unit.scrub.empty() ||
        !unit.request_key.empty()) {
        projects.insert(unit.project);
        logs.insert(unit.project);
    }
    if (!unit.request_key.empty())
        keys[key_name(KeyKind::request, unit.project, unit.request_key)] = unit.project;
    for (const EventDraft& draft : unit.events) {
        if (draft.idempotency_key.size() == 0) continue;
        const auto name = key_name(KeyKind::event, unit.project, draft.idempotency_key.view());
        keys[name] = unit.project;
    }
    for (const KvOp& op : unit.kv) {
        projects.insert(op.project);
        if (op.kind == KvOp::Kind::require_absent || op.kind == KvOp::Kind::require_equals)
            kv.emplace(op.space, op.project, op.key);
    }
    for (const Seq seq : unit.erase) events.emplace(unit.project, seq);
    for (const Scrub& scrub : unit.scrub) events.emplace(unit.project, scrub.seq);
    for (const CursorMove& move : unit.cursors)
        if (move.fence != 0) cursors.emplace(unit.project, move.subscription);
}

std::int64_t append_lock(std::string_view project) {
    const Digest digest = sha256("annal append " + std::string(project));
    std::int64_t key = 0;
    for (int i = 0; i < 8; ++i)
        key = static_cast<std::int64_t>(static_cast<std::uint64_t>(key) << 8 | digest[i]);
    return key;
}

std::string take_append_locks(const std::set<std::string>& projects) {
    return "SELECT pg_advisory_xact_lock(k) FROM " + locks_of(projects);
}

Result<void> Committed::begin(
    Connection& db, const AppendNeeds& needs, const std::string& settings, bool wait
) {
    // Whatever the database's default is: a snapshot from before the locks would be an old one.
    std::string begin = "BEGIN ISOLATION LEVEL READ COMMITTED;SELECT " + settings +
                        ", pg_advisory_xact_lock_shared(" + std::to_string(kMonthBarrier) + ");";
    if (wait && !needs.projects.empty()) begin += take_append_locks(needs.projects) + ";";
    const std::string busy = wait || needs.projects.empty() ? "null" : busy_of(needs.projects);
    BOOST_OUTCOME_TRY(const auto now, db.run(begin + "SELECT " + busy + ", " + kNow));
    read_now(now);
    if (!needs.logs.empty()) {
        BOOST_OUTCOME_TRY(read_heads(db, needs));
    }
    if (!needs.keys.empty()) {
        BOOST_OUTCOME_TRY(read_keys(db, needs));
    }
    if (!needs.kv.empty()) {
        BOOST_OUTCOME_TRY(read_kv(db, needs));
    }
    if (!needs.events.empty()) {
        BOOST_OUTCOME_TRY(read_events(db, needs));
    }
    if (!needs.cursors.empty()) {
        BOOST_OUTCOME_TRY(read_cursors(db, needs));
    }
    return ok();
}

Result<void> Committed::read_heads(Connection& db, const AppendNeeds& needs) {
    Array projects(Array::Of::text);
    for (const std::string& project : needs.logs) projects.text(project);
    Params params;
    params.array(projects);
    BOOST_OUTCOME_TRY(const auto rows, db.run(kHeads, params));
    for (std::size_t i = 0; i < rows.size(); ++i)
        heads_[std::string(rows.text(i, 0).view())] = {
            rows.integer(i, 1), rows.integer(i, 2), digest_of(rows.bytes(i, 3))};
    return ok();
}

void Committed::read_now(const Rows& rows) {
    busy_ = numbers_of(rows.text(0, 0).view());
    now_ = stamps_ != nullptr ? stamps_->wall_us() : rows.integer(0, 1);
    if (rows.is_null(0, 2)) return;
    newest_month_ = parse_month(rows.text(0, 2).view());
    const bool takes_more = rows.text(0, 3).view() == "open";
    floor_ = start_of(takes_more ? *newest_month_ : next(*newest_month_));
}

Result<void> Committed::read_keys(Connection& db, const AppendNeeds& needs) {
    Array projects(Array::Of::text), names(Array::Of::bytea);
    for (const auto& [name, project] : needs.keys) {
        projects.text(project);
        names.bytes(view(name));
    }
    Params params;
    params.array(projects).array(names).time(std::max(now_, floor_) - kKeyLifetime);
    BOOST_OUTCOME_TRY(const auto rows, db.run(kKeys, params));
    for (std::size_t i = 0; i < rows.size(); ++i) {
        KeyName name{};
        const std::string bytes = rows.bytes(i, 0);
        std::copy_n(bytes.begin(), std::min(bytes.size(), name.size()), name.begin());
        // The newest month comes last.
        keys_[name] = {digest_of(rows.bytes(i, 1)), decode_receipts(rows.bytes(i, 2))};
    }
    return ok();
}

Result<void> Committed::read_kv(Connection& db, const AppendNeeds& needs) {
    Array spaces(Array::Of::text), projects(Array::Of::text), keys(Array::Of::text);
    for (const auto& [space, project, key] : needs.kv) {
        spaces.text(space);
        projects.text(project);
        keys.text(key);
    }
    Params params;
    params.array(spaces).array(projects).array(keys);
    BOOST_OUTCOME_TRY(const auto rows, db.run(kKv, params));
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto text = [&](int column) { return std::string(rows.text(i, column).view()); };
        kv_[KvName(text(0), text(1), text(2))] = rows.bytes(i, 3);
    }
    return ok();
}

Result<void> Committed::read_events(Connection& db, const AppendNeeds& needs) {
    Array projects(Array::Of::text), seqs(Array::Of::int8);
    for (const auto& [project, seq] : needs.events) {
        projects.text(project);
        seqs.number(seq);
    }
    Params params;
    params.array(projects).array(seqs);
    BOOST_OUTCOME_TRY(const auto rows, db.run(kLive, params));
    for (std::size_t i = 0; i < rows.size(); ++i)
        live_.emplace(rows.text(i, 0).view(), rows.integer(i, 1));
    return ok();
}

Result<void> Committed::read_cursors(Connection& db, const AppendNeeds& needs) {
    Array projects(Array::Of::text), names(Array::Of::text);
    for (const auto& [project, name] : needs.cursors) {
        projects.text(project);
        names.text(name);
    }
    Params params;
    params.array(projects).array(names);
    BOOST_OUTCOME_TRY(const auto rows, db.run(kCursors, params));
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const Seq seq = rows.is_null(i, 3) ? kNoSeq : rows.integer(i, 3);
        cursors_[{std::string(rows.text(i, 0).view()), std::string(rows.text(i, 1).view())}] = {
            rows.integer(i, 2), seq};
    }
    return ok();
}

bool Committed::is_busy(const AppendUnit& unit) const {
    if (busy_.empty()) return false;
    AppendNeeds needs;
    needs.add(unit);
    return std::any_of(needs.projects.begin(), needs.projects.end(), [&](const auto& project) {
        return busy_.contains(append_lock(project));
    });
}

LogHead Committed::head(const std::string& project) {
    const auto found = heads_.find(project);
    return found == heads_.end() ? LogHead{} : found->second;
}

Result<std::optional<KeyRecord>> Committed::key(const KeyName& name) {
    const auto found = keys_.find(name);
    return found == keys_.end() ? std::nullopt : std::optional(found->second);
}

Result<std::optional<std::string>> Committed::kv(const KvName& name) {
    const auto found = kv_.find(name);
    return found == kv_.end() ? std::nullopt : std::optional(found->second);
}

Result<bool> Committed::is_live(const std::string& project, Seq seq) {
    return live_.contains({project, seq});
}

Committed::Cursor Committed::cursor(const std::string& project, const std::string& name) const {
    const auto found = cursors_.find({project, name});
    return found == cursors_.end() ? Cursor{} : found->second;
}

}  // namespace annal::postgres
