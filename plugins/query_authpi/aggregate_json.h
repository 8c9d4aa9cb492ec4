#pragma once

#include <annal/sdk/buffer.hpp>
#include <annal/sdk/owned.hpp>

#include "parameters.h"

namespace authpi {

/// Appends the answer to an aggregate of `asked`, whose rows the host has put in order.
///
/// Without an interval there is exactly one bucket, be it empty; with one there are only buckets
/// with rows.
void append_aggregate(
    annal::Buffer& out, const Parameters& asked, const annal::Aggregate& aggregate
);

}  // namespace authpi
