#include <boost/asio/post.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/plugin/http_client.h"
#include "runtime/plugin/service_task.h"

namespace annal {
namespace {

OutboundRequest to_request(const annal_ctx& ctx, const annal_client_request& request) {
    OutboundRequest out;
    out.method = to_view(request.method);
    out.url = to_view(request.url);
    for (std::uint32_t i = 0; i < request.n_headers; ++i) {
        out.headers.emplace_back(
            to_view(request.headers[i].key), to_view(request.headers[i].value)
        );
    }
    if (request.body.ptr != nullptr) {
        out.body = {reinterpret_cast<const char*>(request.body.ptr), request.body.len};
    }
    out.timeout_ms = request.timeout_ms;
    out.response_bytes_max = request.response_bytes_max;
    out.allowed = ctx.permissions.http;
    return out;
}

void report(const Result<OutboundResponse>& outcome, void* user, annal_client_done done) noexcept {
    if (!outcome) {
        const annal_error error = to_abi(outcome.error());
        return done(user, nullptr, &error);
    }
    const OutboundResponse& response = outcome.value();
    std::vector<annal_pair> headers;
    headers.reserve(response.headers.size());
    for (const auto& [name, value] : response.headers) {
        headers.push_back({to_abi(std::string_view(name)), to_abi(std::string_view(value))});
    }
    const annal_client_response out{
        sizeof(annal_client_response),
        static_cast<std::uint32_t>(response.status),
        headers.data(),
        static_cast<std::uint32_t>(headers.size()),
        response.truncated ? 1U : 0U,
        {reinterpret_cast<const std::uint8_t*>(response.body.data()), response.body.size()},
    };
    done(user, &out, nullptr);
}

/// `handle` may be NULL: a sink has no call of its own.
void send(
    annal_ctx* ctx,
    annal_call* handle,
    const annal_client_request* request,
    void* user,
    annal_client_done done
) noexcept {
    const auto call = Call::share(handle);
    const boost::asio::any_io_executor executor = *ctx->environment.executor;
    HttpClient::Done finish = [executor, call, user, done](Result<OutboundResponse> outcome) {
        auto kept = std::make_shared<Result<OutboundResponse>>(std::move(outcome));
        boost::asio::post(executor, [kept, call, user, done] { report(*kept, user, done); });
    };
    if (handle != nullptr && !call) return finish(no_such_call());
    if (request == nullptr || request->struct_size < sizeof(annal_client_request)) {
        return finish(Error{
            Errc::invalid, "the request's struct_size is shorter than the contract's"});
    }
    OutboundRequest out = to_request(*ctx, *request);
    if (call) out.cancelled = [call] { return call->cancelled(); };
    ctx->environment.http_client->send(std::move(out), std::move(finish));
}

}  // namespace

const annal_http_client_v1 kHttpClientService{sizeof(annal_http_client_v1), 0, &send};

}  // namespace annal
