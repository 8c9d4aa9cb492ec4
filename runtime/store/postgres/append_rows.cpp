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
    "UPDATE project_months m SET epoch = epoch + 1 FROM (SELECT DISTINCT project_id, "
    "date_trunc('month', created_at AT TIME ZONE 'UTC')::date AS month FROM gone) g "
    "WHERE m.project_id = g.project_id AND m.month = g.month";
/// Bits of $3 say which columns of each row go.
std::string make_scrub() {
    std::string sets;
    for (std::size_t c = 0; c < kColumns; ++c) {
        const auto column = static_cast<Column>(c);
        if (column == Column::action) continue;
        const std::string word(name(column));
        const std::string rest = column == Column::metadata ? "'{}'" : "NULL";
        sets += ", " + word + " = CASE WHEN a.columns & " + std::to_string(Scrub::bit(column)) +
                " <> 0 THEN " + rest + " ELSE e." + word + " END";
    }
    return "WITH lost AS (UPDATE audit_events e SET salt = NULL" + sets +
           " FROM unnest($1::text[], $2::bigint[], $3::bigint[]) a(project_id, seq, columns) "
           "WHERE e.project_id = a.project_id AND e.seq = a.seq AND NOT e.deleted "
           "RETURNING e.project_id, e.created_at) "
           "UPDATE project_months m SET epoch = epoch + 1 FROM (SELECT DISTINCT project_id, "
           "date_trunc('month', created_at AT TIME ZONE 'UTC')::date AS month FROM lost) g "
           "WHERE m.project_id = g.project_id AND m.month = g.month";
}
const std::string kScrubEvents = make_scrub();
constexpr const char* kMark =
    "INSERT INTO commit_marks (project_id, mark) VALUES ($1::text, $2::uuid) ON CONFLICT DO "
    "NOTHING";
constexpr const char* kDeleteMarks =
    "DELETE FROM commit_marks WHERE at < now() - interval '15 minutes'";

std::string view(const KeyName& name) {
    return {reinterpret_cast<const char*>(name.data()), name.size()};
}

std::vector<Array> columns(std::initializer_list<Array::Of> types) {
    return {types.begin(), types.end()};
}

using Of = Array::Of;

}  // namespace

/// Several INSERTs that make one statement: one round trip, whatever is written.
class AppendRows::Inserts {
public:
    /// @param rows  columns of equal length; none: nothing to insert
    void add(const std::string& table, std::vector<Array> rows, const std::string& rest = {}) {
        if (rows.front().size() == 0) return;
        const std::string values = unnest(rows, params_);
        add("INSERT INTO " + table + " SELECT * FROM " + values + rest);
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

bool AppendRows::empty() const {
    return sealed_.empty() && open_.empty() && keys_.empty() && kv_.empty() && cursors_.empty() &&
           erased_.empty() && scrubbed_.empty();
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
    for (const Scrub& scrub : plan.scrub) scrubbed_[{unit.project, scrub.seq}] |= scrub.columns;
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

void AppendRows::insert_log(Inserts& inserts) {
    auto rows = columns({Of::text, Of::int8, Of::int8, Of::int8, Of::bytea, Of::bytea});
    for (const Batch& batch : sealed_) {
        rows[0].text(batch.project);
        rows[1].number(batch.first_seq);
        rows[2].number(batch.last_seq);
        rows[3].number(batch.last_at);
        rows[4].bytes(batch.digest);
        rows[5].bytes(batch.prev_digest);
    }
    inserts.add(
        "event_batches (project_id, first_seq, last_seq, last_at, digest, prev_digest)",
        std::move(rows)
    );
    if (!sealed_.empty()) inserts.add(events_.insert_statement(inserts.params()));
}

void AppendRows::insert_months(Inserts& inserts) const {
    auto begins = columns({Of::text, Of::date, Of::int8});
    for (const auto& [at, seq] : begins_) {
        begins[0].text(at.first);
        begins[1].date(at.second);
        begins[2].number(seq);
    }
    inserts.add("project_months (project_id, month, first_seq)", std::move(begins));
    auto months = columns({Of::date});
    for (const Month month : months_)
        if (!committed_.newest_month() || month > *committed_.newest_month()) months[0].date(month);
    inserts.add("event_months (month)", std::move(months), " ON CONFLICT DO NOTHING");
}

void AppendRows::insert_actions(Inserts& inserts, const KnownActions& known) const {
    auto rows = columns({Of::text, Of::date, Of::text});
    for (const auto& entry : actions_) {
        if (known.has(entry)) continue;
        rows[0].text(std::get<0>(entry));
        rows[1].date(std::get<1>(entry));
        rows[2].text(std::get<2>(entry));
    }
    inserts.add(
        "project_actions (project_id, month, action)", std::move(rows), " ON CONFLICT DO NOTHING"
    );
}

void AppendRows::insert_keys(Inserts& inserts) const {
    auto rows = columns({Of::text, Of::date, Of::bytea, Of::bytea, Of::bytea});
    for (const auto& [name, key] : keys_) {
        rows[0].text(key.project);
        rows[1].date(key.month);
        rows[2].bytes(view(name));
        rows[3].bytes(key.record.content);
        rows[4].bytes(encode_receipts(key.record.receipts));
    }
    inserts.add(
        "idempotency_keys (project_id, month, name, content, receipts)",
        std::move(rows),
        " ON CONFLICT (project_id, month, name) DO UPDATE SET content = excluded.content, "
        "receipts = excluded.receipts"
    );
}

void AppendRows::insert_cursors(Inserts& inserts) const {
    auto rows = columns({Of::text, Of::text, Of::int8});
    for (const auto& [name, seq] : cursors_) {
        rows[0].text(name.first);
        rows[1].text(name.second);
        rows[2].number(seq);
    }
    inserts.add(
        "leases (project_id, name, cursor_seq)",
        std::move(rows),
        " ON CONFLICT (project_id, name) DO UPDATE SET cursor_seq = excluded.cursor_seq"
    );
}

void AppendRows::insert_kv(Inserts& inserts) const {
    auto rows = columns({Of::text, Of::text, Of::text, Of::bytea});
    for (const auto& [name, value] : kv_) {
        if (!value) continue;
        rows[0].text(std::get<1>(name));
        rows[1].text(std::get<0>(name));
        rows[2].text(std::get<2>(name));
        rows[3].bytes(std::string_view(*value));
    }
    inserts.add(
        "kv (project_id, space, key, value)",
        std::move(rows),
        " ON CONFLICT (project_id, space, key) DO UPDATE SET value = excluded.value"
    );
}

Result<void> AppendRows::write(Connection& db, const KnownActions& known) {
    seal_all();
    Inserts inserts;
    if (sealed_.empty()) {
        random_bytes(mark_.id);
        inserts.params().text(mark_.project).bytes(mark_.id);
        inserts.add(kMark);
    }
    insert_log(inserts);
    insert_months(inserts);
    insert_actions(inserts, known);
    insert_keys(inserts);
    insert_cursors(inserts);
    insert_kv(inserts);
    BOOST_OUTCOME_TRYV(db.run(inserts.text(), inserts.params()));
    BOOST_OUTCOME_TRYV(erase_kv(db));
    BOOST_OUTCOME_TRYV(scrub_events(db));
    return erase_events(db);
}

Result<void> AppendRows::erase_kv(Connection& db) const {
    auto rows = columns({Of::text, Of::text, Of::text});
    for (const auto& [name, value] : kv_) {
        if (value) continue;
        rows[0].text(std::get<0>(name));
        rows[1].text(std::get<1>(name));
        rows[2].text(std::get<2>(name));
    }
    if (rows[0].size() == 0) return ok();
    Params params;
    const std::string gone = unnest(rows, params);
    BOOST_OUTCOME_TRYV(db.run(
        "DELETE FROM kv USING " + gone +
            " a(space, project_id, key) WHERE kv.project_id = a.project_id AND kv.space = a.space "
            "AND kv.key = a.key",
        params
    ));
    return ok();
}

// A statement of its own: it has to see the events that the transaction added.
Result<void> AppendRows::erase_events(Connection& db) const {
    if (erased_.empty()) return ok();
    auto rows = columns({Of::text, Of::int8});
    for (const auto& [project, seq] : erased_) {
        rows[0].text(project);
        rows[1].number(seq);
    }
    Params params;
    params.array(rows[0]).array(rows[1]);
    BOOST_OUTCOME_TRYV(db.run(kEraseEvents, params));
    return ok();
}

Result<void> AppendRows::scrub_events(Connection& db) const {
    if (scrubbed_.empty()) return ok();
    auto rows = columns({Of::text, Of::int8, Of::int8});
    for (const auto& [event, gone] : scrubbed_) {
        rows[0].text(event.first);
        rows[1].number(event.second);
        rows[2].number(gone);
    }
    Params params;
    params.array(rows[0]).array(rows[1]).array(rows[2]);
    BOOST_OUTCOME_TRYV(db.run(kScrubEvents, params));
    return ok();
}

Result<void> delete_old_marks(Connection& db) {
    BOOST_OUTCOME_TRYV(db.run(kDeleteMarks));
    return ok();
}

Result<bool> was_committed(
    Connection& db, const std::vector<AppendRows::Batch>& batches, const CommitMark& mark
) {
    // What is read after the wait has to have a snapshot of its own.
    const std::string begin =
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '10s'; "
        "SET LOCAL idle_in_transaction_session_timeout = '5s'";
    if (batches.empty()) {
        BOOST_OUTCOME_TRYV(db.run(begin));
        // Waits for the end of a transaction that has inserted it.
        Params params;
        params.text(mark.project).bytes(mark.id);
        BOOST_OUTCOME_TRY(const auto rows, db.run(kMark, params));
        return rows.changed() == 0;
    }
    const AppendRows::Batch& first = batches.front();
    BOOST_OUTCOME_TRYV(db.run(begin + ";" + take_append_locks({first.project})));
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
