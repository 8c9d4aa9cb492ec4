#include "runtime/store/event_store.h"

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>

#include "runtime/core/limits.h"
#include "runtime/core/task_impl.h"

namespace annal {

Task<std::vector<AppendOutcome>> EventStore::append_free(std::span<const AppendUnit> units) {
    return append(units);
}

void Scrub::apply(std::array<Text, kColumns>& texts) const {
    for (std::size_t c = 0; c < kColumns; ++c) {
        const auto column = static_cast<Column>(c);
        if (takes(column)) texts[c] = column == Column::metadata ? Text("{}") : Text();
    }
}

Task<Result<bool>> EventStore::purge_erased(std::vector<Month> /*months*/) {
    co_return true;
}

Task<Result<Seq>> EventStore::seek(
    std::string project, Filter filter, std::int64_t skip, std::chrono::milliseconds budget
) {
    const auto end = std::chrono::steady_clock::now() + budget;
    std::optional<Seq> after;
    while (skip > 0) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            end - std::chrono::steady_clock::now()
        );
        if (left.count() <= 0) {
            co_return Error{
                Errc::unavailable,
                "so many events could not be passed over in the time allowed; narrow the filter",
                {},
                1'000};
        }
        ScanRequest request;
        request.project = project;
        request.filter = filter;
        request.after = after;
        request.limit = static_cast<std::uint32_t>(std::min<std::int64_t>(kPageMax, skip));
        request.budget = left;
        auto page = co_await scan(std::move(request));
        if (!page) co_return std::move(page).error();
        skip -= static_cast<std::int64_t>(page.value().batch.events.size());
        after = page.value().scanned;
        if (page.value().exhausted) break;
    }
    co_return skip > 0 || !after ? kNoSeq : *after;
}

Task<Result<std::string>> EventStore::epoch() {
    co_return std::string();
}

Task<Result<void>> EventStore::make_months(int /*ahead*/) {
    co_return ok();
}

}  // namespace annal
