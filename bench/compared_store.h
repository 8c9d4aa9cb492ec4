#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace annal::bench {

/// The store below the server, and what the same machine does with it in the same minutes when
/// nothing of Annal is in the way.
///
/// Failures: ends the process with a message.
class ComparedStore {
public:
    struct Rate {
        std::string what;
        double per_second = 0;
    };
    struct Times {
        std::string what;
        std::vector<double> ms;
    };
    /// What the project promises of batches: events a second, and how much of `insert_rate`.
    struct IngestBudget {
        double per_second = 0, ratio = 0;
    };

    virtual ~ComparedStore() = default;

    /// Of the server.
    [[nodiscard]] virtual std::map<std::string, std::string> environment() const = 0;
    /// An earlier run has left its events here.
    [[nodiscard]] virtual bool has_events() const = 0;
    /// An empty store of the same kind, with `folder` for its files.
    [[nodiscard]] virtual std::unique_ptr<ComparedStore> another(const std::filesystem::path& folder
    ) const = 0;
    /// Ends the processes below the server's, and starts them with these variables beside theirs.
    virtual void restart_with(const std::map<std::string, std::string>& /*environment*/) {}
    /// Once the events are there: leaves the store as it is after some quiet time.
    virtual void rest() {}
    [[nodiscard]] virtual std::uint64_t bytes() const = 0;
    /// Statements are at work in it, whatever processor they get.
    [[nodiscard]] virtual bool is_busy() const { return false; }
    /// User and system time of processes beside the server's.
    [[nodiscard]] virtual double cpu_seconds() const { return 0; }

    /// Rows like those that the server stores, `per_commit` a transaction where the store is asked
    /// for it.
    [[nodiscard]] virtual Rate insert_rate(std::int64_t rows, int per_commit) = 0;
    /// One DELETE of such rows from a plain table with the primary key only.
    [[nodiscard]] virtual Rate delete_rate(std::int64_t rows) = 0;
    /// The newest `rows` as text.
    [[nodiscard]] virtual Rate export_rate(int rows) = 0;
    /// Of the rows that this scenario reads; nothing where there is no such statement.
    [[nodiscard]] virtual std::optional<Times> select_times(const std::string& scenario) = 0;

    /// Several servers can have it at once.
    [[nodiscard]] virtual bool is_shared() const { return false; }
    /// A reader that keeps seeing the store as it is now, until it is let go of.
    [[nodiscard]] virtual std::shared_ptr<void> hold_snapshot() { return nullptr; }

    [[nodiscard]] virtual IngestBudget ingest_budget() const = 0;
    [[nodiscard]] virtual double page_budget_ms() const = 0;
};

/// SQLite's files in `folder`/data.
[[nodiscard]] std::unique_ptr<ComparedStore> compared_sqlite(const std::filesystem::path& folder);
/// A PostgreSQL cluster that is gone afterwards; `folder` is for files beside it.
[[nodiscard]] std::unique_ptr<ComparedStore> compared_postgres(const std::filesystem::path& folder);

}  // namespace annal::bench
