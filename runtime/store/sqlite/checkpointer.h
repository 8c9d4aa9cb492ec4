#pragma once

#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "runtime/core/metrics.h"

namespace annal::sqlite {

/// Moves write-ahead logs into their files on a thread of its own, so that no commit waits for it.
class Checkpointer {
public:
    explicit Checkpointer(Metrics& metrics);
    ~Checkpointer() { stop(); }
    /// Asks for a checkpoint of this database, soon.
    void request(const std::filesystem::path& database);
    void stop();

private:
    void run();

    Metric& seconds_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::set<std::filesystem::path> wanted_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace annal::sqlite
