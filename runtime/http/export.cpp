#include "runtime/http/export.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <vector>

#include "runtime/core/log.h"
#include "runtime/core/task_impl.h"
#include "runtime/plugin/call.h"
#include "runtime/plugin/format_document.h"

namespace annal::http {
namespace {

using Milliseconds = std::chrono::milliseconds;

// A page is read with as many rows as should fit into this; the first is small, since nothing is
// known about it.
constexpr std::size_t kPageBytes = 4U << 20;
constexpr std::uint32_t kFirstPageRows = 128;
constexpr std::uint32_t kPageRowsMin = 16;
// Rows go to the format in slices of about this size, so that what it makes of them stays small
// too.
constexpr std::size_t kSliceBytes = 64U << 10;
constexpr std::size_t kBufferBytesMax = 8U << 20;
constexpr std::size_t kWriteBytes = 32U << 10;

std::size_t weight(const Event& event) {
    std::size_t bytes = 64;
    for (const Text& text : event.columns) bytes += text.size();
    return bytes;
}

/// One export from its look-ahead to its last byte.
class Run {
public:
    Run(HostEnvironment& environment,
        const Instance& format,
        std::string project,
        ExportRequest request,
        std::shared_ptr<Exchange> exchange)
        : environment_(environment),
          project_(std::move(project)),
          request_(std::move(request)),
          exchange_(std::move(exchange)),
          document_(format, buffer_),
          view_(project_, kPageMax) {}

    Task<Result<void>> run();

private:
    Task<Result<void>> locate();
    Task<Result<void>> look_ahead();
    Task<Result<bool>> look_at_counts();
    Task<Result<void>> look_at_rows(std::int64_t end_us);
    Task<Result<bool>> take_page();
    Task<Result<ScanPage>> scan(Seq after, std::uint32_t limit);
    Task<Result<void>> send_rows();
    Task<Result<void>> send_page();
    Task<Result<void>> flush(std::size_t bytes_min);
    Task<Result<bool>> more_behind();
    Task<Result<void>> finish();
    Result<void> start();
    [[nodiscard]] Pairs truncation(Seq last) const;
    [[nodiscard]] bool takes_trailers() const;
    [[nodiscard]] bool pages_through() const;
    void adapt_page_size();
    [[nodiscard]] std::int64_t now_us() const { return environment_.clock->monotonic_us(); }
    [[nodiscard]] Milliseconds budget() const {
        return Milliseconds(environment_.limits->scan_budget_ms);
    }

    HostEnvironment& environment_;
    const std::string project_;
    const ExportRequest request_;
    const std::shared_ptr<Exchange> exchange_;
    WriteBuffer buffer_{kBufferBytesMax};
    FormatDocument document_;
    BatchView view_;

    Seq start_ = kNoSeq;  ///< rows below this seq are exported: events that come meanwhile stay out
    Seq after_ = kNoSeq;  ///< how far the pages have come
    ScanPage page_;       ///< the page that is being sent
    std::uint32_t page_rows_ = kFirstPageRows;
    std::uint32_t rows_ = 0;  ///< sent so far
    Seq last_row_ = kNoSeq;
    bool known_ = false;      ///< whether rows are left out was found out before the first byte
    std::optional<Seq> cut_;  ///< known: the last row to be sent, when more match
};

Task<Result<ScanPage>> Run::scan(Seq after, std::uint32_t limit) {
    ScanRequest request;
    request.project = project_;
    request.filter = request_.filter;
    request.after = after;
    request.limit = limit;
    request.budget = std::max(budget(), Milliseconds(1));
    auto page = co_await environment_.store->scan(std::move(request));
    if (page && !page.value().exhausted && page.value().scanned == after) {
        co_return Error{Errc::internal, "the store's scan does not move on"};
    }
    if (exchange_->cancelled()) co_return Error{Errc::cancelled, "the client is gone"};
    co_return page;
}

void Run::adapt_page_size() {
    const std::size_t rows = page_.batch.events.size();
    if (rows == 0) return;
    const std::size_t each = page_.batch.arena.bytes() / rows + sizeof(Event);
    page_rows_ = static_cast<std::uint32_t>(
        std::clamp<std::size_t>(kPageBytes / each, kPageRowsMin, kPageMax)
    );
}

/// The next page into `page_`; false when there is none, or no more rows may be sent.
Task<Result<bool>> Run::take_page() {
    if (page_.exhausted || rows_ == request_.rows_max) co_return false;
    auto page = co_await scan(after_, std::min(page_rows_, request_.rows_max - rows_));
    if (!page) co_return std::move(page).error();
    page_ = std::move(page).value();
    after_ = page_.scanned;
    adapt_page_size();
    co_return true;
}

/// Finds the row to start below.
Task<Result<void>> Run::locate() {
    Seq after = INT64_MAX;
    if (!request_.cursor.empty()) {
        auto opened = environment_.cursors->open(request_.cursor, project_, request_.filter, true);
        if (!opened) co_return std::move(opened).error();
        after = opened.value();
    }
    auto state = co_await environment_.store->log_state(project_);
    if (!state) co_return std::move(state).error();
    start_ = std::min(after, state.value().head_seq + 1);
    after_ = start_;
    co_return ok();
}

/// Finds out whether more than rows_max rows match, within the time of one list request. The first
/// page is kept: a small export is read once.
Task<Result<void>> Run::look_ahead() {
    const std::int64_t end_us = now_us() + std::chrono::microseconds(budget()).count();
    auto taken = co_await take_page();
    if (!taken) co_return std::move(taken).error();
    known_ = page_.exhausted;
    if (known_ || pages_through() || now_us() >= end_us) co_return ok();
    auto counted = co_await look_at_counts();
    if (!counted) co_return std::move(counted).error();
    known_ = counted.value();
    if (known_) co_return ok();
    co_return co_await look_at_rows(end_us);
}

/// The cheap ways: few enough rows match in all, or without a filter and without tombstones rows
/// are as many as seqs.
Task<Result<bool>> Run::look_at_counts() {
    auto total = co_await environment_.store->count(project_, request_.filter, budget() / 2);
    if (!total) co_return std::move(total).error();
    const Total counted = total.value();
    if (!counted.exact) co_return false;
    if (counted.count <= request_.rows_max) co_return true;
    if (!request_.filter.matches_all()) co_return false;
    auto state = co_await environment_.store->log_state(project_);
    if (!state) co_return std::move(state).error();
    // Asked for after the count, so that events which came in between make it look sparse, never
    // dense.
    const Seq first = state.value().first_seq;
    if (counted.count != state.value().head_seq - first + 1) co_return false;
    if (start_ - first > request_.rows_max) cut_ = start_ - request_.rows_max;
    co_return true;
}

/// The dear way: walks the rows themselves, until one more than rows_max is found or the time is
/// used up.
Task<Result<void>> Run::look_at_rows(std::int64_t end_us) {
    auto seen = static_cast<std::uint32_t>(page_.batch.events.size());
    Seq after = page_.scanned;
    Seq last = seen > 0 ? page_.batch.events.back().seq : kNoSeq;
    while (now_us() < end_us) {
        const std::uint32_t limit =
            seen < request_.rows_max ? std::min(page_rows_, request_.rows_max - seen) : 1;
        auto page = co_await scan(after, limit);
        if (!page) co_return std::move(page).error();
        const ScanPage& found = page.value();
        const auto rows = static_cast<std::uint32_t>(found.batch.events.size());
        if (seen == request_.rows_max && rows > 0) {
            known_ = true;
            cut_ = last;
            co_return ok();
        }
        if (rows > 0) last = found.batch.events.back().seq;
        seen += rows;
        after = found.scanned;
        if (found.exhausted) {
            known_ = true;
            co_return ok();
        }
    }
    co_return ok();
}

/// A client that asks page by page and takes trailers learns there whether more follows; to find it
/// out before would read each page twice.
bool Run::pages_through() const {
    return takes_trailers() && request_.rows_max < environment_.limits->export_rows_max;
}

bool Run::takes_trailers() const {
    const auto te = exchange_->request().header("te");
    return te && te->find("trailers") != std::string_view::npos;
}

Pairs Run::truncation(Seq last) const {
    const std::string cursor = environment_.cursors->seal(project_, request_.filter, true, last);
    Pairs out{{"Annal-Truncated", "true"}, {"Annal-Next-Cursor", cursor}};
    if (!request_.next_path.empty()) {
        const char* joint = request_.next_path.find('?') == std::string::npos ? "?" : "&";
        out.emplace_back(
            "Link", "<" + request_.next_path + joint + "cursor=" + cursor + ">; rel=\"next\""
        );
    }
    return out;
}

Result<void> Run::start() {
    if (exchange_->started()) return ok();
    Pairs headers{
        {"Content-Type", std::string(document_.content_type())},
        {"Content-Disposition",
         "attachment; filename=\"audit-events." + std::string(document_.extension()) + "\""},
        {"Cache-Control", "no-store"},
    };
    if (known_ && cut_) {
        for (auto& header : truncation(*cut_)) headers.push_back(std::move(header));
    } else if (!known_ && takes_trailers()) {
        headers.emplace_back("Trailer", "Annal-Truncated, Annal-Next-Cursor, Link");
    } else if (!known_) {
        // Who can't take the trailers must at least know that the answer may not be all.
        headers.emplace_back("Annal-Truncated", "unknown");
    }
    return exchange_->start(200, std::move(headers));
}

Task<Result<void>> Run::flush(std::size_t bytes_min) {
    if (buffer_.view().size() < bytes_min) co_return ok();
    BOOST_OUTCOME_CO_TRYV(start());
    auto written = co_await exchange_->write(buffer_.view());
    buffer_.clear();
    co_return written;
}

Task<Result<void>> Run::send_page() {
    const std::vector<Event>& events = page_.batch.events;
    std::size_t i = 0;
    while (i < events.size()) {
        view_.clear();
        for (std::size_t bytes = 0; i < events.size() && bytes < kSliceBytes; ++i) {
            if (cut_ && events[i].seq < *cut_) break;
            view_.add(events[i]);
            bytes += weight(events[i]);
            last_row_ = events[i].seq;
        }
        // Behind the announced end nothing is sent, whatever has been erased since.
        if (view_.size() == 0) break;
        rows_ += static_cast<std::uint32_t>(view_.size());
        BOOST_OUTCOME_CO_TRYV(document_.encode(*view_.get()));
        auto flushed = co_await flush(kWriteBytes);
        if (!flushed) co_return flushed;
    }
    if (cut_ && page_.scanned <= *cut_) page_.exhausted = true;
    co_return ok();
}

Task<Result<void>> Run::send_rows() {
    while (true) {
        auto sent = co_await send_page();
        if (!sent) co_return sent;
        auto more = co_await take_page();
        if (!more) co_return std::move(more).error();
        if (!more.value()) co_return ok();
    }
}

/// Whether rows follow the last one that was sent; also when the time does not suffice to know.
Task<Result<bool>> Run::more_behind() {
    if (rows_ < request_.rows_max || page_.exhausted) co_return false;
    const std::int64_t end_us = now_us() + std::chrono::microseconds(budget()).count();
    Seq after = after_;
    do {
        auto page = co_await scan(after, 1);
        if (!page) co_return std::move(page).error();
        if (!page.value().batch.events.empty()) co_return true;
        if (page.value().exhausted) co_return false;
        after = page.value().scanned;
    } while (now_us() < end_us);
    co_return true;
}

Task<Result<void>> Run::finish() {
    BOOST_OUTCOME_CO_TRYV(document_.end());
    auto flushed = co_await flush(1);
    if (!flushed) co_return flushed;
    BOOST_OUTCOME_CO_TRYV(start());  // a document may be empty
    Pairs trailers;
    if (!known_) {
        auto more = co_await more_behind();
        if (!more) co_return std::move(more).error();
        if (more.value())
            trailers = truncation(last_row_);
        else
            trailers.emplace_back("Annal-Truncated", "false");
    }
    co_return co_await exchange_->finish(std::move(trailers));
}

Task<Result<void>> Run::run() {
    auto located = co_await locate();
    if (!located) co_return located;
    BOOST_OUTCOME_CO_TRYV(document_.begin(request_.options));
    auto ahead = co_await look_ahead();
    if (!ahead) co_return ahead;
    auto sent = co_await send_rows();
    if (!sent) co_return sent;
    co_return co_await finish();
}

}  // namespace

Task<Result<void>> Exporter::run(
    std::string project, ExportRequest request, std::shared_ptr<Exchange> exchange
) {
    const auto found = formats_.find(request.format);
    if (!found) {
        Error error = found.error();
        error.pointer = "format";
        co_return error;
    }
    if (request.rows_max < 1) co_return Error{Errc::invalid, "must be at least 1", "rows_max"};
    // The plugin asks for what its dialect allows; the node's own limit may be lower.
    request.rows_max = std::min(request.rows_max, environment_.limits->export_rows_max);
    const std::shared_ptr<Instance> format = found.value();
    Run run(environment_, *format, project, std::move(request), exchange);
    auto outcome = co_await run.run();
    if (!outcome && exchange->started() && outcome.error().code != Errc::cancelled) {
        log::error(
            "export.cut",
            {{"project", project},
             {"format", std::string_view(format->component().name)},
             {"request_id", exchange->request().request_id},
             {"detail", outcome.error().detail}}
        );
    }
    co_return outcome;
}

}  // namespace annal::http
