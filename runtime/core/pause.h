#pragma once

#include <chrono>

#include "runtime/core/task.h"

namespace annal {

/// Returns, on the caller's executor, when so much time has passed. Nothing ends it sooner.
[[nodiscard]] Task<void> pause_for(std::chrono::milliseconds time);

}  // namespace annal
