#pragma once

#include <annal/sdk.hpp>
#include <annal/sdk/parameters.hpp>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "entry.h"

namespace logging {

/// What a list asks for, read and checked. Text is borrowed from the request.
struct ListParameters {
    annal::Filter filter;
    annal_str cursor = annal::kNull;
    std::uint32_t limit = 50;
    bool oldest_first = false;
    bool include_total = true;
};

/// The query parameters of the list: those of its pages, and each filter by `field__op`, and by
/// `field` where an operator goes without saying. One table of fields makes both this and what
/// /filters tells. Threads: any.
class ListGrammar {
public:
    ListGrammar();
    ListGrammar(const ListGrammar&) = delete;
    ListGrammar& operator=(const ListGrammar&) = delete;

    /// Fills `out`, or says which parameter is wrong and what is allowed in its place: unknown,
    /// given twice, empty or malformed.
    [[nodiscard]] std::optional<std::string> read(
        const annal::Request& request, ListParameters& out
    ) const;

private:
    std::deque<std::string> names_;
    std::vector<annal::Parameter<ListParameters>> table_;
};

/// Appends what the list can be filtered and sorted by.
void append_filter_metadata(Json& json);

}  // namespace logging
