#include "runtime/store/read_space.h"

#include <iterator>

#include "runtime/core/limits.h"
#include "runtime/core/task_impl.h"

namespace annal {

Task<Result<std::vector<KvRow>>> read_space(
    EventStore& store, std::string space, std::string project
) {
    std::vector<KvRow> all;
    std::string after;
    for (;;) {
        BOOST_OUTCOME_CO_TRY(
            auto rows, co_await store.kv_scan(space, project, "", after, kPageMax)
        );
        std::move(rows.begin(), rows.end(), std::back_inserter(all));
        if (rows.size() < kPageMax) co_return all;
        after = all.back().key;
        if (project.empty()) after = all.back().project + '\0' + after;
    }
}

}  // namespace annal
