#include "runtime/store/postgres/values.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "runtime/core/json_text.h"

namespace annal::postgres {
namespace {

constexpr TimeUs kEpochUs = 946'684'800 * kSecondUs;  // 2000-01-01, where PostgreSQL counts from
// A day inside of what PostgreSQL accepts: 4714-11-24 BC to 294276 AD.
constexpr TimeUs kTimestampMin = -211'813'488'000 * kSecondUs + kEpochUs + kDayUs;
constexpr TimeUs kTimestampMax = 9'222'424'646'400 * kSecondUs - kDayUs;
// What literals can say: the years 1 to 9999.
constexpr TimeUs kLiteralMin = -719'162 * kDayUs;
constexpr TimeUs kLiteralMax = 2'932'897 * kDayUs - 1;
constexpr std::size_t kHeaderBytes = 20;

void put32(char* to, std::uint32_t value) {
    for (int i = 3; i >= 0; --i, value >>= 8) to[i] = static_cast<char>(value);
}

void append32(std::string& out, std::uint32_t value) {
    char bytes[4];
    put32(bytes, value);
    out.append(bytes, sizeof bytes);
}

void append64(std::string& out, std::int64_t number) {
    auto value = static_cast<std::uint64_t>(number);
    append32(out, static_cast<std::uint32_t>(value >> 32));
    append32(out, static_cast<std::uint32_t>(value));
}

std::string_view view(std::span<const std::uint8_t> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

int part(std::string_view text, std::size_t begin, std::size_t size) {
    int value = 0;
    std::from_chars(text.data() + begin, text.data() + begin + size, value);
    return value;
}

std::string format_month(Month month, const char* format) {
    char text[64];
    std::snprintf(text, sizeof text, format, month.index / 12, month.index % 12 + 1);
    return text;
}

}  // namespace

Array::Array(Of type) : type_(type), bytes_(kHeaderBytes, '\0') {
    put32(bytes_.data(), 1);
    put32(bytes_.data() + 8, static_cast<std::uint32_t>(type));
    put32(bytes_.data() + 16, 1);
}

Array& Array::null() {
    ++count_;
    has_null_ = true;
    append32(bytes_, UINT32_MAX);
    return *this;
}

Array& Array::number(std::int64_t value) {
    ++count_;
    append32(bytes_, 8);
    append64(bytes_, value);
    return *this;
}

Array& Array::bytes(std::string_view value) {
    ++count_;
    append32(bytes_, static_cast<std::uint32_t>(value.size()));
    bytes_ += value;
    return *this;
}

Array& Array::bytes(std::span<const std::uint8_t> value) {
    return bytes(view(value));
}

Array& Array::time(TimeUs at) {
    return number(at - kEpochUs);
}

Array& Array::date(Month month) {
    ++count_;
    append32(bytes_, 4);
    const std::int64_t days = (start_of(month) - kEpochUs) / kDayUs;
    append32(bytes_, static_cast<std::uint32_t>(days));
    return *this;
}

std::string_view Array::type() const {
    switch (type_) {
        case Of::bytea:
            return "bytea[]";
        case Of::int8:
            return "bigint[]";
        case Of::date:
            return "date[]";
        case Of::timestamptz:
            return "timestamptz[]";
        case Of::uuid:
            return "uuid[]";
        default:
            return "text[]";
    }
}

const std::string& Array::encoded() {
    put32(bytes_.data() + 4, has_null_ ? 1 : 0);
    put32(bytes_.data() + 12, count_);
    return bytes_;
}

Params& Params::text(std::string_view value) {
    values_.emplace_back(value);
    return *this;
}

Params& Params::bytes(std::span<const std::uint8_t> value) {
    return text(view(value));
}

Params& Params::number(std::int64_t value) {
    append64(values_.emplace_back(), value);
    return *this;
}

Params& Params::time(TimeUs at) {
    return number(within_timestamp(at) - kEpochUs);
}

Params& Params::array(Array& value) {
    return text(value.encoded());
}

bool is_storable(std::string_view value) {
    return value.find('\0') == std::string_view::npos && is_utf8(value);
}

std::string unnest(std::vector<Array>& arrays, Params& params) {
    std::string list;
    for (Array& array : arrays) {
        params.array(array);
        list += (list.empty() ? "$" : ", $") + std::to_string(params.size()) + "::";
        list += array.type();
    }
    return "unnest(" + list + ")";
}

TimeUs within_timestamp(TimeUs at) {
    return std::clamp(at, kTimestampMin, kTimestampMax);
}

std::string timestamp_literal(TimeUs at) {
    at = std::clamp(at, kLiteralMin, kLiteralMax);
    const auto [day, us] = day_time_of(at);
    const Month month = month_of(at);
    const auto of_month = day - day_time_of(start_of(month)).day + 1;
    char text[64];
    std::snprintf(
        text,
        sizeof text,
        "'%04d-%02d-%02d %02d:%02d:%02d.%06d+00'",
        month.index / 12,
        month.index % 12 + 1,
        static_cast<int>(of_month),
        static_cast<int>(us / (3'600 * kSecondUs)),
        static_cast<int>(us / (60 * kSecondUs) % 60),
        static_cast<int>(us / kSecondUs % 60),
        static_cast<int>(us % kSecondUs)
    );
    return text;
}

std::string month_text(Month month) {
    return format_month(month, "%04d-%02d-01");
}

Month parse_month(std::string_view text) {
    return text.size() < 7 ? Month{} : Month{part(text, 0, 4) * 12 + part(text, 5, 2) - 1};
}

std::string partition_name(Month month) {
    return format_month(month, "audit_events_%04d_%02d");
}

}  // namespace annal::postgres
