#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/store/sqlite/catalog.h"
#include "runtime/store/sqlite/idempotency.h"
#include "runtime/store/sqlite/redo.h"

namespace annal::sqlite {

/// A key of the kv space and what it will hold; nullopt: nothing.
using KvName = std::tuple<std::string, std::string, std::string>;
using KvStage = std::map<KvName, std::optional<std::string>>;

/// One unit that passed every check, ready to be written.
struct PlannedUnit {
    const AppendUnit* unit = nullptr;
    std::vector<Receipt> receipts;
    std::vector<EventDraft>
        drafts;  ///< the new events; when all are new, `unit->events` is used instead
    bool all_new = false;
    SealedBatch sealed;  ///< of the new events, in order
    KeyRecords keys;
    KvStage kv;
    struct Erasure {
        Seq seq = 0;
        std::shared_ptr<Segment> segment;  ///< null: the open one
        ProjectNumber pid = 0;             ///< in that segment
    };
    std::vector<Erasure> erasures;
    bool replayed = false;  ///< the request key was known: nothing is to be written

    [[nodiscard]] std::span<const EventDraft> new_events() const {
        return all_new ? std::span<const EventDraft>(unit->events) : drafts;
    }
};

/// What the open transaction has done and memory does not show yet.
struct Staged {
    struct Log {
        LogHead head;
        ProjectNumber pid = 0;
        Seq first_seq = 0;  ///< first of this transaction
        TimeUs first_at = 0;
    };
    struct Erased {
        std::string project;
        Seq seq = 0;
        std::shared_ptr<Segment> segment;  ///< null: the open one
        std::int64_t key = 0;
    };

    std::map<std::string, Log> logs;
    std::vector<Postings::Entry> entries;
    KeyRecords keys;
    KvStage kv;
    ControlChanges changes;
    std::vector<Erased> erased;
    std::set<std::pair<std::string, Seq>> erased_seqs;
    std::int64_t events = 0;
    bool begun = false;

    [[nodiscard]] bool writes() const { return begun; }
};

}  // namespace annal::sqlite
