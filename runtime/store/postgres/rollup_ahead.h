#pragma once

#include <mutex>
#include <set>
#include <string>

#include "runtime/core/event_id.h"
#include "runtime/store/postgres/pool.h"

namespace annal::postgres {

/// Counts blocks of rollups as soon as they are full, so that whoever asks first does not have to
/// wait until months are counted. What does not get done here is done then.
///
/// Takes one place among the pool's lengthy jobs, however many logs grow.
/// Threads: any. Lifetime: outlives the pool's jobs.
class RollupAhead {
public:
    RollupAhead(Pool& pool, Seq block_seqs) : pool_(pool), block_seqs_(block_seqs) {}

    /// Looks after the log if what came into it, both ends included, has filled a block.
    void note(const std::string& project, Seq first, Seq last);

private:
    void post();
    void count_next(Pool::Seat& seat);

    Pool& pool_;
    const Seq block_seqs_;
    std::mutex mutex_;
    std::set<std::string> projects_;  ///< with a block that is not counted yet
    bool counting_ = false;
};

}  // namespace annal::postgres
