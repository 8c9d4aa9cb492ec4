#include "tests/support/postgres_cluster.h"

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "tests/support/free_port.h"

namespace annal::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kDeadline{60};
constexpr seconds kPatience{10};  ///< with what ends by itself
constexpr milliseconds kPollEvery{5};
constexpr std::size_t kLogTailBytes = 4000;
constexpr int kSocketPort = 5432;
constexpr const char* kUser = "annal";
/// What is wrong in the files of configuration as they are, but for settings that wait for a
/// restart.
constexpr const char* kRefusedSettings =
    "SELECT coalesce(name, 'line ' || sourceline) || ': ' || error FROM pg_file_settings f "
    "WHERE error IS NOT NULL AND NOT EXISTS "
    "(SELECT FROM pg_settings s WHERE s.name = f.name AND s.context = 'postmaster')";
constexpr const char* kPortTaken = "could not create any TCP/IP sockets";

/// Whether `condition` came true in time.
bool await(const std::function<bool()>& condition, milliseconds timeout = kDeadline) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(kPollEvery);
    }
    return true;
}

std::string read_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void write_text(const std::string& path, const std::string& text, std::ios::openmode mode) {
    std::ofstream file(path, std::ios::binary | std::ios::out | mode);
    file << text;
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

/// A file for the server to read, whatever this process's umask.
void write_configuration(const std::string& path, const std::string& text) {
    write_text(path, text, std::ios::trunc);
    std::filesystem::permissions(path, std::filesystem::perms(0644));
}

std::optional<int> number(std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

// --- Programs

/// The folder of the newest server that Debian's packages have installed.
const std::string& programs() {
    static const std::string folder = [] {
        int newest = 0;
        std::error_code none;
        for (const auto& entry : std::filesystem::directory_iterator("/usr/lib/postgresql", none)) {
            const auto version = number(entry.path().filename().string());
            if (version && std::filesystem::exists(entry.path() / "bin/postgres")) {
                newest = std::max(newest, *version);
            }
        }
        if (newest == 0) throw std::runtime_error("no PostgreSQL server under /usr/lib/postgresql");
        return "/usr/lib/postgresql/" + std::to_string(newest) + "/bin/";
    }();
    return folder;
}

std::vector<std::string> environment(const std::string& home) {
    return {"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "HOME=" + home};
}

int memory_file() {
    const int file = ::memfd_create("psql", MFD_CLOEXEC);
    if (file < 0) throw std::runtime_error("no memory file for psql");
    return file;
}

std::string content(int file) {
    return read_text("/proc/self/fd/" + std::to_string(file));
}

// --- Processes

struct Process {
    pid_t pid = 0, parent = 0;
    char state = 0;  ///< as in /proc: T is stopped, Z has ended
};

/// From /proc/<pid>/stat: pid (name) state parent …
std::optional<Process> look_at(pid_t pid) {
    const std::string text = read_text("/proc/" + std::to_string(pid) + "/stat");
    const std::size_t name_end = text.rfind(") ");
    if (name_end == std::string::npos) return std::nullopt;
    Process process{pid};
    std::istringstream(text.substr(name_end + 2)) >> process.state >> process.parent;
    return process;
}

template <class Function>
void for_each_pid(Function&& use) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        if (const auto pid = number(entry.path().filename().string())) use(*pid);
    }
}

std::vector<pid_t> children_of(pid_t parent) {
    std::vector<pid_t> found;
    for_each_pid([&](pid_t pid) {
        const auto process = look_at(pid);
        if (process && process->parent == parent && process->state != 'Z') found.push_back(pid);
    });
    std::sort(found.begin(), found.end());
    return found;
}

/// Every process that works in `folder`: a cluster's own, also those without a postmaster.
std::vector<pid_t> members_of(const std::string& folder) {
    std::vector<pid_t> found;
    for_each_pid([&](pid_t pid) {
        std::error_code gone;
        const auto at =
            std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/cwd", gone);
        if (!gone && at == folder) found.push_back(pid);
    });
    return found;
}

/// Whether the title is that of a session: "postgres: user database [local] idle", or an address
/// with its port in parentheses.
bool serves_connection(pid_t pid) {
    const std::string title = read_text("/proc/" + std::to_string(pid) + "/cmdline");
    if (!title.starts_with("postgres: ")) return false;
    return title.find(" [local] ") != std::string::npos ||
           title.find(" 127.0.0.1(") != std::string::npos;
}

void await_stopped(pid_t pid) {
    const bool stopped = await([pid] {
        const auto process = look_at(pid);
        return !process || process->state == 'T' || process->state == 'Z';
    });
    if (!stopped) throw std::runtime_error("process " + std::to_string(pid) + " does not stop");
}

void freeze_process(pid_t pid) {
    (void)::kill(pid, SIGSTOP);  // one that has just ended is as good
    await_stopped(pid);
}

/// The shared memory segment that a killed postmaster leaves, by line 7 of its pid file.
void remove_segment(const std::string& pid_file) {
    std::istringstream lines(read_text(pid_file));
    std::string line;
    for (int i = 0; i < 7; ++i) std::getline(lines, line);
    std::istringstream fields(line);
    long key = 0;
    int id = -1;
    shmid_ds segment{};
    const bool unused =
        (fields >> key >> id) && ::shmctl(id, IPC_STAT, &segment) == 0 && segment.shm_nattch == 0;
    if (unused) (void)::shmctl(id, IPC_RMID, nullptr);
}

}  // namespace

std::optional<Identity> server_identity() {
    if (::geteuid() != 0) return std::nullopt;
    for (const char* name : {"postgres", "nobody"}) {
        if (const passwd* user = ::getpwnam(name)) return Identity{user->pw_uid, user->pw_gid};
    }
    throw std::runtime_error("neither a user postgres nor nobody");
}

// --- The cluster's life

PostgresCluster::PostgresCluster(PostgresOptions options) : identity_(server_identity()) {
    if (identity_ && ::chown(folder().c_str(), identity_->uid, identity_->gid) != 0) {
        fail("cannot give the folder away");
    }
    init();
    configure(options);
    if (options.tcp) {
        start_on_free_port();
    } else {
        start();
    }
}

PostgresCluster::~PostgresCluster() {
    try {
        if (postmaster_ != 0) stop(Mode::immediate);
        remove_segment(data() + "/postmaster.pid");
    } catch (const std::exception& error) {
        (void)std::fprintf(stderr, "%s\n", error.what());
    }
}

ChildProgram PostgresCluster::server_program(std::vector<std::string> arguments) const {
    ChildProgram program;
    program.arguments = std::move(arguments);
    program.environment = environment(folder());
    program.folder = folder();
    program.identity = identity_;
    return program;
}

void PostgresCluster::init() {
    const int output = memory_file();
    ChildProgram program = server_program(
        {programs() + "initdb",
         "--pgdata=" + data(),
         "--auth=trust",
         "--encoding=UTF8",
         "--locale=C.UTF-8",
         "--no-sync",
         "--username=" + std::string(kUser)}
    );
    program.output = program.errors = output;
    program.death_signal = SIGKILL;
    const pid_t child = parent_.start_child(program);
    const auto status = wait_for_exit(child, kDeadline);
    if (!status) {
        ::kill(child, SIGKILL);
        (void)wait_for_exit(child, kDeadline);
    }
    const std::string said = content(output);
    ::close(output);
    if (status != 0) throw std::runtime_error("initdb failed: " + said);
}

void PostgresCluster::configure(const PostgresOptions& options) {
    std::string text = "\nunix_socket_directories = '" + folder() +
                       "'\n"
                       "max_connections = 60\n"
                       "shared_buffers = 64MB\n"
                       "dynamic_shared_memory_type = mmap\n"
                       "fsync = off\n"
                       "wal_level = minimal\n"
                       "max_wal_senders = 0\n"
                       "jit = off\n"
                       "autovacuum = on\n"
                       "logging_collector = off\n"
                       "log_line_prefix = '%m [%p] %q%a@%d '\n"
                       "include = 'listen.conf'\n"
                       "include = 'extra.conf'\n";
    std::string extra;
    for (const auto& line : options.settings) extra += line + "\n";
    write_text(data() + "/postgresql.conf", text, std::ios::app);
    write_configuration(data() + "/extra.conf", extra);
}

void PostgresCluster::start_on_free_port() {
    for (int tries_left = 5;; --tries_left) {
        const BoundSocket free = bind_free_port();
        ::close(free.descriptor);
        tcp_port_ = free.port;
        try {
            start();
            return;
        } catch (const std::runtime_error&) {
            if (tries_left == 0 || log().find(kPortTaken) == std::string::npos) throw;
        }
    }
}

void PostgresCluster::start() {
    if (postmaster_ != 0) {
        // It may have been killed, or be about to end: its sessions notice before we do.
        if (!wait_for_exit(postmaster_, kPatience)) fail("the cluster runs already");
        postmaster_ = 0;
    }
    frozen_ = false;
    end_remaining();
    start_once();
    std::optional<int> status;
    const bool ready = await([&] {
        status = wait_for_exit(postmaster_, milliseconds(0));
        return status || accepts();
    });
    if (ready && !status) return;
    if (status) postmaster_ = 0;
    stop(Mode::immediate);
    fail(status ? "postgres ended with " + describe_exit(*status) : "postgres does not get ready");
}

void PostgresCluster::start_once() {
    const std::string port = std::to_string(tcp_port_ != 0 ? tcp_port_ : kSocketPort);
    const std::string addresses = tcp_port_ != 0 ? "127.0.0.1" : "";
    write_configuration(
        data() + "/listen.conf", "listen_addresses = '" + addresses + "'\nport = " + port + "\n"
    );
    const std::string path = folder() + "/log";
    const int log = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (log < 0) fail("cannot open the log");
    ChildProgram program = server_program({programs() + "postgres", "-D", data()});
    program.output = program.errors = log;
    program.death_signal = SIGQUIT;
    program.own_session = true;
    postmaster_ = parent_.start_child(program);
    ::close(log);
}

/// As pg_ctl knows it: the pid file's line 8.
bool PostgresCluster::accepts() const {
    std::istringstream lines(read_text(data() + "/postmaster.pid"));
    std::string line;
    if (!std::getline(lines, line) || line != std::to_string(postmaster_)) return false;
    for (int i = 0; i < 7; ++i) std::getline(lines, line);
    return lines && line.starts_with("ready");
}

void PostgresCluster::stop(Mode mode) {
    if (postmaster_ == 0) return;
    thaw();
    (void)::kill(postmaster_, mode == Mode::fast ? SIGINT : SIGQUIT);
    const bool ended = wait_for_exit(postmaster_, kDeadline).has_value();
    if (!ended) {
        (void)::kill(postmaster_, SIGKILL);
        (void)wait_for_exit(postmaster_, kDeadline);
    }
    postmaster_ = 0;
    end_remaining();
    if (!ended) fail("postgres did not stop");
}

void PostgresCluster::restart(Mode mode) {
    stop(mode);
    start();
}

/// After the postmaster's death its children end by themselves, and soon; the next start waits.
void PostgresCluster::end_remaining() {
    const auto none_left = [this] { return members_of(data()).empty(); };
    if (await(none_left, kPatience)) return;
    for (const pid_t pid : members_of(data())) (void)::kill(pid, SIGKILL);
    if (!await(none_left)) fail("processes of the cluster do not end");
}

void PostgresCluster::freeze() {
    // The postmaster first: afterwards there are no new children.
    freeze_process(postmaster_);
    frozen_ = true;
    for (const pid_t pid : children_of(postmaster_)) freeze_process(pid);
}

void PostgresCluster::thaw() {
    if (!std::exchange(frozen_, false)) return;
    for (const pid_t pid : members_of(data())) (void)::kill(pid, SIGCONT);
}

void PostgresCluster::reload_with(const std::vector<std::string>& settings) {
    const auto loaded_at = [this] { return sql("postgres", "SELECT pg_conf_load_time()"); };
    const std::string before = loaded_at();
    const std::string kept = read_text(data() + "/extra.conf");
    std::string lines = kept;
    for (const auto& line : settings) lines += line + "\n";
    write_configuration(data() + "/extra.conf", lines);
    if (const auto errors = sql("postgres", kRefusedSettings); !errors.empty()) {
        write_configuration(data() + "/extra.conf", kept);
        fail("settings refused: " + errors);
    }
    (void)::kill(postmaster_, SIGHUP);
    const bool loaded = await([&] { return loaded_at() != before; });
    if (!loaded) fail("the settings were not loaded");
}

// --- Its databases

std::string PostgresCluster::socket_path() const {
    const int port = tcp_port_ != 0 ? tcp_port_ : kSocketPort;
    return folder() + "/.s.PGSQL." + std::to_string(port);
}

std::string PostgresCluster::url(std::string_view database) const {
    std::string text = "postgresql:///" + std::string(database) + "?host=" + folder();
    if (tcp_port_ != 0) text += "&port=" + std::to_string(tcp_port_);
    return text + "&user=" + kUser;
}

std::string PostgresCluster::tcp_url(std::string_view database) const {
    if (tcp_port_ == 0) fail("this cluster does not listen on 127.0.0.1");
    return "postgresql://" + std::string(kUser) + "@127.0.0.1:" + std::to_string(tcp_port_) + "/" +
           std::string(database);
}

std::string PostgresCluster::create_database() {
    const std::string name = "db_" + std::to_string(++databases_);
    sql("postgres", "CREATE DATABASE " + name);
    return url(name);
}

std::string PostgresCluster::sql(std::string_view database, std::string_view statements) const {
    const bool is_url = database.find("://") != std::string_view::npos;
    PsqlRun run(is_url ? std::string(database) : url(database), statements);
    auto result = run.wait(kDeadline);
    if (!result) throw std::runtime_error("psql: no answer: " + std::string(statements));
    if (result->exit_code != 0) throw std::runtime_error(result->errors);
    return std::move(result->output);
}

std::vector<pid_t> PostgresCluster::backends() const {
    auto found = children_of(postmaster_);
    std::erase_if(found, [](pid_t pid) { return !serves_connection(pid); });
    return found;
}

std::string PostgresCluster::log() const {
    return read_text(folder() + "/log");
}

void PostgresCluster::fail(const std::string& what) const {
    const std::string text = log();
    const std::size_t from = text.size() - std::min(text.size(), kLogTailBytes);
    throw std::runtime_error("PostgreSQL in " + folder() + ": " + what + "\n" + text.substr(from));
}

PostgresCluster& shared_cluster() {
    // A fork of the program that calls exit() leaves the cluster alone.
    const auto remove = [owner = ::getpid()](PostgresCluster* cluster) {
        if (::getpid() == owner) delete cluster;
    };
    static const std::unique_ptr<PostgresCluster, decltype(remove)> cluster(
        new PostgresCluster, remove
    );
    return *cluster;
}

// --- psql

PsqlRun::PsqlRun(std::string_view url, std::string_view statements)
    : input_(memory_file()), output_(memory_file()), errors_(memory_file()) {
    const std::string path = "/proc/self/fd/" + std::to_string(input_);
    write_text(path, std::string(statements), std::ios::trunc);
    ChildProgram program;
    program.arguments = {programs() + "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d"};
    program.arguments.emplace_back(url);
    program.environment = environment("/");
    program.input = input_;
    program.output = output_;
    program.errors = errors_;
    process_ = start_child(program);
}

PsqlRun::~PsqlRun() {
    if (process_ != 0) {
        (void)::kill(process_, SIGKILL);
        (void)wait_for_exit(process_, kDeadline);
    }
    for (const int file : {input_, output_, errors_}) ::close(file);
}

std::optional<PsqlRun::Result> PsqlRun::wait(milliseconds timeout) {
    if (result_) return result_;
    const auto status = wait_for_exit(process_, timeout);
    if (!status) return std::nullopt;
    process_ = 0;
    Result result{
        WIFEXITED(*status) ? WEXITSTATUS(*status) : -1, content(output_), content(errors_)};
    if (result.output.ends_with('\n')) result.output.pop_back();
    result_ = std::move(result);
    return result_;
}

}  // namespace annal::test
