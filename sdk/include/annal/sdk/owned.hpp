#pragma once

#include <annal/sdk/status.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace annal::inline sdk_v1 {

namespace detail {

/// Copies of borrowed text in one block whose size is known beforehand.
class TextBlock {
public:
    TextBlock() = default;
    explicit TextBlock(std::size_t size)
        : block_(size > 0 ? std::make_unique<char[]>(size) : nullptr), next_(block_.get()) {}
    [[nodiscard]] annal_str copy(annal_str text) {
        if (is_null(text) || text.len == 0) {
            return is_null(text) ? kNull : to_str({});
        }
        char* at = next_;
        std::memcpy(at, text.ptr, text.len);
        next_ += text.len;
        return {at, text.len};
    }

private:
    std::unique_ptr<char[]> block_;
    char* next_ = nullptr;
};

inline constexpr std::array kEventText{
    &annal_event::id,          &annal_event::project_id,
    &annal_event::external_id, &annal_event::action,
    &annal_event::actor_type,  &annal_event::actor_id,
    &annal_event::actor_email, &annal_event::auth_type,
    &annal_event::user_id,     &annal_event::organization_id,
    &annal_event::client_id,   &annal_event::issuer_id,
    &annal_event::agent_id,    &annal_event::target_type,
    &annal_event::target_id,   &annal_event::ip,
    &annal_event::user_agent,  &annal_event::description,
    &annal_event::metadata,    &annal_event::idempotency_key,
};

}  // namespace detail

/// A page of events, copied: it lives as long as this object.
class Page {
public:
    Page() = default;
    explicit Page(Status failure) : status_(std::move(failure)) {}
    explicit Page(const annal_page& page) : has_more_(page.has_more != 0) {
        const Batch batch(page.batch);
        std::size_t size = page.next_cursor.len;
        for (const annal_event& event : batch) {
            for (const auto member : detail::kEventText) {
                size += (event.*member).len;
            }
        }
        text_ = detail::TextBlock(size);
        next_cursor_ = text_.copy(page.next_cursor);
        events_.reserve(batch.size());
        for (const annal_event& event : batch) {
            annal_event& copy = events_.emplace_back(event);
            for (const auto member : detail::kEventText) {
                copy.*member = text_.copy(event.*member);
            }
        }
    }

    [[nodiscard]] bool ok() const { return status_.ok(); }
    [[nodiscard]] const Status& status() const { return status_; }
    [[nodiscard]] Rows<annal_event> events() const { return {events_.data(), events_.size()}; }
    [[nodiscard]] bool has_more() const { return has_more_; }
    [[nodiscard]] annal_str next_cursor() const { return next_cursor_; }

private:
    Status status_;
    std::vector<annal_event> events_;
    detail::TextBlock text_;
    bool has_more_ = false;
    annal_str next_cursor_ = kNull;
};

/// Copied rows of one kind whose text lies in one block.
template <class Row, auto... Texts>
class OwnedRows {
public:
    OwnedRows() = default;
    explicit OwnedRows(Status failure) : status_(std::move(failure)) {}
    explicit OwnedRows(Rows<Row> rows) {
        std::size_t size = 0;
        for (const Row& row : rows) {
            ((size += (row.*Texts).len), ...);
        }
        text_ = detail::TextBlock(size);
        rows_.reserve(rows.size());
        for (const Row& row : rows) {
            Row& copy = rows_.emplace_back(row);
            ((copy.*Texts = text_.copy(row.*Texts)), ...);
        }
    }
    [[nodiscard]] bool ok() const { return status_.ok(); }
    [[nodiscard]] const Status& status() const { return status_; }
    [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }

private:
    Status status_;
    std::vector<Row> rows_;
    detail::TextBlock text_;
};

using ActionCounts = OwnedRows<annal_action_count, &annal_action_count::action>;
using Receipts = OwnedRows<annal_receipt, &annal_receipt::id>;

/// A row of the key space, copied.
struct KvRow {
    std::string key, value;
};
struct KvPage {
    Status status;
    std::vector<KvRow> rows;
    bool has_more = false;
    [[nodiscard]] bool ok() const { return status.ok(); }
};

/// How many events there are; `at_least`: perhaps more, the time was over.
struct Total {
    Status status;
    std::int64_t count = 0;
    bool at_least = false;
    [[nodiscard]] bool ok() const { return status.ok(); }
};

/// What a project's own retention has taken away.
struct Cleanup {
    Status status;
    std::int64_t deleted = 0, cutoff_us = 0;
    std::uint32_t retention_days = 0;
    [[nodiscard]] bool ok() const { return status.ok(); }
};

/// What a run of retention did, as one JSON object.
struct RetentionReport {
    Status status;
    std::string json;
    [[nodiscard]] bool ok() const { return status.ok(); }
};

/// One group of events within one interval, copied.
struct AggregateRow {
    std::int64_t start_us = ANNAL_TIME_NONE;  ///< of the interval; ANNAL_TIME_NONE without one
    std::string key;                          ///< empty without group_by
    std::int64_t count = 0;
    std::vector<std::int64_t> uniques;  ///< in the order they were asked for
};
/// By ascending start, then descending count, then key.
struct Aggregate {
    Status status;
    std::vector<AggregateRow> rows;
    [[nodiscard]] bool ok() const { return status.ok(); }
};

/// Where a project's log begins and ends.
struct LogState {
    Status status;
    std::int64_t first_seq = 0, head_seq = -1, head_at_us = ANNAL_TIME_NONE;
    [[nodiscard]] bool ok() const { return status.ok(); }
};

/// The answer of a foreign server, copied.
struct ClientResponse {
    Status status;
    std::uint32_t http_status = 0;
    bool truncated = false;
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;
    [[nodiscard]] bool ok() const { return status.ok(); }
};

/// A value that a service handed out, in the call's arena.
struct TextResult {
    Status status;
    std::string_view text;
    [[nodiscard]] bool ok() const { return status.ok(); }
};

}  // namespace annal::inline sdk_v1
