#pragma once

#include <annal/abi.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace annal::inline sdk_v1 {

/// Null (a NULL pointer) differs from the empty text (length 0 behind a pointer).
[[nodiscard]] constexpr bool is_null(annal_str text) noexcept {
    return text.ptr == nullptr;
}

/// The text, or "" for null. Borrowed.
[[nodiscard]] constexpr std::string_view view(annal_str text) noexcept {
    return text.ptr ? std::string_view(text.ptr, text.len) : std::string_view();
}
[[nodiscard]] inline std::string_view view(annal_bytes bytes) noexcept {
    return bytes.ptr ? std::string_view(reinterpret_cast<const char*>(bytes.ptr), bytes.len)
                     : std::string_view();
}

/// Never null: an empty view becomes the empty text. Borrowed.
[[nodiscard]] constexpr annal_str to_str(std::string_view text) noexcept {
    return {text.data() ? text.data() : "", text.size()};
}
[[nodiscard]] inline annal_bytes to_bytes(std::string_view text) noexcept {
    return {reinterpret_cast<const uint8_t*>(text.data() ? text.data() : ""), text.size()};
}
inline constexpr annal_str kNull{nullptr, 0};

/// Elements of an array whose stride may be larger than the element this SDK knows. Borrowed.
template <class T>
class Rows {
public:
    class Iterator {
    public:
        using iterator_category = std::forward_iterator_tag;
        using value_type = T;
        using difference_type = std::ptrdiff_t;
        using pointer = const T*;
        using reference = const T&;

        Iterator() = default;
        Iterator(const char* at, std::size_t stride) : at_(at), stride_(stride) {}
        reference operator*() const { return *reinterpret_cast<const T*>(at_); }
        pointer operator->() const { return reinterpret_cast<const T*>(at_); }
        Iterator& operator++() {
            at_ += stride_;
            return *this;
        }
        Iterator operator++(int) {
            Iterator before = *this;
            ++*this;
            return before;
        }
        friend bool operator==(const Iterator& a, const Iterator& b) { return a.at_ == b.at_; }

    private:
        const char* at_ = nullptr;
        std::size_t stride_ = sizeof(T);
    };

    Rows() = default;
    Rows(const T* rows, std::size_t count, std::size_t stride = sizeof(T))
        : rows_(reinterpret_cast<const char*>(rows)), count_(rows ? count : 0), stride_(stride) {}

    [[nodiscard]] std::size_t size() const { return count_; }
    [[nodiscard]] bool empty() const { return count_ == 0; }
    [[nodiscard]] const T& operator[](std::size_t i) const {
        return *reinterpret_cast<const T*>(rows_ + i * stride_);
    }
    [[nodiscard]] const T& front() const { return (*this)[0]; }
    [[nodiscard]] const T& back() const { return (*this)[count_ - 1]; }
    [[nodiscard]] Iterator begin() const { return {rows_, stride_}; }
    [[nodiscard]] Iterator end() const {
        return {count_ ? rows_ + count_ * stride_ : rows_, stride_};
    }

private:
    const char* rows_ = nullptr;
    std::size_t count_ = 0;
    std::size_t stride_ = sizeof(T);
};

/// The events of one batch, in its order. Borrowed; copy it freely.
class Batch : public Rows<annal_event> {
public:
    Batch() = default;
    explicit Batch(const annal_batch* batch)
        : Rows(batch ? Rows(batch->events, batch->count, batch->stride) : Rows()), raw_(batch) {}

    [[nodiscard]] std::string_view project() const {
        return raw_ ? view(raw_->project_id) : std::string_view();
    }
    [[nodiscard]] const annal_batch* raw() const { return raw_; }

private:
    const annal_batch* raw_ = nullptr;
};

/// Whether only id, project_id, seq and created_at of `event` are set: its content was erased.
[[nodiscard]] inline bool is_deleted(const annal_event& event) {
    return (event.flags & ANNAL_EVENT_DELETED) != 0;
}

}  // namespace annal::inline sdk_v1
