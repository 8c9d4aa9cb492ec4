#include "runtime/core/time_text.h"

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <optional>
#include <span>

#include "runtime/core/json_text.h"

namespace annal {
namespace {

using std::chrono::days;
using std::chrono::microseconds;
using std::chrono::sys_days;
using std::chrono::year;
using std::chrono::year_month_day;

constexpr TimeUs kTimeMin = -62'135'596'800 * kSecondUs;  // 0001-01-01T00:00:00Z
constexpr TimeUs kTimeEnd = 253'402'300'800 * kSecondUs;  // 10000-01-01T00:00:00Z
constexpr std::size_t kTimeTextMax = 128;
constexpr std::uint64_t kQuantityMax = INT64_MAX;
constexpr std::string_view kMinus = "\xe2\x88\x92";  // U+2212, which ISO 8601 prefers for "-"

char* put_digits(char* out, unsigned value, int count) {
    for (int i = count - 1; i >= 0; --i, value /= 10) {
        out[i] = static_cast<char>('0' + value % 10);
    }
    return out + count;
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/// Reads a time from front to back; each step gives false when the text has another form there.
class TimeScanner {
public:
    explicit TimeScanner(std::string_view text) : rest_(text) {}

    std::optional<TimeUs> scan() {
        if (!date() || !separator() || !time() || !zone() || !rest_.empty()) {
            return std::nullopt;
        }
        const TimeUs at = microseconds{day_.time_since_epoch()}.count() +
                          (seconds_ - offset_seconds_) * kSecondUs;
        if (leap_second_ && at % kDayUs != 0) {
            return std::nullopt;
        }
        if (at < kTimeMin || at >= kTimeEnd) {
            return std::nullopt;
        }
        return at + fraction_us_;
    }

private:
    bool take(char c) {
        if (!rest_.starts_with(c)) {
            return false;
        }
        rest_.remove_prefix(1);
        return true;
    }

    bool take_any(std::string_view set) {
        if (rest_.empty() || set.find(rest_.front()) == std::string_view::npos) {
            return false;
        }
        rest_.remove_prefix(1);
        return true;
    }

    bool number(int digits, int& out) {
        if (rest_.size() < static_cast<std::size_t>(digits)) {
            return false;
        }
        out = 0;
        for (int i = 0; i < digits; ++i) {
            const char c = rest_[static_cast<std::size_t>(i)];
            if (!is_digit(c)) {
                return false;
            }
            out = out * 10 + (c - '0');
        }
        rest_.remove_prefix(static_cast<std::size_t>(digits));
        return true;
    }

    [[nodiscard]] std::size_t digits_ahead() const {
        std::size_t count = 0;
        while (count < rest_.size() && is_digit(rest_[count])) {
            ++count;
        }
        return count;
    }

    bool date() {
        if (!number(4, year_) || year_ < 1) {
            return false;
        }
        const bool extended = take('-');
        if (take('W')) {
            return week_date(extended);
        }
        return digits_ahead() == 3 ? ordinal_date() : calendar_date(extended);
    }

    bool calendar_date(bool extended) {
        int month = 0;
        int day = 0;
        if (!number(2, month) || take('-') != extended || !number(2, day)) {
            return false;
        }
        const year_month_day date{
            year{year_},
            std::chrono::month{static_cast<unsigned>(month)},
            std::chrono::day{static_cast<unsigned>(day)}};
        day_ = sys_days{date};
        return date.ok();
    }

    bool ordinal_date() {
        int day = 0;
        if (!number(3, day) || day < 1 || day > (year{year_}.is_leap() ? 366 : 365)) {
            return false;
        }
        day_ = sys_days{year{year_} / 1 / 1} + days{day - 1};
        return true;
    }

    /// Week 1 is the one that holds January 4th; weeks begin on Monday.
    static sys_days first_week(int of_year) {
        const sys_days fourth{year{of_year} / 1 / 4};
        return fourth - (std::chrono::weekday{fourth} - std::chrono::Monday);
    }

    bool week_date(bool extended) {
        int week = 0;
        int day = 0;
        if (!number(2, week) || take('-') != extended || !number(1, day) || day < 1 || day > 7) {
            return false;
        }
        const sys_days monday = first_week(year_) + days{7 * (week - 1)};
        day_ = monday + days{day - 1};
        return week >= 1 && monday < first_week(year_ + 1);
    }

    bool separator() { return take_any("Tt "); }

    bool time() {
        int hour = 0;
        int minute = 0;
        int second = 0;
        if (!number(2, hour)) {
            return false;
        }
        const bool extended = take(':');
        if (!number(2, minute)) {
            return false;
        }
        if (extended ? take(':') : digits_ahead() > 0) {
            if (!number(2, second) || !fraction()) {
                return false;
            }
        }
        leap_second_ = second == 60;
        seconds_ = hour * 3600 + minute * 60 + second;
        const bool end_of_day = hour == 24 && minute == 0 && second == 0 && fraction_us_ == 0;
        return (hour < 24 || end_of_day) && minute < 60 && second <= 60;
    }

    bool fraction() {
        if (!take_any(".,")) {
            return true;
        }
        const std::size_t count = digits_ahead();
        std::int64_t unit = kSecondUs;
        for (std::size_t i = 0; i < count && unit > 1; ++i) {
            unit /= 10;
            fraction_us_ += (rest_[i] - '0') * unit;
        }
        rest_.remove_prefix(count);
        return count > 0;
    }

    bool zone() {
        if (take_any("Zz")) {
            return true;
        }
        int sign = 1;
        if (rest_.starts_with(kMinus)) {
            rest_.remove_prefix(kMinus.size());
            sign = -1;
        } else if (take('-')) {
            sign = -1;
        } else if (!take('+')) {
            return false;
        }
        int hours = 0;
        int minutes = 0;
        if (!number(2, hours) || hours > 23) {
            return false;
        }
        if (!rest_.empty()) {
            (void)take(':');  // ±hhmm and ±hh:mm are both forms
            if (!number(2, minutes) || minutes > 59) {
                return false;
            }
        }
        offset_seconds_ = std::int64_t{sign} * (hours * 3600 + minutes * 60);
        return true;
    }

    std::string_view rest_;
    int year_ = 0;
    sys_days day_{};
    std::int64_t seconds_ = 0;
    std::int64_t fraction_us_ = 0;
    std::int64_t offset_seconds_ = 0;
    bool leap_second_ = false;
};

struct Unit {
    std::string_view name;
    std::uint64_t factor;
};

constexpr std::array<Unit, 5> kDurationUnits = {
    {{"ms", 1'000},
     {"s", 1'000'000},
     {"m", 60'000'000},
     {"h", 3'600'000'000},
     {"d", 86'400'000'000}}};
constexpr std::array<Unit, 6> kSizeUnits = {
    {{"", 1},
     {"B", 1},
     {"KiB", 1ULL << 10},
     {"MiB", 1ULL << 20},
     {"GiB", 1ULL << 30},
     {"TiB", 1ULL << 40}}};

/// A whole number and one of `units`, without overflow of an int64.
std::optional<std::uint64_t> scan_quantity(std::string_view text, std::span<const Unit> units) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc()) {
        return std::nullopt;
    }
    const std::string_view suffix = text.substr(static_cast<std::size_t>(end - text.data()));
    for (const Unit& unit : units) {
        if (unit.name == suffix && number <= kQuantityMax / unit.factor) {
            return number * unit.factor;
        }
    }
    return std::nullopt;
}

}  // namespace

std::string format_time(TimeUs at) {
    const auto [day, us_of_day] = day_time_of(at);
    const year_month_day date{sys_days{days{day}}};
    const auto second_of_day = static_cast<unsigned>(us_of_day / kSecondUs);
    const int year_number = static_cast<int>(date.year());

    std::array<char, 40> text;
    char* p = text.data();
    if (year_number >= 0 && year_number <= 9999) {
        p = put_digits(p, static_cast<unsigned>(year_number), 4);
    } else {
        p += std::snprintf(p, 12, "%+06d", year_number);
    }
    *p++ = '-';
    p = put_digits(p, static_cast<unsigned>(date.month()), 2);
    *p++ = '-';
    p = put_digits(p, static_cast<unsigned>(date.day()), 2);
    *p++ = 'T';
    p = put_digits(p, second_of_day / 3600, 2);
    *p++ = ':';
    p = put_digits(p, second_of_day / 60 % 60, 2);
    *p++ = ':';
    p = put_digits(p, second_of_day % 60, 2);
    *p++ = '.';
    p = put_digits(p, static_cast<unsigned>(us_of_day % kSecondUs), 6);
    *p++ = 'Z';
    return {text.data(), p};
}

std::string format_month(Month month) {
    return format_time(start_of(month)).substr(0, 7);
}

Result<TimeUs> parse_time(std::string_view text) {
    if (text.size() <= kTimeTextMax) {
        if (const auto at = TimeScanner(text).scan()) {
            return *at;
        }
    }
    return Error{
        Errc::invalid,
        quote_bounded(text) +
            " is not an ISO 8601 date and time with a zone; write it like "
            "2026-05-14T18:42:13.001Z"};
}

Result<std::int64_t> parse_duration(std::string_view text) {
    if (const auto us = scan_quantity(text, kDurationUnits)) {
        return static_cast<std::int64_t>(*us);
    }
    return Error{
        Errc::invalid,
        quote_bounded(text) +
            " is not a duration; write a whole number with ms, s, m, h or d, like 30s"};
}

Result<std::uint64_t> parse_size(std::string_view text) {
    if (const auto bytes = scan_quantity(text, kSizeUnits)) {
        return *bytes;
    }
    return Error{
        Errc::invalid,
        quote_bounded(text) +
            " is not a size; write a whole number of bytes, or with KiB, MiB or GiB, like 8MiB"};
}

}  // namespace annal
