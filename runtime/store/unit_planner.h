#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "runtime/event/seal.h"
#include "runtime/store/event_store.h"
#include "runtime/store/idempotency_key.h"

namespace annal {

/// A key of the kv space (space, project, key) and what it will hold; nullopt: nothing.
using KvName = std::tuple<std::string, std::string, std::string>;
using KvStage = std::map<KvName, std::optional<std::string>>;

/// What is committed, as far as the units of one transaction ask for it. Each store implements it.
///
/// Threads: the planner's.
class CommittedState {
public:
    virtual ~CommittedState() = default;
    /// The end of a log; as of an empty one when there is none.
    [[nodiscard]] virtual LogHead head(const std::string& project) = 0;
    /// The record of a key, if it was added within `kKeyLifetime` (or earlier).
    [[nodiscard]] virtual Result<std::optional<KeyRecord>> key(const KeyName& name) = 0;
    [[nodiscard]] virtual Result<std::optional<std::string>> kv(const KvName& name) = 0;
    /// Whether the event is there and has its content; `seq` may be any number.
    [[nodiscard]] virtual Result<bool> is_live(const std::string& project, Seq seq) = 0;
};

/// One unit that passed every check, ready to be written.
struct PlannedUnit {
    const AppendUnit* unit = nullptr;
    std::vector<Receipt> receipts;  ///< one for each event of the unit
    std::vector<EventDraft>
        drafts;  ///< the new events; when all are new, `unit->events` is used instead
    bool all_new = false;
    SealedBatch sealed;      ///< of the new events, in order; no events: none is new
    KeyRecords keys;         ///< to be remembered
    KvStage kv;              ///< what the unit's last operation leaves of each key that it changes
    std::vector<Seq> erase;  ///< each is live, or appended by a unit of `StagedUnits`
    std::vector<Scrub> scrub;  ///< likewise, and none of `erase`
    bool replayed = false;     ///< the request key was known: nothing is to be written

    [[nodiscard]] std::span<const EventDraft> new_events() const {
        return all_new ? std::span<const EventDraft>(unit->events) : drafts;
    }
    [[nodiscard]] bool changes_nothing() const;
};

/// What the units that were planned before will change, as long as it is not committed.
struct StagedUnits {
    struct Log {
        LogHead head;
        Seq first_seq = 0;  ///< first of this transaction
        TimeUs first_at = 0;
    };
    std::map<std::string, Log> logs;  ///< those that get new events
    KeyRecords keys;
    KvStage kv;
    std::set<std::pair<std::string, Seq>> erased;

    void add(const PlannedUnit& plan);
    /// Takes `keys` and `kv` and leaves the rest of the plan alone.
    void add(PlannedUnit&& plan);

private:
    void add_events(const PlannedUnit& plan);
};

/// Decides what one unit means after what is committed and staged: which keys are known, whether
/// its preconditions hold, where its events go. Writes nothing; who writes a plan adds it to
/// `staged`, so that the next unit sees it.
///
/// Threads: one at a time.
class UnitPlanner {
public:
    /// @param floor  no event is stamped before it
    UnitPlanner(CommittedState& committed, const StagedUnits& staged, TimeUs now, TimeUs floor)
        : committed_(committed), staged_(staged), now_(now), floor_(floor) {}

    /// The plan borrows `unit`.
    /// @error Errc::too_large    More than kBatchEventsMax events.
    /// @error Errc::conflict, Errc::not_found  As EventStore::append says.
    /// @error Errc::unavailable  The log is full.
    /// Errors of `CommittedState` are passed on.
    [[nodiscard]] Result<PlannedUnit> plan(const AppendUnit& unit);

private:
    Result<bool> replay_request(PlannedUnit& plan, Digest& content);
    Result<void> check_kv(PlannedUnit& plan);
    Result<void> check_erasures(PlannedUnit& plan);
    Result<bool> may_erase(const PlannedUnit& plan, Seq seq);
    Result<void> place_events(PlannedUnit& plan);
    Result<std::optional<std::string>> kv_value(const PlannedUnit& plan, const KvName& name);
    Result<std::optional<KeyRecord>> known_key(const KeyName& name);
    [[nodiscard]] LogHead head_of(const std::string& project);

    CommittedState& committed_;
    const StagedUnits& staged_;
    const TimeUs now_, floor_;
};

}  // namespace annal
