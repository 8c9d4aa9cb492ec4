#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "bench/compared_store.h"
#include "bench/event_source.h"
#include "bench/server_process.h"

namespace annal::bench {

/// Where a run takes place, and how large it is.
struct Setting {
    std::filesystem::path program;  ///< the `annal` binary
    std::filesystem::path folder;   ///< made for the run; the reference files stand beside the data
    std::int64_t events = 10'000'000;
    std::uint64_t seed = 1;
    ComparedStore* store = nullptr;

    [[nodiscard]] std::filesystem::path data_dir() const { return folder / "data"; }
};

// One scenario each: prints its lines. All but the first need what `fill` has stored.

/// Waits until the server has no work of its own left; the seconds that took.
double settle(const ServerProcess& server);

/// Stores `events` events and waits until the background work on them is done. Prints `name`.
void fill(const Setting& setting, const ServerProcess& server, const std::string& name = "fill");
void ingest_batches(const Setting& setting, const ServerProcess& server);
void ingest_singles(const Setting& setting, const ServerProcess& server);
/// Reads while 12 000 events/s come in.
void reads(const Setting& setting, const ServerProcess& server);
/// Counts by hour, group and distinct value over all that is stored.
void aggregates(const Setting& setting, const ServerProcess& server);
void exports(const Setting& setting, const ServerProcess& server);
/// Where servers can share the store: a second one beside `server`, both appending to one project.
void two_nodes(const Setting& setting, const ServerProcess& server);
/// Where servers can share the store: single events with and without a snapshot that is held
/// meanwhile.
void held_snapshot(const Setting& setting, const ServerProcess& server);
/// Starts a server of its own, with a stream.
void stream(const Setting& setting);
/// Starts a server of its own, on a store of its own where it is embedded; needs nothing of `fill`.
void webhooks(const Setting& setting);
/// Starts servers of its own on a store of its own: a month of `events` events goes while single
/// ones come in. Needs nothing of `fill`.
void month_drop(const Setting& setting);

}  // namespace annal::bench
