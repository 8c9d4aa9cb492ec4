#include "runtime/core/log_repeats.h"

#include <algorithm>

namespace annal::log {

bool Repeats::is_due(std::string_view reason, Time now) {
    const auto same = [&](const Told& told) {
        return told.at != Time::min() && told.reason == reason;
    };
    auto place = std::find_if(told_.begin(), told_.end(), same);
    if (place != told_.end() && now - place->at < kAgain) return false;
    const auto earlier = [](const Told& a, const Told& b) { return a.at < b.at; };
    if (place == told_.end()) place = std::min_element(told_.begin(), told_.end(), earlier);
    *place = {std::string(reason), now};
    return true;
}

}  // namespace annal::log
