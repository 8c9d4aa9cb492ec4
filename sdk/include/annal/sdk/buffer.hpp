#pragma once

#include <annal/sdk/status.hpp>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>

namespace annal::inline sdk_v1 {

/// Growing bytes of the plugin's own, which host functions may write into.
///
/// Limits: `bytes_max`; what does not fit sets `overflowed()` and is left out whole.
class Buffer {
public:
    explicit Buffer(std::size_t bytes_max = std::size_t{64} << 20) : bytes_max_(bytes_max) {}
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    void append(std::string_view text) {
        if (char* room = reserve(text.size()); room != nullptr && !text.empty()) {
            std::memcpy(room, text.data(), text.size());
            size_ += text.size();
        }
    }
    void push(char c) {
        if (char* room = reserve(1); room != nullptr) {
            *room = c;
            ++size_;
        }
    }
    [[nodiscard]] std::string_view view() const { return {data_.get(), size_}; }
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] bool overflowed() const { return overflowed_; }
    void clear() {
        size_ = 0;
        overflowed_ = false;
    }

    /// The buffer as a host function wants it. Borrows this buffer.
    [[nodiscard]] annal_writer writer() {
        annal_writer writer{};
        writer.struct_size = sizeof(writer);
        writer.w = this;
        writer.reserve = [](void* w, std::size_t min, std::size_t* cap) noexcept -> std::uint8_t* {
            auto& self = *static_cast<Buffer*>(w);
            char* room = self.reserve(min);
            *cap = room != nullptr ? self.capacity_ - self.size_ : 0;
            return reinterpret_cast<std::uint8_t*>(room);
        };
        writer.commit = [](void* w, std::size_t n) noexcept {
            static_cast<Buffer*>(w)->size_ += n;
        };
        return writer;
    }

private:
    struct Free {
        void operator()(char* p) const noexcept { std::free(p); }
    };

    char* reserve(std::size_t more) noexcept {
        if (more <= capacity_ - size_ && data_ != nullptr) {
            return data_.get() + size_;
        }
        if (more > bytes_max_ - size_) {
            overflowed_ = true;
            return nullptr;
        }
        std::size_t wanted = capacity_ < 512 ? 1024 : capacity_ * 2;
        wanted = wanted < size_ + more ? size_ + more : wanted;
        wanted = wanted > bytes_max_ ? bytes_max_ : wanted;
        // realloc: a page of a large block moves without being copied or zeroed.
        char* grown = static_cast<char*>(std::realloc(data_.get(), wanted == 0 ? 1 : wanted));
        if (grown == nullptr) {
            overflowed_ = true;
            return nullptr;
        }
        (void)data_.release();  // realloc has taken it over
        data_.reset(grown);
        capacity_ = wanted;
        return data_.get() + size_;
    }

    std::size_t bytes_max_;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
    bool overflowed_ = false;
    std::unique_ptr<char, Free> data_;
};

/// Writes into the host's buffer through a window, so that small pieces cost no call each.
///
/// What is written is the host's after `flush` (the destructor does it). Once the host's limit is
/// reached nothing more is taken and `status()` is ANNAL_TOO_LARGE. Threads: the thread of the
/// call.
class Writer {
public:
    explicit Writer(const annal_writer& host) : host_(&host) {}
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;
    ~Writer() { flush(); }

    void append(std::string_view text) noexcept {
        if (text.empty()) {
            return;
        }
        if (char* room = reserve(text.size()); room != nullptr) {
            std::memcpy(room, text.data(), text.size());
            used_ += text.size();
        }
    }
    void push(char c) noexcept {
        if (char* room = reserve(1); room != nullptr) {
            *room = c;
            ++used_;
        }
    }
    void flush() noexcept {
        if (used_ > 0) {
            host_->commit(host_->w, used_);
            flushed_ += used_;
        }
        window_ = nullptr;
        used_ = capacity_ = 0;
    }
    /// Bytes written so far, flushed or not.
    [[nodiscard]] std::uint64_t written() const { return flushed_ + used_; }
    [[nodiscard]] bool overflowed() const { return overflowed_; }
    [[nodiscard]] Status status() const {
        return overflowed_ ? Status(ANNAL_TOO_LARGE, "the host's buffer has reached its limit")
                           : Status();
    }

    /// This writer as a host function wants it. Borrows this writer.
    [[nodiscard]] annal_writer raw() {
        annal_writer writer{};
        writer.struct_size = sizeof(writer);
        writer.w = this;
        writer.reserve = [](void* w, std::size_t min, std::size_t* cap) noexcept -> std::uint8_t* {
            auto& self = *static_cast<Writer*>(w);
            char* room = self.reserve(min);
            *cap = room != nullptr ? self.capacity_ - self.used_ : 0;
            return reinterpret_cast<std::uint8_t*>(room);
        };
        writer.commit = [](void* w, std::size_t n) noexcept {
            static_cast<Writer*>(w)->used_ += n;
        };
        return writer;
    }

private:
    char* reserve(std::size_t more) noexcept {
        if (window_ != nullptr && more <= capacity_ - used_) {
            return reinterpret_cast<char*>(window_) + used_;
        }
        if (overflowed_) {
            return nullptr;
        }
        flush();
        window_ = host_->reserve(host_->w, more > kWindow ? more : kWindow, &capacity_);
        if (window_ == nullptr && more < kWindow) {
            window_ = host_->reserve(host_->w, more == 0 ? 1 : more, &capacity_);
        }
        if (window_ == nullptr) {
            overflowed_ = true;
            capacity_ = 0;
            return nullptr;
        }
        return reinterpret_cast<char*>(window_);
    }

    static constexpr std::size_t kWindow = 4096;
    const annal_writer* host_;
    std::uint8_t* window_ = nullptr;
    std::size_t used_ = 0, capacity_ = 0;
    std::uint64_t flushed_ = 0;
    bool overflowed_ = false;
};

}  // namespace annal::inline sdk_v1
