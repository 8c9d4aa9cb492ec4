#include "runtime/store/unit_planner.h"

#include <algorithm>
#include <unordered_map>

#include "runtime/core/limits.h"

namespace annal {
namespace {

Error key_conflict(std::string_view which) {
    return {
        Errc::conflict,
        "the idempotency key of " + std::string(which) +
            " was used before with other content; choose a new key or send the same content",
        "idempotency_key"};
}

Error precondition(const KvOp& op, std::string_view found) {
    return {
        Errc::conflict,
        "key \"" + op.key + "\" of " + op.space + " " + std::string(found) +
            "; read it again and repeat"};
}

}  // namespace

bool PlannedUnit::changes_nothing() const {
    return replayed || (sealed.events.empty() && kv.empty() && keys.empty() && erase.empty() &&
                        scrub.empty() && unit->cursors.empty());
}

void StagedUnits::add(const PlannedUnit& plan) {
    add_events(plan);
    keys.insert(plan.keys.begin(), plan.keys.end());
    for (const auto& [name, value] : plan.kv) {
        kv[name] = value;
    }
}

void StagedUnits::add(PlannedUnit&& plan) {
    add_events(plan);
    keys.merge(plan.keys);
    for (auto& [name, value] : plan.kv) {
        kv[name] = std::move(value);
    }
}

void StagedUnits::add_events(const PlannedUnit& plan) {
    const std::string& project = plan.unit->project;
    const SealedBatch& sealed = plan.sealed;
    if (!sealed.events.empty()) {
        const auto [log, is_new] = logs.try_emplace(project);
        if (is_new) {
            log->second.first_seq = sealed.first_seq;
            log->second.first_at = sealed.events.front().created_at;
        }
        log->second.head = {sealed.last_seq, sealed.last_at, sealed.digest};
    }
    for (const Seq seq : plan.erase) {
        erased.insert({project, seq});
    }
}

Result<PlannedUnit> UnitPlanner::plan(const AppendUnit& unit) {
    PlannedUnit plan;
    plan.unit = &unit;
    if (unit.events.size() > kBatchEventsMax) {
        return Error{
            Errc::too_large,
            "a unit holds at most " + std::to_string(kBatchEventsMax) + " events, this one has " +
                std::to_string(unit.events.size())};
    }
    Digest content{};
    if (!unit.request_key.empty()) {
        BOOST_OUTCOME_TRY(plan.replayed, replay_request(plan, content));
        if (plan.replayed) {
            return plan;
        }
    }
    BOOST_OUTCOME_TRY(check_kv(plan));
    BOOST_OUTCOME_TRY(check_erasures(plan));
    if (!unit.events.empty()) {
        BOOST_OUTCOME_TRY(place_events(plan));
    }
    if (!unit.request_key.empty()) {
        const KeyName name = key_name(KeyKind::request, unit.project, unit.request_key);
        plan.keys[name] = {content, plan.receipts};
    }
    return plan;
}

Result<bool> UnitPlanner::replay_request(PlannedUnit& plan, Digest& content) {
    const AppendUnit& unit = *plan.unit;
    content = content_digest(unit.events);
    BOOST_OUTCOME_TRY(
        auto known, known_key(key_name(KeyKind::request, unit.project, unit.request_key))
    );
    if (!known) {
        return false;
    }
    if (known->content != content) {
        return key_conflict("the request");
    }
    plan.receipts = std::move(known->receipts);
    for (Receipt& receipt : plan.receipts) {
        receipt.replayed = true;
    }
    return true;
}

Result<std::optional<KeyRecord>> UnitPlanner::known_key(const KeyName& name) {
    const auto staged = staged_.keys.find(name);
    if (staged != staged_.keys.end()) {
        return staged->second;
    }
    return committed_.key(name);
}

Result<std::optional<std::string>> UnitPlanner::kv_value(
    const PlannedUnit& plan, const KvName& name
) {
    for (const KvStage* stage : {&plan.kv, &staged_.kv}) {
        const auto found = stage->find(name);
        if (found != stage->end()) {
            return found->second;
        }
    }
    return committed_.kv(name);
}

Result<void> UnitPlanner::check_kv(PlannedUnit& plan) {
    for (const KvOp& op : plan.unit->kv) {
        const KvName name(op.space, op.project, op.key);
        switch (op.kind) {
            case KvOp::Kind::put:
                plan.kv[name] = op.value;
                break;
            case KvOp::Kind::erase:
                plan.kv[name] = std::nullopt;
                break;
            case KvOp::Kind::require_absent: {
                BOOST_OUTCOME_TRY(const auto value, kv_value(plan, name));
                if (value) {
                    return precondition(op, "exists already");
                }
                break;
            }
            case KvOp::Kind::require_equals: {
                BOOST_OUTCOME_TRY(const auto value, kv_value(plan, name));
                if (value != op.value) {
                    return precondition(op, "has another value");
                }
                break;
            }
        }
    }
    return ok();
}

Result<void> UnitPlanner::check_erasures(PlannedUnit& plan) {
    for (const Seq seq : plan.unit->erase) {
        BOOST_OUTCOME_TRY(const bool may, may_erase(plan, seq));
        if (!may) {
            return Error{
                Errc::not_found,
                "event " + std::to_string(seq) + " is absent or was deleted already"};
        }
        plan.erase.push_back(seq);
    }
    for (const Scrub& scrub : plan.unit->scrub) {
        BOOST_OUTCOME_TRY(const bool may, may_erase(plan, scrub.seq));
        if (may) {
            const std::uint32_t columns = scrub.columns | Scrub::kAlways;
            plan.scrub.push_back({scrub.seq, columns & ~Scrub::bit(Column::action)});
        }
    }
    return ok();
}

Result<bool> UnitPlanner::may_erase(const PlannedUnit& plan, Seq seq) {
    const std::string& project = plan.unit->project;
    const bool again = std::find(plan.erase.begin(), plan.erase.end(), seq) != plan.erase.end();
    if (again || staged_.erased.contains({project, seq})) {
        return false;
    }
    const auto staged = staged_.logs.find(project);
    if (staged != staged_.logs.end() && seq >= staged->second.first_seq) {
        return seq <= staged->second.head.seq;
    }
    return committed_.is_live(project, seq);
}

LogHead UnitPlanner::head_of(const std::string& project) {
    const auto staged = staged_.logs.find(project);
    return staged != staged_.logs.end() ? staged->second.head : committed_.head(project);
}

// Replays what is known and gives the rest its place in the log.
Result<void> UnitPlanner::place_events(PlannedUnit& plan) {
    const AppendUnit& unit = *plan.unit;
    const std::size_t count = unit.events.size();
    plan.receipts.resize(count);
    struct Keyed {
        std::size_t event;
        KeyName name;
        Digest content;
    };
    std::vector<Keyed> fresh_keys;
    std::unordered_map<KeyName, std::size_t, KeyNameHash> seen;  // key → index in fresh_keys
    std::vector<std::size_t> fresh;
    std::vector<std::pair<std::size_t, std::size_t>> repeats;  // event, the one it repeats
    for (std::size_t i = 0; i < count; ++i) {
        const EventDraft& draft = unit.events[i];
        if (draft.idempotency_key.is_null() || draft.idempotency_key.size() == 0) {
            fresh.push_back(i);
            continue;
        }
        const KeyName name = key_name(KeyKind::event, unit.project, draft.idempotency_key.view());
        const Digest content = content_digest(std::span(&draft, 1));
        const auto [own, is_new] = seen.emplace(name, fresh_keys.size());
        if (!is_new) {
            const Keyed& first = fresh_keys[own->second];
            if (first.content != content) {
                return key_conflict("event " + std::to_string(i));
            }
            repeats.emplace_back(i, first.event);
            continue;
        }
        BOOST_OUTCOME_TRY(auto known, known_key(name));
        fresh_keys.push_back({i, name, content});
        if (!known) {
            fresh.push_back(i);
            continue;
        }
        if (known->content != content || known->receipts.empty()) {
            return key_conflict("event " + std::to_string(i));
        }
        plan.receipts[i] = known->receipts.front();
        plan.receipts[i].replayed = true;
    }
    plan.all_new = fresh.size() == count;
    if (!plan.all_new) {
        for (const std::size_t i : fresh) {
            plan.drafts.push_back(unit.events[i]);
        }
    }
    if (!fresh.empty()) {
        plan.sealed = seal(head_of(unit.project), unit.project, plan.new_events(), now_, floor_);
        if (plan.sealed.last_seq > kSeqMax) {
            return Error{Errc::unavailable, "the log of project " + unit.project + " is full"};
        }
    }
    for (std::size_t k = 0; k < fresh.size(); ++k) {
        const SealedEvent& sealed = plan.sealed.events[k];
        plan.receipts[fresh[k]] = {sealed.id, sealed.seq, sealed.created_at, false};
    }
    for (const auto& [event, original] : repeats) {
        plan.receipts[event] = plan.receipts[original];
        plan.receipts[event].replayed = true;
    }
    for (const Keyed& key : fresh_keys) {
        if (!plan.receipts[key.event].replayed) {
            plan.keys[key.name] = {key.content, {plan.receipts[key.event]}};
        }
    }
    return ok();
}

}  // namespace annal
