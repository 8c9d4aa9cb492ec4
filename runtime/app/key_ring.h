#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/core/secret_box.h"

namespace annal {

/// The node's master keys: a file of `kid:hex` lines, 32 bytes each; the first is the current one.
/// Other keys derive from it, each for one purpose.
class KeyRing {
public:
    /// Reads the file, or makes it (mode 0600, one random key) when it is absent and `create`.
    /// @error Errc::unavailable  Can't be read or written. @error Errc::invalid  A line is damaged.
    /// @error Errc::denied  Others than its owner may read it. @error Errc::not_found  Absent, and
    /// not to be made.
    [[nodiscard]] static Result<KeyRing> open(const std::filesystem::path& file, bool create);

    /// A new random key as the line of a file.
    [[nodiscard]] static std::string new_line();

    /// 32 bytes for `purpose` ("page cursor"), the same for the same ring.
    [[nodiscard]] std::string derive(std::string_view purpose) const;

    /// Seals secrets under the current key and opens those of every key of the ring.
    [[nodiscard]] SecretBox secret_box() const;

    /// Tells rings apart, and nothing about them: what nodes of one database compare.
    [[nodiscard]] std::string fingerprint() const;

private:
    std::string current_;
    std::vector<SecretBox::MasterKey> keys_;
};

}  // namespace annal
