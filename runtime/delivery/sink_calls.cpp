#include "runtime/delivery/sink_calls.h"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <mutex>
#include <optional>

#include "runtime/core/task_impl.h"

namespace annal {
namespace asio = boost::asio;
namespace {

Call::Options options_of(const std::string& project, std::int64_t deadline_us) {
    Call::Options options;
    options.project = project;
    options.actor_type = "system";
    options.deadline_us = deadline_us;
    return options;
}

/// An answer that the sink gives when it likes, if ever: kept alive by the one who may still give
/// it.
template <class T>
struct Awaited {
    Awaited(SinkCalls::Strand strand, Call::Options options)
        : signal(strand), call(std::make_shared<Call>(std::move(options))) {}

    void answer(Result<T> value) {
        std::shared_ptr<Awaited> last;
        {
            const std::lock_guard lock(mutex);
            if (given) return;
            given.emplace(std::move(value));
            last = std::move(self);
        }
        asio::post(signal.get_executor(), [last] { last->signal.cancel(); });
    }
    bool is_given() {
        const std::lock_guard lock(mutex);
        return given.has_value();
    }

    std::mutex mutex;
    std::optional<Result<T>> given;
    std::shared_ptr<Awaited> self;
    asio::steady_timer signal;  // cancelled, on the strand, when the answer is there
    const std::shared_ptr<Call> call;
};

template <class T>
std::shared_ptr<Awaited<T>> await_from(SinkCalls::Strand strand, Call::Options options) {
    auto awaited = std::make_shared<Awaited<T>>(std::move(strand), std::move(options));
    awaited->self = awaited;
    return awaited;
}

/// Until the answer is there or `until` has come.
template <class T>
Task<Result<T>> take(
    std::shared_ptr<Awaited<T>> awaited, std::chrono::steady_clock::time_point until
) {
    while (!awaited->is_given()) {
        if (std::chrono::steady_clock::now() >= until)
            co_return Error{Errc::timeout, "the sink missed its deadline"};
        awaited->signal.expires_at(until);
        boost::system::error_code ignored;
        co_await awaited->signal.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    const std::lock_guard lock(awaited->mutex);
    co_return std::move(*awaited->given);
}

void position_found(void* user, std::int64_t seq, const annal_error* error) {
    auto* awaited = static_cast<Awaited<Seq>*>(user);
    const auto call = awaited->call;
    if (error != nullptr) {
        awaited->answer(to_error(*error));
    } else {
        awaited->answer(seq);
    }
    call->complete(nullptr);
}

}  // namespace

SinkCalls::SinkCalls(Outlet outlet, asio::thread_pool& pool, Strand strand)
    : outlet_(std::move(outlet)), pool_(pool.get_executor()), strand_(std::move(strand)) {}

Task<Result<std::shared_ptr<Shipment>>> SinkCalls::pack(
    const StreamDefinition& stream, EventBatch events, bool whole
) {
    co_await asio::post(asio::bind_executor(pool_, asio::use_awaitable));
    auto packed = Shipment::pack(stream, outlet_, std::move(events), whole);
    co_await asio::post(asio::bind_executor(strand_, asio::use_awaitable));
    co_return packed;
}

Task<Result<Seq>> SinkCalls::position(const StreamDefinition& stream, const Clock& clock) {
    const auto timeout = std::chrono::microseconds(sink().manifest().timeout_us);
    if (ANNAL_HAS(&table(), annal_sink_v1, find_position)) {
        const std::int64_t deadline_us = clock.monotonic_us() + timeout.count();
        auto awaited = await_from<Seq>(strand_, options_of(stream.project, deadline_us));
        annal_call* handle = awaited->call->open();
        asio::post(pool_, [sink = outlet_.sink, awaited, handle, id = stream.known_as] {
            sink->table<annal_sink_v1>().find_position(
                sink->self(), handle, to_abi(std::string_view(id)), awaited.get(), &position_found
            );
        });
        co_return co_await take(std::move(awaited), std::chrono::steady_clock::now() + timeout);
    }
    if (!ANNAL_HAS(&table(), annal_sink_v1, position)) co_return kNoSeq;
    co_await asio::post(asio::bind_executor(pool_, asio::use_awaitable));
    std::int64_t seq = kNoSeq;
    annal_error error{};
    error.struct_size = sizeof(error);
    const annal_status status =
        table().position(sink().self(), to_abi(std::string_view(stream.project)), &seq, &error);
    co_await asio::post(asio::bind_executor(strand_, asio::use_awaitable));
    if (status != ANNAL_OK) {
        error.code = status;
        co_return to_error(error);
    }
    co_return seq;
}

bool SinkCalls::knows_projects_only() const {
    return ANNAL_HAS(&table(), annal_sink_v1, position) &&
           !ANNAL_HAS(&table(), annal_sink_v1, find_position);
}

Task<Result<void>> SinkCalls::probe(std::string project, const Clock& clock) {
    if (!ANNAL_HAS(&table(), annal_sink_v1, probe))
        co_return Error{Errc::unsupported, "this destination can't be probed without a delivery"};
    const auto timeout = std::chrono::microseconds(sink().manifest().timeout_us);
    const auto until = std::chrono::steady_clock::now() + timeout;
    Call::Options options = options_of(project, clock.monotonic_us() + timeout.count());
    // The call lives as long as somebody may complete it, and so does what waits for that.
    auto waiting = std::make_shared<std::weak_ptr<Awaited<void>>>();
    options.on_complete = [waiting](const annal_error* error) {
        const auto awaited = waiting->lock();
        if (!awaited) return;
        if (error != nullptr) {
            awaited->answer(to_error(*error));
        } else {
            awaited->answer(ok());
        }
    };
    auto awaited = await_from<void>(strand_, std::move(options));
    *waiting = awaited;
    annal_call* handle = awaited->call->open();
    asio::post(pool_, [sink = outlet_.sink, handle] {
        sink->table<annal_sink_v1>().probe(sink->self(), handle);
    });
    co_return co_await take(std::move(awaited), until);
}

void SinkCalls::send(std::shared_ptr<Shipment> shipment, std::function<bool()> still) {
    begin(std::move(shipment), std::move(still), &Shipment::send);
}

void SinkCalls::verify(std::shared_ptr<Shipment> shipment, std::function<bool()> still) {
    begin(std::move(shipment), std::move(still), &Shipment::verify);
}

void SinkCalls::begin(
    std::shared_ptr<Shipment> shipment,
    std::function<bool()> still,
    void (Shipment::*step)(const Instance&)
) {
    asio::post(
        pool_,
        [sink = outlet_.sink, shipment = std::move(shipment), still = std::move(still), step] {
            // It may have waited for a thread for longer than the lease lasted.
            if (!still()) return shipment->refuse("the stream ended before the batch was sent");
            (*shipment.*step)(*sink);
        }
    );
}

}  // namespace annal
