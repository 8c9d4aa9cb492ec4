#include "runtime/core/fatal.h"

#include <cstdlib>

#include "runtime/core/log.h"

namespace annal {

void fatal(std::string_view event, std::string_view detail) {
    constexpr int kExitSoftware = 70;
    log::error(event, {{"detail", detail}});
    std::_Exit(kExitSoftware);
}

}  // namespace annal
