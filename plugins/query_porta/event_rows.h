#pragma once

#include <annal/sdk/buffer.hpp>
#include <annal/sdk/call.hpp>

#include <cstddef>
#include <string>

namespace porta {

/// Appends the rows of pages to an open array, in Porta's form. What visits `Call::scan`.
class EventRows {
public:
    /// Borrows both.
    EventRows(const annal::Host& host, annal::Buffer& out) : host_(host), out_(out) {}

    void operator()(const annal::Batch& batch, bool has_more, annal_str next_cursor);

    /// Over all pages.
    [[nodiscard]] std::size_t count() const { return count_; }
    [[nodiscard]] const annal::Status& failure() const { return failure_; }
    /// Of the last page.
    [[nodiscard]] bool has_more() const { return has_more_; }
    [[nodiscard]] const std::string& next_cursor() const { return next_cursor_; }

private:
    [[nodiscard]] annal::Status append(const annal_event& event);

    const annal::Host& host_;
    annal::Buffer& out_;
    annal::Status failure_;
    std::size_t count_ = 0;
    bool has_more_ = false;
    std::string next_cursor_;
};

}  // namespace porta
