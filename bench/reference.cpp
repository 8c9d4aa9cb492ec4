#include "bench/reference.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "bench/event_source.h"

namespace annal::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

void check(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "bench: the reference failed: %s\n", what);
    std::_Exit(1);
}

struct CloseDb {
    void operator()(sqlite3* db) const { sqlite3_close(db); }
};
struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Db = std::unique_ptr<sqlite3, CloseDb>;
using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

Db open(const std::filesystem::path& path, int flags) {
    sqlite3* db = nullptr;
    check(sqlite3_open_v2(path.c_str(), &db, flags, nullptr) == SQLITE_OK, sqlite3_errmsg(db));
    return Db(db);
}

Statement prepare(const Db& db, const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    check(
        sqlite3_prepare_v2(db.get(), sql.c_str(), -1, &statement, nullptr) == SQLITE_OK,
        sqlite3_errmsg(db.get())
    );
    return Statement(statement);
}

void run(const Db& db, const char* sql) {
    check(
        sqlite3_exec(db.get(), sql, nullptr, nullptr, nullptr) == SQLITE_OK,
        sqlite3_errmsg(db.get())
    );
}

constexpr const char* kTable =
    "CREATE TABLE events (key INTEGER PRIMARY KEY, created_at INTEGER NOT NULL, occurred_at "
    "INTEGER,"
    " random INTEGER NOT NULL, version INTEGER NOT NULL, deleted INTEGER NOT NULL, external_id "
    "TEXT,"
    " action TEXT, actor_type TEXT, actor_id TEXT, actor_email TEXT, auth_type TEXT, user_id TEXT,"
    " organization_id TEXT, client_id TEXT, issuer_id TEXT, agent_id TEXT, target_type TEXT,"
    " target_id TEXT, ip TEXT, user_agent TEXT, description TEXT, metadata TEXT, salt BLOB,"
    " leaf BLOB NOT NULL)";
constexpr const char* kInsert =
    "INSERT INTO events VALUES (?1, ?2, NULL, ?3, 1, 0, NULL, ?4, 'user', ?5, ?6, 'user', ?5, ?7,"
    " NULL, NULL, NULL, ?8, ?9, ?10, ?11, ?12, ?13, zeroblob(16), zeroblob(32))";

void bind(const Statement& statement, int index, std::string_view text) {
    sqlite3_bind_text(
        statement.get(), index, text.data(), static_cast<int>(text.size()), SQLITE_STATIC
    );
}

void insert(const Statement& statement, std::int64_t key, const SampleEvent& event) {
    sqlite3_bind_int64(statement.get(), 1, key);
    sqlite3_bind_int64(statement.get(), 2, 1'750'000'000'000'000 + key);
    sqlite3_bind_int64(statement.get(), 3, static_cast<std::int64_t>(key * 0x9E3779B97F4A7C15));
    int index = 3;
    for (const std::string_view text :
         {event.action,
          event.actor_id,
          event.actor_email,
          event.organization_id,
          event.target_type,
          event.target_id,
          event.ip,
          event.user_agent,
          event.description,
          event.metadata})
        bind(statement, ++index, text);
    check(sqlite3_step(statement.get()) == SQLITE_DONE, "insert");
    sqlite3_reset(statement.get());
}

/// A database with the table and nothing in it, which is gone afterwards.
class Scratch {
public:
    explicit Scratch(const std::filesystem::path& folder)
        : path_((folder / "reference.db").string()),
          db_(open(path_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) {
        run(db_, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL");
        run(db_, kTable);
    }
    ~Scratch() {
        db_.reset();
        for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + suffix);
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    [[nodiscard]] const Db& db() const { return db_; }
    /// Rows per second.
    double insert_rows(std::int64_t rows, int per_commit) const {
        EventSource source(7);
        const Statement statement = prepare(db_, kInsert);
        const auto start = Clock::now();
        for (std::int64_t key = 0; key < rows;) {
            run(db_, "BEGIN IMMEDIATE");
            for (int i = 0; i < per_commit; ++i, ++key) insert(statement, key, source.next());
            run(db_, "COMMIT");
        }
        return static_cast<double>(rows) / seconds_since(start);
    }

private:
    const std::string path_;
    Db db_;
};

}  // namespace

double raw_insert_rate(const std::filesystem::path& folder, std::int64_t rows, int per_commit) {
    return Scratch(folder).insert_rows(rows, per_commit);
}

double raw_delete_rate(const std::filesystem::path& folder, std::int64_t rows) {
    const Scratch scratch(folder);
    (void)scratch.insert_rows(rows, 1'000);
    run(scratch.db(), "PRAGMA wal_checkpoint(TRUNCATE)");
    const auto start = Clock::now();
    // Without a condition SQLite would let the table's pages go unread.
    run(scratch.db(), "DELETE FROM events WHERE key >= 0");
    return static_cast<double>(rows) / seconds_since(start);
}

double append_lines_rate(
    const std::filesystem::path& folder, std::size_t line_bytes, int per_sync
) {
    const auto path = folder / "reference.lines";
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_TRUNC, 0600);
    check(fd >= 0, "open a file to append to");
    const std::string piece(line_bytes * static_cast<std::size_t>(per_sync), 'x');
    const auto start = Clock::now();
    std::int64_t lines = 0;
    while (seconds_since(start) < 2) {
        check(
            ::write(fd, piece.data(), piece.size()) == static_cast<ssize_t>(piece.size()), "write"
        );
        check(::fdatasync(fd) == 0, "fdatasync");
        lines += per_sync;
    }
    const double rate = static_cast<double>(lines) / seconds_since(start);
    ::close(fd);
    std::filesystem::remove(path);
    return rate;
}

double sync_rate(const std::filesystem::path& folder) {
    return append_lines_rate(folder, 4096, 1);
}

double shell_csv_rate(const std::filesystem::path& segment, int rows) {
    const std::string command =
        "sqlite3 -readonly -csv '" + segment.string() +
        "' \"SELECT key, created_at, occurred_at, external_id, action, actor_type, actor_id,"
        " actor_email, auth_type, user_id, organization_id, client_id, issuer_id, agent_id,"
        " target_type, target_id, ip, user_agent, description, metadata FROM events"
        " ORDER BY key DESC LIMIT " +
        std::to_string(rows) + "\"";
    const auto start = Clock::now();
    std::FILE* out = ::popen(command.c_str(), "r");
    check(out != nullptr, "popen");
    std::string buffer(1U << 16, '\0');
    std::int64_t lines = 0;
    while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), out))
        for (std::size_t i = 0; i < n; ++i) lines += buffer[i] == '\n';
    check(::pclose(out) == 0 && lines == rows, "the sqlite3 shell");
    return rows / seconds_since(start);
}

std::vector<double> select_times_ms(
    const std::filesystem::path& database, const std::string& sql, int times
) {
    const Db db = open(database, SQLITE_OPEN_READONLY);
    const Statement statement = prepare(db, sql);
    std::vector<double> all;
    for (int i = 0; i < times; ++i) {
        const auto start = Clock::now();
        int step = SQLITE_ROW;
        while (step == SQLITE_ROW) {
            step = sqlite3_step(statement.get());
            for (int c = 0; step == SQLITE_ROW && c < sqlite3_column_count(statement.get()); ++c)
                (void)sqlite3_column_bytes(statement.get(), c);
        }
        check(step == SQLITE_DONE, sqlite3_errmsg(db.get()));
        sqlite3_reset(statement.get());
        all.push_back(seconds_since(start) * 1e3);
    }
    return all;
}

std::filesystem::path newest_indexed_segment(const std::filesystem::path& data_dir) {
    std::filesystem::path newest;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(data_dir / "segments")) {
        if (entry.path().extension() != ".search") continue;  // made after the indexes
        auto segment = entry.path();
        segment.replace_extension(".db");
        if (segment > newest) newest = segment;
    }
    return newest;
}

}  // namespace annal::bench
