#include "runtime/store/sqlite/postings.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "runtime/core/crypto.h"
#include "runtime/store/aggregate.h"

namespace annal::sqlite {
namespace {

constexpr std::size_t kAction = static_cast<std::size_t>(Column::action);
constexpr std::size_t kFirstSlots = 64;
// Columns whose values never repeat would all grow in one commit, and it would take 20 ms.
constexpr std::size_t kFillMax = 768, kFillStep = 18;

__extension__ using Wide = unsigned __int128;

std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

}  // namespace

Postings::Postings(std::size_t expected) : seed_(random_u64() | 1) {
    keys_.reserve(expected);
    created_at_.reserve(expected);
    for (std::size_t c = 0; c < kIndexedColumns; ++c) {
        previous_[c].reserve(expected);
        chains_[c].set_fill(kFillMax - c * kFillStep);
    }
}

// Seeded, so that a client can't choose values that fall into one chain.
std::uint64_t Postings::hash(ProjectNumber pid, std::string_view value) const {
    constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15;
    std::uint64_t state = fold(seed_ ^ static_cast<std::uint64_t>(pid), kOdd) ^ value.size();
    const char* at = value.data();
    std::size_t left = value.size();
    while (left > 0) {
        std::uint64_t word = 0;
        const std::size_t take = std::min<std::size_t>(left, sizeof word);
        std::memcpy(&word, at, take);
        state = fold(state ^ word, kOdd ^ seed_);
        at += take;
        left -= take;
    }
    return fold(state, kOdd);
}

Postings::Chain& Postings::Chains::at(std::uint64_t hash) {
    if (used_ * 1024 >= slots_.size() * fill_) {
        grow();
    }
    const std::size_t mask = slots_.size() - 1;
    std::size_t i = hash & mask;
    while (slots_[i].count != 0 && slots_[i].hash != hash) {
        i = (i + 1) & mask;
    }
    if (slots_[i].count == 0) {
        slots_[i].hash = hash;
        ++used_;
    }
    return slots_[i];
}

const Postings::Chain* Postings::Chains::find(std::uint64_t hash) const {
    if (slots_.empty()) {
        return nullptr;
    }
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t i = hash & mask; slots_[i].count != 0; i = (i + 1) & mask) {
        if (slots_[i].hash == hash) {
            return &slots_[i];
        }
    }
    return nullptr;
}

void Postings::Chains::grow() {
    std::vector<Chain> old(slots_.empty() ? kFirstSlots : slots_.size() * 2);
    old.swap(slots_);
    const std::size_t mask = slots_.size() - 1;
    for (const Chain& chain : old) {
        if (chain.count == 0) {
            continue;
        }
        std::size_t i = chain.hash & mask;
        while (slots_[i].count != 0) {
            i = (i + 1) & mask;
        }
        slots_[i] = chain;
    }
}

Postings::Ordinal Postings::add_ordinal(std::int64_t key, TimeUs created_at) {
    const auto ordinal = static_cast<Ordinal>(keys_.size());
    keys_.push_back(key);
    created_at_.push_back(created_at);
    for (auto& previous : previous_) {
        previous.push_back(kNone);
    }
    return ordinal;
}

void Postings::add(std::span<const Entry> entries) {
    const std::unique_lock lock(mutex_);
    for (const Entry& entry : entries) {
        const Ordinal ordinal = add_ordinal(entry.key, entry.created_at);
        const ProjectNumber pid = pid_of(entry.key);
        for (std::size_t c = 0; c < kIndexedColumns; ++c) {
            const Text& value = entry.columns[c];
            if (value.is_null()) {
                continue;
            }
            Chain* chain = nullptr;
            if (c == kAction) {
                auto found = actions_.find(ActionView{pid, value.view()});
                if (found == actions_.end()) {
                    found =
                        actions_.emplace(ActionKey{pid, std::string(value.view())}, Chain{}).first;
                }
                chain = &found->second;
            } else {
                chain = &chains_[c].at(hash(pid, value.view()));
            }
            previous_[c][ordinal] = chain->newest;
            chain->newest = ordinal;
            ++chain->count;
        }
    }
}

void Postings::add_tombstone(std::int64_t key, TimeUs created_at) {
    const std::unique_lock lock(mutex_);
    erased_ordinals_.insert(add_ordinal(key, created_at));
    erased_.emplace(key, kNone);
}

void Postings::erase(std::int64_t key) {
    const std::unique_lock lock(mutex_);
    const Ordinal ordinal = ordinal_of(key);
    erased_.emplace(key, ordinal);
    if (ordinal != kNone) {
        erased_ordinals_.insert(ordinal);
    }
}

void Postings::scrub(const std::map<std::int64_t, std::uint32_t>& columns_of_keys) {
    const std::unique_lock lock(mutex_);
    for (Ordinal i = 0; i < keys_.size(); ++i) {
        const auto found = columns_of_keys.find(keys_[i]);
        if (found != columns_of_keys.end()) {
            scrubbed_[i] |= found->second;
        }
    }
}

Postings::Ordinal Postings::ordinal_of(std::int64_t key) const {
    // Erasure is rare; nothing else needs the way from a key to its ordinal.
    const auto found = std::find(keys_.begin(), keys_.end(), key);
    return found == keys_.end() ? kNone : static_cast<Ordinal>(found - keys_.begin());
}

const Postings::Chain* Postings::chain(ProjectNumber pid, Column column, std::string_view value)
    const {
    if (column == Column::action) {
        const auto found = actions_.find(ActionView{pid, value});
        return found == actions_.end() ? nullptr : &found->second;
    }
    return chains_[static_cast<std::size_t>(column)].find(hash(pid, value));
}

std::uint64_t Postings::estimate(ProjectNumber pid, Column column, std::string_view value) const {
    const std::shared_lock lock(mutex_);
    const Chain* const found = chain(pid, column, value);
    return found == nullptr ? 0 : found->count;
}

SeqList Postings::find(
    ProjectNumber pid, Column column, std::string_view value, SeqRange range, std::size_t limit
) const {
    SeqList list;
    const std::shared_lock lock(mutex_);
    const Chain* const found = chain(pid, column, value);
    if (found == nullptr) {
        return list;
    }
    const auto& previous = previous_[static_cast<std::size_t>(column)];
    for (Ordinal i = found->newest; i != kNone; i = previous[i]) {
        // The key's project tells strangers of other projects apart; the value is the caller's to
        // check.
        const Seq seq = seq_of(keys_[i]);
        if (pid_of(keys_[i]) != pid || seq > range.last || erased_ordinals_.contains(i)) {
            continue;
        }
        const auto scrubbed = scrubbed_.find(i);
        if (scrubbed != scrubbed_.end() && (scrubbed->second & Scrub::bit(column)) != 0) {
            continue;
        }
        if (seq < range.first) {
            break;
        }
        if (range.newest_first && list.seqs.size() == limit) {
            list.complete = false;
            break;
        }
        list.seqs.push_back(seq);
    }
    if (!range.newest_first) {
        std::reverse(list.seqs.begin(), list.seqs.end());
        if (list.seqs.size() > limit) {
            list.seqs.resize(limit);
            list.complete = false;
        }
    }
    return list;
}

std::optional<std::vector<std::string>> Postings::actions(
    ProjectNumber pid, std::string_view prefix, std::size_t limit
) const {
    std::vector<std::string> found;
    const std::shared_lock lock(mutex_);
    for (auto i = actions_.lower_bound(ActionView{pid, prefix});
         i != actions_.end() && i->first.pid == pid && i->first.action.starts_with(prefix);
         ++i) {
        if (found.size() == limit) {
            return std::nullopt;
        }
        found.push_back(i->first.action);
    }
    return found;
}

void Postings::count_actions(
    ProjectNumber pid, TimeUs since, Seq first, Seq last, std::map<std::string, ActionCount>& into
) const {
    const auto& previous = previous_[kAction];
    const std::shared_lock lock(mutex_);
    for (auto i = actions_.lower_bound(ActionView{pid, ""});
         i != actions_.end() && i->first.pid == pid;
         ++i) {
        ActionCount count{i->first.action, 0, 0};
        for (Ordinal o = i->second.newest; o != kNone && created_at_[o] >= since; o = previous[o]) {
            const Seq seq = seq_of(keys_[o]);
            if (seq < first) {
                break;
            }
            if (seq > last || erased_ordinals_.contains(o)) {
                continue;
            }
            ++count.count;
            count.last_seen = std::max(count.last_seen, created_at_[o]);
        }
        if (count.count > 0) {
            ActionCount& sum = into[count.action];
            sum.count += count.count;
            sum.last_seen = std::max(sum.last_seen, count.last_seen);
        }
    }
}

void Postings::count_hours(
    ProjectNumber pid,
    Seq first,
    Seq last,
    const std::function<void(std::int64_t, std::string_view, std::int64_t)>& take
) const {
    const auto& previous = previous_[kAction];
    const std::shared_lock lock(mutex_);
    for (auto i = actions_.lower_bound(ActionView{pid, ""});
         i != actions_.end() && i->first.pid == pid;
         ++i) {
        std::int64_t hour = 0, count = 0;
        for (Ordinal o = i->second.newest; o != kNone; o = previous[o]) {
            const Seq seq = seq_of(keys_[o]);
            if (seq < first) {
                break;
            }
            if (seq > last || erased_ordinals_.contains(o)) {
                continue;
            }
            const std::int64_t own = created_at_[o] / kHourUs;
            if (own != hour && count > 0) {
                take(hour, i->first.action, count);
                count = 0;
            }
            hour = own;
            ++count;
        }
        if (count > 0) {
            take(hour, i->first.action, count);
        }
    }
}

std::vector<Seq> Postings::tombstones(ProjectNumber pid, Seq first, Seq last) const {
    std::vector<Seq> found;
    if (first > last) {
        return found;
    }
    const std::shared_lock lock(mutex_);
    const auto end = erased_.upper_bound(row_key(pid, last));
    for (auto i = erased_.lower_bound(row_key(pid, first)); i != end; ++i) {
        found.push_back(seq_of(i->first));
    }
    return found;
}

}  // namespace annal::sqlite
