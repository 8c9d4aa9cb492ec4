#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/clock.h"
#include "runtime/event/event.h"

namespace annal::postgres {

/// An array of one dimension in PostgreSQL's binary form: `$1::text[]` takes one as it is, so that
/// nothing has to be quoted or parsed.
class Array {
public:
    enum class Of : std::uint32_t {
        bytea = 17,
        int8 = 20,
        text = 25,
        date = 1082,
        timestamptz = 1184,
        uuid = 2950
    };

    explicit Array(Of type);
    void reserve(std::size_t bytes) { bytes_.reserve(bytes); }
    Array& null();
    Array& number(std::int64_t value);
    Array& text(std::string_view value) { return bytes(value); }
    Array& text(const std::string& value) { return bytes(std::string_view(value)); }
    Array& text(const Text& value) { return value.is_null() ? null() : bytes(value.view()); }
    Array& bytes(std::string_view value);
    Array& bytes(std::span<const std::uint8_t> value);
    Array& time(TimeUs at);
    Array& date(Month month);  ///< its first day
    [[nodiscard]] std::size_t size() const { return count_; }
    /// "text[]"
    [[nodiscard]] std::string_view type() const;
    /// Good until the array changes.
    [[nodiscard]] const std::string& encoded();

private:
    Of type_;
    std::string bytes_;
    std::uint32_t count_ = 0;
    bool has_null_ = false;
};

/// The parameters of one statement, $1 first, each in binary form: the statement says its type
/// (`$1::bigint`).
class Params {
public:
    /// The number of the parameter that was added last.
    [[nodiscard]] std::size_t size() const { return values_.size(); }
    Params& text(std::string_view value);
    Params& bytes(std::string_view value) { return text(value); }
    Params& bytes(std::span<const std::uint8_t> value);
    Params& number(std::int64_t value);
    Params& time(TimeUs at);
    Params& array(Array& value);
    [[nodiscard]] const std::vector<std::string>& values() const { return values_; }

private:
    std::vector<std::string> values_;
};

/// Whether `text` can hold it: no U+0000, and well-formed UTF-8. Nothing else must reach the
/// server.
[[nodiscard]] bool is_storable(std::string_view value);
/// "unnest($3::text[], $4::bigint[])": the arrays side by side, added to `params`.
[[nodiscard]] std::string unnest(std::vector<Array>& arrays, Params& params);

/// `at` within what timestamptz can hold: claims beyond it are compared as if they were at its
/// edge.
[[nodiscard]] TimeUs within_timestamp(TimeUs at);
/// "'2026-03-01 00:00:00+00'": a literal, so that the planner prunes by it. What lies
/// outside of the years 1 to 9999 is compared as if it were at their edge.
[[nodiscard]] std::string timestamp_literal(TimeUs at);
/// "2026-03-01"
[[nodiscard]] std::string month_text(Month month);
[[nodiscard]] Month parse_month(std::string_view text);
/// "audit_events_2026_03"
[[nodiscard]] std::string partition_name(Month month);

}  // namespace annal::postgres
