#include <iostream>

#include "runtime/app/key_ring.h"
#include "runtime/cli/commands.h"

namespace annal::cli {

int secrets_new_key(const Arguments& /*arguments*/) {
    std::cout << KeyRing::new_line();
    return kDone;
}

}  // namespace annal::cli
