#include "runtime/http/tail_feed.h"

#include <algorithm>
#include <chrono>

#include "runtime/core/log.h"
#include "runtime/core/pause.h"
#include "runtime/core/task_impl.h"
#include "runtime/event/event_json.h"
#include "runtime/http/signal.h"

namespace annal::http {
namespace {

namespace asio = boost::asio;

constexpr auto kRetryAfter = std::chrono::milliseconds(200);

void append_message(std::string& out, const Event& event) {
    out += "id: ";
    out += std::to_string(event.seq);
    out += "\nevent: ";
    out += event.deleted ? std::string_view("deleted") : event[Column::action].view();
    out += "\ndata: ";
    append_canonical_json(out, event);
    out += "\n\n";
}

}  // namespace

TailPage::TailPage(Seq after, Seq to, EventBatch batch)
    : after_(after), to_(to), batch_(std::move(batch)) {}

std::size_t TailPage::bytes() const {
    // JSON is about as long as the text in it, and the names of its fields.
    constexpr std::size_t kEachBytes = sizeof(Event) + 512;
    return 2 * batch_.arena.bytes() + batch_.events.size() * kEachBytes + sizeof(TailPage);
}

void TailPage::render() const {
    ends_.reserve(batch_.events.size());
    for (const Event& event : batch_.events) {
        append_message(text_, event);
        ends_.push_back(text_.size());
    }
}

std::string_view TailPage::message(std::size_t i) const {
    std::call_once(rendered_, [this] { render(); });
    const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(text_).substr(begin, ends_[i] - begin);
}

void TailPageSize::learn(const EventBatch& batch) {
    const std::size_t rows = batch.events.size();
    if (rows == 0) return;
    const std::size_t each = batch.arena.bytes() / rows + sizeof(Event);
    rows_ =
        static_cast<std::uint32_t>(std::clamp<std::size_t>(kPageBytes / each, kRowsMin, kPageMax));
}

TailFeed::TailFeed(HostEnvironment& environment, std::string project, Metric& scans)
    : environment_(environment),
      project_(std::move(project)),
      scans_(scans),
      signal_(std::make_shared<Signal>()) {}

TailFeed::~TailFeed() = default;

Task<void> TailFeed::run(std::shared_ptr<TailFeed>) {
    // Before the log's state is asked for, so that no commit falls between the two.
    const auto subscription =
        environment_.appender->subscribe(project_, [signal = signal_] { signal->wake(); });
    co_await begin();
    while (!stopped_) {
        co_await signal_->wait();
        bool more = true;
        while (more && !stopped_) more = co_await scan_on();
    }
}

void TailFeed::stop() {
    stopped_ = true;
    signal_->wake();
}

void TailFeed::wake() {
    signal_->wake();
}

Task<void> TailFeed::pause(const Error& why) {
    if (!failing_) {
        log::warn("tail.scan_failed", {{"project", project_}, {"detail", why.detail}});
    }
    failing_ = true;
    co_await pause_for(kRetryAfter);
}

Task<void> TailFeed::begin() {
    while (!stopped_) {
        auto state = co_await environment_.store->log_state(project_);
        if (!state) {
            co_await pause(state.error());
            continue;
        }
        const std::lock_guard lock(mutex_);
        begun_ = true;
        from_ = to_ = state.value().head_seq;
        for (const auto& listener : listeners_) listener->wake();
        break;
    }
}

/// Reads one page. Whether more may be there.
Task<bool> TailFeed::scan_on() {
    ScanRequest request;
    request.project = project_;
    request.newest_first = false;
    request.after = end();
    request.limit = page_size_.rows();
    request.tombstones = true;
    request.budget = std::chrono::milliseconds(environment_.limits->scan_budget_ms);
    const Seq after = *request.after;
    scans_.record(1);
    auto page = co_await environment_.store->scan(std::move(request));
    if (!page) {
        co_await pause(page.error());
        co_return true;
    }
    failing_ = false;
    const Seq to = page.value().scanned;
    const bool more = !page.value().exhausted;
    page_size_.learn(page.value().batch);
    if (to > after) {
        publish(std::make_shared<const TailPage>(after, to, std::move(page.value().batch)));
    }
    co_return more;
}

void TailFeed::publish(std::shared_ptr<const TailPage> page) {
    std::deque<std::shared_ptr<const TailPage>> dropped;  // freed without the lock
    const std::lock_guard lock(mutex_);
    to_ = page->to();
    bytes_ += page->bytes();
    pages_.push_back(std::move(page));
    while (bytes_ > environment_.limits->tail_buffer_bytes_max && pages_.size() > 1) {
        bytes_ -= pages_.front()->bytes();
        from_ = pages_.front()->to();
        dropped.push_back(std::move(pages_.front()));
        pages_.pop_front();
    }
    for (const auto& listener : listeners_) listener->wake();
}

void TailFeed::listen(std::shared_ptr<Signal> listener) {
    const std::lock_guard lock(mutex_);
    listeners_.push_back(std::move(listener));
}

void TailFeed::leave(const std::shared_ptr<Signal>& listener) {
    const std::lock_guard lock(mutex_);
    listeners_.remove(listener);
}

TailFeed::Next TailFeed::next(Seq position, std::shared_ptr<const TailPage>& page) const {
    const std::lock_guard lock(mutex_);
    if (!begun_ || position >= to_) return Next::none;
    if (position < from_) return Next::behind;
    page = *std::upper_bound(pages_.begin(), pages_.end(), position, [](Seq at, const auto& kept) {
        return at < kept->to();
    });
    return Next::page;
}

Seq TailFeed::end() const {
    const std::lock_guard lock(mutex_);
    return to_;
}

}  // namespace annal::http
