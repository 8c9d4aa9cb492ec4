#include "runtime/webhooks/delivery_log.h"

#include <algorithm>
#include <array>

#include "runtime/core/limits.h"
#include "runtime/core/task_impl.h"

namespace annal {
namespace {

using Status = WebhookDelivery::Status;

struct Space {
    const char* name;
    Status status;
};
constexpr std::array kTried{
    Space{WebhookDelivery::kRetrying, Status::pending},
    Space{WebhookDelivery::kDelivered, Status::delivered},
    Space{WebhookDelivery::kFailed, Status::failed}};

const char* space_of(Status status) {
    return std::find_if(
               kTried.begin(), kTried.end(), [&](const Space& s) { return s.status == status; }
    )->name;
}

bool comes_first(const WebhookDelivery& a, const WebhookDelivery& b) {
    if (a.id.seq != b.id.seq) return a.id.seq > b.id.seq;
    return a.id.endpoint < b.id.endpoint;
}

Result<WebhookDelivery> fresh_of(const std::string& endpoint, KvRow& row) {
    const auto place = QueuePlace::of_key(row.key);
    if (!place) return Error{Errc::internal, "the row " + row.key + " of the queue is damaged"};
    WebhookDelivery delivery;
    delivery.id = {endpoint, place->seq};
    delivery.event_id = std::move(row.value);
    return delivery;
}

}  // namespace

/// Where rows of one endpoint and one state are.
struct DeliveryLog::Source {
    std::string endpoint;
    const char* space = nullptr;  ///< null: in the queue and never tried
    Status status = Status::pending;
};

Task<Result<void>> DeliveryLog::read(
    std::string project, const Query& query, Source source, std::vector<WebhookDelivery>& into
) const {
    const bool fresh = source.space == nullptr;
    const auto key_of = [&](Seq seq) {
        return fresh ? QueuePlace{0, seq}.key(source.endpoint)
                     : delivery_key({source.endpoint, seq});
    };
    // Those of the last event come again for endpoints that follow the last one.
    std::string behind;
    if (query.behind) {
        const bool done = source.endpoint <= query.behind->endpoint;
        behind = key_of(query.behind->seq + (done ? 0 : 1));
    }
    std::string prefix = fresh ? fresh_rows_of(source.endpoint) : rows_of(source.endpoint);
    std::uint32_t limit = query.limit;
    if (query.seq) {
        const bool gone = query.behind && key_of(*query.seq) >= behind;
        if (gone) co_return ok();
        prefix = key_of(*query.seq);
        behind.clear();
        limit = 1;
    }
    const char* space = fresh ? WebhookDelivery::kQueue : source.space;
    BOOST_OUTCOME_CO_TRY(
        auto rows,
        co_await store_.kv_scan(
            space, std::move(project), prefix, behind, limit, KvOrder::descending
        )
    );
    for (KvRow& row : rows) {
        auto found =
            fresh ? fresh_of(source.endpoint, row) : WebhookDelivery::from_row(row, source.status);
        if (!found) co_return found.error();
        into.push_back(std::move(found.value()));
    }
    co_return ok();
}

Task<Result<std::vector<WebhookDelivery>>> DeliveryLog::list(std::string project, Query query)
    const {
    std::vector<Source> sources;
    for (const std::string& endpoint : query.endpoints) {
        const bool pending = !query.status || *query.status == Status::pending;
        if (pending) sources.push_back({endpoint, nullptr, Status::pending});
        for (const Space& space : kTried)
            if (!query.status || *query.status == space.status)
                sources.push_back({endpoint, space.name, space.status});
    }
    std::vector<WebhookDelivery> found;
    for (Source& source : sources) {
        BOOST_OUTCOME_CO_TRYV(co_await read(project, query, std::move(source), found));
    }
    std::sort(found.begin(), found.end(), comes_first);
    // One that was moving while it was read may have been seen twice.
    const auto same = [](const WebhookDelivery& a, const WebhookDelivery& b) {
        return a.id.seq == b.id.seq && a.id.endpoint == b.id.endpoint;
    };
    found.erase(std::unique(found.begin(), found.end(), same), found.end());
    if (found.size() > query.limit) found.resize(query.limit);
    co_return found;
}

Task<Result<WebhookDelivery>> DeliveryLog::get(std::string project, DeliveryId id) const {
    Query query;
    query.endpoints = {id.endpoint};
    query.seq = id.seq;
    const std::string name = id.text();
    // Twice: it may have been on its way from one row to another.
    for (int look = 0; look < 2; ++look) {
        Query each = query;
        BOOST_OUTCOME_CO_TRY(auto found, co_await list(project, std::move(each)));
        if (!found.empty()) co_return std::move(found.front());
    }
    co_return Error{Errc::not_found, "there is no delivery " + name};
}

Task<Result<std::vector<WebhookAttempt>>> DeliveryLog::attempts(
    std::string project, WebhookDelivery delivery
) const {
    std::vector<WebhookAttempt> attempts;
    const std::string prefix = delivery_key(delivery.id) + "/";
    BOOST_OUTCOME_CO_TRY(
        const auto rows,
        co_await store_.kv_scan(
            WebhookDelivery::kAttempts, std::move(project), prefix, "", kPageMax
        )
    );
    for (const KvRow& row : rows)
        if (auto attempt = WebhookAttempt::from_text(row.value))
            attempts.push_back(std::move(*attempt));
    const auto& last = delivery.last;
    const bool shown = !last || (!attempts.empty() && attempts.back().number >= last->number);
    if (!shown) attempts.push_back(*last);
    co_return attempts;
}

Task<Result<std::string>> DeliveryLog::stored(std::string project, WebhookDelivery delivery) const {
    BOOST_OUTCOME_CO_TRY(
        const auto row,
        co_await store_.kv_get(
            space_of(delivery.status), std::move(project), delivery_key(delivery.id)
        )
    );
    co_return row.value_or("");
}

bool DeliveryLog::requeue(
    AppendUnit& unit, const WebhookDelivery& delivery, const std::string& stored, TimeUs now
) {
    if (stored.empty()) return false;
    const std::string key = delivery_key(delivery.id);
    const char* space = space_of(delivery.status);
    const auto add = [&](KvOp::Kind kind, const char* where, std::string row, std::string value) {
        unit.kv.push_back({kind, where, unit.project, std::move(row), std::move(value)});
    };
    add(KvOp::Kind::require_equals, space, key, stored);
    if (delivery.status == Status::pending) {
        const QueuePlace before{delivery.next_at, delivery.id.seq};
        add(KvOp::Kind::erase, WebhookDelivery::kQueue, before.key(delivery.id.endpoint), {});
    } else {
        add(KvOp::Kind::erase, space, key, {});
    }
    // Of an attempt that succeeded the delivery's own row was the record.
    if (delivery.last && delivery.last->succeeded())
        add(KvOp::Kind::put,
            WebhookDelivery::kAttempts,
            attempt_key(delivery.id, delivery.last->number),
            delivery.last->to_text());
    WebhookDelivery again = delivery;
    again.status = Status::pending;
    again.tries = 0;
    ++again.replays;
    again.next_at = now;
    again.ended_at = kNoTime;
    again.reason.clear();
    put_in_queue(unit.kv, unit.project, again);
    return true;
}

}  // namespace annal
