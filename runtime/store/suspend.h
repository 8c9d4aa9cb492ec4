#pragma once

#include <functional>
#include <memory>

#include "runtime/core/task.h"

namespace annal {

/// Wakes a suspended coroutine on its own executor; call it once, from any thread.
class Done {
public:
    virtual ~Done() = default;
    virtual void operator()() = 0;
};

/// Suspends the caller, hands its `Done` to `start`, and goes on when that is called.
[[nodiscard]] Task<void> suspend(std::function<void(std::shared_ptr<Done>)> start);

}  // namespace annal
