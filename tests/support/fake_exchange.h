#pragma once

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>

#include "runtime/core/task_impl.h"
#include "runtime/http/exchange.h"

namespace annal::test {

/// What became of a FakeExchange; outlives it.
struct ExchangeRecord {
    std::mutex mutex;
    std::condition_variable changed;
    int status = 0;
    http::Pairs headers, trailers;
    std::string body;
    bool keep_body = true;  ///< false: only its size is kept
    std::size_t body_bytes = 0;
    std::optional<http::Problem> problem;
    bool finished = false;          ///< by finish or fail
    bool dropped = false;           ///< nobody holds the exchange any more
    std::atomic<bool> gone{false};  ///< the client has left
    std::atomic<std::size_t> gone_after{
        SIZE_MAX};  ///< it leaves when this much of the body has been sent
    std::atomic<std::int64_t> write_delay_ms{0};
    std::atomic<bool> streamed{false};

    /// Waits until the exchange is finished or dropped; throws after ten seconds.
    void wait_end() {
        std::unique_lock lock(mutex);
        if (!changed.wait_for(lock, std::chrono::seconds(30), [this] {
                return finished || dropped;
            })) {
            throw std::runtime_error("the exchange has not ended within 30 s");
        }
    }
    void wait_dropped() {
        std::unique_lock lock(mutex);
        if (!changed.wait_for(lock, std::chrono::seconds(30), [this] { return dropped; })) {
            throw std::runtime_error("the exchange was not let go within 30 s");
        }
    }
    [[nodiscard]] std::optional<std::string> header(std::string_view name) {
        return find(headers, name);
    }
    [[nodiscard]] std::optional<std::string> trailer(std::string_view name) {
        return find(trailers, name);
    }

private:
    std::optional<std::string> find(const http::Pairs& pairs, std::string_view name) {
        const std::lock_guard lock(mutex);
        for (const auto& [key, value] : pairs) {
            if (key == name) return value;
        }
        return std::nullopt;
    }
};

/// An exchange without a connection: a scripted request, and a record of the answer.
class FakeExchange final : public http::Exchange {
public:
    explicit FakeExchange(std::shared_ptr<ExchangeRecord> r) : record(std::move(r)) {
        wanted.method = "GET", wanted.path = "/v1/test", wanted.request_id = "req_1",
        wanted.peer_ip = "192.0.2.1";
        wanted.trigger = "list";
        who.key_id = "apikey_1", who.project = "proj_a";
    }
    ~FakeExchange() override {
        const std::lock_guard lock(record->mutex);
        record->dropped = true;
        record->changed.notify_all();
    }
    FakeExchange(const FakeExchange&) = delete;
    FakeExchange& operator=(const FakeExchange&) = delete;

    [[nodiscard]] const http::Request& request() const override { return wanted; }
    [[nodiscard]] const http::Principal& principal() const override { return who; }
    [[nodiscard]] bool cancelled() const override { return record->gone; }
    [[nodiscard]] Task<Result<std::string_view>> read() override {
        co_await pause(read_delay_ms);
        if (record->gone) co_return Error{Errc::cancelled, "the client is gone", {}, 0};
        if (reads.empty()) co_return std::string_view();
        auto next = std::move(reads.front());
        reads.pop_front();
        if (!next) co_return next.error();
        chunk_ = std::move(next).value();
        co_return std::string_view(chunk_);
    }
    void stream_body() override { record->streamed = true; }
    [[nodiscard]] Result<void> start(int status, http::Pairs headers) override {
        if (started_.exchange(true)) return Error{Errc::internal, "started already", {}, 0};
        const std::lock_guard lock(record->mutex);
        record->status = status;
        record->headers = std::move(headers);
        return ok();
    }
    [[nodiscard]] Task<Result<void>> write(std::string_view bytes) override {
        if (!started_) co_return Error{Errc::internal, "a write before the start", {}, 0};
        co_await pause(record->write_delay_ms);
        const std::lock_guard lock(record->mutex);
        if (record->keep_body) record->body.append(bytes);
        record->body_bytes += bytes.size();
        if (record->body_bytes > record->gone_after) record->gone = true;
        if (record->gone) co_return Error{Errc::cancelled, "the client is gone", {}, 0};
        co_return ok();
    }
    [[nodiscard]] Task<Result<void>> finish(http::Pairs trailers) override {
        if (!started_) co_return Error{Errc::internal, "a finish before the start", {}, 0};
        const std::lock_guard lock(record->mutex);
        if (record->gone) co_return Error{Errc::cancelled, "the client is gone", {}, 0};
        record->trailers = std::move(trailers);
        record->finished = true;
        record->changed.notify_all();
        co_return ok();
    }
    [[nodiscard]] bool started() const override { return started_; }
    [[nodiscard]] Task<Result<void>> fail(http::Problem problem) override {
        if (started_.exchange(true)) co_return Error{Errc::internal, "started already", {}, 0};
        const std::lock_guard lock(record->mutex);
        record->status = problem.status;
        record->problem = std::move(problem);
        record->finished = true;
        record->changed.notify_all();
        co_return ok();
    }

    http::Request wanted;
    http::Principal who;
    std::deque<Result<std::string>> reads;
    std::int64_t read_delay_ms = 0;
    const std::shared_ptr<ExchangeRecord> record;

private:
    static Task<void> pause(std::int64_t ms) {
        if (ms <= 0) co_return;
        boost::asio::steady_timer timer(
            co_await boost::asio::this_coro::executor, std::chrono::milliseconds(ms)
        );
        co_await timer.async_wait(boost::asio::use_awaitable);
    }
    std::atomic<bool> started_{false};
    std::string chunk_;
};

}  // namespace annal::test
