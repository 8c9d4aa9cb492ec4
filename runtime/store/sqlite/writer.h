#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "runtime/store/sqlite/committer.h"
#include "runtime/store/suspend.h"

namespace annal::sqlite {

/// The thread that changes the store. Appends that wait together share one commit.
///
/// Limits: kJobsMax calls wait; more are refused.
class Writer {
public:
    struct Append {
        std::span<const AppendUnit> units;
        std::vector<AppendOutcome>* outcomes = nullptr;  ///< one for each unit
        std::shared_ptr<Done> done;
    };
    using Job = std::function<void(Committer&)>;

    explicit Writer(Committer& committer) : committer_(committer) {}
    ~Writer() { stop(); }

    void start();
    /// False: refused, nothing will happen.
    [[nodiscard]] bool append(Append append);
    [[nodiscard]] bool post(Job job);
    /// Runs `job` there and waits. Not for the writer's own thread. @error Errc::cancelled  The
    /// writer has stopped.
    [[nodiscard]] Result<void> call(const std::function<Result<void>(Committer&)>& job);
    /// Finishes what is queued.
    void stop();

private:
    static constexpr std::size_t kJobsMax = 16'384;
    struct Item {
        Append append;
        Job job;  ///< instead of an append
    };
    [[nodiscard]] bool push(Item item);
    void run();
    void commit(std::vector<Append>& group);

    Committer& committer_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Item> queue_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace annal::sqlite
