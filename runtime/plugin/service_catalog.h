#pragma once

#include <string>

#include "runtime/plugin/settings.h"

namespace annal {

/// Whether `project` takes known actions only (setting `catalog`).
[[nodiscard]] inline bool is_strict(const Settings* settings, const std::string& project) {
    if (settings == nullptr) return false;
    const auto value = settings->get(project, "catalog");
    return value && value.value() == "\"strict\"";
}

}  // namespace annal
