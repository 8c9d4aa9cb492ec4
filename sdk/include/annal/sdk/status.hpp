#pragma once

#include <annal/sdk/text.hpp>

#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace annal::inline sdk_v1 {

/// How a call went: fine, or why it failed. What `annal_status` and `annal_error` are in C.
class [[nodiscard]] Status {
public:
    Status() = default;
    Status(annal_status code, std::string text, std::uint32_t retry_after_ms = 0)
        : code_(code), retry_after_ms_(retry_after_ms), text_(std::move(text)) {}

    [[nodiscard]] static Status from(const annal_error* error) {
        if (error == nullptr) {
            return {};
        }
        const std::size_t length =
            error->text_len < sizeof(error->text) ? error->text_len : sizeof(error->text);
        // An error that claims to be none is a defect of its sender; never take it for success.
        const annal_status code = error->code == ANNAL_OK ? ANNAL_INTERNAL : error->code;
        return {code, std::string(error->text, length), error->retry_after_ms};
    }

    [[nodiscard]] bool ok() const { return code_ == ANNAL_OK; }
    [[nodiscard]] annal_status code() const { return code_; }
    [[nodiscard]] const std::string& text() const { return text_; }
    [[nodiscard]] std::uint32_t retry_after_ms() const { return retry_after_ms_; }

    /// Fills the caller's `error` (may be NULL) when this is a failure; the text is cut between two
    /// characters.
    void copy_to(annal_error* error) const noexcept {
        if (error == nullptr || ok()) {
            return;
        }
        std::size_t length = text_.size();
        if (length > sizeof(error->text)) {
            length = sizeof(error->text);
            while (length > 0 && (static_cast<unsigned char>(text_[length]) & 0xC0U) == 0x80U) {
                --length;
            }
        }
        error->code = code_;
        error->retry_after_ms = retry_after_ms_;
        error->text_len = static_cast<std::uint32_t>(length);
        if (length > 0) {
            std::memcpy(error->text, text_.data(), length);
        }
    }
    [[nodiscard]] annal_error to_error() const noexcept {
        annal_error error;
        error.struct_size = sizeof(error);
        error.code = code_;
        error.retry_after_ms = 0;
        error.text_len = 0;
        copy_to(&error);
        return error;
    }

private:
    annal_status code_ = ANNAL_OK;
    std::uint32_t retry_after_ms_ = 0;
    std::string text_;
};

namespace detail {

/// What is known of the exception that is being handled.
[[nodiscard]] inline std::string current_exception_text() {
    try {
        throw;
    } catch (const std::exception& e) {
        return e.what();
    } catch (...) {
        return "an exception that is not a std::exception";
    }
}

/// Runs `body`, which returns a Status, for a C caller: no exception passes, a failure lands in
/// `error`.
template <class F>
annal_status guarded(annal_error* error, F&& body) noexcept {
    try {
        try {
            const Status status = std::forward<F>(body)();
            status.copy_to(error);
            return status.code();
        } catch (...) {
            const Status status(ANNAL_INTERNAL, "the plugin threw: " + current_exception_text());
            status.copy_to(error);
            return status.code();
        }
    } catch (...) {
        // Out of memory while reporting: the code alone has to do.
        if (error != nullptr) {
            error->code = ANNAL_INTERNAL;
            error->retry_after_ms = 0;
            error->text_len = 0;
        }
        return ANNAL_INTERNAL;
    }
}

}  // namespace detail
}  // namespace annal::inline sdk_v1
