#include "runtime/store/sqlite/checkpointer.h"

#include <chrono>

#include "runtime/core/log.h"
#include "runtime/store/sqlite/connection.h"

namespace annal::sqlite {
namespace {

Result<void> checkpoint(const std::filesystem::path& path) {
    std::error_code error;
    if (!std::filesystem::exists(path, error)) {
        return ok();  // dropped meanwhile
    }
    BOOST_OUTCOME_TRY(auto db, Connection::open(path, Connection::Access::write));
    return db.execute("PRAGMA wal_checkpoint(PASSIVE)");
}

}  // namespace

Checkpointer::Checkpointer(Metrics& metrics)
    : seconds_(metrics.define(
          MetricKind::histogram,
          "annal_store_checkpoint_seconds",
          "Time to move a write-ahead log into its file."
      )),
      thread_([this] { run(); }) {}

void Checkpointer::request(const std::filesystem::path& database) {
    {
        const std::lock_guard lock(mutex_);
        wanted_.insert(database);
    }
    wake_.notify_one();
}

void Checkpointer::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void Checkpointer::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [&] { return stopping_ || !wanted_.empty(); });
        if (stopping_) {
            return;
        }
        const auto path = *wanted_.begin();
        wanted_.erase(wanted_.begin());
        lock.unlock();
        const auto start = std::chrono::steady_clock::now();
        if (const auto done = checkpoint(path); done.has_error()) {
            log::warn("store.checkpoint_failed", {{"error", done.error().detail}});
        }
        const auto took = std::chrono::steady_clock::now() - start;
        seconds_.record(std::chrono::duration<double>(took).count());
        lock.lock();
    }
}

}  // namespace annal::sqlite
