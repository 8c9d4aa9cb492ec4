#include "runtime/plugin/service_retention.h"
#include <cstddef>

#include "runtime/plugin/retention_port.h"
#include "runtime/plugin/service_task.h"

namespace annal {
namespace {

/// 0 stands for what the node's settings say.
RetentionPolicy to_policy(const annal_retention_policy& from, const RetentionPolicy& defaults) {
    RetentionPolicy policy = defaults;
    if (from.months != 0) policy.months = from.months;
    if (from.forward_months != 0) policy.forward_months = from.forward_months;
    policy.unread_days = from.unread_days;
    policy.archive = to_view(from.archive);
    if (from.struct_size >= sizeof(from)) policy.archive_to = to_view(from.archive_to);
    return policy;
}

annal_status declare(
    annal_ctx* ctx, const annal_retention_policy* policy, annal_error* error
) noexcept {
    const auto fail = [error](const Error& why) {
        if (error != nullptr) *error = to_abi(why);
        return static_cast<annal_status>(why.code);
    };
    if (policy == nullptr || policy->struct_size < offsetof(annal_retention_policy, archive_to))
        return fail({Errc::invalid, "the policy's struct_size is shorter than the contract's"});
    if (!ctx->creating) return fail({Errc::invalid, "a policy is declared in create only"});
    RetentionPort& retention = *ctx->environment.retention;
    const auto declared =
        retention.declare(ctx->instance, to_policy(*policy, retention.defaults()));
    return declared ? ANNAL_OK : fail(declared.error());
}

void run(
    annal_ctx* ctx, annal_call* handle, std::int32_t dry_run, void* user, annal_retention_done done
) noexcept {
    const auto call = Call::share(handle);
    auto report = [call, user, done](Result<std::string> outcome) noexcept {
        if (!outcome) {
            const annal_error error = to_abi(outcome.error());
            return done(user, {nullptr, 0}, &error);
        }
        done(user, to_abi(std::string_view(outcome.value())), nullptr);
    };
    if (!call) return run_service(*ctx, failing<std::string>(no_such_call()), std::move(report));
    auto is_over = [call] { return call->cancelled(); };
    run_service(
        *ctx, ctx->environment.retention->run(dry_run != 0, std::move(is_over)), std::move(report)
    );
}

}  // namespace

void clean_up_events(
    annal_ctx* ctx, annal_call* handle, void* user, annal_cleanup_done done
) noexcept {
    const auto call = Call::share(handle);
    auto report = [call, user, done](Result<Cleanup> outcome) noexcept {
        if (!outcome) {
            const annal_error error = to_abi(outcome.error());
            return done(user, nullptr, &error);
        }
        const Cleanup& made = outcome.value();
        const annal_cleanup cleanup{sizeof(annal_cleanup), made.days, made.deleted, made.cutoff};
        done(user, &cleanup, nullptr);
    };
    if (!call) return run_service(*ctx, failing<Cleanup>(no_such_call()), std::move(report));
    RetentionPort* retention = ctx->environment.retention;
    if (retention == nullptr) {
        const Error none{Errc::unsupported, "this host keeps no retention"};
        return run_service(*ctx, failing<Cleanup>(none), std::move(report));
    }
    const Call::Options& options = call->options();
    Actor actor{options.actor_type, options.actor_id};
    run_service(*ctx, retention->clean_up(options.project, std::move(actor)), std::move(report));
}

const annal_retention_v1 kRetentionService{sizeof(annal_retention_v1), 0, &declare, &run};

}  // namespace annal
