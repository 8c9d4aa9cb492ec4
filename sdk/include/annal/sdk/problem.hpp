#pragma once

#include <annal/sdk/status.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace annal::inline sdk_v1 {

/// The HTTP status that a failure of the contract stands for.
[[nodiscard]] constexpr std::uint32_t http_status(annal_status code) noexcept {
    switch (code) {
        case ANNAL_OK:
            return 200;
        case ANNAL_INVALID:
            return 400;
        case ANNAL_UNPROCESSABLE:
            return 422;
        case ANNAL_UNAUTHENTICATED:
            return 401;
        case ANNAL_DENIED:
            return 403;
        case ANNAL_NOT_FOUND:
            return 404;
        case ANNAL_CONFLICT:
            return 409;
        case ANNAL_TOO_LARGE:
            return 413;
        case ANNAL_UNSUPPORTED:
            return 415;
        case ANNAL_BUSY:
            return 429;
        case ANNAL_UNAVAILABLE:
        case ANNAL_TIMEOUT:
        case ANNAL_CANCELLED:
            return 503;
        default:
            return 500;
    }
}

/// The stable word for it in error documents.
[[nodiscard]] constexpr std::string_view code_word(annal_status code) noexcept {
    switch (code) {
        case ANNAL_INVALID:
            return "invalid";
        case ANNAL_UNPROCESSABLE:
            return "unprocessable";
        case ANNAL_UNAUTHENTICATED:
            return "unauthenticated";
        case ANNAL_DENIED:
            return "denied";
        case ANNAL_NOT_FOUND:
            return "not_found";
        case ANNAL_CONFLICT:
            return "conflict";
        case ANNAL_TOO_LARGE:
            return "too_large";
        case ANNAL_UNSUPPORTED:
            return "unsupported";
        case ANNAL_BUSY:
            return "busy";
        case ANNAL_UNAVAILABLE:
            return "unavailable";
        case ANNAL_TIMEOUT:
            return "timeout";
        case ANNAL_CANCELLED:
            return "cancelled";
        default:
            return "internal";
    }
}

/// The reason phrase of an HTTP status, which is also the title of a problem without a better one.
[[nodiscard]] constexpr std::string_view status_title(std::uint32_t status) noexcept {
    switch (status) {
        case 400:
            return "Bad Request";
        case 401:
            return "Unauthorized";
        case 403:
            return "Forbidden";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        case 408:
            return "Request Timeout";
        case 409:
            return "Conflict";
        case 413:
            return "Content Too Large";
        case 415:
            return "Unsupported Media Type";
        case 411:
            return "Length Required";
        case 414:
            return "URI Too Long";
        case 416:
            return "Range Not Satisfiable";
        case 422:
            return "Unprocessable Content";
        case 429:
            return "Too Many Requests";
        case 431:
            return "Request Header Fields Too Large";
        case 501:
            return "Not Implemented";
        case 503:
            return "Service Unavailable";
        case 504:
            return "Gateway Timeout";
        case 505:
            return "HTTP Version Not Supported";
        default:
            return status < 500 ? "Bad Request" : "Internal Server Error";
    }
}

/// An answer that did not work out: `co_await response.fail(Problem(404, "not_found").detail("no
/// event has this id"))`.
class Problem {
public:
    Problem(std::uint32_t status, std::string code) : status_(status), code_(std::move(code)) {}
    /// The problem that a failed host function amounts to.
    explicit Problem(const Status& failure)
        : status_(http_status(failure.code())),
          code_(code_word(failure.code())),
          detail_(failure.text()),
          retry_after_s_(seconds_to_wait(failure)) {}

    Problem& detail(std::string text) {
        detail_ = std::move(text);
        return *this;
    }
    Problem& retry_after_s(std::uint32_t seconds) {
        retry_after_s_ = seconds;
        return *this;
    }
    /// What is wrong, piece by piece. Borrowed until the problem is sent.
    Problem& issues(Rows<annal_issue> issues) {
        issues_.assign(issues.begin(), issues.end());
        return *this;
    }

    [[nodiscard]] std::uint32_t status() const { return status_; }
    [[nodiscard]] const std::string& code() const { return code_; }
    [[nodiscard]] const std::string& text() const { return detail_; }
    [[nodiscard]] std::uint32_t retry_after() const { return retry_after_s_; }
    /// Borrows this problem.
    [[nodiscard]] annal_problem raw(annal_str request_id) const {
        annal_problem problem{};
        problem.struct_size = sizeof(problem);
        problem.status = status_;
        problem.code = to_str(code_);
        problem.title = to_str(status_title(status_));
        problem.detail = detail_.empty() ? kNull : to_str(detail_);
        problem.request_id = request_id;
        problem.retry_after_s = retry_after_s_;
        problem.n_issues = static_cast<std::uint32_t>(issues_.size());
        problem.issue_stride = sizeof(annal_issue);
        problem.issues = issues_.data();
        return problem;
    }

private:
    /// Rounded up; what is worth another try without a hint gets a second.
    [[nodiscard]] static std::uint32_t seconds_to_wait(const Status& failure) {
        const std::uint32_t status = sdk_v1::http_status(failure.code());
        const bool passes = status == 429 || status == 503;
        const std::uint32_t stated =
            failure.retry_after_ms() / 1000 + (failure.retry_after_ms() % 1000 != 0 ? 1 : 0);
        return stated == 0 && passes ? 1 : stated;
    }

    std::uint32_t status_;
    std::string code_, detail_;
    std::uint32_t retry_after_s_ = 0;
    std::vector<annal_issue> issues_;
};

}  // namespace annal::inline sdk_v1
