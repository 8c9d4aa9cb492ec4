#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/store/sqlite/catalog.h"
#include "runtime/store/sqlite/redo.h"
#include "runtime/store/unit_planner.h"

namespace annal::sqlite {

/// An event that loses its content, or some columns, and where its row is.
struct Erased {
    std::string project;
    Seq seq = 0;
    std::shared_ptr<Segment> segment;
    std::int64_t key = 0;
    std::uint32_t columns = Segment::kWhole;
};

/// What the open transaction has done and memory does not show yet.
struct Staged {
    StagedUnits units;
    std::vector<Postings::Entry> entries;
    ControlChanges changes;
    std::vector<Erased> erased;
    std::int64_t events = 0;
    bool begun = false;

    [[nodiscard]] bool writes() const { return begun; }
};

}  // namespace annal::sqlite
