#include "runtime/plugin/service_task.h"

namespace annal {
namespace {

void run(
    annal_ctx* ctx,
    annal_call* handle,
    const annal_export* request,
    const annal_response* response,
    void* user,
    annal_done done
) noexcept {
    const auto call = Call::share(handle);
    const auto& run_export = ctx->environment.run_export;
    if (call && run_export) return run_export(*call, *request, *response, user, done);
    const Error error =
        call ? Error{Errc::unavailable, "this node runs no exports"} : no_such_call();
    run_service(*ctx, failing<void>(error), report_to(call, user, done));
}

void tail(
    annal_ctx* ctx,
    annal_call* handle,
    const annal_tail* request,
    const annal_response* response,
    void* user,
    annal_done done
) noexcept {
    const auto call = Call::share(handle);
    const auto& run_tail = ctx->environment.run_tail;
    if (call && run_tail) return run_tail(*call, *request, *response, user, done);
    const Error error =
        call ? Error{Errc::unavailable, "this node runs no live tails"} : no_such_call();
    run_service(*ctx, failing<void>(error), report_to(call, user, done));
}

}  // namespace

const annal_export_v1 kExportService{sizeof(annal_export_v1), 0, &run, &tail};

}  // namespace annal
