#include "bench/compared_store.h"
#include "bench/reference.h"

namespace annal::bench {
namespace {

/// On the newest segment that has its indexes.
const std::map<std::string, std::string> kSelects{
    {"newest_page", "SELECT * FROM events ORDER BY key DESC LIMIT 50"},
    {"deep_page",
     "SELECT * FROM events WHERE key < (SELECT max(key) - 100000 FROM events) ORDER BY key DESC "
     "LIMIT 50"},
    {"rare_user",
     "SELECT * FROM events WHERE user_id = 'usr_0000rarelyseen' ORDER BY key DESC LIMIT 50"},
    {"q_common",
     "SELECT * FROM events WHERE description LIKE '%second factor%' ORDER BY key DESC LIMIT 50"},
    {"q_rare", "SELECT * FROM events WHERE target_id LIKE '%tgt_00ab%' ORDER BY key DESC LIMIT 50"},
    {"q_absent", "SELECT * FROM events WHERE description LIKE '%nowhere to be found%'"},
};

class ComparedSqlite final : public ComparedStore {
public:
    explicit ComparedSqlite(std::filesystem::path folder) : folder_(std::move(folder)) {}

    [[nodiscard]] std::map<std::string, std::string> environment() const override { return {}; }
    [[nodiscard]] bool has_events() const override { return std::filesystem::exists(data()); }
    [[nodiscard]] std::unique_ptr<ComparedStore> another(const std::filesystem::path& folder
    ) const override {
        return compared_sqlite(folder);
    }
    /// Files may go meanwhile.
    [[nodiscard]] std::uint64_t bytes() const override {
        std::uint64_t bytes = 0;
        std::error_code gone;
        std::filesystem::recursive_directory_iterator entry(data(), gone), end;
        for (; entry != end; entry.increment(gone)) {
            const auto size = entry->is_regular_file(gone) ? entry->file_size(gone) : 0;
            if (!gone) bytes += size;
        }
        return bytes;
    }

    Rate insert_rate(std::int64_t rows, int per_commit) override {
        return {
            "raw SQLite insert, primary key only, as many rows a commit",
            raw_insert_rate(folder_, rows, per_commit)};
    }
    Rate delete_rate(std::int64_t rows) override {
        return {
            "DELETE from one SQLite table with the primary key only",
            raw_delete_rate(folder_, rows)};
    }
    Rate export_rate(int rows) override {
        return {
            "the sqlite3 shell's CSV output of one segment",
            shell_csv_rate(newest_indexed_segment(data()), rows)};
    }
    std::optional<Times> select_times(const std::string& scenario) override {
        const auto found = kSelects.find(scenario);
        if (found == kSelects.end()) return std::nullopt;
        return Times{
            "the same rows by SQL from one segment, in process",
            select_times_ms(
                newest_indexed_segment(data()), found->second, scenario.starts_with("q_") ? 5 : 400
            )};
    }

    [[nodiscard]] IngestBudget ingest_budget() const override { return {40'000, 0.5}; }
    [[nodiscard]] double page_budget_ms() const override { return 2; }

private:
    [[nodiscard]] std::filesystem::path data() const { return folder_ / "data"; }
    const std::filesystem::path folder_;
};

}  // namespace

std::unique_ptr<ComparedStore> compared_sqlite(const std::filesystem::path& folder) {
    return std::make_unique<ComparedSqlite>(folder);
}

}  // namespace annal::bench
