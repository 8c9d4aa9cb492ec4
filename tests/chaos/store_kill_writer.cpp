// Appends until it is killed: store_kill_writer DIRECTORY SEGMENT_EVENTS [MINUTES]. Acknowledged
// units go to standard output. With MINUTES the clock goes on by that much each time it is looked
// at, so that months end while it runs.
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <cstdlib>
#include <deque>

#include "runtime/core/metrics.h"
#include "runtime/core/task_impl.h"
#include "runtime/store/sqlite/sqlite_store.h"
#include "tests/chaos/store_kill_plan.h"

namespace annal::test {
namespace {

constexpr std::size_t kErasedBack = 12;

[[noreturn]] void give_up(const std::string& why) {
    std::fprintf(stderr, "store_kill_writer: %s\n", why.c_str());
    std::_Exit(3);
}

void acknowledge(const KillAck& ack) {
    if (::write(STDOUT_FILENO, &ack, sizeof ack) != sizeof ack) {
        give_up("the pipe is gone");
    }
}

/// A clock in a hurry.
class TravelClock final : public Clock {
public:
    explicit TravelClock(std::int64_t step_us) : step_us_(step_us) {}
    void go_to(TimeUs at) { at_ = std::max(at_.load(), at); }
    [[nodiscard]] TimeUs wall_us() const override { return at_ += step_us_; }
    [[nodiscard]] std::int64_t monotonic_us() const override { return system_.monotonic_us(); }

private:
    SystemClock system_;
    const std::int64_t step_us_;
    mutable std::atomic<TimeUs> at_{system_.wall_us()};
};

Task<void> call(EventStore& store, int caller) {
    const std::string project = KillUnit::project_of(caller);
    auto row = co_await store.kv_get("plugin.chaos", project, std::to_string(caller));
    if (row.has_error()) {
        give_up(row.error().detail);
    }
    // The last unit that was committed, whether or not its answer arrived: it must replay.
    const std::int64_t done = row.value() ? std::atoll(row.value()->c_str()) : 0;
    std::deque<Seq> firsts;  // of recent units; the oldest is erased now and then
    for (std::int64_t n = done == 0 ? 1 : done;; ++n) {
        const KillUnit made(caller, n);
        std::vector<AppendUnit> units = {made.unit};
        // Near the end of the log, and farther back, where the segment is closed.
        const std::size_t back = n % 2 == 0 ? 1 : kErasedBack;
        const bool erases = n % 5 == 0 && firsts.size() >= back;
        const Seq victim = erases ? firsts[firsts.size() - back] : kNoSeq;
        if (erases) {
            units[0].erase.push_back(victim);
            firsts.erase(firsts.end() - static_cast<std::ptrdiff_t>(back));
        }
        auto outcomes = co_await store.append(units);
        if (outcomes[0].has_error()) {
            give_up(outcomes[0].error().detail);
        }
        const auto& receipts = outcomes[0].value();
        if (receipts.at(0).replayed != (n == done)) {
            give_up(
                "unit " + std::to_string(n) +
                " was replayed although it was new, or not although it was known"
            );
        }
        const bool erased = erases && !receipts[0].replayed;
        acknowledge(
            {caller,
             n,
             receipts[0].seq,
             static_cast<std::int64_t>(receipts.size()),
             erased ? victim : kNoSeq}
        );
        if (!receipts[0].replayed) {
            firsts.push_back(receipts[0].seq);
        }
        if (firsts.size() > 2 * kErasedBack) {
            firsts.pop_front();
        }
    }
}

Task<void> catch_up(EventStore& store, std::string project, TravelClock& clock) {
    const auto log = co_await store.log_state(project);
    if (log.has_error()) {
        give_up(log.error().detail);
    }
    clock.go_to(log.value().head_at);
}

int main_of(int argc, char** argv) {
    if (argc != 3 && argc != 4) {
        give_up("usage: store_kill_writer DIRECTORY SEGMENT_EVENTS [MINUTES]");
    }
    TravelClock travel(argc == 4 ? std::atoll(argv[3]) * 60 * kSecondUs : 0);
    SystemClock system;
    const Clock& clock = argc == 4 ? static_cast<const Clock&>(travel) : system;
    Metrics metrics;
    SqliteOptions options;
    options.directory = argv[1];
    options.segment_events_max = static_cast<std::uint32_t>(std::atoi(argv[2]));
    auto store = open_sqlite_store(options, clock, metrics);
    if (store.has_error()) {
        give_up(store.error().detail);
    }
    boost::asio::io_context io;
    for (int p = 0; p < 3; ++p) {
        boost::asio::co_spawn(
            io, catch_up(*store.value(), KillUnit::project_of(p), travel), boost::asio::detached
        );
    }
    io.run();
    io.restart();
    for (int caller = 0; caller < kKillCallers; ++caller) {
        boost::asio::co_spawn(io, call(*store.value(), caller), boost::asio::detached);
    }
    io.run();
    return 0;
}

}  // namespace
}  // namespace annal::test

int main(int argc, char** argv) {
    return annal::test::main_of(argc, argv);
}
