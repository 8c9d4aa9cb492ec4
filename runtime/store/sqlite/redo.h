#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/store/event_store.h"
#include "runtime/store/sqlite/directory.h"

namespace annal::sqlite {

/// Rows of closed segments that still have to lose columns: "segment/key" and the columns.
inline constexpr const char* kScrubSpace = "host.store_scrubs";

/// What a commit does to control.db, as stored in the segment that the commit went to.
struct ControlChanges {
    struct Erasure {
        SegmentNumber segment = 0;
        std::int64_t key = 0;
        std::uint32_t columns = 0;  ///< 0: the whole row. Others are rows of kScrubSpace instead
    };
    std::vector<KvOp> kv;             ///< put and erase only
    std::vector<CursorMove> cursors;  ///< checked, by `cursor_row`; their fences are not kept
    std::vector<Erasure> erasures;    ///< in closed segments

    [[nodiscard]] bool empty() const { return kv.empty() && cursors.empty() && erasures.empty(); }
    [[nodiscard]] std::string encode() const;
    /// @error Errc::internal  Not made by `encode`.
    [[nodiscard]] static Result<ControlChanges> decode(std::string_view bytes);
};

[[nodiscard]] KvOp scrub_row(const ControlChanges::Erasure& erasure);
/// @error Errc::internal  No row of kScrubSpace.
[[nodiscard]] Result<ControlChanges::Erasure> erasure_of(
    std::string_view key, std::string_view value
);

}  // namespace annal::sqlite
