#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/clock.h"
#include "runtime/store/event_store.h"

namespace annal {

/// Where the nodes of one store tell each other whose host objects (keys, settings, the project
/// itself) they have changed, so that each may keep them in memory. A notice is committed together
/// with the change. A node that has the store for itself puts up no notices and reads none.
///
/// Space "host.notices": one row of no project for each bucket of projects, and in
/// "host.notices.<bucket>" one for each project that was changed; their values say only whether
/// there was another change. Whoever looks reads the few rows of the buckets, and from there what
/// is new; in which order nodes commit does not matter.
///
/// Threads: any. Lifetime: outlives every caller; readers are added before the first look.
/// Limits: one look at a time, which all who ask meanwhile share; kSpacing from one to the next.
class Noticeboard {
public:
    enum class Nodes { one, many };
    Noticeboard(
        EventStore& store, const Clock& clock, Nodes nodes, boost::asio::any_io_executor executor
    );
    ~Noticeboard();

    /// Reads the objects of a project anew.
    using Reader = std::function<Task<Result<void>>(std::string project)>;
    void add_reader(Reader reader);
    /// Takes note of what is there, before the objects are read for the first time.
    [[nodiscard]] Task<Result<void>> begin();

    /// Adds to `unit` the notice that it changes an object of `project`.
    void put_up(AppendUnit& unit, const std::string& project) const;

    [[nodiscard]] bool has_other_nodes() const;
    /// Whether what others have committed kFresh ago may not have been read yet.
    [[nodiscard]] bool is_stale() const;
    /// How long ago everything that was committed then had been read.
    [[nodiscard]] std::chrono::milliseconds age() const;
    /// Returns when every other node has either read what was committed before the call or found
    /// itself stale.
    [[nodiscard]] Task<void> wait_for_others() const;
    /// Returns when everything that was committed before the call, by any node, has been read.
    /// @error of the store: Errc::unavailable, Errc::timeout.
    [[nodiscard]] Task<Result<void>> catch_up();
    /// For who has changed rows of `projects` past those who keep them in memory, with a notice in
    /// each commit: returns when this node has read them anew, also one that has the store for
    /// itself. One call at a time. @error of the store.
    [[nodiscard]] Task<Result<void>> read_anew(std::vector<std::string> projects);

    static constexpr std::chrono::milliseconds kFresh{1'000}, kSpacing{20};

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace annal
