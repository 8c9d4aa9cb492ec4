#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "runtime/core/result.h"
#include "runtime/event/event.h"

struct sqlite3;
struct sqlite3_stmt;

namespace annal::sqlite {

/// One use of a prepared statement: bind, step, read. Gives the statement back when it ends; must
/// not outlive its connection, and only one use of the same SQL may be alive on a connection. Bound
/// text is borrowed until then.
class Query {
public:
    Query(sqlite3* db, sqlite3_stmt* statement) : db_(db), statement_(statement) {}
    Query(Query&& other) noexcept : db_(other.db_), statement_(other.statement_) {
        other.statement_ = nullptr;
    }
    Query& operator=(Query&&) = delete;
    ~Query();

    void bind(int index, std::int64_t value);
    void bind(int index, std::string_view text);
    void bind(int index, const Text& text);
    void bind_blob(int index, std::span<const std::uint8_t> bytes);
    void bind_blob(int index, std::string_view bytes);
    void bind_null(int index);
    template <class... Values>
    void bind_all(const Values&... values) {
        int index = 0;
        (bind(++index, values), ...);
    }

    /// Whether there is a(nother) row.
    [[nodiscard]] Result<bool> next();
    /// Runs to the end and makes the statement ready to be bound again.
    [[nodiscard]] Result<void> run();

    [[nodiscard]] std::int64_t integer(int column) const;
    [[nodiscard]] bool is_null(int column) const;
    [[nodiscard]] Text text(int column) const;  ///< valid until the next step
    [[nodiscard]] std::string_view blob(int column) const;

private:
    sqlite3* db_;
    sqlite3_stmt* statement_;
};

/// One SQLite connection with its prepared statements.
///
/// Threads: one at a time.
/// Errors:  disk full, I/O, damaged file, … → Errc::unavailable, the detail names the file. A
/// failing fsync ends the process.
class Connection {
public:
    /// immutable: read, without a trace on the disk; for files that nobody changes.
    enum class Access { read, write, immutable };
    /// Write access makes the file when absent.
    [[nodiscard]] static Result<Connection> open(const std::filesystem::path& path, Access access);

    Connection(Connection&&) noexcept = default;
    Connection& operator=(Connection&&) noexcept = default;
    ~Connection() = default;

    /// Runs statements that give no rows.
    [[nodiscard]] Result<void> execute(const char* sql);
    [[nodiscard]] Result<Query> query(std::string_view sql);
    [[nodiscard]] Result<std::int64_t> integer(std::string_view sql);
    [[nodiscard]] Result<void> begin() { return execute("BEGIN IMMEDIATE"); }
    [[nodiscard]] Result<void> commit() { return execute("COMMIT"); }
    void rollback();
    /// Runs `work` in a transaction of its own: committed when it and the commit succeed, else
    /// rolled back.
    template <class Work>
    [[nodiscard]] Result<void> transaction(Work work) {
        BOOST_OUTCOME_TRY(begin());
        Result<void> done = work();
        if (done.has_value()) {
            done = commit();
        }
        if (done.has_error()) {
            rollback();
        }
        return done;
    }
    /// Rows changed by the last statement.
    [[nodiscard]] std::int64_t changes() const;
    /// Pages in the write-ahead log after the last commit.
    [[nodiscard]] int wal_pages() const { return *wal_pages_; }
    /// Lets the log begin anew if nobody reads from it just now; never waits. What it holds should
    /// be checkpointed already.
    void restart_wal();
    /// Moves all of the log into the database and empties the log's file, so that what was erased
    /// is on no page any more. Nobody else may write. False: somebody reads, for all of `patience`.
    [[nodiscard]] Result<bool> truncate_wal(std::chrono::milliseconds patience);
    /// Copies the database as this connection sees it to a new file, which is not synced.
    [[nodiscard]] Result<void> copy_to(const std::filesystem::path& to);
    /// Ends what runs on this connection when `stop` says so, asked now and then.
    void interrupt_when(std::function<bool()> stop);

private:
    struct Close {
        void operator()(sqlite3* db) const;
    };
    struct Finalize {
        void operator()(sqlite3_stmt* statement) const;
    };
    using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;
    struct Hash {
        using is_transparent = void;
        std::size_t operator()(std::string_view text) const {
            return std::hash<std::string_view>()(text);
        }
    };

    Connection() = default;
    Result<bool> try_truncate_wal();

    std::unique_ptr<std::function<bool()>> stop_;
    std::unique_ptr<int> wal_pages_ = std::make_unique<int>(0);
    std::unique_ptr<sqlite3, Close> db_;
    std::unordered_map<std::string, Statement, Hash, std::equal_to<>>
        statements_;  // after db_: goes first
};

/// Whether an error says that a file is damaged, missing or another's: trying again does not help.
[[nodiscard]] bool is_damage(const Error& error);
/// The error of a damaged file.
[[nodiscard]] Error damage(std::string detail);

/// Writes are kept across a power loss only when `full`; a crash of the process loses nothing
/// either way.
enum class Durability { full, normal };
/// Opens for writing in WAL mode; checkpoints are left to others.
[[nodiscard]] Result<Connection> open_wal(const std::filesystem::path& path, Durability durability);
/// Brings an empty file to `version` by `sql`, in one transaction. @error Errc::unavailable  The
/// file is of a later version.
[[nodiscard]] Result<void> prepare_schema(
    Connection& db, const std::filesystem::path& path, const char* sql, int version
);

}  // namespace annal::sqlite
