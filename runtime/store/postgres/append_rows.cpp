#include "runtime/store/postgres/append_rows.h"

#include "runtime/core/crypto.h"

namespace annal::postgres {
namespace {

constexpr const char* kEraseEvents =
    "WITH gone AS (UPDATE audit_events e SET deleted = true, salt = NULL, occurred_at = NULL, "
    "external_id = NULL, action = NULL, actor_type = NULL, actor_id = NULL, actor_email = NULL, "
    "auth_type = NULL, user_id = NULL, organization_id = NULL, client_id = NULL, issuer_id = NULL, "
    "agent_id = NULL, target_type = NULL, target_id = NULL, ip = NULL, user_agent = NULL, "
    "description = NULL, metadata = NULL "
    "FROM unnest($1::text[], $2::bigint[]) a(project_id, seq) "
    "WHERE e.project_id = a.project_id AND e.seq = a.seq AND NOT e.deleted "
    "RETURNING e.project_id, e.seq, e.created_at), "
    "stones AS (INSERT INTO tombstones SELECT project_id, seq FROM gone ON CONFLICT DO NOTHING) "
    "UPDATE event_months SET epoch = epoch + 1 WHERE month IN (SELECT "
    "date_trunc('month', created_at AT TIME ZONE 'UTC')::date FROM gone)";
constexpr const char* kEraseKv =
    "DELETE FROM kv USING unnest($1::text[], $2::text[], $3::text[]) a(space, project_id, key) "
    "WHERE kv.project_id = a.project_id AND kv.space = a.space AND kv.key = a.key";

constexpr const char* kMark =
    "INSERT INTO commit_marks (project_id, mark) VALUES ($1::text, $2::uuid) ON CONFLICT DO "
    "NOTHING";
constexpr const char* kDeleteMarks =
    "DELETE FROM commit_marks WHERE ctid = ANY(ARRAY(SELECT ctid FROM commit_marks WHERE at < "
    "clock_timestamp() - interval '15 minutes' LIMIT 20000 FOR UPDATE SKIP LOCKED))";

std::string view(const KeyName& name) {
    return {reinterpret_cast<const char*>(name.data()), name.size()};
}

/// One INSERT among others of the same statement.
class Inserts {
public:
    /// `values`: what follows INSERT INTO, with `$1`, `$2` … for `arrays`.
    void add(
        const std::string& table,
        std::vector<std::pair<Array*, const char*>> arrays,
        const char* rest
    ) {
        std::string from;
        for (auto& [array, type] : arrays) {
            params_.array(*array);
            from +=
                (from.empty() ? "$" : ", $") + std::to_string(params_.size()) + "::" + type + "[]";
        }
        add("INSERT INTO " + table + " SELECT * FROM unnest(" + from + ") " + rest);
    }
    void add(const std::string& statement) {
        statements_ += (statements_.empty() ? "WITH i" : ", i") + std::to_string(++count_) +
                       " AS (" + statement + ")";
    }
    [[nodiscard]] Params& params() { return params_; }
    [[nodiscard]] std::string text() const { return statements_ + " SELECT 1"; }

private:
    Params params_;
    std::string statements_;
    int count_ = 0;
};

}  // namespace

bool AppendRows::empty() const {
    return sealed_.empty() && open_.empty() && keys_.empty() && kv_.empty() && cursors_.empty() &&
           erased_.empty();
}

void AppendRows::add(PlannedUnit&& plan, Month month) {
    const AppendUnit& unit = *plan.unit;
    mark_.project = unit.project;
    if (!plan.sealed.events.empty()) {
        add_events(plan);
        month = month_of(plan.sealed.last_at);
    }
    for (auto& [name, record] : plan.keys) keys_[name] = {unit.project, month, std::move(record)};
    for (auto& [name, value] : plan.kv) kv_[name] = std::move(value);
    for (const CursorMove& move : unit.cursors)
        cursors_[{unit.project, move.subscription}] = move.to;
    for (const Seq seq : plan.erase) erased_.emplace(unit.project, seq);
}

// Units that share a transaction share a row of event_batches, as long as they share a month.
void AppendRows::add_events(const PlannedUnit& plan) {
    const std::string& project = plan.unit->project;
    const Month month = month_of(plan.sealed.last_at);
    auto [found, is_new] = open_.try_emplace(project);
    Open& open = found->second;
    if (!is_new && open.month != month) {
        seal(project, open);
        open = Open{};
        is_new = true;
    }
    const LogHead head = heads_.contains(project) ? heads_[project] : committed_.head(project);
    if (is_new) {
        open.month = month;
        open.batch.project = project;
        open.batch.first_seq = plan.sealed.first_seq;
        months_.insert(month);
        if (head.seq == kNoSeq || month_of(head.at) != month)
            begins_.emplace(std::pair(project, month), plan.sealed.first_seq);
    }
    const auto drafts = plan.new_events();
    for (std::size_t i = 0; i < drafts.size(); ++i) {
        events_.add(project, plan.sealed.events[i], drafts[i]);
        actions_.emplace(project, month, drafts[i][Column::action].view());
    }
    open.events.insert(open.events.end(), plan.sealed.events.begin(), plan.sealed.events.end());
    open.batch.last_seq = plan.sealed.last_seq;
    open.batch.last_at = plan.sealed.last_at;
}

void AppendRows::seal(const std::string& project, Open& open) {
    Batch& batch = open.batch;
    const LogHead head = heads_.contains(project) ? heads_[project] : committed_.head(project);
    batch.prev_digest = head.digest;
    batch.digest = batch_digest(
        batch.prev_digest, project, batch.first_seq, batch.last_seq, batch.last_at, open.events
    );
    heads_[project] = {batch.last_seq, batch.last_at, batch.digest};
    sealed_.push_back(batch);
}

void AppendRows::seal_all() {
    for (auto& [project, open] : open_) seal(project, open);
    open_.clear();
}

Result<void> AppendRows::write(Connection& db, const KnownActions& known, bool delete_marks) {
    seal_all();
    Inserts inserts;
    if (sealed_.empty()) {
        random_bytes(mark_.id);
        Params& params = inserts.params();
        params.text(mark_.project).bytes(mark_.id);
        inserts.add(kMark);
    }
    if (delete_marks) inserts.add(kDeleteMarks);
    Array batch_project(Array::Of::text), first(Array::Of::int8), last(Array::Of::int8),
        last_at(Array::Of::int8), digest(Array::Of::bytea), prev(Array::Of::bytea);
    for (const Batch& batch : sealed_) {
        batch_project.text(batch.project);
        first.number(batch.first_seq);
        last.number(batch.last_seq);
        last_at.number(batch.last_at);
        digest.bytes(batch.digest);
        prev.bytes(batch.prev_digest);
    }
    if (!sealed_.empty()) {
        inserts.add(
            "event_batches",
            {{&batch_project, "text"},
             {&first, "bigint"},
             {&last, "bigint"},
             {&last_at, "bigint"},
             {&digest, "bytea"},
             {&prev, "bytea"}},
            ""
        );
        inserts.add(events_.insert_statement(inserts.params()));
    }
    Array begin_project(Array::Of::text), begin_month(Array::Of::text), begin_seq(Array::Of::int8);
    for (const auto& [at, seq] : begins_) {
        begin_project.text(at.first);
        begin_month.text(month_text(at.second));
        begin_seq.number(seq);
    }
    if (!begins_.empty()) {
        Params& params = inserts.params();
        params.array(begin_project).array(begin_month).array(begin_seq);
        const std::size_t n = params.size();
        inserts.add(
            "INSERT INTO project_months SELECT p, m::date, s FROM unnest($" +
            std::to_string(n - 2) + "::text[], $" + std::to_string(n - 1) + "::text[], $" +
            std::to_string(n) + "::bigint[]) r(p, m, s)"
        );
    }
    for (const Month month : months_) {
        if (committed_.newest_month() && month <= *committed_.newest_month()) continue;
        inserts.add(
            "INSERT INTO event_months (month) VALUES ('" + month_text(month) +
            "') ON CONFLICT DO NOTHING"
        );
    }
    Array action_project(Array::Of::text), action_month(Array::Of::text), action(Array::Of::text);
    for (const auto& entry : actions_) {
        if (known.has(entry)) continue;
        action_project.text(std::get<0>(entry));
        action_month.text(month_text(std::get<1>(entry)));
        action.text(std::get<2>(entry));
    }
    if (action.size() > 0) {
        Params& params = inserts.params();
        params.array(action_project).array(action_month).array(action);
        const std::size_t n = params.size();
        inserts.add(
            "INSERT INTO project_actions SELECT p, m::date, a FROM unnest($" +
            std::to_string(n - 2) + "::text[], $" + std::to_string(n - 1) + "::text[], $" +
            std::to_string(n) + "::text[]) r(p, m, a) ON CONFLICT DO NOTHING"
        );
    }
    Array key_project(Array::Of::text), key_month(Array::Of::text), key_name(Array::Of::bytea),
        content(Array::Of::bytea), receipts(Array::Of::bytea);
    for (const auto& [name, key] : keys_) {
        key_project.text(key.project);
        key_month.text(month_text(key.month));
        key_name.bytes(view(name));
        content.bytes(key.record.content);
        receipts.bytes(encode_receipts(key.record.receipts));
    }
    if (!keys_.empty()) {
        Params& params = inserts.params();
        params.array(key_project).array(key_month).array(key_name).array(content).array(receipts);
        const std::size_t n = params.size();
        inserts.add(
            "INSERT INTO idempotency_keys SELECT p, m::date, k, c, r FROM unnest($" +
            std::to_string(n - 4) + "::text[], $" + std::to_string(n - 3) + "::text[], $" +
            std::to_string(n - 2) + "::bytea[], $" + std::to_string(n - 1) + "::bytea[], $" +
            std::to_string(n) +
            "::bytea[]) t(p, m, k, c, r) ON CONFLICT (project_id, month, name) DO UPDATE SET "
            "content = excluded.content, receipts = excluded.receipts"
        );
    }
    Array cursor_project(Array::Of::text), cursor_name(Array::Of::text),
        cursor_seq(Array::Of::int8);
    for (const auto& [name, seq] : cursors_) {
        cursor_project.text(name.first);
        cursor_name.text(name.second);
        cursor_seq.number(seq);
    }
    if (!cursors_.empty()) {
        inserts.add(
            "leases (project_id, name, cursor_seq)",
            {{&cursor_project, "text"}, {&cursor_name, "text"}, {&cursor_seq, "bigint"}},
            "ON CONFLICT (project_id, name) DO UPDATE SET cursor_seq = excluded.cursor_seq"
        );
    }
    Array put_space(Array::Of::text), put_project(Array::Of::text), put_key(Array::Of::text),
        put_value(Array::Of::bytea);
    for (const auto& [name, value] : kv_) {
        if (!value) continue;
        put_project.text(std::get<1>(name));
        put_space.text(std::get<0>(name));
        put_key.text(std::get<2>(name));
        put_value.bytes(std::string_view(*value));
    }
    if (put_key.size() > 0) {
        inserts.add(
            "kv",
            {{&put_project, "text"},
             {&put_space, "text"},
             {&put_key, "text"},
             {&put_value, "bytea"}},
            "ON CONFLICT (project_id, space, key) DO UPDATE SET value = excluded.value"
        );
    }
    BOOST_OUTCOME_TRYV(db.run(inserts.text(), inserts.params()));
    BOOST_OUTCOME_TRYV(write_kv(db));
    if (!erased_.empty()) {
        BOOST_OUTCOME_TRYV(erase(db));
    }
    return ok();
}

Result<void> AppendRows::write_kv(Connection& db) {
    Array spaces(Array::Of::text), projects(Array::Of::text), keys(Array::Of::text);
    for (const auto& [name, value] : kv_) {
        if (value) continue;
        spaces.text(std::get<0>(name));
        projects.text(std::get<1>(name));
        keys.text(std::get<2>(name));
    }
    if (keys.size() == 0) return ok();
    Params params;
    params.array(spaces).array(projects).array(keys);
    BOOST_OUTCOME_TRYV(db.run(kEraseKv, params));
    return ok();
}

// A statement of its own: it has to see the events that the transaction added.
Result<void> AppendRows::erase(Connection& db) {
    Array projects(Array::Of::text), seqs(Array::Of::int8);
    for (const auto& [project, seq] : erased_) {
        projects.text(project);
        seqs.number(seq);
    }
    Params params;
    params.array(projects).array(seqs);
    BOOST_OUTCOME_TRYV(db.run(kEraseEvents, params));
    return ok();
}

Result<bool> was_committed(
    Connection& db,
    const AppendNeeds& needs,
    const std::vector<AppendRows::Batch>& batches,
    const CommitMark& mark
) {
    std::string begin = "BEGIN; SET LOCAL lock_timeout = '10s'";
    if (!needs.projects.empty()) begin += ";" + take_append_locks(needs.projects);
    BOOST_OUTCOME_TRYV(db.run(begin));
    if (batches.empty()) {
        // Waits for the end of a transaction that has inserted it.
        Params params;
        params.text(mark.project).bytes(mark.id);
        BOOST_OUTCOME_TRY(const auto rows, db.run(kMark, params));
        return rows.changed() == 0;
    }
    const AppendRows::Batch& first = batches.front();
    Params key;
    key.text(first.project).number(first.first_seq).bytes(first.digest);
    BOOST_OUTCOME_TRY(
        const auto rows,
        db.run(
            "SELECT 1 FROM event_batches WHERE project_id = $1::text AND first_seq = $2::bigint "
            "AND digest = $3::bytea",
            key
        )
    );
    return rows.size() == 1;
}

}  // namespace annal::postgres
