#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runtime/core/result.h"
#include "runtime/http/exchange.h"

namespace annal::http {

/// Undoes %XX. Null when an escape is broken, or when the result has U+0000 or is not UTF-8.
[[nodiscard]] std::optional<std::string> percent_decode(std::string_view text);

/// Takes a query string (without the `?`) apart: `&` separates, `+` is a space, %XX is undone,
/// order and duplicates are kept, a name without `=` has an empty value, empty pieces are passed
/// over.
/// @error Errc::invalid  A broken escape, U+0000 or bytes that are not UTF-8; the detail names the
/// parameter by number.
[[nodiscard]] Result<Pairs> parse_query(std::string_view query);

}  // namespace annal::http
