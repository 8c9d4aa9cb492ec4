#pragma once

#include <string>
#include <vector>

#include "runtime/plugin/manifest_node.h"

namespace annal {

/// The documents of a file. A syntax error goes to `errors`, and the complete documents before it
/// are returned.
[[nodiscard]] std::vector<YAML::Node> read_yaml(const std::string& text, ManifestErrors& errors);

}  // namespace annal
