#pragma once

#include <string>
#include <vector>

#include "annal/abi.h"

namespace annal::abi_test {

/// A module in memory with one component of each type, all of them sound: what each negative test
/// spoils in one place. Its tables are its own, so that a test may write to them; not to be moved.
struct GoodModule {
    GoodModule();
    GoodModule(const GoodModule&) = delete;
    GoodModule& operator=(const GoodModule&) = delete;

    annal_http_v1 http{};
    annal_format_v1 format{};
    annal_sink_v1 sink{};
    annal_job_v1 job{};
    annal_component components[4]{};
    std::vector<const annal_component*> list;
    annal_module module{};
};

inline constexpr const char* kNoSettings = R"({"type":"object","additionalProperties":false})";

}  // namespace annal::abi_test
