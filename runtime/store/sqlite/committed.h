#pragma once

#include <functional>
#include <memory>

#include "runtime/store/sqlite/catalog.h"
#include "runtime/store/sqlite/control.h"
#include "runtime/store/sqlite/idempotency.h"
#include "runtime/store/unit_planner.h"

namespace annal::sqlite {

/// What the files hold, as the planner of units asks for it.
///
/// Threads: the writer's.
class Committed final : public CommittedState {
public:
    /// Finds out whether a row of a segment still has its content.
    using HasContent =
        std::function<Result<bool>(const std::shared_ptr<Segment>& segment, std::int64_t key)>;

    Committed(
        const Catalog& catalog, Control& control, KeyBook& keys, HasContent has_content, TimeUs now
    )
        : catalog_(catalog),
          control_(control),
          keys_(keys),
          has_content_(std::move(has_content)),
          now_(now) {}

    [[nodiscard]] LogHead head(const std::string& project) override;
    [[nodiscard]] Result<std::optional<KeyRecord>> key(const KeyName& name) override;
    [[nodiscard]] Result<std::optional<std::string>> kv(const KvName& name) override;
    [[nodiscard]] Result<bool> is_live(const std::string& project, Seq seq) override;

private:
    const Catalog& catalog_;
    Control& control_;
    KeyBook& keys_;
    HasContent has_content_;
    const TimeUs now_;
};

}  // namespace annal::sqlite
