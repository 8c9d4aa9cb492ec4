#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/event/event.h"
#include "runtime/store/postgres/values.h"
#include "runtime/store/postgres/watchdog.h"

namespace annal::postgres {

/// What a statement answered. Text is borrowed from it.
class Rows {
public:
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] bool is_null(std::size_t row, int column) const;
    /// Null and empty are apart.
    [[nodiscard]] Text text(std::size_t row, int column) const;
    [[nodiscard]] std::int64_t integer(std::size_t row, int column) const;
    [[nodiscard]] bool boolean(std::size_t row, int column) const;
    /// A bytea.
    [[nodiscard]] std::string bytes(std::size_t row, int column) const;
    [[nodiscard]] std::size_t changed() const { return changed_; }  ///< rows that it wrote

private:
    friend class Connection;
    std::shared_ptr<const void> result_;
    std::size_t size_ = 0, changed_ = 0;
};

/// One session of PostgreSQL. The only place that knows libpqxx; its exceptions end here.
///
/// Threads: one at a time.
/// Poolers: nothing outlives a transaction (no prepared statements, no session settings), so
/// pgbouncer may hand each transaction to another session; the keeper's and the listener's
/// connections are apart, and direct.
class Connection {
public:
    struct Options {
        std::string url;  ///< URI or key=value words, as libpq reads them
        std::chrono::seconds connect_timeout{5};
        std::chrono::milliseconds tcp_user_timeout{10'000};
        bool is_hurried = false;  ///< connect_timeout holds, whatever the URL says
    };

    /// @param watchdog  when it expires soon, nothing is waited for beyond that
    /// @error Errc::unavailable  What libpq says, without the password.
    [[nodiscard]] static Result<std::unique_ptr<Connection>> open(
        Options options, Watchdog& watchdog
    );
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    /// From now on a call that has no answer at `deadline` fails and the connection is lost.
    void set_deadline(Watchdog::Deadline deadline) { deadline_ = deadline; }

    [[nodiscard]] bool is_overdue() const { return std::chrono::steady_clock::now() >= deadline_; }

    /// Statements without parameters, one after the other; the answer of the last.
    ///
    /// @error Errc::unavailable  The server can't do it now, or is gone (`is_lost`).
    /// @error Errc::timeout      statement_timeout or lock_timeout.
    /// @error Errc::internal     The statement is wrong, or its data; `state` tells more.
    [[nodiscard]] Result<Rows> run(const std::string& statements);
    /// One statement with parameters. Errors as above.
    [[nodiscard]] Result<Rows> run(const std::string& statement, const Params& params);
    /// Ends the open transaction without it; a connection that can't do it is lost.
    void rollback();

    /// It can't be used any more. An open transaction was rolled back, unless COMMIT was under way.
    [[nodiscard]] bool is_lost() const { return lost_; }
    /// SQLSTATE of the last error; empty when the server did not give one.
    [[nodiscard]] const std::string& state() const { return state_; }
    /// From now on `await_notifications` hears this channel. One channel a connection.
    [[nodiscard]] Result<void> listen(const std::string& channel);
    /// The payloads that have come: at once when there are any, else when there are, or `wake` (a
    /// descriptor) can be read, or `patience` is over. @error Errc::unavailable  The connection is
    /// lost.
    [[nodiscard]] Result<std::vector<std::string>> await_notifications(
        int wake, std::chrono::milliseconds patience
    );

private:
    struct Session;
    explicit Connection(std::unique_ptr<Session> session, Watchdog& watchdog);
    template <class Call>
    Result<Rows> call(const Call& call);

    std::unique_ptr<Session> session_;
    Watchdog& watchdog_;
    Watchdog::Deadline deadline_ = Watchdog::Deadline::max();
    std::string state_;
    bool lost_ = false;
};

/// `work` between `begin`, which may take locks, and COMMIT. Whichever fails, the connection is
/// outside of a transaction again, or lost.
[[nodiscard]] Result<void> transact(
    Connection& db, const std::string& begin, const std::function<Result<void>()>& work
);
/// What the server's clock says.
[[nodiscard]] Result<TimeUs> clock_of(Connection& db);
/// Whether libpq can read it. @error Errc::invalid  Why not, without anything of the URL, which may
/// hold a password.
[[nodiscard]] Result<void> check_url(const std::string& url);
/// `text` as a literal of SQL. It must hold no NUL.
[[nodiscard]] std::string quoted(std::string_view text);

}  // namespace annal::postgres
