#include <string>
#include <vector>

#include "runtime/core/json_text.h"
#include "runtime/core/limits.h"
#include "runtime/event/catalog.h"
#include "runtime/event/draft_check.h"
#include "runtime/event/event_json.h"
#include "runtime/plugin/service_catalog.h"
#include "runtime/plugin/service_kv.h"
#include "runtime/plugin/service_task.h"

namespace annal {
namespace {

/// What a unit borrows from: the call, or the codec's result, and what defaults were added.
struct UnitMemory {
    std::shared_ptr<const void> source;
    Arena arena;
};

std::string describe(std::uint32_t index, const Issue& issue) {
    return "event " + std::to_string(index) + ": " +
           (issue.pointer.empty() ? "" : issue.pointer + ": ") + issue.detail;
}

/// Checks the events that did not come out of the codec, and names everything that is wrong with
/// any of them.
Result<void> check_drafts(std::vector<EventDraft>& drafts, Arena& arena, bool strict) {
    Error error{Errc::unprocessable, {}, {}, 0};
    for (std::uint32_t i = 0; i < drafts.size(); ++i) {
        std::vector<Issue> issues = check_draft(drafts[i]);
        if (issues.empty() && strict) issues = Catalog::shipped().strict_check(drafts[i]);
        for (const Issue& issue : issues) {
            if (error.pointer.empty())
                error.pointer = "/events/" + std::to_string(i) + issue.pointer;
            // Text that is cut at 496 bytes anyway need not be gathered for 10 000 events.
            if (error.detail.size() < sizeof(annal_error::text)) {
                error.detail += (error.detail.empty() ? "" : "; ") + describe(i, issue);
            }
        }
        if (issues.empty()) apply_defaults(drafts[i], arena);
    }
    if (!error.pointer.empty()) return error;
    return ok();
}

Result<void> check_project(const Call& call, annal_str project, std::uint32_t index) {
    if (project.len == 0 || to_view(project) == call.options().project) return ok();
    return Error{
        Errc::unprocessable,
        "names another project than the call's",
        "/events/" + std::to_string(index) + "/project_id",
    };
}

Result<void> take_events(
    const annal_ctx& ctx, Call& call, const annal_batch& batch, AppendUnit& unit, UnitMemory& memory
) {
    if (batch.struct_size < sizeof(annal_batch) ||
        (batch.count > 0 && batch.stride < sizeof(annal_event))) {
        return Error{
            Errc::invalid, "the batch's struct_size or stride is shorter than the contract's"};
    }
    if (batch.count > kBatchEventsMax) {
        return Error{
            Errc::too_large, "at most " + std::to_string(kBatchEventsMax) + " events at once"};
    }
    unit.events.reserve(batch.count);
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        const annal_event& event = *ANNAL_AT(annal_event, batch.events, batch.stride, i);
        BOOST_OUTCOME_TRY(check_project(call, event.project_id, i));
        unit.events.push_back(to_draft(event));
    }
    memory.source = call.parsed_memory(batch.events, batch.stride, batch.count);
    if (memory.source) return ok();
    return check_drafts(
        unit.events, memory.arena, is_strict(ctx.environment.settings, unit.project)
    );
}

Result<AppendUnit> to_unit(
    const annal_ctx& ctx, const std::shared_ptr<Call>& call, const annal_append& request
) {
    if (request.struct_size < sizeof(annal_append)) {
        return Error{Errc::invalid, "the request's struct_size is shorter than the contract's"};
    }
    const bool has_events = request.batch != nullptr && request.batch->count > 0;
    if (!has_events && request.kv == nullptr)
        return Error{Errc::invalid, "there is nothing to append"};
    AppendUnit unit;
    unit.project = call->options().project;
    unit.request_key = to_view(request.request_key);
    if (!unit.request_key.empty()) {
        if (!is_utf8(unit.request_key)) {
            return Error{Errc::unprocessable, "must be UTF-8", "Idempotency-Key"};
        }
        const ColumnProblem problem = check_idempotency_key(unit.request_key);
        if (!problem.code.empty()) {
            return Error{Errc::unprocessable, std::string(problem.detail), "Idempotency-Key"};
        }
    }
    if (has_events) {
        auto memory = std::make_shared<UnitMemory>();
        BOOST_OUTCOME_TRY(take_events(ctx, *call, *request.batch, unit, *memory));
        if (!memory->source) memory->source = call;
        unit.memory = std::move(memory);
    }
    if (request.kv != nullptr) {
        if (!ctx.permissions.kv)
            return Error{Errc::denied, "the manifest does not permit kv to this instance"};
        BOOST_OUTCOME_TRY(unit.kv, to_kv_ops(ctx, *call, *request.kv));
    }
    return unit;
}

void append(
    annal_ctx* ctx,
    annal_call* handle,
    const annal_append* request,
    void* user,
    annal_append_done done
) noexcept {
    const auto call = Call::share(handle);
    auto report = [call, user, done](AppendOutcome outcome) noexcept {
        if (!outcome) {
            const annal_error error = to_abi(outcome.error());
            return done(user, nullptr, &error);
        }
        const std::vector<Receipt>& receipts = outcome.value();
        std::vector<std::string> ids;
        std::vector<annal_receipt> rows;
        ids.reserve(receipts.size());
        rows.reserve(receipts.size());
        for (const Receipt& receipt : receipts) {
            ids.push_back(receipt.id.text());
            rows.push_back(
                {to_abi(std::string_view(ids.back())),
                 receipt.seq,
                 receipt.created_at,
                 receipt.replayed ? 1U : 0U,
                 0}
            );
        }
        const annal_receipts table{
            sizeof(annal_receipts),
            static_cast<std::uint32_t>(rows.size()),
            sizeof(annal_receipt),
            0,
            rows.data()};
        done(user, &table, nullptr);
    };
    using Receipts = std::vector<Receipt>;
    if (!call) return run_service(*ctx, failing<Receipts>(no_such_call()), std::move(report));
    if (request == nullptr) {
        return run_service(
            *ctx, failing<Receipts>({Errc::invalid, "no request was given"}), std::move(report)
        );
    }
    auto unit = to_unit(*ctx, call, *request);
    if (!unit) return run_service(*ctx, failing<Receipts>(unit.error()), std::move(report));
    run_service(
        *ctx, ctx->environment.appender->append(std::move(unit).value()), std::move(report)
    );
}

}  // namespace

const annal_bus_v1 kBusService{sizeof(annal_bus_v1), 0, &append};

}  // namespace annal
