#pragma once

#include <atomic>

namespace annal {

/// Takes a turn that one may have at a time, until this object ends; never waits.
///
/// Threads: any.
class Turn {
public:
    /// @param taken  outlives this object; true while somebody has the turn
    explicit Turn(std::atomic<bool>& taken) : taken_(taken), mine_(!taken.exchange(true)) {}
    ~Turn() {
        if (mine_) taken_ = false;
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    /// False: somebody else has it.
    [[nodiscard]] bool mine() const { return mine_; }

private:
    std::atomic<bool>& taken_;
    const bool mine_;
};

}  // namespace annal
