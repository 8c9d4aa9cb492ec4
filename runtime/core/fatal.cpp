#include "runtime/core/fatal.h"

#include <cstdlib>

#include "runtime/core/log.h"

namespace annal {
namespace {

constexpr int kExitSoftware = 70;  // EX_SOFTWARE of sysexits.h

}  // namespace

void fatal(std::string_view event, std::string_view detail) {
    log::error(event, {{"detail", detail}});
    std::_Exit(kExitSoftware);
}

}  // namespace annal
