#pragma once

#include "annal/abi.h"
#include "runtime/core/result.h"
#include "runtime/store/filter.h"

namespace annal {

/// The contract's list of terms as the store's filter; null means all events. Every term holds:
/// terms about one field narrow each other, and where two can't both hold the filter matches
/// nothing.
///
/// @error Errc::invalid        An unknown field, an operator that the field does not have, a value
/// that is missing or too
///                             long, more than 64 terms; the detail names the term.
/// @error Errc::unprocessable  A pattern that is none.
[[nodiscard]] Result<Filter> to_filter(const annal_filter* filter);

/// The column of ANNAL_FIELD_ACTION … ANNAL_FIELD_IP. @error Errc::invalid  Another field.
[[nodiscard]] Result<Column> to_column(std::uint32_t field);

}  // namespace annal
