#include "runtime/plugin/service_task.h"

namespace annal {
namespace {

/// Hands a request on to the part of the host that answers it, or says that there is none.
template <class Request, class Handler>
void pass_on(
    annal_ctx* ctx,
    annal_call* handle,
    const Request* request,
    const annal_response* response,
    void* user,
    annal_done done,
    const Handler& handler,
    const char* absent
) noexcept {
    const auto call = Call::share(handle);
    if (call && handler) return handler(*call, *request, *response, user, done);
    const Error error = call ? Error{Errc::unavailable, absent} : no_such_call();
    run_service(*ctx, failing<void>(error), report_to(call, user, done));
}

void run(
    annal_ctx* ctx,
    annal_call* call,
    const annal_export* request,
    const annal_response* response,
    void* user,
    annal_done done
) noexcept {
    const auto& handler = ctx->environment.run_export;
    pass_on(ctx, call, request, response, user, done, handler, "this node runs no exports");
}

void tail(
    annal_ctx* ctx,
    annal_call* call,
    const annal_tail* request,
    const annal_response* response,
    void* user,
    annal_done done
) noexcept {
    const auto& handler = ctx->environment.run_tail;
    pass_on(ctx, call, request, response, user, done, handler, "this node runs no live tails");
}

}  // namespace

const annal_export_v1 kExportService{sizeof(annal_export_v1), 0, &run, &tail};

}  // namespace annal
