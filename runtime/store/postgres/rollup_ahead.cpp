#include "runtime/store/postgres/rollup_ahead.h"

#include <utility>

#include "runtime/store/postgres/rollup.h"

namespace annal::postgres {
namespace {

constexpr std::chrono::milliseconds kTurn{2'000};  // others wait for the same connection
constexpr std::chrono::milliseconds kLookup{10'000};

}  // namespace

void RollupAhead::note(const std::string& project, Seq first, Seq last) {
    if (first / block_seqs_ == (last + 1) / block_seqs_) return;
    {
        const std::lock_guard lock(mutex_);
        projects_.insert(project);
        if (std::exchange(counting_, true)) return;
    }
    post();
}

void RollupAhead::post() {
    const bool queued =
        pool_.post([this](Pool::Seat& seat) { count_next(seat); }, Pool::Length::lengthy);
    if (queued) return;
    const std::lock_guard lock(mutex_);
    projects_.clear();
    counting_ = false;
}

void RollupAhead::count_next(Pool::Seat& seat) {
    std::string project;
    {
        const std::lock_guard lock(mutex_);
        project = std::move(projects_.extract(projects_.begin()).value());
    }
    if (auto connection = seat.connection()) {
        const auto end = std::chrono::steady_clock::now() + kTurn;
        connection.value()->set_deadline(end + kLookup);
        (void)complete_rollup(*connection.value(), project, block_seqs_, end);
    }
    {
        const std::lock_guard lock(mutex_);
        if (projects_.empty()) counting_ = false;
        if (!counting_) return;
    }
    post();
}

}  // namespace annal::postgres
