#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "bench/compared_store.h"
#include "bench/event_source.h"
#include "bench/server_process.h"
#include "tests/support/postgres_cluster.h"

namespace annal::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::minutes kPatience{30};

/// Durable, and otherwise as docs/scaling.md advises for a machine of this size.
const std::vector<std::string> kSettings{
    "fsync = on",
    "synchronous_commit = on",
    "full_page_writes = on",
    "wal_level = replica",
    "max_connections = 60",
    "shared_buffers = 2GB",
    "max_wal_size = 8GB",
    "checkpoint_timeout = 15min",
    "wal_compression = lz4",
    "maintenance_work_mem = 256MB",
};
constexpr const char* kKeyRing =
    "k1:5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\n";
constexpr const char* kColumns =
    "project_id, seq, created_at, id, version, leaf, salt, action, actor_type, actor_id, "
    "actor_email, auth_type, user_id, organization_id, target_type, target_id, ip, user_agent, "
    "description, metadata";

/// The reference's rows stand behind all that Annal writes, in the same project: what a row costs
/// depends on how much of the indexes it meets.
constexpr std::int64_t kReferenceSeq = 1'000'000'000'000;
/// What an export of CSV holds.
constexpr const char* kExported =
    "id, created_at, action, actor_type, actor_id, user_id, project_id, target_type, target_id, "
    "ip, user_agent, description";

std::string of_project(const std::string& rest, const std::string& columns = "*") {
    return "SELECT " + columns + " FROM audit_events WHERE project_id = '" +
           std::string(ServerProcess::kProject) + "' AND seq < " + std::to_string(kReferenceSeq) +
           rest;
}

const std::map<std::string, std::string> kSelects{
    {"newest_page", of_project(" ORDER BY seq DESC LIMIT 50")},
    {"deep_page",
     of_project(
         " AND seq < (SELECT max(last_seq) / 2 FROM event_batches WHERE project_id = '" +
         std::string(ServerProcess::kProject) + "') ORDER BY seq DESC LIMIT 50"
     )},
    {"rare_user", of_project(" AND user_id = 'usr_0000rarelyseen' ORDER BY seq DESC LIMIT 50")},
    {"q_common", of_project(" AND description LIKE '%second factor%' ORDER BY seq DESC LIMIT 50")},
    {"q_rare", of_project(" AND target_id LIKE '%tgt_00ab%' ORDER BY seq DESC LIMIT 50")},
    {"q_absent", of_project(" AND description LIKE '%nowhere to be found%'")},
};

[[noreturn]] void give_up(const std::string& why) {
    std::fprintf(stderr, "bench: %s\n", why.c_str());
    std::exit(1);
}

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// User and system time of a process, and of its children that have ended.
double cpu_of(const std::string& stat, bool children) {
    std::istringstream fields(stat.substr(stat.rfind(')') + 2));
    std::string skipped;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    double user = 0, system = 0, ended_user = 0, ended_system = 0;
    fields >> user >> system >> ended_user >> ended_system;
    return (user + system + (children ? ended_user + ended_system : 0)) /
           static_cast<double>(::sysconf(_SC_CLK_TCK));
}

std::string stat_of(const std::filesystem::path& process) {
    std::ifstream in(process / "stat");
    return {std::istreambuf_iterator<char>(in), {}};
}

class ComparedPostgres final : public ComparedStore {
public:
    explicit ComparedPostgres(std::filesystem::path folder)
        : folder_(std::move(folder)),
          cluster_({kSettings, false}),
          url_(cluster_.create_database()) {
        const auto ring = folder_ / "keyring";
        std::ofstream(ring) << kKeyRing;
        std::filesystem::permissions(ring, std::filesystem::perms(0600));
    }

    ~ComparedPostgres() override { end_own(); }
    ComparedPostgres(const ComparedPostgres&) = delete;
    ComparedPostgres& operator=(const ComparedPostgres&) = delete;

    [[nodiscard]] std::map<std::string, std::string> environment() const override {
        return {
            {"ANNAL_STORE", "postgres"},
            {"ANNAL_POSTGRES_URL", url_},
            {"ANNAL_MASTER_KEY_FILE", (folder_ / "keyring").string()}};
    }
    [[nodiscard]] bool has_events() const override { return false; }
    [[nodiscard]] std::unique_ptr<ComparedStore> another(const std::filesystem::path& folder
    ) const override {
        return compared_postgres(folder);
    }
    void restart_with(const std::map<std::string, std::string>& environment) override {
        const auto program =
            std::filesystem::read_symlink("/proc/" + std::to_string(postmaster()) + "/exe");
        end_own();
        cluster_.stop();
        if (environment.empty()) {
            cluster_.start();
        } else {
            start_own(program, environment);
        }
    }
    void rest() override { (void)psql("VACUUM (ANALYZE);\nCHECKPOINT"); }
    [[nodiscard]] std::uint64_t bytes() const override {
        return std::stoull(psql("SELECT pg_database_size(current_database())"));
    }
    [[nodiscard]] bool is_busy() const override {
        return psql(
                   "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> "
                   "pg_backend_pid() AND backend_type IN ('client backend', 'autovacuum worker')"
               ) != "0";
    }
    [[nodiscard]] double cpu_seconds() const override {
        double sum = cpu_of(stat_of("/proc/" + std::to_string(postmaster())), true);
        for (const pid_t child : children()) {
            const std::string stat = stat_of("/proc/" + std::to_string(child));
            if (!stat.empty()) sum += cpu_of(stat, false);
        }
        return sum;
    }

    /// By one session in one transaction, which is the best that a table with these indexes takes.
    Rate insert_rate(std::int64_t rows, int /*per_commit*/) override {
        const auto file = folder_ / "reference.copy";
        write_rows(file, rows);
        const std::string command =
            "\\copy audit_events (" + std::string(kColumns) + ") FROM '" + file.string() + "'";
        const auto start = Clock::now();
        (void)psql(command);
        const double seconds = seconds_since(start);
        std::filesystem::remove(file);
        return {
            "psql COPY of such events into the same project of the same table",
            static_cast<double>(rows) / seconds};
    }

    Rate delete_rate(std::int64_t rows) override {
        const auto file = folder_ / "reference.copy";
        write_rows(file, rows);
        std::istringstream lines(psql(
            "CREATE TABLE reference_rows (LIKE audit_events INCLUDING DEFAULTS);\n"
            "ALTER TABLE reference_rows ADD PRIMARY KEY (project_id, seq);\n\\copy reference_rows "
            "(" +
            std::string(kColumns) + ") FROM '" + file.string() +
            "'\nVACUUM (ANALYZE) reference_rows;\nCHECKPOINT;\n\\timing on\n"
            "DELETE FROM reference_rows;\n\\timing off\nDROP TABLE reference_rows"
        ));
        std::filesystem::remove(file);
        for (std::string line; std::getline(lines, line);)
            if (line.starts_with("Time: "))
                return {
                    "DELETE from one table of PostgreSQL's with the primary key only",
                    static_cast<double>(rows) / std::stod(line.substr(6)) * 1e3};
        give_up("psql said no time");
    }

    Rate export_rate(int rows) override {
        const std::string select =
            of_project(" ORDER BY seq DESC LIMIT " + std::to_string(rows), kExported);
        const auto start = Clock::now();
        const std::string text = psql("COPY (" + select + ") TO STDOUT (FORMAT csv)");
        const double seconds = seconds_since(start);
        if (text.size() < static_cast<std::size_t>(rows)) give_up("COPY gave too little");
        return {"psql COPY TO STDOUT of the same columns as CSV", rows / seconds};
    }

    std::optional<Times> select_times(const std::string& scenario) override {
        const auto found = kSelects.find(scenario);
        if (found == kSelects.end()) return std::nullopt;
        const int times = scenario.starts_with("q_") ? 5 : 400;
        std::string script = "\\timing on\n\\o /dev/null\n";
        for (int i = 0; i < times; ++i) script += found->second + ";\n";
        std::istringstream lines(psql(script));
        Times measured{"the same rows by SQL, through psql", {}};
        for (std::string line; std::getline(lines, line);)
            if (line.starts_with("Time: ")) measured.ms.push_back(std::stod(line.substr(6)));
        if (measured.ms.empty()) give_up("psql said no times");
        return measured;
    }

    [[nodiscard]] bool is_shared() const override { return true; }
    [[nodiscard]] std::shared_ptr<void> hold_snapshot() override {
        return std::make_shared<test::PsqlRun>(
            url_,
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM event_months; "
            "SELECT pg_sleep(3600)"
        );
    }

    [[nodiscard]] IngestBudget ingest_budget() const override { return {0, 0.6}; }
    [[nodiscard]] double page_budget_ms() const override { return 4; }

private:
    [[nodiscard]] std::string psql(const std::string& script) const {
        test::PsqlRun run(url_, script);
        auto result = run.wait(kPatience);
        if (!result || result->exit_code != 0)
            give_up("psql: " + (result ? result->errors : std::string("no answer")));
        return std::move(result->output);
    }

    /// The cluster knows nothing of variables, so this one is beside it, on its data.
    void start_own(
        const std::filesystem::path& path, const std::map<std::string, std::string>& environment
    ) {
        test::ChildProgram program;
        program.arguments = {path.string(), "-D", cluster_.folder() + "/data"};
        program.environment = {"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "HOME=" + cluster_.folder()};
        for (const auto& [name, value] : environment)
            program.environment.push_back(name + '=' + value);
        program.folder = cluster_.folder();
        program.identity = test::server_identity();
        program.death_signal = SIGQUIT;
        program.own_session = true;
        const std::string log = cluster_.folder() + "/log";
        program.output = program.errors = ::open(log.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
        own_ = test::start_child(program);
        ::close(program.output);
        const auto start = Clock::now();
        while (!accepts()) {
            if (seconds_since(start) > 60) give_up("PostgreSQL does not start: " + cluster_.log());
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }
    }
    [[nodiscard]] bool accepts() const {
        test::PsqlRun run(url_, "SELECT 1");
        const auto result = run.wait(kPatience);
        return result && result->exit_code == 0;
    }
    void end_own() {
        if (own_ == 0) return;
        (void)::kill(own_, SIGINT);
        if (!test::wait_for_exit(own_, kPatience)) give_up("PostgreSQL does not stop");
        own_ = 0;
    }
    [[nodiscard]] pid_t postmaster() const { return own_ != 0 ? own_ : cluster_.pid(); }

    [[nodiscard]] std::vector<pid_t> children() const {
        const std::string pid = std::to_string(postmaster());
        std::ifstream in("/proc/" + pid + "/task/" + pid + "/children");
        std::vector<pid_t> pids;
        for (pid_t child = 0; in >> child;) pids.push_back(child);
        return pids;
    }

    /// COPY's text format.
    void write_rows(const std::filesystem::path& path, std::int64_t rows) {
        EventSource source(7);
        std::ofstream file(path);
        const auto now = std::chrono::system_clock::now().time_since_epoch();
        const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
        char head[160];
        for (std::int64_t i = 0; i < rows; ++i) {
            const SampleEvent& e = source.next();
            const std::int64_t at = micros + i;
            const auto noise = static_cast<std::uint64_t>(at) * 0x9E3779B97F4A7C15;
            std::time_t second = at / 1'000'000;
            std::tm parts{};
            ::gmtime_r(&second, &parts);
            char time[32];
            std::strftime(time, sizeof time, "%Y-%m-%d %H:%M:%S", &parts);
            std::snprintf(
                head,
                sizeof head,
                "%s\t%lld\t%s.%06lld+00\t%08llx-%04llx-7%03llx-8%03llx-%012llx\t1\t",
                ServerProcess::kProject,
                static_cast<long long>(next_seq_++),
                time,
                static_cast<long long>(at % 1'000'000),
                static_cast<unsigned long long>(at) >> 16U & 0xFFFFFFFFU,
                static_cast<unsigned long long>(at) & 0xFFFFU,
                static_cast<unsigned long long>(noise) & 0xFFFU,
                static_cast<unsigned long long>(noise >> 12U) & 0xFFFU,
                static_cast<unsigned long long>(noise >> 16U)
            );
            file << head << "\\\\x" << std::string(64, "0123456789abcdef"[noise >> 60U])
                 << "\t\\\\x" << std::string(32, "0123456789abcdef"[noise >> 56U & 15U]) << '\t'
                 << e.action << "\tuser\t" << e.actor_id << '\t' << e.actor_email << "\tuser\t"
                 << e.actor_id << '\t' << e.organization_id << '\t' << e.target_type << '\t'
                 << e.target_id << '\t' << e.ip << '\t' << e.user_agent << '\t' << e.description
                 << '\t' << e.metadata << '\n';
        }
        if (!file.flush()) give_up("can't write " + path.string());
    }

    const std::filesystem::path folder_;
    test::PostgresCluster cluster_;
    const std::string url_;
    pid_t own_ = 0;  ///< a postmaster beside the cluster's own, which is stopped then
    std::int64_t next_seq_ = kReferenceSeq;
};

}  // namespace

std::unique_ptr<ComparedStore> compared_postgres(const std::filesystem::path& folder) {
    return std::make_unique<ComparedPostgres>(folder);
}

}  // namespace annal::bench
