#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/store/event_store.h"
#include "runtime/store/sqlite/directory.h"

namespace annal::sqlite {

/// What a commit does to control.db, as stored in the segment that the commit went to.
struct ControlChanges {
    struct Erasure {
        SegmentNumber segment = 0;
        std::int64_t key = 0;
    };
    std::vector<KvOp> kv;             ///< put and erase only
    std::vector<CursorMove> cursors;  ///< checked, by `cursor_row`; their fences are not kept
    std::vector<Erasure> erasures;    ///< in closed segments

    [[nodiscard]] bool empty() const { return kv.empty() && cursors.empty() && erasures.empty(); }
    [[nodiscard]] std::string encode() const;
    /// @error Errc::internal  Not made by `encode`.
    [[nodiscard]] static Result<ControlChanges> decode(std::string_view bytes);
};

}  // namespace annal::sqlite
