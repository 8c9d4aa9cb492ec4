#include "runtime/store/sqlite/connection.h"

#include <sqlite3.h>

#include <cstring>

#include "runtime/core/fatal.h"

namespace annal::sqlite {
namespace {

constexpr int kBusyTimeoutMs = 10'000;
constexpr int kProgressSteps = 20'000;
constexpr std::uint32_t kRetryAfterMs = 1'000;
// Damage is told from what passes by its being worth another try much later only.
constexpr std::uint32_t kDamageRetryAfterMs = 60'000;

std::string_view file_of(sqlite3* db) {
    const char* const name = db == nullptr ? nullptr : sqlite3_db_filename(db, "main");
    return name == nullptr ? "database" : name;
}

/// What the system said, when it was asked to do something.
std::string system_reason(sqlite3* db) {
    const int error = db == nullptr ? 0 : sqlite3_system_errno(db);
    return error == 0 ? "" : std::string(", ") + std::strerror(error);
}

Error error_of(sqlite3* db, int code) {
    const int extended = db == nullptr ? code : sqlite3_extended_errcode(db);
    const std::string file(file_of(db));
    const std::string reason = db == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(db);
    if (extended == SQLITE_IOERR_FSYNC || extended == SQLITE_IOERR_DIR_FSYNC) {
        fatal("store.fsync_failed", file + ": " + reason);
    }
    switch (code & 0xff) {
        case SQLITE_INTERRUPT:
            return {Errc::cancelled, file + ": interrupted"};
        case SQLITE_FULL:
            return {
                Errc::unavailable, file + ": the disk is full; free some space", {}, kRetryAfterMs};
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return damage(file + " is damaged (" + reason + "); restore it from a backup");
        case SQLITE_CANTOPEN:
            if (std::error_code none; !std::filesystem::exists(file, none) && !none) {
                return damage(file + " is missing; restore it from a backup");
            }
            [[fallthrough]];
        case SQLITE_PERM:
        case SQLITE_READONLY:
            return {
                Errc::unavailable,
                file + " can't be opened or written (" + reason + system_reason(db) +
                    "); check that it exists and its permissions",
                {},
                kRetryAfterMs};
        case SQLITE_IOERR:
            if (extended == SQLITE_IOERR_READ || extended == SQLITE_IOERR_SHORT_READ) {
                return damage(file + " can't be read (" + reason + system_reason(db) + ")");
            }
            [[fallthrough]];
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
        case SQLITE_NOMEM:
            return {
                Errc::unavailable,
                file + ": " + reason + " (" + std::to_string(extended) + system_reason(db) + ")",
                {},
                kRetryAfterMs};
        default:
            return {Errc::internal, file + ": " + reason + " (" + std::to_string(extended) + ")"};
    }
}

/// As SQLite wants names with parameters.
std::string immutable_uri(const std::filesystem::path& path) {
    std::string uri = "file:";
    for (const char c : path.string()) {
        const bool special = c == '%' || c == '?' || c == '#';
        constexpr std::string_view digits = "0123456789ABCDEF";
        const auto byte = static_cast<unsigned char>(c);
        uri +=
            special ? std::string{'%', digits[byte >> 4U], digits[byte & 15U]} : std::string(1, c);
    }
    return uri + "?immutable=1";
}

int on_commit(void* pages, sqlite3* /*db*/, const char* /*name*/, int count) {
    *static_cast<int*>(pages) = count;
    return SQLITE_OK;
}

int on_progress(void* stop) {
    return (*static_cast<std::function<bool()>*>(stop))() ? 1 : 0;
}

}  // namespace

bool is_damage(const Error& error) {
    return error.code == Errc::unavailable && error.retry_after_ms == kDamageRetryAfterMs;
}

Error damage(std::string detail) {
    return {Errc::unavailable, std::move(detail), {}, kDamageRetryAfterMs};
}

Query::~Query() {
    if (statement_ != nullptr) {
        sqlite3_reset(statement_);
    }
}

void Query::bind(int index, std::int64_t value) {
    sqlite3_bind_int64(statement_, index, value);
}

void Query::bind(int index, std::string_view text) {
    const char* const data = text.data() == nullptr ? "" : text.data();
    sqlite3_bind_text(statement_, index, data, static_cast<int>(text.size()), SQLITE_STATIC);
}

void Query::bind(int index, const Text& text) {
    if (text.is_null()) {
        sqlite3_bind_null(statement_, index);
    } else {
        bind(index, text.view());
    }
}

void Query::bind_blob(int index, std::span<const std::uint8_t> bytes) {
    bind_blob(index, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void Query::bind_blob(int index, std::string_view bytes) {
    // A null pointer would bind NULL, not an empty blob.
    const char* const data = bytes.empty() ? "" : bytes.data();
    sqlite3_bind_blob(statement_, index, data, static_cast<int>(bytes.size()), SQLITE_STATIC);
}

void Query::bind_null(int index) {
    sqlite3_bind_null(statement_, index);
}

Result<bool> Query::next() {
    const int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) {
        return true;
    }
    if (code == SQLITE_DONE) {
        return false;
    }
    return error_of(db_, code);
}

Result<void> Query::run() {
    const int code = sqlite3_step(statement_);
    if (code != SQLITE_DONE && code != SQLITE_ROW) {
        return error_of(db_, code);
    }
    sqlite3_reset(statement_);
    return ok();
}

std::int64_t Query::integer(int column) const {
    return sqlite3_column_int64(statement_, column);
}

bool Query::is_null(int column) const {
    return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

Text Query::text(int column) const {
    const auto* const data = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    if (data == nullptr) {
        return {};
    }
    return std::string_view(
        data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))
    );
}

std::string_view Query::blob(int column) const {
    const auto* const data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    return {data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

void Connection::Close::operator()(sqlite3* db) const {
    sqlite3_close_v2(db);
}

void Connection::Finalize::operator()(sqlite3_stmt* statement) const {
    sqlite3_finalize(statement);
}

Result<Connection> Connection::open(const std::filesystem::path& path, Access access) {
    Connection connection;
    sqlite3* db = nullptr;
    // A reader of a file in WAL mode writes to its shared memory; query_only keeps it from anything
    // else.
    const bool immutable = access == Access::immutable;
    const int flags = SQLITE_OPEN_NOMUTEX |
                      (immutable ? SQLITE_OPEN_READONLY | SQLITE_OPEN_URI : SQLITE_OPEN_READWRITE) |
                      (access == Access::write ? SQLITE_OPEN_CREATE : 0);
    const std::string name = immutable ? immutable_uri(path) : path.string();
    const int code = sqlite3_open_v2(name.c_str(), &db, flags, nullptr);
    connection.db_.reset(db);
    if (code != SQLITE_OK) {
        Error error = error_of(db, code);
        if (file_of(db).empty() || file_of(db) == "database") {
            error.detail = path.string() + ": " + error.detail;
        }
        return error;
    }
    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, kBusyTimeoutMs);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    // Takes the place of automatic checkpoints, which would make a commit wait.
    sqlite3_wal_hook(db, &on_commit, connection.wal_pages_.get());
    if (access == Access::read) {
        BOOST_OUTCOME_TRY(connection.execute("PRAGMA query_only = ON"));
    }
    return connection;
}

Result<void> Connection::execute(const char* sql) {
    const int code = sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) {
        return error_of(db_.get(), code);
    }
    return ok();
}

Result<Query> Connection::query(std::string_view sql) {
    auto found = statements_.find(sql);
    if (found == statements_.end()) {
        sqlite3_stmt* statement = nullptr;
        const int code = sqlite3_prepare_v3(
            db_.get(),
            sql.data(),
            static_cast<int>(sql.size()),
            SQLITE_PREPARE_PERSISTENT,
            &statement,
            nullptr
        );
        if (code != SQLITE_OK) {
            return error_of(db_.get(), code);
        }
        found = statements_.emplace(std::string(sql), Statement(statement)).first;
    }
    return Query(db_.get(), found->second.get());
}

Result<std::int64_t> Connection::integer(std::string_view sql) {
    BOOST_OUTCOME_TRY(auto rows, query(sql));
    BOOST_OUTCOME_TRY(const bool row, rows.next());
    return row ? rows.integer(0) : 0;
}

void Connection::rollback() {
    // After a full disk SQLite has rolled back already.
    if (sqlite3_get_autocommit(db_.get()) == 0) {
        (void)execute("ROLLBACK");
    }
}

std::int64_t Connection::changes() const {
    return sqlite3_changes64(db_.get());
}

void Connection::restart_wal() {
    sqlite3_busy_timeout(db_.get(), 0);
    (void)execute("PRAGMA wal_checkpoint(RESTART)");
    sqlite3_busy_timeout(db_.get(), kBusyTimeoutMs);
}

void Connection::interrupt_when(std::function<bool()> stop) {
    stop_ = std::make_unique<std::function<bool()>>(std::move(stop));
    sqlite3_progress_handler(db_.get(), kProgressSteps, &on_progress, stop_.get());
}

Result<void> Connection::copy_to(const std::filesystem::path& to) {
    BOOST_OUTCOME_TRY(auto target, Connection::open(to, Access::write));
    BOOST_OUTCOME_TRY(target.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF"));
    sqlite3_backup* const copy = sqlite3_backup_init(target.db_.get(), "main", db_.get(), "main");
    if (copy == nullptr) {
        return error_of(target.db_.get(), sqlite3_errcode(target.db_.get()));
    }
    const int code = sqlite3_backup_step(copy, -1);
    sqlite3_backup_finish(copy);
    if (code != SQLITE_DONE) {
        return error_of(target.db_.get(), code);
    }
    return ok();
}

Result<bool> Connection::truncate_wal(std::chrono::milliseconds patience) {
    sqlite3_busy_timeout(db_.get(), static_cast<int>(patience.count()));
    auto done = try_truncate_wal();
    sqlite3_busy_timeout(db_.get(), kBusyTimeoutMs);
    return done;
}

// Power may be lost while only a part of the file is cut off. Of several transactions the first
// ones would then be there, and be replayed over the pages of the later ones; so the log begins
// anew, with a single one that changes nothing, before it is emptied.
Result<bool> Connection::try_truncate_wal() {
    BOOST_OUTCOME_TRY(const auto busy, integer("PRAGMA wal_checkpoint(RESTART)"));
    if (busy != 0) {
        return false;
    }
    BOOST_OUTCOME_TRY(transaction([this]() -> Result<void> {
        BOOST_OUTCOME_TRY(const auto version, integer("PRAGMA user_version"));
        return execute(("PRAGMA user_version = " + std::to_string(version)).c_str());
    }));
    BOOST_OUTCOME_TRY(const auto still_busy, integer("PRAGMA wal_checkpoint(TRUNCATE)"));
    return still_busy == 0;
}

Result<Connection> open_wal(const std::filesystem::path& path, Durability durability) {
    BOOST_OUTCOME_TRY(auto db, Connection::open(path, Connection::Access::write));
    BOOST_OUTCOME_TRY(db.execute("PRAGMA journal_mode = WAL"));
    BOOST_OUTCOME_TRY(db.execute("PRAGMA secure_delete = ON"));
    BOOST_OUTCOME_TRY(db.execute(
        durability == Durability::full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL"
    ));
    return db;
}

Result<void> prepare_schema(
    Connection& db, const std::filesystem::path& path, const char* sql, int version
) {
    BOOST_OUTCOME_TRY(const auto found, db.integer("PRAGMA user_version"));
    if (found == version) {
        return ok();
    }
    if (found != 0) {
        return Error{
            Errc::unavailable,
            path.string() + " has schema version " + std::to_string(found) +
                ", this program knows " + std::to_string(version) + "; start a newer annal"};
    }
    BOOST_OUTCOME_TRY(db.begin());
    const std::string text =
        std::string(sql) + "\nPRAGMA user_version = " + std::to_string(version) + ";";
    if (auto made = db.execute(text.c_str()); made.has_error()) {
        db.rollback();
        return made;
    }
    return db.commit();
}

}  // namespace annal::sqlite
