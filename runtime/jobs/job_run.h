#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runtime/core/clock.h"

namespace annal {

/// How a run of a job went.
struct JobRun {
    std::string instance, trigger;
    std::string node;  ///< that did it
    TimeUs scheduled = kNoTime, started = kNoTime, ended = kNoTime;
    std::string error;   ///< empty: it went well
    std::string report;  ///< a JSON object, or empty: it had nothing to show

    [[nodiscard]] std::string to_row() const;
    /// Nothing: the row is damaged.
    [[nodiscard]] static std::optional<JobRun> of_row(std::string_view row);
};

}  // namespace annal
