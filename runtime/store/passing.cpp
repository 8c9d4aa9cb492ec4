#include "runtime/store/passing.h"

namespace annal {

Result<Seq> seq_behind(
    Seq first,
    Seq last,
    std::int64_t skip,
    const std::function<Result<std::int64_t>(Seq first, Seq last)>& tombstones
) {
    if (first > last) return kNoSeq;
    BOOST_OUTCOME_TRY(const auto all, tombstones(first, last));
    if (skip < 1 || skip > last - first + 1 - all) return kNoSeq;
    // Each tombstone that is met moves the end on by one, past further ones perhaps.
    for (std::int64_t erased = 0;;) {
        const Seq end = last - skip + 1 - erased;
        BOOST_OUTCOME_TRY(const auto met, tombstones(end, last));
        if (met == erased) return end;
        erased = met;
    }
}

}  // namespace annal
