#pragma once

#include <memory>
#include <vector>

#include "runtime/store/sqlite/committer.h"

namespace annal::sqlite {

/// What the keeper has to do after a start.
struct Unfinished {
    std::vector<std::shared_ptr<Segment>> to_index, to_search;
    std::vector<ControlChanges::Erasure> erasures;
};

/// Brings memory and control.db to what the segments say: fills the catalog, replays redo records,
/// rebuilds the postings of the newest segment, finishes drops. Before any other thread of the
/// store.
///
/// @error Errc::unavailable  A segment that is needed for that can't be read; the detail names it.
/// Segments that are
///                           settled are not opened: if one of those is damaged, reads that touch
///                           it say so.
[[nodiscard]] Result<Unfinished> recover(
    const Directory& directory, Catalog& catalog, Committer& committer
);

}  // namespace annal::sqlite
