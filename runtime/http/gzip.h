#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/core/result.h"

namespace annal::http {

/// Undoes gzip piece by piece, in constant memory (about 40 KiB); several members one after the
/// other count as one body. One thread at a time.
class GzipReader {
public:
    GzipReader();
    ~GzipReader();

    /// Decodes from `input` onto the end of `out` until `input` is used up or `out` holds
    /// `size_max` bytes; what was used is cut off the front of `input`. With an empty `input` it
    /// goes on with what is still inside.
    /// @error Errc::invalid  Not gzip, or damaged.
    [[nodiscard]] Result<void> decode(
        std::string_view& input, std::string& out, std::size_t size_max
    );
    /// More comes out without more input.
    [[nodiscard]] bool pending() const;
    /// Everything fed so far was whole members (nothing at all counts as whole).
    [[nodiscard]] bool whole() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace annal::http
