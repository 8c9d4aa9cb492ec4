#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "tests/support/postgres_cluster.h"

namespace annal::test {

/// PgBouncer in transaction pooling mode before a throw-away cluster: every transaction of a client
/// may run on another of the pool's connections, which are taken in turns. What a session keeps
/// (SET, prepared statements, advisory locks of a session, LISTEN) is not there in the next one.
///
/// Failures: std::runtime_error with its log.
/// Threads:  `url` and `log` from any thread; the others from one thread at a time.
class PgBouncer {
public:
    /// Returns once it accepts connections.
    /// @param settings  lines of pgbouncer.ini that override its own: "default_pool_size = 1"
    explicit PgBouncer(const PostgresCluster& cluster, std::vector<std::string> settings = {});
    ~PgBouncer();
    PgBouncer(const PgBouncer&) = delete;
    PgBouncer& operator=(const PgBouncer&) = delete;

    /// libpq's URL of the cluster's database of this name through the pool.
    [[nodiscard]] std::string url(std::string_view database) const;
    /// Clients lose their connections.
    void stop();
    void start();
    [[nodiscard]] std::string log() const;

private:
    [[nodiscard]] bool accepts() const;
    [[noreturn]] void fail(const std::string& what) const;

    ScratchFolder folder_{"pgb"};
    pid_t process_ = 0;
    ParentThread parent_;
};

}  // namespace annal::test
