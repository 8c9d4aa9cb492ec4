#pragma once

#include <memory>

#include "runtime/http/exchange.h"
#include "runtime/http/export.h"
#include "runtime/http/tail.h"
#include "runtime/plugin/instance.h"

namespace annal::http {

/// The requests and answers of an annal.http/1 instance: `Exchange` on one side, `annal_request`
/// and `annal_response` on the other.
///
/// A handler that neither answers nor completes within the manifest's timeout costs only its own
/// request (503); the time that the client takes to send its body or to take the answer does not
/// count. An answer that was begun and on which nothing has happened for a minute (or the timeout,
/// if that is longer) is cut. Whatever the plugin does with such a request later gets
/// ANNAL_CANCELLED. Bodies of the NDJSON media types are streamed without a limit on the whole.
/// Threads: the plugin's functions run on the connection's executor; it may answer from any thread.
[[nodiscard]] std::shared_ptr<Handler> make_plugin_handler(
    std::shared_ptr<Instance> instance, HostEnvironment& environment
);

/// Gives annal.export/1 its other end: exports answer the exchange behind a plugin's
/// `annal_response`. `exporter` must outlive every call.
void connect_exports(HostEnvironment& environment, Exporter& exporter);
/// The same for its live tails.
void connect_tails(HostEnvironment& environment, TailHub& tails);

}  // namespace annal::http
