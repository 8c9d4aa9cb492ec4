#pragma once

#include <vector>

#include "runtime/store/postgres/connection.h"

namespace annal::postgres {

/// Takes what was erased out of the files of these months' partitions and of the key space, once
/// no transaction can see it any more. A table of at most `kRewriteBytesMax` is written anew
/// (VACUUM FULL, which keeps everybody from it meanwhile), so that no page holds a dead row's
/// bytes. A larger one is vacuumed beside its readers and writers: nothing leads to the rows any
/// more, and their bytes stay in free space until it is used again.
///
/// The connection is the caller's alone, and direct: it gets settings of its own.
/// Takes turns with the sealing of months.
/// @return false: somebody reads what shall go, or is in the way; to be repeated
[[nodiscard]] Result<bool> purge_erased(Connection& db, const std::vector<Month>& months);

inline constexpr std::int64_t kRewriteBytesMax = std::int64_t{256} << 20;

}  // namespace annal::postgres
