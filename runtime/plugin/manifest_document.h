#pragma once

#include "runtime/plugin/manifest_node.h"

namespace annal {

/// Reads one document into `out`, as much of it as is well. Every error goes to the field's
/// `ManifestErrors`; false when there was one.
[[nodiscard]] bool read_document(const ManifestField& document, Manifest& out);

}  // namespace annal
