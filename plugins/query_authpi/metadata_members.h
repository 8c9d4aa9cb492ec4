#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace authpi {

/// Finds top-level members of a JSON object: `values[i]` becomes the text of the value whose key is
/// `names[i]`, byte for byte and without the space around it, or stays as it was when there is no
/// such key. Names are plain ASCII; a key may be written with escapes.
///
/// `object` is valid JSON, as metadata always is. With a text that is not the values mean nothing,
/// but nothing beyond its end is read. The time is linear in its length.
/// @param values  as many as there are names; borrowed from `object`
void find_members(
    std::string_view object,
    std::span<const std::string_view> names,
    std::span<std::string_view> values
);

}  // namespace authpi
