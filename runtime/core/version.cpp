#include "runtime/core/version.h"

namespace annal {

std::string_view version() {
    return ANNAL_VERSION;
}

}  // namespace annal
