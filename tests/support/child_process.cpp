#include "tests/support/child_process.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <future>
#include <memory>
#include <stdexcept>
#include <utility>

namespace annal::test {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (const auto& text : texts) result.push_back(const_cast<char*>(text.c_str()));
    result.push_back(nullptr);
    return result;
}

/// Everything that the child needs, laid out before the fork: after it, the child of a process with
/// threads may call nothing that takes a lock.
struct Prepared {
    const ChildProgram& program;
    std::vector<char*> arguments = pointers(program.arguments);
    std::vector<char*> environment = pointers(program.environment);
    pid_t parent = ::getpid();
};

bool become(const Identity& identity) {
    return ::setgroups(0, nullptr) == 0 && ::setgid(identity.gid) == 0 &&
           ::setuid(identity.uid) == 0;
}

bool take_descriptors(const ChildProgram& program) {
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    const std::array<int, 3> wanted{program.input, program.output, program.errors};
    std::array<int, 3> high{};
    for (int i = 0; i < 3; ++i) {
        // First out of the way of 0 to 2: one of them may be wanted elsewhere.
        high[i] = ::fcntl(wanted[i] < 0 ? null : wanted[i], F_DUPFD_CLOEXEC, 3);
        if (high[i] < 0) return false;
    }
    for (int i = 0; i < 3; ++i) {
        if (::dup2(high[i], i) < 0) return false;
    }
    return ::close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC) == 0;
}

void reset_signals() {
    for (int number = 1; number < 32; ++number) ::signal(number, SIG_DFL);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void run_child(const Prepared& prepared, int error_pipe) {
    const ChildProgram& program = prepared.program;
    reset_signals();
    const bool ready =
        (!program.own_session || ::setsid() >= 0) && take_descriptors(program) &&
        ::chdir(program.folder.c_str()) == 0 && (!program.identity || become(*program.identity)) &&
        // After setuid, which forgets it.
        (program.death_signal == 0 || ::prctl(PR_SET_PDEATHSIG, program.death_signal) == 0);
    if (ready && program.death_signal != 0 && ::getppid() != prepared.parent) ::_exit(127);
    if (ready) {
        ::execve(prepared.arguments[0], prepared.arguments.data(), prepared.environment.data());
    }
    const int error = errno;
    (void)!::write(error_pipe, &error, sizeof(error));
    ::_exit(127);
}

/// Nothing when the program runs, else errno.
std::optional<int> failure_of(int error_pipe) {
    int error = 0;
    ssize_t size = 0;
    do {
        size = ::read(error_pipe, &error, sizeof(error));
    } while (size < 0 && errno == EINTR);
    if (size != sizeof(error)) return std::nullopt;
    return error;
}

[[noreturn]] void fail(const std::string& what, int error) {
    throw std::runtime_error(what + ": " + std::strerror(error));
}

}  // namespace

pid_t start_child(const ChildProgram& program) {
    const Prepared prepared{program};
    std::array<int, 2> errors{};
    if (::pipe2(errors.data(), O_CLOEXEC) != 0) fail("pipe", errno);
    // take_descriptors must not overwrite it.
    const int high = ::fcntl(errors[1], F_DUPFD_CLOEXEC, 10);
    ::close(errors[1]);
    const pid_t child = ::fork();
    if (child == 0) run_child(prepared, high);
    const int fork_error = errno;
    ::close(high);
    const auto error = child < 0 ? fork_error : failure_of(errors[0]);
    ::close(errors[0]);
    if (child > 0 && error) (void)::waitpid(child, nullptr, 0);
    if (error) fail("cannot start " + program.arguments[0], *error);
    return child;
}

std::optional<int> wait_for_exit(pid_t child, std::chrono::milliseconds timeout) {
    const int process = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
    if (process < 0) fail("process " + std::to_string(child), errno);
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    pollfd ended{process, POLLIN, 0};
    int found = 0;
    do {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now()
        );
        found = ::poll(&ended, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    } while (found < 0 && errno == EINTR);
    ::close(process);
    if (found <= 0) return std::nullopt;
    int status = 0;
    if (::waitpid(child, &status, 0) != child) fail("wait for " + std::to_string(child), errno);
    return status;
}

std::string describe_exit(int status) {
    if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
    return "exit code " + std::to_string(WEXITSTATUS(status));
}

ParentThread::~ParentThread() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

pid_t ParentThread::start_child(const ChildProgram& program) {
    auto task = std::make_shared<std::packaged_task<pid_t()>>([&program] {
        return test::start_child(program);
    });
    std::future<pid_t> child = task->get_future();
    {
        const std::lock_guard lock(mutex_);
        work_ = [task = std::move(task)] { (*task)(); };
    }
    changed_.notify_one();
    return child.get();
}

void ParentThread::loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return ending_ || work_; });
        if (ending_) return;
        std::exchange(work_, nullptr)();
    }
}

}  // namespace annal::test
