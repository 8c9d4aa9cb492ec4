#pragma once

#include <annal/sdk/call.hpp>

#include <concepts>
#include <cstddef>
#include <string>
#include <utility>

namespace annal::inline sdk_v1 {

/// What visits the pages of `Call::scan` and `Call::get`: hands each event on and remembers how to
/// go on. May visit several pages, one after the other.
///
///     annal::PageVisitor events([&](const annal_event& event) { return write(json, event); });
///     const annal::Status status = co_await call.scan(query, events);
///
/// `Take` returns a Status; one that is not ok ends the page and is kept as `failure()`.
template <class Take>
class PageVisitor {
    static_assert(
        requires(Take & take, const annal_event& event) {
            { take(event) } -> std::same_as<Status>;
        },
        "annal: a page is visited by `annal::Status take(const annal_event&)`"
    );

public:
    explicit PageVisitor(Take take) : take_(std::move(take)) {}

    void operator()(const Batch& batch, bool has_more, annal_str next_cursor) {
        for (const annal_event& event : batch) {
            if (Status status = take_(event); !status.ok()) {
                failure_ = std::move(status);
                return;
            }
            ++count_;
        }
        has_more_ = has_more;
        next_cursor_ = view(next_cursor);
    }
    /// Events of all pages.
    [[nodiscard]] std::size_t count() const { return count_; }
    [[nodiscard]] const Status& failure() const { return failure_; }
    /// Of the last page.
    [[nodiscard]] bool has_more() const { return has_more_; }
    /// Empty unless `has_more`.
    [[nodiscard]] const std::string& next_cursor() const { return next_cursor_; }

private:
    Take take_;
    Status failure_;
    std::size_t count_ = 0;
    bool has_more_ = false;
    std::string next_cursor_;
};

}  // namespace annal::inline sdk_v1
