#include "tests/support/scratch_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <system_error>

#include "tests/support/child_process.h"

namespace annal::test {

ScratchFolder::ScratchFolder(const std::string& kind) : path_("/tmp/annal-" + kind + "-XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr) {
        throw std::runtime_error("cannot make " + path_ + ": " + std::strerror(errno));
    }
    start_janitor();
}

ScratchFolder::~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
    ::close(janitor_);
}

void ScratchFolder::start_janitor() {
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe for a janitor");
    // In the background of a shell that ends: no longer a child of the test, so that who kills the
    // test with its children does not kill this one.
    ChildProgram program;
    program.arguments = {
        "/bin/sh",
        "-c",
        R"(exec 3<&0; /bin/sh "$0" "$1" <&3 3<&- &)",
        ANNAL_SOURCE_DIR "/tests/support/folder_janitor.sh",
        path_};
    program.environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
    program.input = pipe[0];
    program.own_session = true;
    const pid_t shell = start_child(program);
    ::close(pipe[0]);
    janitor_ = pipe[1];
    const auto status = wait_for_exit(shell, std::chrono::seconds(30));
    if (status != 0) throw std::runtime_error("the janitor of " + path_ + " did not start");
}

}  // namespace annal::test
