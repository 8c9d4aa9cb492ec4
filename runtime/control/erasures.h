#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/bus/noticeboard.h"
#include "runtime/event/host_event.h"
#include "runtime/plugin/instance.h"

namespace annal::control {

/// What anybody may know of one erasure of a person's data: never whose.
///
/// Rows: space "host.erasures", the project, the id as the key.
struct Erasure {
    std::string id;  ///< "era_" and 26 digits; ids sort by time
    bool completed = false;
    Actor requested_by;
    TimeUs requested_at = kNoTime, completed_at = kNoTime;
    Seq through_seq = kNoSeq;  ///< events up to this one were looked at; later ones are new data
    std::int64_t events = 0;   ///< that lost personal data
    std::int64_t dead_letters = 0, attempts = 0, plugin_rows = 0,
                 objects = 0;  ///< copies, likewise

    [[nodiscard]] std::string to_text() const;
    /// @error Errc::internal  The row is damaged.
    [[nodiscard]] static Result<Erasure> from_row(const KvRow& row);
    static constexpr const char* kSpace = "host.erasures";
};

/// Columns of an event that go when `user_id`'s data are erased (see Scrub::kAlways for what goes
/// in any case). 0: the event is not about that person.
[[nodiscard]] std::uint32_t columns_of_subject(const Event& event, std::string_view user_id);
/// Whether `text` names `id`, as it is or as JSON writes it, not as a part of a longer word.
[[nodiscard]] bool names_subject(std::string_view text, std::string_view id);

/// Erases persons' data from projects' logs and from everything that is kept beside them: events
/// lose what is personal and stay in their place; then, when the attempts that were under way have
/// ended, what destinations answered, dead letters and plugins' rows; last, the store's files.
///
/// Work is a row of space "host.erasure_jobs" that holds the user_id until the data are gone. Each
/// step is one commit with the row's next state, on condition that it is as it was: whatever
/// crashes, whichever node goes on, nothing is left out or counted twice. One node at a time works
/// on a project; a step has at most 500 events. While the project's setting legal_hold is on,
/// nothing is erased.
///
/// Threads: any. Lifetime: `stop` has returned before what it was given ends.
class Erasures {
public:
    struct Environment {
        HostEnvironment& host;
        Noticeboard& board;
        /// Key spaces of the plugins of this node.
        std::function<std::vector<std::string>()> plugin_spaces;
        /// The longest that an attempt of the project's streams and endpoints takes; 0: it has
        /// none.
        std::function<std::chrono::milliseconds(const std::string& project)> longest_attempt;
    };
    static constexpr std::size_t kUserIdBytesMax = 256;

    explicit Erasures(Environment environment);
    ~Erasures();

    /// Joins the erasure of the same person when one is under way: it then goes on to what has come
    /// meanwhile. Neither waits for the other.
    /// @error Errc::conflict  The project is under legal hold.
    [[nodiscard]] Task<Result<Erasure>> create(
        std::string project, std::string user_id, Actor actor
    );
    /// @error Errc::not_found
    [[nodiscard]] Task<Result<Erasure>> get(std::string project, std::string id);
    /// Newest first, older than `before` when that is not empty.
    [[nodiscard]] Task<Result<std::vector<Erasure>>> list(
        std::string project, std::string before, std::uint32_t limit
    );
    /// As this node and all others have it by now.
    [[nodiscard]] Task<Result<bool>> is_held(std::string project);

    void start();
    [[nodiscard]] Task<void> stop();

private:
    struct Job;
    struct Place;
    Task<void> keep_working();
    Task<void> look();
    [[nodiscard]] bool is_due(const KvRow& row) const;
    Task<void> work_on(KvRow row);
    [[nodiscard]] Task<Result<bool>> step(KvRow row);
    [[nodiscard]] Task<Result<void>> erase_events(Place& place);
    void end_of_events(Place& place);
    [[nodiscard]] Task<Result<ScanPage>> next_events(Place& place);
    [[nodiscard]] Task<Result<void>> erase_copies(Place& place);
    [[nodiscard]] Task<Result<void>> end_of_copies(Place& place);
    [[nodiscard]] Task<Result<bool>> erase_copy(Place& place, std::string space, KvRow row);
    [[nodiscard]] Task<Result<bool>> is_erased(std::string project, Seq seq);
    [[nodiscard]] Task<Result<void>> purge(Place& place);
    [[nodiscard]] Task<Result<void>> commit(Place& place);
    [[nodiscard]] std::set<std::string> spaces_of_copies() const;
    Task<void> pause(std::chrono::milliseconds time);
    void wake();

    Environment environment_;
    boost::asio::strand<boost::asio::any_io_executor> strand_;
    boost::asio::steady_timer timer_;
    bool woken_ = false;  // the strand's
    std::atomic<bool> stopping_{false}, started_{false};
};

}  // namespace annal::control
