#include "runtime/cli/commands.h"

#include <iostream>

#include "runtime/cli/node.h"

namespace annal::cli {

int confirm_clock(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        LocalClient::Call call;
        call.method = "POST";
        call.target = "/v1/clock/confirm";
        BOOST_OUTCOME_TRYV(node.send(call));
        std::cout << "the wall clock is taken for right\n";
        return kDone;
    });
}

}  // namespace annal::cli
