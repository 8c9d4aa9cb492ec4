#include "tests/abi/good_module.h"

#include <cstring>

namespace annal::abi_test {
namespace {

annal_status create(const annal_init*, void**, annal_error*) {
    return ANNAL_OK;
}
void destroy(void*) {}
annal_str text(const char* s) {
    return {s, std::strlen(s)};
}

}  // namespace

GoodModule::GoodModule() {
    http = {
        sizeof(http),
        0,
        create,
        destroy,
        [](void*, annal_call*, const annal_request*, const annal_response*) {},
        [](void*, const annal_problem*, const annal_writer*) { return annal_str{}; }};
    format = {
        sizeof(format),
        0,
        text("text/csv; charset=utf-8"),
        text("csv"),
        create,
        destroy,
        [](void*, const annal_pair*, uint32_t, void**, const annal_writer*, annal_error*)
            -> annal_status { return ANNAL_OK; },
        [](void*, const annal_batch*, const annal_writer*, annal_error*) -> annal_status {
            return ANNAL_OK;
        },
        [](void*, const annal_writer*, annal_error*) -> annal_status { return ANNAL_OK; },
        [](void*) {}};
    sink = {
        sizeof(sink),
        0,
        create,
        destroy,
        [](void*, const annal_batch*, const annal_writer*, uint64_t*, annal_error*)
            -> annal_status { return ANNAL_OK; },
        [](void*, const annal_delivery*) {},
        [](void*, annal_str, int64_t*, annal_error*) -> annal_status { return ANNAL_OK; },
        [](void*, annal_call*, annal_str, void*, annal_position_done) {},
        [](void*, annal_call*) {},
        ANNAL_SINK_TAKES_FORMATS,
        [](void*, const annal_delivery*) {}};
    job = {sizeof(job), 0, create, destroy, [](void*, annal_call*, annal_str, int64_t) {}};
    components[0] = {
        sizeof(annal_component), 0, ANNAL_COMPONENT_HTTP, "one-http", kNoSettings, &http, nullptr};
    components[1] = {
        sizeof(annal_component),
        0,
        ANNAL_COMPONENT_FORMAT,
        "one-format",
        kNoSettings,
        &format,
        nullptr};
    components[2] = {
        sizeof(annal_component), 0, ANNAL_COMPONENT_SINK, "one-sink", kNoSettings, &sink, nullptr};
    components[3] = {
        sizeof(annal_component), 0, ANNAL_COMPONENT_JOB, "one-job", kNoSettings, &job, nullptr};
    for (const auto& component : components) list.push_back(&component);
    module = {
        sizeof(annal_module),
        ANNAL_ABI_MAJOR,
        ANNAL_ABI_MINOR,
        "com.example.good",
        "1.2.3",
        "Example",
        "Apache-2.0",
        static_cast<uint32_t>(list.size()),
        0,
        list.data()};
}

}  // namespace annal::abi_test
