// Appends until it is killed: store_kill_writer DIRECTORY SEGMENT_EVENTS. Acknowledged units go to
// standard output.
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <cstdlib>

#include "runtime/core/metrics.h"
#include "runtime/core/task_impl.h"
#include "runtime/store/sqlite/sqlite_store.h"
#include "tests/chaos/store_kill_plan.h"

namespace annal::test {
namespace {

[[noreturn]] void give_up(const std::string& why) {
    std::fprintf(stderr, "store_kill_writer: %s\n", why.c_str());
    std::_Exit(3);
}

void acknowledge(const KillAck& ack) {
    if (::write(STDOUT_FILENO, &ack, sizeof ack) != sizeof ack) {
        give_up("the pipe is gone");
    }
}

Task<void> call(EventStore& store, int caller) {
    const std::string project = KillUnit::project_of(caller);
    auto row = co_await store.kv_get("plugin.chaos", project, std::to_string(caller));
    if (row.has_error()) {
        give_up(row.error().detail);
    }
    // The last unit that was committed, whether or not its answer arrived: it must replay.
    const std::int64_t done = row.value() ? std::atoll(row.value()->c_str()) : 0;
    Seq last_first = kNoSeq;
    for (std::int64_t n = done == 0 ? 1 : done;; ++n) {
        const KillUnit made(caller, n);
        std::vector<AppendUnit> units = {made.unit};
        const bool erases = n % 5 == 0 && last_first != kNoSeq;
        if (erases) {
            units[0].erase.push_back(last_first);
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
             erased ? last_first : kNoSeq}
        );
        last_first = receipts[0].replayed ? kNoSeq : receipts[0].seq;
    }
}

int main_of(int argc, char** argv) {
    if (argc != 3) {
        give_up("usage: store_kill_writer DIRECTORY SEGMENT_EVENTS");
    }
    SystemClock clock;
    Metrics metrics;
    SqliteOptions options;
    options.directory = argv[1];
    options.segment_events_max = static_cast<std::uint32_t>(std::atoi(argv[2]));
    auto store = open_sqlite_store(options, clock, metrics);
    if (store.has_error()) {
        give_up(store.error().detail);
    }
    boost::asio::io_context io;
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
