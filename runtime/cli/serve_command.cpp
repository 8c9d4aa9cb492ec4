#include "runtime/cli/commands.h"

#include <csignal>
#include <iostream>

#include "runtime/app/configuration_check.h"
#include "runtime/cli/node.h"

namespace annal::cli {

namespace {

int check_only(const Arguments& arguments) {
    const auto [errors, summary] = check_configuration(arguments.config, process_environment());
    if (!errors.empty()) {
        std::cerr << errors;
        return kBadInput;
    }
    std::cout << "the configuration is good\n" << summary;
    return kDone;
}

}  // namespace

int serve(const Arguments& arguments) {
    if (arguments.check) return check_only(arguments);
    auto settings = settings_of(arguments);
    if (!settings) return fail(settings.error(), kBadInput);
    Runtime runtime(std::move(settings.value()), Runtime::Role{});
    auto started = runtime.start();
    if (!started)
        return fail(started.error(), started.error().code == Errc::invalid ? kBadInput : kFailed);
    std::cout << "listening on " << runtime.address() << std::endl;
    runtime.wait_for_signal();
    runtime.stop();
    // Its handlers go with the runtime; a signal that is sent again must not end what has ended
    // well.
    sigset_t stopping;
    sigemptyset(&stopping);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&stopping, signal);
    ::pthread_sigmask(SIG_BLOCK, &stopping, nullptr);
    return kDone;
}

/// Opening the store brings its schema up to date; a command's own runtime does just that.
int migrate(const Arguments& arguments) {
    return with_node(arguments, [](Node&) -> Result<int> {
        std::cout << "the store is at this program's schema\n";
        return kDone;
    });
}

}  // namespace annal::cli
