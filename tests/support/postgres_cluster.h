#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/scratch_folder.h"

namespace annal::test {

/// Whom servers run as when this process is root, which they refuse to be; else nothing.
[[nodiscard]] std::optional<Identity> server_identity();

struct PostgresOptions {
    /// Lines of postgresql.conf that come after the cluster's own and override them: "fsync = on".
    std::vector<std::string> settings;
    /// Listens on a free port of 127.0.0.1 too.
    bool tcp = false;
};

/// A throw-away PostgreSQL cluster, fit for tests: initdb in a fresh folder under /tmp, a Unix
/// socket there, nothing that waits for a disk (fsync = off), superuser `annal`, no passwords. As
/// root it runs as the user `postgres`, or else `nobody`.
///
/// Failures: std::runtime_error with a message; where PostgreSQL is involved, with its log's tail.
/// Lifetime: the destructor stops the cluster and removes its folder. A test that is killed leaves
///           neither processes nor the folder.
/// Threads:  `url`, `tcp_url`, `sql`, `create_database` and `log` from any thread; the others from
///           one thread at a time.
/// Limits:   60 s for each wait; 60 connections (of which 3 are the superuser's).
class PostgresCluster {
public:
    enum class Mode {
        fast,       ///< SIGINT: ends sessions, writes a checkpoint
        immediate,  ///< SIGQUIT: as a crash; the next start recovers
    };

    /// Returns once the cluster accepts connections.
    explicit PostgresCluster(PostgresOptions options = {});
    ~PostgresCluster();
    PostgresCluster(const PostgresCluster&) = delete;
    PostgresCluster& operator=(const PostgresCluster&) = delete;

    /// libpq's URL of a database, through the socket:
    /// postgresql:///name?host=/tmp/annal-pg-…&user=annal
    /// @param database  a plain name (letters, digits, underscores)
    [[nodiscard]] std::string url(std::string_view database) const;
    /// The same through 127.0.0.1. Only with `PostgresOptions::tcp`.
    [[nodiscard]] std::string tcp_url(std::string_view database) const;
    /// The URL of a new, empty database of a name of its own.
    std::string create_database();

    /// Runs statements with psql, each in a transaction of its own unless they say otherwise.
    /// @param database  a name, or any URL that libpq takes
    /// @return Rows, one a line, columns parted by '|', without the last newline.
    /// Failures: std::runtime_error with psql's message at the first error, or after 60 s.
    std::string sql(std::string_view database, std::string_view statements) const;

    /// Ends the cluster and waits for the end of all its processes. Thaws it first. Nothing when
    /// it is stopped.
    void stop(Mode mode = Mode::fast);
    /// Starts a cluster that was stopped or has died, on the same data, socket and port, and waits
    /// until it accepts connections.
    void start();
    void restart(Mode mode = Mode::fast);
    /// Adds lines to the configuration and returns once new sessions have them; running sessions
    /// take them up before their next statement. Settings that need a restart wait for one.
    /// Failures: as above, also for lines that PostgreSQL refuses; those are not kept.
    void reload_with(const std::vector<std::string>& settings);

    /// Stops every process of the cluster where it is (SIGSTOP), as a machine that hangs; returns
    /// once all have stopped. Connections are still taken by the kernel, and nobody answers.
    void freeze();
    void thaw();

    /// The postmaster's process id; 0 when stopped.
    [[nodiscard]] pid_t pid() const { return postmaster_; }
    /// Processes that serve a connection now, ascending.
    [[nodiscard]] std::vector<pid_t> backends() const;
    [[nodiscard]] const std::string& folder() const { return folder_.path(); }
    [[nodiscard]] std::string socket_path() const;
    /// 0 without `PostgresOptions::tcp`.
    [[nodiscard]] std::uint16_t tcp_port() const { return tcp_port_; }
    /// What the server has logged since the cluster was made.
    [[nodiscard]] std::string log() const;

private:
    void init();
    void configure(const PostgresOptions& options);
    void start_once();
    void start_on_free_port();
    [[nodiscard]] bool accepts() const;
    void end_remaining();
    [[noreturn]] void fail(const std::string& what) const;
    [[nodiscard]] ChildProgram server_program(std::vector<std::string> arguments) const;
    [[nodiscard]] std::string data() const { return folder() + "/data"; }

    ScratchFolder folder_{"pg"};
    std::optional<Identity> identity_;
    std::uint16_t tcp_port_ = 0;
    pid_t postmaster_ = 0;
    bool frozen_ = false;
    std::atomic<int> databases_ = 0;
    ParentThread parent_;
};

/// One cluster for a whole test program: started when first asked for, stopped at the program's
/// end. Take a database of its own for each test; who stops or freezes clusters makes one.
PostgresCluster& shared_cluster();

/// psql at work beside the test, for statements that wait for something.
///
/// Failures: std::runtime_error when it cannot be started.
/// Threads:  one at a time. The destructor kills psql when it still runs.
class PsqlRun {
public:
    struct Result {
        int exit_code = 0;  ///< 0: all went well; 2: no connection, or lost; 3: an error of SQL
        std::string output, errors;
    };

    PsqlRun(std::string_view url, std::string_view statements);
    ~PsqlRun();
    PsqlRun(const PsqlRun&) = delete;
    PsqlRun& operator=(const PsqlRun&) = delete;

    /// What came of it; nothing when psql is still at work after `timeout`.
    std::optional<Result> wait(std::chrono::milliseconds timeout);

private:
    int input_ = -1, output_ = -1, errors_ = -1;
    pid_t process_ = 0;
    std::optional<Result> result_;
};

}  // namespace annal::test
