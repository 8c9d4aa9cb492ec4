// One node of a PostgreSQL database, which appends until it is killed: postgres_kill_writer URL
// DIRECT_URL CALLER… Acknowledged units go to standard output.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdlib>

#include "runtime/core/metrics.h"
#include "runtime/store/postgres/postgres_store.h"
#include "tests/chaos/store_kill_caller.h"

int main(int argc, char** argv) {
    using namespace annal;
    if (argc < 4) test::kill_give_up("usage: postgres_kill_writer URL DIRECT_URL CALLER…");
    Metrics metrics;
    PostgresOptions options;
    options.url = argv[1];
    options.direct_url = argv[2];
    options.append_connections = 2;
    options.read_connections = 1;
    options.delivery_connections = 1;
    auto store = open_postgres_store(options, metrics);
    if (store.has_error()) test::kill_give_up(store.error().detail);
    boost::asio::io_context io;
    for (int i = 3; i < argc; ++i) {
        boost::asio::co_spawn(
            io, test::call(*store.value(), std::atoi(argv[i]), true), boost::asio::detached
        );
    }
    io.run();
    return 0;
}
