#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/bus/appender.h"
#include "runtime/bus/noticeboard.h"
#include "runtime/core/result.h"
#include "runtime/store/event_store.h"

namespace annal {

/// The settings that a project may have (audit_retention_days, catalog, …), with their defaults and
/// ranges. Values are JSON text. Reads come from memory; writes go through the append path,
/// together with the event that records them.
class Settings {
public:
    /// @param board  null: no other node changes them
    explicit Settings(EventStore& store, Noticeboard* board = nullptr)
        : store_(store), board_(board) {}
    /// Reads all rows once, before serving.
    [[nodiscard]] Task<Result<void>> load();
    /// Reads those of a project as another node has left them.
    [[nodiscard]] Task<Result<void>> reload(std::string project);
    /// Returns when what other nodes have changed before the call can be had by `get`, which else
    /// may be behind by Noticeboard::kFresh.
    [[nodiscard]] Task<Result<void>> catch_up();

    /// The value, or the default. @error Errc::not_found  No setting has this name; the detail
    /// lists those that exist.
    [[nodiscard]] Result<std::string> get(const std::string& project, const std::string& key) const;
    /// Commits the value together with the event project.setting.updated; a value that changes
    /// nothing is not recorded.
    /// @error Errc::not_found      No setting has this name.
    /// @error Errc::unprocessable  Not in the setting's range; the detail says what is.
    /// @error Errc::conflict       Another change came in between; nothing was written. And what
    /// `Appender::append` says.
    [[nodiscard]] Task<Result<void>> put(
        Appender& appender,
        std::string project,
        std::string key,
        std::string json,
        std::string actor_type,
        std::string actor_id
    );
    [[nodiscard]] static std::vector<std::string> names();

    /// Whether the project is under legal hold, as far as this node knows.
    [[nodiscard]] bool is_held(const std::string& project) const;
    /// A precondition for whatever takes events away: a hold that somebody places just then comes
    /// before it or after it, and is never passed over. Errc::conflict when there is one.
    [[nodiscard]] static KvOp unless_held(const std::string& project);
    [[nodiscard]] static Error held(const std::string& project);

private:
    EventStore& store_;
    Noticeboard* board_;
    mutable std::mutex mutex_;
    std::uint64_t edits_ = 0;  ///< of this node
    std::map<std::pair<std::string, std::string>, std::string> values_;
};

}  // namespace annal
