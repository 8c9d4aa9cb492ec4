#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>
#include <vector>

#include "runtime/core/task_impl.h"
#include "tests/chaos/store_kill_plan.h"

namespace annal::test {

inline constexpr std::size_t kKillErasedBack = 12;

[[noreturn]] inline void kill_give_up(const std::string& why) {
    std::fprintf(stderr, "the writer gives up: %s\n", why.c_str());
    std::_Exit(3);
}

inline void kill_acknowledge(const KillAck& ack) {
    if (::write(STDOUT_FILENO, &ack, sizeof ack) != sizeof ack) {
        kill_give_up("the pipe is gone");
    }
}

/// Appends the units of the plan from the last committed one on, until the process is killed.
/// @param outlives  a unit of the process before may have been committed after this one began: it
///                  replays, too
inline Task<void> call(EventStore& store, int caller, bool outlives) {
    const std::string project = KillUnit::project_of(caller);
    auto row = co_await store.kv_get("plugin.chaos", project, std::to_string(caller));
    if (row.has_error()) {
        kill_give_up(row.error().detail);
    }
    // The last unit that was committed, whether or not its answer arrived: it must replay.
    const std::int64_t done = row.value() ? std::atoll(row.value()->c_str()) : 0;
    std::deque<Seq> firsts;  // of recent units; the oldest is erased now and then
    for (std::int64_t n = done == 0 ? 1 : done;; ++n) {
        const KillUnit made(caller, n);
        std::vector<AppendUnit> units = {made.unit};
        // Near the end of the log, and farther back, where the segment is closed.
        const std::size_t back = n % 2 == 0 ? 1 : kKillErasedBack;
        const bool erases = n % 5 == 0 && firsts.size() >= back;
        const Seq victim = erases ? firsts[firsts.size() - back] : kNoSeq;
        if (erases) {
            units[0].erase.push_back(victim);
            firsts.erase(firsts.end() - static_cast<std::ptrdiff_t>(back));
        }
        auto outcomes = co_await store.append(units);
        if (outcomes[0].has_error()) {
            kill_give_up(outcomes[0].error().detail);
        }
        const auto& receipts = outcomes[0].value();
        const bool may_replay = n == done || (outlives && n == done + 1);
        if (receipts.at(0).replayed ? !may_replay : n == done) {
            kill_give_up(
                "unit " + std::to_string(n) +
                " was replayed although it was new, or not although it was known"
            );
        }
        const bool erased = erases && !receipts[0].replayed;
        kill_acknowledge(
            {caller,
             n,
             receipts[0].seq,
             static_cast<std::int64_t>(receipts.size()),
             erased ? victim : kNoSeq}
        );
        if (!receipts[0].replayed) {
            firsts.push_back(receipts[0].seq);
        }
        if (firsts.size() > 2 * kKillErasedBack) {
            firsts.pop_front();
        }
    }
}

}  // namespace annal::test
