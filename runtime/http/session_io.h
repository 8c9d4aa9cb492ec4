#pragma once

#include <algorithm>
#include <array>
#include <boost/asio/async_result.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "runtime/core/task_impl.h"

namespace annal::http {

/// Bytes received and not used yet, contiguous.
class InputBuffer {
public:
    [[nodiscard]] std::string_view view() const { return {data_.get() + begin_, end_ - begin_}; }
    [[nodiscard]] std::size_t size() const { return end_ - begin_; }
    [[nodiscard]] bool empty() const { return begin_ == end_; }
    void consume(std::size_t size) {
        begin_ += size;
        if (begin_ == end_) begin_ = end_ = 0;
    }
    void commit(std::size_t size) { end_ += size; }
    /// Room for at least `size` more bytes. Moves what is there: no view and no read may be
    /// outstanding.
    boost::asio::mutable_buffer prepare(std::size_t size) {
        if (capacity_ - end_ < size) {
            if (capacity_ - this->size() >= size) {
                std::memmove(data_.get(), data_.get() + begin_, this->size());
            } else {
                const std::size_t grown = this->size() + size;
                auto data = std::unique_ptr<char[]>(new char[grown]);
                if (!empty()) std::memcpy(data.get(), data_.get() + begin_, this->size());
                data_ = std::move(data);
                capacity_ = grown;
            }
            end_ = this->size();
            begin_ = 0;
        }
        return {data_.get() + end_, capacity_ - end_};
    }
    /// Gives a buffer that grew for a large body back when nothing is in it.
    void shrink(std::size_t capacity_max) {
        if (!empty() || capacity_ <= capacity_max) return;
        data_.reset();
        capacity_ = begin_ = end_ = 0;
    }

private:
    std::unique_ptr<char[]> data_;
    std::size_t capacity_ = 0, begin_ = 0, end_ = 0;
};

/// A few borrowed pieces of output that go out in one call where the socket takes them.
class OutputPieces {
public:
    using value_type = boost::asio::const_buffer;
    using const_iterator = const value_type*;
    void add(std::string_view bytes) {
        if (!bytes.empty()) items_[count_++] = {bytes.data(), bytes.size()};
    }
    [[nodiscard]] const_iterator begin() const { return items_.data() + first_; }
    [[nodiscard]] const_iterator end() const { return items_.data() + count_; }
    [[nodiscard]] bool empty() const { return first_ == count_; }
    void consume(std::size_t size) {
        while (size > 0 && first_ < count_) {
            const std::size_t part = std::min(size, items_[first_].size());
            items_[first_] += part;
            size -= part;
            if (items_[first_].size() == 0) ++first_;
        }
    }

private:
    std::array<value_type, 4> items_;
    std::size_t first_ = 0, count_ = 0;
};

/// How long a peer may still keep others waiting: what it lags behind a minimum rate is used up,
/// and comes back as it gets faster.
class Patience {
public:
    /// `rate_min` in bytes a second; 0: any byte restores all of it.
    Patience(std::uint32_t max_ms, std::uint32_t rate_min)
        : max_us_(std::int64_t{max_ms} * 1000), rate_min_(rate_min), left_us_(max_us_) {}

    [[nodiscard]] std::int64_t left_us() const { return left_us_; }
    void waited(std::int64_t us, std::size_t bytes) {
        if (bytes == 0) {
            left_us_ -= us;
        } else if (rate_min_ == 0) {
            left_us_ = max_us_;
        } else {
            const auto worth = static_cast<std::int64_t>(bytes) * 1'000'000 / rate_min_;
            left_us_ = std::min(max_us_, left_us_ - us + worth);
        }
        left_us_ = std::max<std::int64_t>(left_us_, 0);
    }

private:
    std::int64_t max_us_;
    std::uint32_t rate_min_;
    std::int64_t left_us_;
};

/// One coroutine waits until somebody on the same strand wakes it; a wake without a waiter is
/// forgotten.
class Waker {
public:
    [[nodiscard]] bool waiting() const { return waiter_.has_value(); }
    Task<void> wait() {
        return boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void()>(
            [this](Waiter waiter) { waiter_.emplace(std::move(waiter)); },
            boost::asio::use_awaitable
        );
    }
    /// Resumes the waiter later, not inside this call.
    void wake() {
        if (auto waiter = take()) boost::asio::post(std::move(*waiter));
    }
    /// Resumes the waiter inside this call when on its executor: only from the end of a completion
    /// handler.
    void wake_now() {
        if (auto waiter = take()) boost::asio::dispatch(std::move(*waiter));
    }

private:
    using Waiter = boost::asio::async_result<boost::asio::use_awaitable_t<>, void()>::handler_type;
    std::optional<Waiter> take() {
        std::optional<Waiter> waiter;
        if (waiter_) waiter.emplace(std::move(*waiter_));
        waiter_.reset();
        return waiter;
    }
    std::optional<Waiter> waiter_;
};

}  // namespace annal::http
