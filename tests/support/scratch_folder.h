#pragma once

#include <string>

namespace annal::test {

/// A fresh folder for servers that a test starts: /tmp/annal-<kind>-XXXXXX, short enough for a Unix
/// socket's name. A process outside of the test waits for the test's end: however that comes,
/// SIGKILL included, it ends what still works in the folder and removes it.
///
/// Failures: the constructor throws std::runtime_error.
class ScratchFolder {
public:
    explicit ScratchFolder(const std::string& kind);
    /// Removes the folder; what works in it must have ended.
    ~ScratchFolder();
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }

private:
    void start_janitor();

    std::string path_;
    int janitor_ = -1;  ///< its standard input
};

}  // namespace annal::test
