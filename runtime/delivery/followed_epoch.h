#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/store/event_store.h"

namespace annal {

/// Which history of its log a subscription follows. When the store goes back in time (a standby is
/// promoted, a copy restored), seqs that a destination may have seen are given to other events: the
/// subscription halts until somebody lets it go on, and then goes by another name.
///
/// Rows: space "host.stream_epochs", the subscription's project, its name as the key.
struct FollowedEpoch {
    std::string epoch;          ///< see EventStore::epoch
    std::int64_t restarts = 0;  ///< how many others it has followed before
    bool accepted = false;      ///< it may follow the next one that it meets

    [[nodiscard]] std::string to_text() const;
    /// Nothing: not what `to_text` writes.
    [[nodiscard]] static std::optional<FollowedEpoch> from_text(std::string_view text);
    /// What a destination knows the stream as: another name for each restart, so that it takes no
    /// event for one that it knows.
    [[nodiscard]] std::string name_of(const std::string& stream) const;

    /// Adds the row to `unit`, which is of the subscription's project.
    void put_into(AppendUnit& unit, const std::string& subscription) const;

    static constexpr const char* kSpace = "host.stream_epochs";
};

}  // namespace annal
