#pragma once

#include <string>
#include <vector>

#include "runtime/app/node_settings.h"
#include "runtime/plugin/manifest.h"

namespace annal {

/// What is wrong with `manifests` and what they name, as far as can be told without running a
/// component's code: libraries, components, configurations. One message a line.
[[nodiscard]] std::string check_manifests(
    const ManifestSet& manifests, const NodeSettings& settings, const SecretLookup& secret
);

struct ConfigurationReport {
    std::string errors;   ///< every one on a line of its own, with file and line where known
    std::string summary;  ///< what would be served; several lines
};

/// Whether a node would start with this configuration. Loads plugin libraries; changes nothing on
/// disk, takes no lock and binds no port, so it may run beside the server that it is meant for.
[[nodiscard]] ConfigurationReport check_configuration(
    const std::filesystem::path& file, const Environment& environment
);

}  // namespace annal
