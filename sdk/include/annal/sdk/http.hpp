#pragma once

#include <annal/sdk/call.hpp>
#include <annal/sdk/component.hpp>
#include <annal/sdk/problem.hpp>
#include <annal/sdk/problem_json.hpp>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace annal::inline sdk_v1 {

/// A piece of a request's body. `end()` when there is no more; check `ok()` first.
class Chunk {
public:
    Chunk(annal_status code, std::string_view bytes) : code_(code), bytes_(bytes) {}
    [[nodiscard]] bool ok() const { return code_ == ANNAL_OK; }
    [[nodiscard]] bool end() const { return bytes_.empty(); }
    /// Valid until the next read.
    [[nodiscard]] std::string_view bytes() const { return bytes_; }
    [[nodiscard]] Status status() const {
        switch (code_) {
            case ANNAL_OK:
                return {};
            case ANNAL_TOO_LARGE:
                return {code_, "the request body is larger than the server takes"};
            case ANNAL_INVALID:
                return {code_, "the request body's encoding is broken"};
            case ANNAL_TIMEOUT:
                return {code_, "the request body did not arrive in time"};
            case ANNAL_UNAVAILABLE:
                return {code_, "the node's memory for request bodies is used up; try again"};
            default:
                return {code_, "the request body could not be read"};
        }
    }

private:
    annal_status code_;
    std::string_view bytes_;
};

/// What came in. Everything is borrowed for the time of the call.
class Request {
public:
    Request(const Host& host, annal_call* call, const annal_request& raw)
        : call_(host, call), raw_(raw) {}
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;

    /// The call and with it the services.
    [[nodiscard]] const Call& call() const { return call_; }
    [[nodiscard]] std::string_view trigger() const { return view(raw_.trigger); }
    [[nodiscard]] std::string_view method() const { return view(raw_.method); }
    [[nodiscard]] std::string_view path() const { return view(raw_.path); }
    [[nodiscard]] std::string_view project() const { return view(raw_.project_id); }
    [[nodiscard]] std::string_view request_id() const { return view(raw_.request_id); }
    /// -1: not stated.
    [[nodiscard]] std::int64_t content_length() const { return raw_.content_length; }
    /// The first header of this name, in lower case.
    [[nodiscard]] std::optional<std::string_view> header(std::string_view lower_case_name) const {
        return find(raw_.headers, raw_.n_headers, lower_case_name);
    }
    [[nodiscard]] std::span<const annal_pair> headers() const {
        return {raw_.headers, raw_.n_headers};
    }
    /// Decoded, in order of arrival, duplicates kept.
    [[nodiscard]] std::span<const annal_pair> query() const { return {raw_.query, raw_.n_query}; }
    /// Of the route's {name}; empty when it has none of this name.
    [[nodiscard]] std::string_view param(std::string_view name) const {
        return find(raw_.params, raw_.n_params, name).value_or(std::string_view());
    }
    /// The next piece of the body.
    [[nodiscard]] auto read() const {
        auto start = [this](auto& op) {
            using Op = std::remove_reference_t<decltype(op)>;
            raw_.read(raw_.r, &op, [](void* user, annal_status status, annal_bytes chunk) noexcept {
                static_cast<Op*>(user)->settle([&] { return Chunk(status, view(chunk)); });
            });
        };
        return detail::Operation<Chunk, decltype(start)>(start);
    }
    [[nodiscard]] const annal_request& raw() const { return raw_; }

private:
    [[nodiscard]] static std::optional<std::string_view> find(
        const annal_pair* pairs, std::uint32_t count, std::string_view name
    ) {
        for (std::uint32_t i = 0; i < count; ++i) {
            if (view(pairs[i].key) == name) {
                return view(pairs[i].value);
            }
        }
        return std::nullopt;
    }

    Call call_;
    const annal_request& raw_;
};

/// Headers of an answer. Borrows names and values until the answer has started.
class Headers {
public:
    Headers& add(std::string_view name, std::string_view value) {
        pairs_.push_back(annal_pair{to_str(name), to_str(value)});
        return *this;
    }
    [[nodiscard]] const std::vector<annal_pair>& pairs() const { return pairs_; }

private:
    std::vector<annal_pair> pairs_;
};

/// The answer. Either `send`, or `fail`, or `start`, any number of `write`, and `finish`.
class Response {
public:
    Response(const annal_response& raw, annal_str request_id)
        : raw_(raw), request_id_(request_id) {}
    Response(const Response&) = delete;
    Response& operator=(const Response&) = delete;

    [[nodiscard]] bool started() const { return started_; }
    [[nodiscard]] bool finished() const { return finished_; }
    [[nodiscard]] const annal_response& raw() const { return raw_; }

    /// Status and headers, once.
    Status start(std::uint32_t status, const Headers& headers) {
        const auto& pairs = headers.pairs();
        const annal_status code =
            raw_.start(raw_.r, status, pairs.data(), static_cast<std::uint32_t>(pairs.size()));
        started_ = started_ || code == ANNAL_OK;
        return code == ANNAL_OK ? Status() : Status(code, "the response could not be started");
    }
    /// Returns when the peer has taken enough of `bytes` for more to come; they are borrowed until
    /// then. False, here and below: the client is gone.
    [[nodiscard]] auto write(std::string_view bytes) {
        auto start = [this, bytes](auto& op) {
            raw_.write(raw_.r, to_bytes(bytes), &op, on_done(op));
        };
        return detail::Operation<bool, decltype(start)>(start);
    }
    [[nodiscard]] auto finish() {
        auto start = [this](auto& op) {
            finished_ = true;
            raw_.finish(raw_.r, nullptr, 0, &op, on_done(op));
        };
        return detail::Operation<bool, decltype(start)>(start);
    }
    /// An error document in the form of this component. Only before `start`.
    [[nodiscard]] auto fail(const Problem& problem) {
        auto start = [this, &problem, raw = annal_problem{}](auto& op) mutable {
            started_ = finished_ = true;
            raw = problem.raw(request_id_);
            raw_.fail(raw_.r, &raw, &op, on_done(op));
        };
        return detail::Operation<bool, decltype(start)>(start);
    }
    /// start, write and finish in one go.
    Task<bool> send(std::uint32_t status, const Headers& headers, std::string_view body) {
        bool fine = start(status, headers).ok();
        if (fine && !body.empty()) {
            fine = co_await write(body);
        }
        if (fine) {
            fine = co_await finish();
        }
        // The client's going away is no defect of the handler.
        finished_ = started_;
        co_return fine;
    }
    Task<bool> send(std::uint32_t status, std::string_view content_type, std::string_view body) {
        Headers headers;
        headers.add("content-type", content_type);
        co_return co_await send(status, headers, body);
    }
    /// For answers that another function has given wholly, an export for one.
    void mark_answered() { started_ = finished_ = true; }

private:
    template <class Op>
    [[nodiscard]] static annal_done on_done(Op&) {
        return [](void* user, const annal_error* error) noexcept {
            static_cast<Op*>(user)->settle([&] { return error == nullptr; });
        };
    }

    const annal_response& raw_;
    annal_str request_id_;
    bool started_ = false, finished_ = false;
};

/// Answers HTTP requests that the manifest's triggers route here. An author's class has:
///
///     static constexpr auto kName = "acme";
///     static auto config() { return std::tuple{…}; }                                     optional
///     static constexpr const char* kOpenapi = annal::kOpenapiYaml;                       optional:
///     what its routes are, from the openapi.yaml beside its CMakeLists.txt
///     annal::Status open();                                                              optional
///     annal::Task<> handle(annal::Request&, annal::Response&);
///     std::string_view render_problem(const annal_problem&, annal::Buffer&);             optional:
///     errors in the product's own
///                                                                                        form;
///                                                                                        returns
///                                                                                        the
///                                                                                        content
///                                                                                        type
///
/// An exception in `handle`, or a response that is not finished when it ends, is a 500, or cuts the
/// connection when the response has started. Threads: any number of calls at once for one instance.
class HttpHandler : public Component {};

namespace detail {

template <class T>
struct HttpThunks {
    static_assert(
        requires(T & t, Request& q, Response& r) {
            { t.handle(q, r) } -> std::same_as<Task<void>>;
        },
        "annal: a handler needs a public `annal::Task<> handle(annal::Request&, annal::Response&)`"
    );
    static constexpr bool kRenders = requires { &T::render_problem; };
    static_assert(
        !kRenders ||
            requires(T & t, const annal_problem& p, Buffer& b) {
                { t.render_problem(p, b) } -> std::same_as<std::string_view>;
            },
        "annal: render_problem must be a public `std::string_view render_problem(const "
        "annal_problem&, annal::Buffer&)`"
    );

    static void handle(
        void* self, annal_call* call, const annal_request* request, const annal_response* response
    ) noexcept {
        T& handler = *static_cast<T*>(self);
        const Host& host = ComponentAccess::host(handler);
        try {
            run(handler, host, call, *request, *response);
        } catch (...) {
            // Only the making of the outermost frame can fail here; nothing has been answered.
            const annal_error error = Status(ANNAL_INTERNAL, {}).to_error();
            host.raw()->complete(call, &error);
        }
    }
    static annal_str render_problem(
        void* self, const annal_problem* problem, const annal_writer* body
    ) noexcept {
        try {
            Buffer document;
            std::string_view type = render(self, *problem, document);
            if (!copy_whole(document, *body)) {
                // Too many issues for the host's buffer: the problem itself is worth more than none
                // of it.
                annal_problem bare = *problem;
                bare.n_issues = 0;
                document.clear();
                type = render(self, bare, document);
                (void)copy_whole(document, *body);  // there is nothing left to leave out
            }
            return to_str(type);
        } catch (...) {
            return to_str("text/plain; charset=utf-8");
        }
    }
    static constexpr annal_http_v1 make() {
        annal_http_v1 table{};
        table.struct_size = sizeof(table);
        table.create = create<T>;
        table.destroy = destroy<T>;
        table.handle = handle;
        table.render_problem = render_problem;
        return table;
    }

private:
    static std::string_view render(void* self, const annal_problem& problem, Buffer& document) {
        if constexpr (kRenders) {
            return static_cast<T*>(self)->render_problem(problem, document);
        } else {
            (void)self;  // only a handler's own form needs it
            append_problem_json(document, problem);
            return kProblemJsonType;
        }
    }
    [[nodiscard]] static bool copy_whole(const Buffer& document, const annal_writer& to) {
        Writer out(to);
        out.append(document.view());
        return !out.overflowed();
    }

    static Detached run(
        T& handler,
        const Host& host,
        annal_call* call,
        const annal_request& raw_request,
        const annal_response& raw_response
    ) {
        bool fine = false;
        {
            Request request(host, call, raw_request);
            Response response(raw_response, raw_request.request_id);
            try {
                co_await handler.handle(request, response);
                fine = response.finished();
                if (!fine) {
                    host.error(
                        "plugin.response_unfinished",
                        {{"path", request.path()}, {"trigger", request.trigger()}}
                    );
                }
            } catch (...) {
                log_exception(host);
            }
        }
        annal_error error{};
        error.struct_size = sizeof(error);
        error.code = ANNAL_INTERNAL;
        host.raw()->complete(call, fine ? nullptr : &error);
    }
    static void log_exception(const Host& host) noexcept {
        try {
            host.error("plugin.exception", {{"what", current_exception_text()}});
        } catch (...) {
            // Out of memory: the answer says enough.
        }
    }
};

template <class T>
requires std::derived_from<T, HttpHandler>
struct ComponentTraits<T> {
    static constexpr const char* kType = ANNAL_COMPONENT_HTTP;
    static constexpr annal_http_v1 kTable = HttpThunks<T>::make();
};

}  // namespace detail
}  // namespace annal::inline sdk_v1
