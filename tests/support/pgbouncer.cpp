#include "tests/support/pgbouncer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace annal::test {
namespace {

constexpr const char* kProgram = "/usr/sbin/pgbouncer";
constexpr const char* kPort = "6432";  // only a part of the socket's name
constexpr std::chrono::seconds kDeadline{60};

void write_file(const std::string& path, const std::string& text) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << text;
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
    std::filesystem::permissions(path, std::filesystem::perms(0644));
}

}  // namespace

PgBouncer::PgBouncer(const PostgresCluster& cluster, std::vector<std::string> settings) {
    const std::string& folder = folder_.path();
    const auto identity = server_identity();
    if (identity && ::chown(folder.c_str(), identity->uid, identity->gid) != 0)
        throw std::runtime_error("cannot give " + folder + " away");
    const std::string socket = cluster.socket_path();
    std::string text =
        "[databases]\n"
        "* = host=" +
        cluster.folder() + " port=" + socket.substr(socket.rfind('.') + 1) +
        "\n"
        "[pgbouncer]\n"
        "unix_socket_dir = " +
        folder + "\nlisten_port = " + kPort + "\nauth_type = trust\nauth_file = " + folder +
        "/users\n"
        "pool_mode = transaction\n"
        "max_client_conn = 200\n"
        "default_pool_size = 10\n"
        "server_round_robin = 1\n";
    for (const std::string& line : settings) text += line + "\n";
    write_file(folder + "/pgbouncer.ini", text);
    write_file(folder + "/users", "\"annal\" \"\"\n");
    start();
}

PgBouncer::~PgBouncer() {
    try {
        stop();
    } catch (const std::exception& error) {
        (void)std::fprintf(stderr, "%s\n", error.what());
    }
}

std::string PgBouncer::url(std::string_view database) const {
    return "postgresql:///" + std::string(database) + "?host=" + folder_.path() + "&port=" + kPort +
           "&user=annal";
}

void PgBouncer::start() {
    const std::string path = folder_.path() + "/log";
    const int log = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (log < 0) fail("cannot open its log");
    ChildProgram program;
    program.arguments = {kProgram, folder_.path() + "/pgbouncer.ini"};
    program.environment = {"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"};
    program.folder = folder_.path();
    program.identity = server_identity();
    program.output = program.errors = log;
    program.death_signal = SIGKILL;
    program.own_session = true;
    process_ = parent_.start_child(program);
    ::close(log);
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    while (!accepts()) {
        if (wait_for_exit(process_, std::chrono::milliseconds(5))) {
            process_ = 0;
            fail("it ended");
        }
        if (std::chrono::steady_clock::now() > deadline) fail("it does not get ready");
    }
}

void PgBouncer::stop() {
    if (process_ == 0) return;
    (void)::kill(process_, SIGTERM);
    if (!wait_for_exit(process_, kDeadline)) {
        (void)::kill(process_, SIGKILL);
        (void)wait_for_exit(process_, kDeadline);
    }
    process_ = 0;
    std::filesystem::remove(folder_.path() + "/.s.PGSQL." + kPort);
}

bool PgBouncer::accepts() const {
    const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = folder_.path() + "/.s.PGSQL." + kPort;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const bool taken =
        ::connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    ::close(probe);
    return taken;
}

std::string PgBouncer::log() const {
    std::ifstream file(folder_.path() + "/log", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void PgBouncer::fail(const std::string& what) const {
    throw std::runtime_error("PgBouncer in " + folder_.path() + ": " + what + "\n" + log());
}

}  // namespace annal::test
