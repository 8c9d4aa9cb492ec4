#include "runtime/core/clock.h"

#include <chrono>

namespace annal {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;

template <class C>
std::int64_t now_us() {
    return duration_cast<microseconds>(C::now().time_since_epoch()).count();
}

}  // namespace

TimeUs SystemClock::wall_us() const {
    return now_us<std::chrono::system_clock>();
}

std::int64_t SystemClock::monotonic_us() const {
    return now_us<std::chrono::steady_clock>();
}

Month month_of(TimeUs at) {
    const std::chrono::days day{day_time_of(at).day};
    const std::chrono::year_month_day date{std::chrono::sys_days{day}};
    return {
        static_cast<int>(date.year()) * 12 + static_cast<int>(static_cast<unsigned>(date.month())) -
        1};
}

TimeUs start_of(Month month) {
    // Division rounds towards zero; years before 0 need the floor.
    const int year = (month.index >= 0 ? month.index : month.index - 11) / 12;
    const std::chrono::year_month_day first{
        std::chrono::year{year},
        std::chrono::month{static_cast<unsigned>(month.index - year * 12 + 1)},
        std::chrono::day{1}};
    return microseconds{std::chrono::sys_days{first}.time_since_epoch()}.count();
}

}  // namespace annal
