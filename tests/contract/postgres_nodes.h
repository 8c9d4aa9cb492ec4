#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "runtime/store/postgres/connection.h"
#include "runtime/store/postgres/postgres_store.h"
#include "tests/contract/store_contract.h"

namespace annal::test {

/// One node of several: a store object over a database that others use, too.
///
/// Threads: any.
class Node {
public:
    explicit Node(const std::string& url, annal::PostgresOptions options = {});
    ~Node() { close(); }

    EventStore& store() { return *store_; }
    EventStore* operator->() { return store_.get(); }
    /// Blocks the calling thread until the store has answered.
    AppendOutcome append(const Unit& unit);
    std::vector<AppendOutcome> append(const std::vector<Unit>& units);
    /// Ascending, tombstones included; what a failing scan says is a failure of the test.
    std::vector<Seq> all(const std::string& project);
    /// Sum of the series of a family.
    [[nodiscard]] double metric(const std::string& name) const;
    void close();

private:
    Metrics metrics_;
    std::unique_ptr<EventStore> store_;
};

/// A session beside the store. Errors of SQL throw.
///
/// Threads: one at a time.
class Session {
public:
    explicit Session(const std::string& url);
    postgres::Rows run(const std::string& statements);
    postgres::Rows run(const std::string& statement, const postgres::Params& params);
    /// The first column of the first row.
    std::string value(const std::string& statement);
    std::int64_t number(const std::string& statement);

private:
    postgres::Watchdog watchdog_;
    std::unique_ptr<postgres::Connection> db_;
};

/// What callers were told, held against what the database has.
///
/// Threads: any for what adds to it.
class Account {
public:
    /// The external_ids of the events of `unit` are there, as the receipts say.
    void record(const AppendUnit& unit, const AppendOutcome& outcome);
    [[nodiscard]] std::size_t acknowledged() const;
    /// Errors that are not what an outage looks like (unavailable or timeout, with a time to come
    /// back).
    [[nodiscard]] std::vector<std::string> wrong_errors() const;
    [[nodiscard]] std::size_t errors() const;

    /// Reads the logs of all projects below the store: holes and repeats in seq, time and id that
    /// do not rise with it, batches that do not join, digests that are not those of the leaves,
    /// months that begin elsewhere; then what was acknowledged and is not in its place, what was
    /// refused and is there, what is there twice. Empty: all is well.
    [[nodiscard]] std::vector<std::string> problems(const std::string& url) const;

private:
    using Name = std::pair<std::string, std::string>;  // project, external_id

    mutable std::mutex mutex_;
    std::map<Name, Receipt> acknowledged_;
    std::set<Name> refused_;
    std::vector<std::string> wrong_errors_;
    std::size_t errors_ = 0;
};

/// Reads a log as a stream does: whatever lies beyond the last seq that it saw, again and again.
class Follower {
public:
    Follower(Node& node, std::string project);
    ~Follower();
    /// Waits until it has seen `seq`.
    [[nodiscard]] bool await(Seq seq, std::chrono::milliseconds patience);
    [[nodiscard]] Seq last() const { return last_; }
    /// Stops; each event that did not follow on the one before it.
    std::vector<std::string> finish();

private:
    void run();

    Node& node_;
    const std::string project_;
    std::atomic<bool> stopping_{false};
    std::atomic<Seq> last_{kNoSeq};
    std::vector<std::string> problems_;
    std::thread thread_;
};

/// The end of the query COMMIT as the protocol has it, for `TcpProxy::cut_on`.
inline const std::string kCommit{"COMMIT\0", 7};

/// A unit of `count` events whose external_ids are `name`/0, `name`/1, …
[[nodiscard]] Unit named_unit(const std::string& project, const std::string& name, int count);

/// Threads that do the same again and again until they are stopped.
class Crowd {
public:
    /// @param work  gets the thread's number and how often it was called in this thread
    Crowd(int threads, std::function<void(int, int)> work);
    ~Crowd() { stop(); }
    void stop();

private:
    std::atomic<bool> stopping_{false};
    std::vector<std::thread> threads_;
};

/// Waits until `condition` holds. False: not within `patience`.
[[nodiscard]] bool eventually(
    const std::function<bool()>& condition,
    std::chrono::milliseconds patience = std::chrono::seconds(60)
);

/// Waits until `count` sessions of the database wait for a lock.
[[nodiscard]] bool await_waiters(const std::string& url, int count);

/// The database's name in its URL.
[[nodiscard]] std::string name_in(const std::string& url);

/// How long `work` takes.
[[nodiscard]] std::chrono::milliseconds time_of(const std::function<void()>& work);

/// Each is a failure of the test, the first few with their text.
void expect_none(const std::vector<std::string>& problems);

}  // namespace annal::test
