/// Everything a plugin's author needs: a class for each component, and one line that makes the
/// library a plugin.
///
///     #include <annal/sdk.hpp>
///
///     struct AcmeSink : annal::Sink {
///         static constexpr auto kName = "acme";
///         std::string path;
///         static auto config() { return std::tuple{annal::required("path", &AcmeSink::path)}; }
///
///         annal::Status encode(const annal::Batch& batch, annal::Encoder& out) { return
///         out.append_lines(batch); } annal::Outcome send(const annal::Delivery& delivery) {
///             std::ofstream file(path, std::ios::app);
///             file << delivery.payload() << std::flush;
///             return file ? annal::delivered() : annal::retry("can't write " + path);
///         }
///     };
///     ANNAL_PLUGIN("com.acme.audit-sink", "1.0.0", "Acme", "Apache-2.0", AcmeSink)
///
/// Header-only C++20 over `annal/abi.h`, which says what the host promises; depends on std alone.
/// Every function that the host calls catches what the author throws and fails closed: a sink
/// retries, a handler answers 500, a format reports a defect. A service that the manifest does not
/// permit gives a failed Status, never a crash.
#pragma once

#include <annal/sdk/format.hpp>
#include <annal/sdk/http.hpp>
#include <annal/sdk/http_answer.hpp>
#include <annal/sdk/job.hpp>
#include <annal/sdk/module.hpp>
#include <annal/sdk/sink.hpp>
