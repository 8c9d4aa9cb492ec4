#include "runtime/plugin/service_kv.h"

#include <algorithm>
#include <string>

#include "runtime/plugin/service_task.h"

namespace annal {
namespace {

constexpr std::size_t kKeyBytesMax = 512;
constexpr std::size_t kValueBytesMax = 64U << 10;
constexpr std::size_t kTotalBytesMax = 8U << 20;
constexpr std::uint32_t kOpsMax = 10'000;
constexpr std::uint32_t kRowsMax = 1'000;

bool is_precondition(const KvOp& op) {
    return op.kind == KvOp::Kind::require_absent || op.kind == KvOp::Kind::require_equals;
}

Result<KvOp::Kind> to_kind(std::uint32_t kind) {
    switch (kind) {
        case ANNAL_KV_PUT:
            return KvOp::Kind::put;
        case ANNAL_KV_ERASE:
            return KvOp::Kind::erase;
        case ANNAL_KV_ABSENT:
            return KvOp::Kind::require_absent;
        case ANNAL_KV_EQUALS:
            return KvOp::Kind::require_equals;
        default:
            return Error{Errc::invalid, "unknown kind of kv operation: " + std::to_string(kind)};
    }
}

Result<KvOp> to_kv_op(const annal_ctx& ctx, const Call& call, const annal_kv_op& op) {
    BOOST_OUTCOME_TRY(const KvOp::Kind kind, to_kind(op.kind));
    if (op.key.ptr == nullptr || op.key.len == 0 || op.key.len > kKeyBytesMax) {
        return Error{Errc::invalid, "a key has 1 to 512 bytes"};
    }
    if (op.value.len > kValueBytesMax) return Error{Errc::too_large, "a value has at most 64 KiB"};
    KvOp out{kind, ctx.kv_space, call.options().project, std::string(to_view(op.key)), {}};
    if (op.value.ptr != nullptr)
        out.value.assign(reinterpret_cast<const char*>(op.value.ptr), op.value.len);
    return out;
}

struct Rows {
    std::vector<KvRow> rows;
    bool has_more = false;
};

Task<Result<Rows>> scan_rows(
    HostEnvironment& environment,
    std::string space,
    std::string project,
    std::string prefix,
    std::string after,
    std::uint32_t limit
) {
    // One row more tells whether any follow.
    auto found = co_await environment.store->kv_scan(
        std::move(space), std::move(project), std::move(prefix), std::move(after), limit + 1
    );
    if (!found) co_return std::move(found).error();
    Rows out;
    out.rows = std::move(found).value();
    out.has_more = out.rows.size() > limit;
    if (out.has_more) out.rows.resize(limit);
    co_return out;
}

Task<Result<void>> commit_ops(
    HostEnvironment& environment, std::string project, std::vector<KvOp> ops
) {
    AppendUnit unit;
    unit.project = std::move(project);
    unit.kv = std::move(ops);
    auto outcome = co_await environment.appender->append(std::move(unit));
    if (!outcome) co_return std::move(outcome).error();
    co_return ok();
}

void scan(
    annal_ctx* ctx,
    annal_call* handle,
    annal_str prefix,
    annal_str after,
    std::uint32_t limit,
    void* user,
    annal_kv_done done
) noexcept {
    const auto call = Call::share(handle);
    auto report = [call, user, done](Result<Rows> outcome) noexcept {
        if (!outcome) {
            const annal_error error = to_abi(outcome.error());
            return done(user, nullptr, &error);
        }
        std::vector<annal_kv_row> rows;
        rows.reserve(outcome.value().rows.size());
        for (const KvRow& row : outcome.value().rows) {
            const auto* value = reinterpret_cast<const std::uint8_t*>(row.value.data());
            rows.push_back({to_abi(std::string_view(row.key)), {value, row.value.size()}});
        }
        const annal_kv_rows table{
            sizeof(annal_kv_rows),
            static_cast<std::uint32_t>(rows.size()),
            sizeof(annal_kv_row),
            outcome.value().has_more ? 1U : 0U,
            rows.data(),
        };
        done(user, &table, nullptr);
    };
    if (!call) return run_service(*ctx, failing<Rows>(no_such_call()), std::move(report));
    if (limit < 1 || limit > kRowsMax || prefix.len > kKeyBytesMax || after.len > kKeyBytesMax) {
        const Error error{
            Errc::invalid, "limit must be 1 to 1000, prefix and after at most 512 bytes"};
        return run_service(*ctx, failing<Rows>(error), std::move(report));
    }
    run_service(
        *ctx,
        scan_rows(
            ctx->environment,
            ctx->kv_space,
            call->options().project,
            std::string(to_view(prefix)),
            std::string(to_view(after)),
            limit
        ),
        std::move(report)
    );
}

void commit(
    annal_ctx* ctx, annal_call* handle, const annal_kv_ops* ops, void* user, annal_done done
) noexcept {
    const auto call = Call::share(handle);
    auto report = report_to(call, user, done);
    if (!call) return run_service(*ctx, failing<void>(no_such_call()), std::move(report));
    if (ops == nullptr) {
        return run_service(
            *ctx, failing<void>({Errc::invalid, "no operations were given"}), std::move(report)
        );
    }
    auto converted = to_kv_ops(*ctx, *call, *ops);
    if (!converted) return run_service(*ctx, failing<void>(converted.error()), std::move(report));
    run_service(
        *ctx,
        commit_ops(ctx->environment, call->options().project, std::move(converted).value()),
        std::move(report)
    );
}

}  // namespace

Result<std::vector<KvOp>> to_kv_ops(
    const annal_ctx& ctx, const Call& call, const annal_kv_ops& ops
) {
    if (ops.struct_size < sizeof(annal_kv_ops) ||
        (ops.count > 0 && ops.stride < sizeof(annal_kv_op))) {
        return Error{
            Errc::invalid,
            "the kv operations' struct_size or stride is shorter than the contract's"};
    }
    if (ops.count > kOpsMax) return Error{Errc::invalid, "at most 10000 kv operations at once"};
    std::vector<KvOp> out;
    out.reserve(ops.count);
    std::size_t bytes = 0;
    for (std::uint32_t i = 0; i < ops.count; ++i) {
        BOOST_OUTCOME_TRY(
            KvOp op, to_kv_op(ctx, call, *ANNAL_AT(annal_kv_op, ops.ops, ops.stride, i))
        );
        bytes += op.key.size() + op.value.size();
        if (bytes > kTotalBytesMax)
            return Error{Errc::too_large, "kv operations have at most 8 MiB together"};
        out.push_back(std::move(op));
    }
    std::stable_partition(out.begin(), out.end(), is_precondition);
    return out;
}

const annal_kv_v1 kKvService{sizeof(annal_kv_v1), 0, &scan, &commit};

}  // namespace annal
