#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "annal/abi.h"

namespace annal {

/// Component types that this host runs, as a manifest's author and a module's author know them.
[[nodiscard]] const std::vector<std::string_view>& known_component_types();

/// Everything that is wrong with `module`, one sentence each; empty when nothing is. Reads no field
/// that lies beyond the stated size of its struct.
[[nodiscard]] std::vector<std::string> module_defects(const annal_module* module);

}  // namespace annal
