#include "runtime/retention/archive.h"

#include <algorithm>

#include "runtime/core/limits.h"
#include "runtime/core/task_impl.h"

namespace annal {

ArchiveReader::ArchiveReader(
    EventStore& store, const ArchiveRange& range, std::function<bool()> is_over
)
    : store_(store), last_(range.last), is_over_(std::move(is_over)) {
    request_.project = range.project;
    request_.newest_first = false;
    request_.tombstones = true;
    request_.limit = kPageMax;
    request_.after = range.first - 1;
}

Task<Result<EventBatch>> ArchiveReader::next() {
    EventBatch batch;
    while (batch.events.empty() && *request_.after < last_) {
        if (is_over_()) co_return Error{Errc::cancelled, "the run was told to end"};
        ScanRequest request = request_;
        BOOST_OUTCOME_CO_TRY(ScanPage page, co_await store_.scan(std::move(request)));
        auto& events = page.batch.events;
        const auto end = std::find_if(events.begin(), events.end(), [this](const Event& event) {
            return event.seq > last_;
        });
        events.erase(end, events.end());
        for (const Event& event : events) {
            if (event.seq != *request_.after + 1) co_return missing(*request_.after + 1);
            request_.after = event.seq;
        }
        // A floor that has been raised beyond the range: the page begins behind it.
        if (*request_.after < last_ && page.scanned > *request_.after)
            co_return missing(*request_.after + 1);
        if (page.exhausted && *request_.after < last_)
            co_return Error{
                Errc::conflict,
                "the log of project " + request_.project + " is shorter than it was"};
        std::erase_if(events, [](const Event& event) { return event.deleted; });
        batch = std::move(page.batch);
    }
    co_return batch;
}

Error ArchiveReader::missing(Seq seq) const {
    return {
        Errc::conflict,
        "event " + std::to_string(seq) + " of project " + request_.project +
            " is not there any more"};
}

void ArchiveReader::go_back_to(Seq seq) {
    request_.after = seq;
}

Result<void> check_count(const ArchiveRange& range, std::int64_t kept) {
    if (kept == range.events) return ok();
    return Error{
        Errc::conflict,
        "the archive has " + std::to_string(kept) + " events of project " + range.project +
            " from " + std::to_string(range.first) + " to " + std::to_string(range.last) +
            ", the log " + std::to_string(range.events)};
}

}  // namespace annal
