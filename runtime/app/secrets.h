#pragma once

#include <filesystem>

#include "runtime/app/node_settings.h"
#include "runtime/plugin/manifest.h"

namespace annal {

/// Secrets that manifests name: ANNAL_SECRET_<NAME>, or the file DATA_DIR/secrets/<name>.
[[nodiscard]] SecretLookup make_secret_lookup(
    const std::filesystem::path& data_dir, Environment environment
);

}  // namespace annal
