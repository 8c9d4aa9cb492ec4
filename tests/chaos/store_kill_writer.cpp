// Appends until it is killed: store_kill_writer DIRECTORY SEGMENT_EVENTS [MINUTES]. Acknowledged
// units go to standard output. With MINUTES the clock goes on by that much each time it is looked
// at, so that months end while it runs.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdlib>

#include "runtime/core/metrics.h"
#include "runtime/core/task_impl.h"
#include "runtime/store/sqlite/sqlite_store.h"
#include "tests/chaos/store_kill_caller.h"

namespace annal::test {
namespace {

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

Task<void> catch_up(EventStore& store, std::string project, TravelClock& clock) {
    const auto log = co_await store.log_state(project);
    if (log.has_error()) {
        kill_give_up(log.error().detail);
    }
    clock.go_to(log.value().head_at);
}

int main_of(int argc, char** argv) {
    if (argc != 3 && argc != 4) {
        kill_give_up("usage: store_kill_writer DIRECTORY SEGMENT_EVENTS [MINUTES]");
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
        kill_give_up(store.error().detail);
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
        boost::asio::co_spawn(io, call(*store.value(), caller, false), boost::asio::detached);
    }
    io.run();
    return 0;
}

}  // namespace
}  // namespace annal::test

int main(int argc, char** argv) {
    return annal::test::main_of(argc, argv);
}
