#pragma once

#include "runtime/store/sqlite/control.h"
#include "runtime/store/sqlite/segment_file.h"
#include "runtime/store/sqlite/staging.h"

namespace annal::sqlite {

/// Decides whether one unit can be written after what is committed and staged, without writing
/// anything.
///
/// Threads: the writer's.
class UnitCheck {
public:
    /// Finds out whether an event of a segment still has its content.
    using IsLive =
        std::function<Result<bool>(const std::shared_ptr<Segment>& segment, std::int64_t key)>;

    UnitCheck(
        const Catalog& catalog,
        Control& control,
        KeyBook& keys,
        const Staged& staged,
        IsLive is_live,
        TimeUs now,
        TimeUs floor
    )
        : catalog_(catalog),
          control_(control),
          keys_(keys),
          staged_(staged),
          is_live_(std::move(is_live)),
          now_(now),
          floor_(floor) {}

    /// @error Errc::conflict, Errc::not_found, Errc::too_large  As EventStore::append says.
    [[nodiscard]] Result<PlannedUnit> check(const AppendUnit& unit);

private:
    Result<bool> replay_request(PlannedUnit& plan, Digest& content);
    Result<void> check_kv(PlannedUnit& plan);
    Result<void> check_erasures(PlannedUnit& plan);
    Result<void> check_erasure(PlannedUnit& plan, Seq seq);
    Result<void> place_events(PlannedUnit& plan);
    Result<std::optional<std::string>> kv_value(const PlannedUnit& plan, const KvName& name);
    Result<std::optional<KeyRecord>> known_key(const KeyName& name);
    [[nodiscard]] LogHead head_of(const std::string& project) const;

    const Catalog& catalog_;
    Control& control_;
    KeyBook& keys_;
    const Staged& staged_;
    IsLive is_live_;
    const TimeUs now_, floor_;
};

}  // namespace annal::sqlite
