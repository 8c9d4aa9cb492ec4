#include "runtime/webhooks/event_bodies.h"

#include <algorithm>

#include "runtime/core/task_impl.h"
#include "runtime/event/event_json.h"

namespace annal {
namespace {

constexpr std::uint32_t kAheadMax = 100;

}  // namespace

void EventBodies::clear() {
    bodies_.clear();
    order_.clear();
    bytes_ = 0;
}

void EventBodies::add(const Event& event) {
    if (event.deleted || bodies_.contains(event.seq)) return;
    auto body = std::make_shared<EventBody>();
    body->event_id = event.id.text();
    body->action = event[Column::action].view();
    append_envelope_json(body->text, event);
    bytes_ += body->text.size();
    bodies_.emplace(event.seq, std::move(body));
    order_.push_back({event.seq, clock_.monotonic_us()});
    forget_old();
}

void EventBodies::forget_old() {
    const std::int64_t oldest = clock_.monotonic_us() - kKeptForUs;
    while (!order_.empty() && (order_.front().at_us < oldest || bytes_ > kBytesMax)) {
        const auto found = bodies_.find(order_.front().seq);
        bytes_ -= found->second->text.size();
        bodies_.erase(found);
        order_.pop_front();
    }
}

Task<Result<EventBodies::Shared>> EventBodies::get(Seq seq, Seq through) {
    forget_old();
    if (const auto found = bodies_.find(seq); found != bodies_.end()) co_return found->second;
    ScanRequest request;
    request.project = project_;
    request.newest_first = false;
    request.tombstones = true;
    if (seq > 0) request.after = seq - 1;
    request.limit = static_cast<std::uint32_t>(std::clamp<Seq>(through - seq + 1, 1, kAheadMax));
    Shared wanted;
    for (;;) {
        ScanRequest step = request;
        BOOST_OUTCOME_CO_TRY(const ScanPage page, co_await store_.scan(std::move(step)));
        for (const Event& event : page.batch.events) {
            add(event);
            if (event.seq == seq && !event.deleted) wanted = bodies_.at(seq);
        }
        if (page.exhausted || page.scanned >= seq) break;
        request.after = page.scanned;
    }
    co_return wanted;
}

}  // namespace annal
