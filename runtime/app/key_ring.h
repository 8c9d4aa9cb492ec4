#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/core/secret_box.h"

namespace annal {

/// The node's master keys: a file of `kid:hex` lines, 32 bytes each; the first is the current one.
/// Other keys derive from them, each for one purpose.
class KeyRing {
public:
    /// Reads the file, or makes it (mode 0600, one random key) when it is absent and `create`.
    /// @error Errc::unavailable  Can't be read or written. @error Errc::invalid  A line is damaged,
    /// or has the id of another. @error Errc::denied  Others than its owner may read it. @error
    /// Errc::not_found  Absent, and not to be made.
    [[nodiscard]] static Result<KeyRing> open(const std::filesystem::path& file, bool create);

    /// A new random key as the line of a file.
    [[nodiscard]] static std::string new_line(std::string_view id = "k1");
    /// Whether a key may be called so: 1 to 32 letters, digits, '-' or '_'.
    [[nodiscard]] static bool is_id(std::string_view id);

    /// 32 bytes for `purpose` ("page cursor"), the same for the same current key.
    [[nodiscard]] std::string derive(std::string_view purpose) const;
    /// Those of every key, the current one's first.
    [[nodiscard]] std::vector<std::string> derive_all(std::string_view purpose) const;

    /// Seals secrets under the current key and opens those of every key of the ring.
    [[nodiscard]] SecretBox secret_box() const;

    /// Of every key, the current one's first: tells keys apart, and nothing about them. What nodes
    /// of one database compare.
    [[nodiscard]] std::vector<std::string> fingerprints() const;
    /// In the order of the file.
    [[nodiscard]] std::vector<std::string> ids() const;

private:
    struct Key {
        std::string id, bytes;
    };
    std::vector<Key> keys_;
};

}  // namespace annal
