#include "runtime/cli/commands.h"

#include <csignal>
#include <iostream>

#include "runtime/app/configuration_check.h"
#include "runtime/cli/node.h"
#include "runtime/core/log_stderr.h"

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
    log::take_stderr();
    Runtime runtime(std::move(settings.value()), Runtime::Role{});
    const auto started = runtime.start([](const std::string& address) {
        std::cout << "listening on " << address << std::endl;
    });
    const bool interrupted = !started && started.error().code == Errc::cancelled;
    if (!started && !interrupted)
        return fail(started.error(), started.error().code == Errc::invalid ? kBadInput : kFailed);
    if (started) {
        runtime.wait_for_signal();
        runtime.stop();
    }
    // Its handlers go with the runtime; a signal that is sent again must not end what has ended
    // well.
    sigset_t stopping;
    sigemptyset(&stopping);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&stopping, signal);
    ::pthread_sigmask(SIG_BLOCK, &stopping, nullptr);
    return kDone;
}

}  // namespace annal::cli
