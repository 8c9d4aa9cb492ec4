#include "runtime/core/json_text.h"
#include "runtime/http/exchange.h"
#include "runtime/http/response_head.h"

namespace annal::http {
namespace {

/// Seconds, rounded up; what is worth another try without a hint gets one second.
std::uint32_t retry_after(const Error& error) {
    if (error.retry_after_ms > 0) return (error.retry_after_ms - 1) / 1000 + 1;
    const bool passes =
        error.code == Errc::busy || error.code == Errc::unavailable || error.code == Errc::timeout;
    return passes ? 1 : 0;
}

class Members {
public:
    explicit Members(std::string& out) : out_(out) { out_ += '{'; }
    void text(std::string_view key, std::string_view value) {
        open(key);
        append_json_string(out_, value);
    }
    void number(std::string_view key, std::int64_t value) {
        open(key);
        append_int(out_, value);
    }
    void open(std::string_view key) {
        if (!first_) out_ += ',';
        first_ = false;
        append_json_string(out_, key);
        out_ += ':';
    }
    void close() { out_ += '}'; }

private:
    std::string& out_;
    bool first_ = true;
};

void append_issue(std::string& out, const Issue& issue) {
    Members members(out);
    if (issue.index != Issue::kWhole) members.number("index", issue.index);
    if (issue.line != 0) members.number("line", issue.line);
    if (issue.offset >= 0) members.number("offset", issue.offset);
    members.text("pointer", issue.pointer);
    members.text("code", issue.code);
    members.text("detail", issue.detail);
    members.close();
}

}  // namespace

Problem problem_of(const Error& error) {
    Problem problem;
    problem.status = http_status(error.code);
    // A client that gave up sees no answer; what is written for it must still be one.
    if (problem.status < 400 || problem.status > 599) problem.status = 503;
    problem.code = name(error.code);
    problem.title = reason_of(problem.status);
    problem.detail = error.detail;
    problem.retry_after_s = retry_after(error);
    if (!error.pointer.empty()) {
        Issue issue;
        issue.pointer = error.pointer;
        issue.code = problem.code;
        issue.detail = error.detail;
        problem.issues.push_back(std::move(issue));
    }
    return problem;
}

Document problem_json(const Problem& problem) {
    Document document{"application/problem+json", {}};
    std::string& out = document.body;
    out.reserve(256 + problem.detail.size() + problem.issues.size() * 128);
    Members members(out);
    members.text("type", "about:blank");
    members.text("title", problem.title.empty() ? reason_of(problem.status) : problem.title);
    members.number("status", problem.status);
    if (!problem.detail.empty()) members.text("detail", problem.detail);
    if (!problem.code.empty()) members.text("code", problem.code);
    if (!problem.request_id.empty()) members.text("request_id", problem.request_id);
    if (!problem.issues.empty()) {
        members.open("errors");
        char before = '[';
        for (const Issue& issue : problem.issues) {
            out += before;
            before = ',';
            append_issue(out, issue);
        }
        out += ']';
    }
    members.close();
    return document;
}

}  // namespace annal::http
