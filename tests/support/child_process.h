#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace annal::test {

/// Who a child process becomes before it runs its program.
struct Identity {
    uid_t uid = 0;
    gid_t gid = 0;
};

/// A program to run. Of this process it inherits nothing but what stands here: the environment is
/// `environment` alone, descriptors beyond the three are closed, signals are as by default.
struct ChildProgram {
    std::vector<std::string> arguments;        ///< the first is the program's path
    std::vector<std::string> environment;      ///< "NAME=value"
    std::string folder = "/";                  ///< its working directory
    std::optional<Identity> identity;          ///< only root can become another
    int input = -1, output = -1, errors = -1;  ///< descriptors, borrowed; -1: /dev/null
    int death_signal = 0;      ///< the child gets it when the thread that started it ends
    bool own_session = false;  ///< signals to this process's group do not reach the child
};

/// Starts `program` and returns its process id once the program runs.
///
/// Failures: std::runtime_error when it cannot be started; the message has program and cause.
/// Threads:  any. The caller waits for the child; see `wait_for_exit`.
pid_t start_child(const ChildProgram& program);

/// Waits for the end of a child of this process and reaps it.
/// @return What waitpid(2) tells; nothing when the child still runs after `timeout`.
std::optional<int> wait_for_exit(pid_t child, std::chrono::milliseconds timeout);

/// "exit code 1", "signal 9".
std::string describe_exit(int status);

/// A thread from which children with a `death_signal` are started: Linux sends it when the starting
/// *thread* ends, so that a test's short thread would take its children along.
///
/// Threads: one caller at a time. The destructor ends the thread, and so signals the children.
class ParentThread {
public:
    ParentThread() : thread_([this] { loop(); }) {}
    ~ParentThread();
    ParentThread(const ParentThread&) = delete;
    ParentThread& operator=(const ParentThread&) = delete;

    /// As the function of this name.
    pid_t start_child(const ChildProgram& program);

private:
    void loop();

    std::mutex mutex_;
    std::condition_variable changed_;
    std::function<void()> work_;
    bool ending_ = false;
    std::thread thread_;
};

}  // namespace annal::test
