#include "runtime/store/event_store.h"

#include <boost/asio/any_io_executor.hpp>

#include "runtime/core/task_impl.h"

namespace annal {

Task<std::vector<AppendOutcome>> EventStore::append_free(std::span<const AppendUnit> units) {
    return append(units);
}

Task<Result<std::string>> EventStore::epoch() {
    co_return std::string();
}

}  // namespace annal
