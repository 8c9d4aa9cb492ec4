#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"

namespace annal {

/// Keeps small secrets (signing keys, credentials) in rows that others may see: AES-256-GCM under a
/// key of the secret's own, which in turn is encrypted under a master key.
///
/// What is sealed names its project, its object and its master key, and all three are
/// authenticated: moved to another row it does not open. Thread-safe: never changes.
class SecretBox {
public:
    struct MasterKey {
        std::string id;     ///< without '.'
        std::string bytes;  ///< 32
    };
    /// @param keys  at least one; the first seals, all open
    explicit SecretBox(std::vector<MasterKey> keys);

    [[nodiscard]] std::string seal(
        std::string_view project, std::string_view object, std::string_view plain
    ) const;
    /// @error Errc::unavailable  It is sealed under a master key that this node does not have; the
    /// detail names it.
    /// @error Errc::internal     Damaged, or of another project or object.
    [[nodiscard]] Result<std::string> open(
        std::string_view project, std::string_view object, std::string_view sealed
    ) const;
    /// Whether it is sealed under the first key.
    [[nodiscard]] bool is_current(std::string_view sealed) const;

private:
    [[nodiscard]] const MasterKey* find(std::string_view id) const;
    std::vector<MasterKey> keys_;
};

}  // namespace annal
