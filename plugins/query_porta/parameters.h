#pragma once

#include <annal/sdk/http.hpp>

#include <cstdint>
#include <optional>

namespace porta {

/// Of page numbers: what every JSON client holds exactly, and no product with a page's size
/// overflows.
inline constexpr std::int64_t kPageMax = (std::int64_t{1} << 53) - 1;
inline constexpr std::int64_t kPageSizeMax = 100;

/// The query of a list, read and checked. Text is borrowed from the request.
struct ListParameters {
    annal::Filter filter;
    std::int64_t page = 1;
    std::int64_t page_size = 20;

    /// Matches on the pages before.
    [[nodiscard]] std::int64_t skip() const { return (page - 1) * page_size; }
};

/// Reads the query of `request`. Unknown parameters are passed over; an empty value and `null`
/// count as absent. A value that is out of its range, or a parameter that is repeated, comes back
/// as a 400 that names it.
[[nodiscard]] std::optional<annal::Problem> read_list_parameters(
    const annal::Request& request, ListParameters& out
);

}  // namespace porta
