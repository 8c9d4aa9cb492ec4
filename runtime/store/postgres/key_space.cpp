#include "runtime/store/postgres/key_space.h"

#include <algorithm>

namespace annal::postgres {
namespace {

constexpr const char* kGet =
    "SELECT value FROM kv WHERE project_id = $1::text AND space = $2::text AND key = $3::text";
constexpr const char* kScanOne =
    "SELECT project_id, key, value FROM kv WHERE project_id = $1::text AND space = $2::text AND "
    "key >= $3::text AND key > $4::text AND starts_with(key, $3::text) AND ($6::text = '' OR key < "
    "$6::text) ORDER BY key LIMIT $5::bigint";
constexpr const char* kScanBack =
    "SELECT project_id, key, value FROM kv WHERE project_id = $1::text AND space = $2::text AND "
    "key >= $3::text AND ($4::text = '' OR key < $4::text) AND starts_with(key, $3::text) AND "
    "($6::text = '' OR key < $6::text) ORDER BY key DESC LIMIT $5::bigint";
constexpr const char* kScanFirst =
    "SELECT project_id, key, value FROM kv WHERE space = $1::text AND starts_with(key, $2::text) "
    "ORDER BY project_id, key LIMIT $3::bigint";
constexpr const char* kScanAll =
    "SELECT project_id, key, value FROM kv WHERE space = $1::text AND starts_with(key, $2::text) "
    "AND (project_id, key) > ($4::text, $5::text) ORDER BY project_id, key LIMIT $3::bigint";
constexpr const char* kCursor =
    "SELECT cursor_seq FROM leases WHERE project_id = $1::text AND name = $2::text";
constexpr const char* kEpoch = "SELECT annal_epoch()";
// The upper half of a fence is the timeline that it was given on: what was given on one that is
// gone is below all of the next.
constexpr const char* kLease =
    "INSERT INTO leases (project_id, name, owner, fence, lease_until) VALUES ($1::text, $2::text, "
    "$3::text, (annal_timeline() << 32) + 1, clock_timestamp() + $4::bigint * interval '1 "
    "millisecond') "
    "ON CONFLICT (project_id, name) DO UPDATE SET owner = excluded.owner, "
    "fence = CASE WHEN leases.owner = excluded.owner AND leases.fence >> 32 >= excluded.fence >> "
    "32 THEN leases.fence ELSE greatest(leases.fence + 1, excluded.fence) END, lease_until "
    "= excluded.lease_until "
    "WHERE leases.owner = excluded.owner OR leases.lease_until <= clock_timestamp() "
    "RETURNING fence";
constexpr const char* kHolder =
    "SELECT fence, greatest(0, extract(epoch FROM lease_until - clock_timestamp()) * "
    "1000)::bigint FROM leases WHERE project_id = $1::text AND name = $2::text";
constexpr const char* kRelease =
    "UPDATE leases SET owner = '', lease_until = '-infinity' WHERE project_id = $1::text AND name "
    "= $2::text AND owner = $3::text";

bool are_storable(std::initializer_list<std::string_view> texts) {
    return std::all_of(texts.begin(), texts.end(), is_storable);
}

/// Where the keys that begin with `prefix` end: none of them is at or behind it. Empty: not known,
/// for the next byte might be none of UTF-8.
std::string end_of_prefix(std::string_view prefix) {
    if (prefix.empty() || static_cast<unsigned char>(prefix.back()) >= 0x7e) return {};
    std::string end(prefix);
    ++end.back();
    return end;
}

}  // namespace

Result<std::optional<std::string>> kv_get(
    Connection& db, const std::string& space, const std::string& project, const std::string& key
) {
    if (!are_storable({space, project, key})) return std::nullopt;
    Params params;
    params.text(project).text(space).text(key);
    BOOST_OUTCOME_TRY(const auto rows, db.run(kGet, params));
    if (rows.size() == 0) return std::nullopt;
    return rows.bytes(0, 0);
}

Result<std::vector<KvRow>> kv_scan(
    Connection& db,
    const std::string& space,
    const std::string& project,
    const std::string& prefix,
    const std::string& after,
    std::uint32_t limit,
    KvOrder order
) {
    Params params;
    const char* statement = order == KvOrder::descending ? kScanBack : kScanOne;
    const std::string behind = end_of_prefix(prefix);
    if (!project.empty()) {
        if (!are_storable({space, project, prefix, after})) return std::vector<KvRow>{};
        params.text(project).text(space).text(prefix).text(after).number(limit).text(behind);
    } else {
        const auto end = after.find('\0');
        const std::string last_project = after.substr(0, end);
        const std::string last_key = end == std::string::npos ? "" : after.substr(end + 1);
        if (!are_storable({space, prefix, last_project, last_key})) return std::vector<KvRow>{};
        params.text(space).text(prefix).number(limit);
        statement = kScanFirst;
        if (!after.empty()) {
            params.text(last_project).text(last_key);
            statement = kScanAll;
        }
    }
    BOOST_OUTCOME_TRY(const auto rows, db.run(statement, params));
    std::vector<KvRow> found;
    for (std::size_t i = 0; i < rows.size(); ++i)
        found.push_back(
            {std::string(rows.text(i, 0).view()),
             std::string(rows.text(i, 1).view()),
             rows.bytes(i, 2)}
        );
    return found;
}

Result<Seq> read_cursor(
    Connection& db, const std::string& project, const std::string& subscription
) {
    if (!are_storable({project, subscription})) return kNoSeq;
    Params params;
    params.text(project).text(subscription);
    BOOST_OUTCOME_TRY(const auto rows, db.run(kCursor, params));
    return rows.size() == 0 || rows.is_null(0, 0) ? kNoSeq : rows.integer(0, 0);
}

Result<std::string> read_epoch(Connection& db) {
    BOOST_OUTCOME_TRY(const auto rows, db.run(kEpoch, Params()));
    return std::string(rows.text(0, 0).view());
}

Result<Lease> take_lease(Connection& db, const LeaseRequest& request) {
    if (!are_storable({request.project, request.name, request.owner}))
        return Error{Errc::invalid, "a lease's name holds U+0000 or malformed UTF-8"};
    Params params;
    params.text(request.project).text(request.name).text(request.owner).number(request.ttl.count());
    BOOST_OUTCOME_TRY(const auto taken, db.run(kLease, params));
    if (taken.size() == 1) return Lease{true, taken.integer(0, 0), request.ttl};
    Params name;
    name.text(request.project).text(request.name);
    BOOST_OUTCOME_TRY(const auto holder, db.run(kHolder, name));
    if (holder.size() == 0) return Lease{false, 0, std::chrono::milliseconds(0)};
    return Lease{false, holder.integer(0, 0), std::chrono::milliseconds(holder.integer(0, 1))};
}

Result<void> release_lease(
    Connection& db, const std::string& project, const std::string& name, const std::string& owner
) {
    if (owner.empty() || !are_storable({project, name, owner})) return ok();
    Params params;
    params.text(project).text(name).text(owner);
    BOOST_OUTCOME_TRYV(db.run(kRelease, params));
    return ok();
}

}  // namespace annal::postgres
