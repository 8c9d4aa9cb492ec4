#pragma once

#include <annal/sdk/buffer.hpp>
#include <annal/sdk/json.hpp>
#include <annal/sdk/problem.hpp>

#include <cstdint>
#include <string_view>

namespace annal::inline sdk_v1 {

/// The native form of an error document: RFC 9457.
inline constexpr std::string_view kProblemJsonType = "application/problem+json";

/// The members of one issue; what is not known is left out.
inline void append_issue(JsonWriter<Buffer>& json, const annal_issue& issue) {
    json.begin_object();
    if (issue.index != UINT32_MAX) {
        json.member("index", issue.index);
    }
    if (issue.line != 0) {
        json.member("line", issue.line);
    }
    if (issue.offset >= 0) {
        json.member("offset", issue.offset);
    }
    json.member("pointer", view(issue.pointer))
        .member("code", view(issue.code))
        .member("detail", view(issue.detail));
    json.end_object();
}

/// Members that a document has beyond those of a problem.
struct NoExtension {
    void operator()(JsonWriter<Buffer>&) const {}
};

/// Appends `problem` as application/problem+json: type, title, status, detail, code, request_id,
/// what `extend` writes, and the issues as `errors`.
template <class Extend = NoExtension>
void append_problem_json(Buffer& out, const annal_problem& problem, const Extend& extend = {}) {
    JsonWriter json(out);
    json.begin_object().member("type", "about:blank");
    const std::string_view title = view(problem.title);
    json.member("title", title.empty() ? status_title(problem.status) : title)
        .member("status", problem.status);
    if (problem.detail.len > 0) {
        json.member("detail", view(problem.detail));
    }
    if (problem.code.len > 0) {
        json.member("code", view(problem.code));
    }
    if (problem.request_id.len > 0) {
        json.member("request_id", view(problem.request_id));
    }
    extend(json);
    if (problem.n_issues > 0) {
        json.key("errors").begin_array();
        for (const annal_issue& issue :
             Rows(problem.issues, problem.n_issues, problem.issue_stride)) {
            append_issue(json, issue);
        }
        json.end_array();
    }
    json.end_object();
}

}  // namespace annal::inline sdk_v1
