#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace annal {

/// What would keep `open_sqlite_store` from this directory, as far as can be told without touching
/// anything: a path that can't be made or written, files that are no databases or of a newer
/// program. Takes no lock, so a running server does not matter.
[[nodiscard]] std::vector<std::string> precheck_sqlite_store(const std::filesystem::path& directory
);

}  // namespace annal
