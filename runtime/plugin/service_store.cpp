#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "runtime/core/json_text.h"
#include "runtime/plugin/service_count.h"
#include "runtime/plugin/service_filter.h"
#include "runtime/plugin/service_retention.h"
#include "runtime/plugin/service_task.h"

namespace annal {
namespace {

constexpr std::size_t kReasonBytesMax = 1024;
constexpr std::int64_t kFilteredSkipMax = 100'000;
constexpr std::size_t kQuerySize10 = offsetof(annal_query, skip);  // before 1.3

/// One list request, taken over from the plugin's memory.
struct Query {
    Filter filter;
    std::optional<Seq> after;
    std::uint32_t limit = 0;
    bool newest_first = true;
    std::int64_t skip = 0;
};

/// The rows of one answer with the memory of their text.
struct Page {
    std::vector<EventBatch> batches;
    std::vector<const Event*> rows;
    std::string next_cursor;  ///< empty: nothing follows
};

Result<void> check_skip(const annal_query& query, const Query& taken) {
    if (query.skip == 0) return ok();
    if (query.skip < 0 || taken.after || !taken.newest_first) {
        return Error{
            Errc::invalid, "skip must be 0 and more, without a cursor, newest first", "skip"};
    }
    if (query.skip > kFilteredSkipMax && !taken.filter.only_created_at()) {
        return Error{
            Errc::too_large,
            "at most 100000 events can be passed over when there is a filter; narrow it, or list "
            "with a cursor",
            "skip"};
    }
    return ok();
}

Result<Query> to_query(const annal_ctx& ctx, const Call& call, const annal_query* query) {
    if (query == nullptr || query->struct_size < kQuerySize10) {
        return Error{Errc::invalid, "the query's struct_size is shorter than the contract's"};
    }
    if (query->limit < 1 || query->limit > kPageMax) {
        return Error{Errc::invalid, "limit must be 1 to " + std::to_string(kPageMax), "limit"};
    }
    if (query->order != ANNAL_NEWEST_FIRST && query->order != ANNAL_OLDEST_FIRST) {
        return Error{Errc::invalid, "the order is neither newest nor oldest first", "order"};
    }
    Query out;
    BOOST_OUTCOME_TRY(out.filter, to_filter(query->filter));
    out.limit = query->limit;
    out.newest_first = query->order == ANNAL_NEWEST_FIRST;
    if (query->cursor.ptr != nullptr) {
        BOOST_OUTCOME_TRY(
            const Seq after,
            ctx.environment.cursors->open(
                to_view(query->cursor), call.options().project, out.filter, out.newest_first
            )
        );
        out.after = after;
    }
    if (ANNAL_HAS(query, annal_query, skip)) {
        BOOST_OUTCOME_TRYV(check_skip(*query, out));
        out.skip = query->skip;
    }
    return out;
}

/// Reads until the page is full and one more row is known to follow, nothing follows, or the time
/// is used up.
Task<Result<Page>> scan_page(
    HostEnvironment& environment, std::shared_ptr<Call> call, Query query
) {
    const std::string& project = call->options().project;
    const std::int64_t budget_us = std::int64_t{environment.limits->scan_budget_ms} * 1000;
    const std::int64_t end_us = environment.clock->monotonic_us() + budget_us;
    Page page;
    std::optional<Seq> after = query.after;
    if (query.skip > 0) {
        const std::chrono::milliseconds budget(environment.limits->scan_budget_ms);
        auto begin = co_await environment.store->seek(project, query.filter, query.skip, budget);
        if (!begin) co_return std::move(begin).error();
        if (begin.value() == kNoSeq) co_return page;
        after = begin.value();
    }
    while (true) {
        ScanRequest request;
        request.project = project;
        request.filter = query.filter;
        request.newest_first = query.newest_first;
        request.after = after;
        request.limit = std::min<std::uint32_t>(
            kPageMax, query.limit + 1 - static_cast<std::uint32_t>(page.rows.size())
        );
        const std::int64_t left_us = end_us - environment.clock->monotonic_us();
        request.budget = std::chrono::milliseconds(std::max<std::int64_t>(left_us / 1000, 1));
        auto scanned = co_await environment.store->scan(std::move(request));
        if (!scanned) co_return std::move(scanned).error();

        ScanPage& found = scanned.value();
        for (const Event& event : found.batch.events) page.rows.push_back(&event);
        if (!found.batch.events.empty()) page.batches.push_back(std::move(found.batch));
        if (page.rows.size() > query.limit) {
            page.rows.resize(query.limit);
            page.next_cursor = environment.cursors->seal(
                project, query.filter, query.newest_first, page.rows.back()->seq
            );
            break;
        }
        if (found.exhausted) break;
        if (found.scanned == after) {
            co_return Error{Errc::internal, "the store's scan does not move on"};
        }
        after = found.scanned;
        if (environment.clock->monotonic_us() >= end_us) {
            page.next_cursor =
                environment.cursors->seal(project, query.filter, query.newest_first, *after);
            break;
        }
        if (call->cancelled()) co_return Error{Errc::cancelled, "the call was given up"};
    }
    co_return page;
}

Task<Result<Page>> get_page(HostEnvironment& environment, std::string project, std::string id) {
    const auto parsed = EventId::parse(id);
    if (!parsed) co_return Error{Errc::not_found, "no event has this id"};
    auto batch = co_await environment.store->get(std::move(project), *parsed);
    if (!batch) co_return std::move(batch).error();
    Page page;
    page.batches.push_back(std::move(batch).value());
    page.rows.push_back(&page.batches.front().events.front());
    co_return page;
}

auto report_page(std::shared_ptr<Call> call, void* user, annal_page_done done) {
    return [call = std::move(call), user, done](Result<Page> outcome) noexcept {
        if (!outcome) {
            const annal_error error = to_abi(outcome.error());
            return done(user, nullptr, &error);
        }
        const Page& found = outcome.value();
        BatchView view(call->options().project, found.rows.size());
        for (const Event* event : found.rows) view.add(*event);
        annal_page page{
            sizeof(annal_page), found.next_cursor.empty() ? 0U : 1U, view.get(), {nullptr, 0}};
        if (page.has_more != 0) page.next_cursor = to_abi(std::string_view(found.next_cursor));
        done(user, &page, nullptr);
    };
}

void scan(
    annal_ctx* ctx, annal_call* handle, const annal_query* query, void* user, annal_page_done done
) noexcept {
    const auto call = Call::share(handle);
    auto report = report_page(call, user, done);
    if (!call) return run_service(*ctx, failing<Page>(no_such_call()), std::move(report));
    auto converted = to_query(*ctx, *call, query);
    if (!converted) return run_service(*ctx, failing<Page>(converted.error()), std::move(report));
    run_service(
        *ctx, scan_page(ctx->environment, call, std::move(converted).value()), std::move(report)
    );
}

void get(
    annal_ctx* ctx, annal_call* handle, annal_str id, void* user, annal_page_done done
) noexcept {
    const auto call = Call::share(handle);
    auto report = report_page(call, user, done);
    if (!call) return run_service(*ctx, failing<Page>(no_such_call()), std::move(report));
    run_service(
        *ctx,
        get_page(ctx->environment, call->options().project, std::string(to_view(id))),
        std::move(report)
    );
}

void actions(
    annal_ctx* ctx, annal_call* handle, std::int64_t since_us, void* user, annal_actions_done done
) noexcept {
    const auto call = Call::share(handle);
    auto report = [call, user, done](Result<std::vector<ActionCount>> outcome) noexcept {
        if (!outcome) {
            const annal_error error = to_abi(outcome.error());
            return done(user, nullptr, &error);
        }
        std::vector<annal_action_count> rows;
        rows.reserve(outcome.value().size());
        for (const ActionCount& row : outcome.value()) {
            rows.push_back({to_abi(std::string_view(row.action)), row.count, row.last_seen});
        }
        const annal_actions table{
            sizeof(annal_actions),
            static_cast<std::uint32_t>(rows.size()),
            sizeof(annal_action_count),
            0,
            rows.data()};
        done(user, &table, nullptr);
    };
    using Rows = std::vector<ActionCount>;
    if (!call) return run_service(*ctx, failing<Rows>(no_such_call()), std::move(report));
    run_service(
        *ctx,
        ctx->environment.store->action_counts(call->options().project, since_us),
        std::move(report)
    );
}

void log_state(annal_ctx* ctx, annal_call* handle, void* user, annal_log_state_done done) noexcept {
    const auto call = Call::share(handle);
    auto report = [call, user, done](Result<LogState> outcome) noexcept {
        if (!outcome) {
            const annal_error error = to_abi(outcome.error());
            return done(user, nullptr, &error);
        }
        const LogState& state = outcome.value();
        const annal_log_state out{
            sizeof(annal_log_state), 0, state.first_seq, state.head_seq, state.head_at};
        done(user, &out, nullptr);
    };
    if (!call) return run_service(*ctx, failing<LogState>(no_such_call()), std::move(report));
    run_service(
        *ctx, ctx->environment.store->log_state(call->options().project), std::move(report)
    );
}

/// The text of an audit_log.entry.deleted event.
struct Erasure {
    std::string actor_type, actor_id, target_id, metadata;
};

AppendUnit erase_unit(
    const Call& call, const Event& event, const std::optional<std::string>& reason
) {
    auto text = std::make_shared<Erasure>();
    text->actor_type = call.options().actor_type;
    text->actor_id = call.options().actor_id;
    text->target_id = event.id.text();
    text->metadata = "{\"seq\":" + std::to_string(event.seq);
    if (reason) {
        text->metadata += ",\"reason\":";
        append_json_string(text->metadata, *reason);
    }
    text->metadata += '}';

    EventDraft draft;
    draft[Column::action] = "audit_log.entry.deleted";
    draft[Column::actor_type] = text->actor_type;
    if (!text->actor_id.empty()) draft[Column::actor_id] = text->actor_id;
    draft[Column::auth_type] = text->actor_type;
    draft[Column::target_type] = "audit_event";
    draft[Column::target_id] = text->target_id;
    draft[Column::metadata] = text->metadata;

    AppendUnit unit;
    unit.project = call.options().project;
    unit.events.push_back(draft);
    unit.erase.push_back(event.seq);
    unit.kv.push_back(Settings::unless_held(unit.project));
    unit.memory = std::move(text);
    return unit;
}

Task<Result<void>> erase_event(
    HostEnvironment& environment,
    std::shared_ptr<Call> call,
    std::string id,
    std::optional<std::string> reason
) {
    const auto parsed = EventId::parse(id);
    if (!parsed) co_return Error{Errc::not_found, "no event has this id"};
    const std::string& project = call->options().project;
    auto batch = co_await environment.store->get(project, *parsed);
    if (!batch) co_return std::move(batch).error();
    AppendUnit unit = erase_unit(*call, batch.value().events.front(), reason);
    auto outcome = co_await environment.appender->append(std::move(unit));
    // The one precondition that it has.
    if (!outcome && outcome.error().code == Errc::conflict) co_return Settings::held(project);
    if (!outcome) co_return std::move(outcome).error();
    co_return ok();
}

void erase(
    annal_ctx* ctx, annal_call* handle, annal_str id, annal_str reason, void* user, annal_done done
) noexcept {
    const auto call = Call::share(handle);
    auto report = report_to(call, user, done);
    if (!call) return run_service(*ctx, failing<void>(no_such_call()), std::move(report));
    std::optional<std::string> why;
    if (reason.ptr != nullptr) why.emplace(to_view(reason));
    if (why &&
        (why->size() > kReasonBytesMax || !is_utf8(*why) || why->find('\0') != std::string::npos)) {
        const Error error{
            Errc::unprocessable, "must be UTF-8 of at most 1024 bytes without U+0000", "reason"};
        return run_service(*ctx, failing<void>(error), std::move(report));
    }
    run_service(
        *ctx,
        erase_event(ctx->environment, call, std::string(to_view(id)), std::move(why)),
        std::move(report)
    );
}

}  // namespace

const annal_store_v1 kStoreService{
    sizeof(annal_store_v1),
    0,
    &scan,
    &get,
    &actions,
    &log_state,
    nullptr,
    &count_events,
    &aggregate_events,
    nullptr};
const annal_store_v1 kStoreServiceErasing{
    sizeof(annal_store_v1),
    0,
    &scan,
    &get,
    &actions,
    &log_state,
    &erase,
    &count_events,
    &aggregate_events,
    &clean_up_events};

}  // namespace annal
