#include "runtime/plugin/service_count.h"

#include <chrono>
#include <vector>

#include "runtime/plugin/service_filter.h"
#include "runtime/plugin/service_task.h"

namespace annal {
namespace {

constexpr std::uint32_t kUniqueMax = 16;

using AggregateRows = std::vector<AggregateRow>;

Result<AggregateRequest> to_request(const Call& call, const annal_aggregation* what) {
    if (what == nullptr || what->struct_size < sizeof(annal_aggregation)) {
        return Error{Errc::invalid, "the aggregation's struct_size is shorter than the contract's"};
    }
    if (what->interval > ANNAL_INTERVAL_WEEK) {
        return Error{Errc::invalid, "the interval is neither none, hour, day nor week", "interval"};
    }
    if (what->n_unique > kUniqueMax || (what->n_unique > 0 && what->unique == nullptr)) {
        return Error{Errc::invalid, "at most 16 fields can be counted beside", "unique"};
    }
    AggregateRequest request;
    request.project = call.options().project;
    request.interval = static_cast<Interval>(what->interval);
    BOOST_OUTCOME_TRY(request.filter, to_filter(what->filter));
    if (what->group_by != 0) {
        BOOST_OUTCOME_TRY(request.group_by, to_column(what->group_by));
    }
    for (std::uint32_t i = 0; i < what->n_unique; ++i) {
        BOOST_OUTCOME_TRY(const Column column, to_column(what->unique[i]));
        request.unique.push_back(column);
    }
    return request;
}

static_assert(static_cast<std::uint32_t>(Interval::week) == ANNAL_INTERVAL_WEEK);
static_assert(kNoTime == ANNAL_TIME_NONE);

annal_aggregate_row to_abi(const AggregateRow& row, bool is_grouped) {
    const std::string_view key = row.key;
    return {
        row.start,
        is_grouped ? annal::to_abi(key) : annal_str{nullptr, 0},
        row.count,
        row.uniques.data()};
}

}  // namespace

void count_events(
    annal_ctx* ctx,
    annal_call* handle,
    const annal_filter* filter,
    void* user,
    annal_total_done done
) noexcept {
    const auto call = Call::share(handle);
    auto report = [call, user, done](Result<Total> outcome) noexcept {
        if (!outcome) {
            const annal_error error = to_abi(outcome.error());
            return done(user, nullptr, &error);
        }
        const Total& found = outcome.value();
        const annal_total total{sizeof(annal_total), found.exact ? 0U : 1U, found.count};
        done(user, &total, nullptr);
    };
    if (!call) return run_service(*ctx, failing<Total>(no_such_call()), std::move(report));
    auto converted = to_filter(filter);
    if (!converted) return run_service(*ctx, failing<Total>(converted.error()), std::move(report));
    HostEnvironment& environment = ctx->environment;
    const std::chrono::milliseconds budget(environment.limits->scan_budget_ms);
    run_service(
        *ctx,
        environment.store->count(call->options().project, std::move(converted).value(), budget),
        std::move(report)
    );
}

void aggregate_events(
    annal_ctx* ctx,
    annal_call* handle,
    const annal_aggregation* what,
    void* user,
    annal_aggregate_done done
) noexcept {
    const auto call = Call::share(handle);
    const bool is_grouped = what != nullptr && what->group_by != 0;
    auto report = [call, user, done, is_grouped](Result<AggregateRows> outcome) noexcept {
        if (!outcome) {
            const annal_error error = to_abi(outcome.error());
            return done(user, nullptr, &error);
        }
        std::vector<annal_aggregate_row> rows;
        rows.reserve(outcome.value().size());
        for (const AggregateRow& row : outcome.value()) rows.push_back(to_abi(row, is_grouped));
        const annal_aggregate table{
            sizeof(annal_aggregate),
            static_cast<std::uint32_t>(rows.size()),
            sizeof(annal_aggregate_row),
            0,
            rows.data()};
        done(user, &table, nullptr);
    };
    if (!call) return run_service(*ctx, failing<AggregateRows>(no_such_call()), std::move(report));
    auto request = to_request(*call, what);
    if (!request)
        return run_service(*ctx, failing<AggregateRows>(request.error()), std::move(report));
    run_service(
        *ctx, ctx->environment.store->aggregate(std::move(request).value()), std::move(report)
    );
}

}  // namespace annal
