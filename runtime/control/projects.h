#pragma once

#include <map>
#include <mutex>
#include <string>

#include "runtime/bus/appender.h"
#include "runtime/bus/noticeboard.h"
#include "runtime/http/router.h"

namespace annal::control {

/// The tenants. Every event, key and stream belongs to one. Rows: space "host.projects".
class Projects {
public:
    Projects(EventStore& store, Appender& appender, const Clock& clock, Noticeboard& board)
        : store_(store), appender_(appender), clock_(clock), board_(board) {}
    [[nodiscard]] Task<Result<void>> load();
    /// Reads a project as another node has left it.
    [[nodiscard]] Task<Result<void>> reload(std::string id);
    [[nodiscard]] bool exists(const std::string& id) const;
    /// The same, also when another node has just made it.
    [[nodiscard]] Task<Result<bool>> find(std::string id);
    /// As the store has it.
    [[nodiscard]] static Task<Result<bool>> is_there(EventStore& store, std::string id);
    /// @error Errc::conflict       The id is taken.
    /// @error Errc::unprocessable  Not 1-64 of A-Z a-z 0-9 _ -.
    [[nodiscard]] Task<Result<void>> create(std::string id, std::string name);
    /// POST and GET /v1/projects.
    [[nodiscard]] Result<void> add_routes(http::Router& router);

private:
    Task<Result<void>> post(std::shared_ptr<http::Exchange> exchange);
    Task<Result<void>> list(std::shared_ptr<http::Exchange> exchange);

    EventStore& store_;
    Appender& appender_;
    const Clock& clock_;
    Noticeboard& board_;
    mutable std::mutex mutex_;
    std::map<std::string, std::string> rows_;  ///< id → JSON
};

}  // namespace annal::control
