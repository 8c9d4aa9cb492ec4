#pragma once

#include <array>

#include "runtime/core/secret_box.h"
#include "runtime/store/event_store.h"

namespace annal::control {

/// A key space whose rows hold sealed secrets: JSON objects with texts of `SecretBox` in them.
struct SealedSpace {
    const char* space;
    /// Members that are sealed texts, where a row has them.
    std::array<const char*, 2> members;
    /// The member that names the object which they are sealed for, where a row has it; else, and
    /// where this is null, it is the row's key.
    const char* object;
};

/// All that is sealed in a store; what is not in this list is lost with the key it is sealed under.
inline constexpr std::array kSealedSpaces{
    SealedSpace{"host.streams", {"sealed", nullptr}, "parent"},  // AuditStream; a replay's parent
    SealedSpace{"host.webhooks", {"sealed", "sealed_before"}, nullptr},
};

/// What is sealed in a row.
struct SealedRow {
    std::size_t secrets = 0;
    std::string resealed;  ///< its value under the box's first key; empty: it is already
};
/// Everything else in the row stays as it is to the byte.
/// @error Errc::internal  The row or a secret of it is damaged. @error  As `SecretBox::open`.
[[nodiscard]] Result<SealedRow> reseal(
    const SealedSpace& space, const KvRow& row, const SecretBox& box
);

}  // namespace annal::control
