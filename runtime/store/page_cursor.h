#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/store/filter.h"

namespace annal {

/// Makes and checks the opaque cursors of lists and exports: a seq, bound to project, filter and
/// order, authenticated with a key derived from the node's key ring. Thread-safe.
class CursorCodec {
public:
    explicit CursorCodec(std::string_view key) : keys_{std::string(key)} {}
    /// @param keys  at least one; the first seals, all open
    explicit CursorCodec(std::vector<std::string> keys) : keys_(std::move(keys)) {}
    [[nodiscard]] std::string seal(
        std::string_view project, const Filter& filter, bool newest_first, Seq after
    ) const;
    /// @error Errc::invalid  Altered, foreign, or made for another filter or order.
    [[nodiscard]] Result<Seq> open(
        std::string_view cursor, std::string_view project, const Filter& filter, bool newest_first
    ) const;

private:
    [[nodiscard]] bool is_ours(
        std::string_view payload, std::string_view sent_mac, std::string_view project
    ) const;
    std::vector<std::string> keys_;
};

}  // namespace annal
