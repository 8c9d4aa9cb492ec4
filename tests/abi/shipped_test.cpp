#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string_view>

#include "runtime/delivery/destinations.h"
#include "runtime/plugin/instance.h"
#include "runtime/plugin/loader.h"
#include "runtime/plugin/manifest.h"

namespace annal::abi_test {
namespace {

namespace fs = std::filesystem;

void check(const Manifest& manifest, Loader& loader) {
    SCOPED_TRACE(manifest.file.string() + ": " + manifest.instance);
    const auto module = loader.load(manifest.library, manifest.sha256);
    ASSERT_TRUE(module) << module.error().detail;
    const auto component = find_component(manifest, *module.value());
    ASSERT_TRUE(component) << component.error().detail;
    const auto secret = [](const std::string&) { return std::optional<std::string>("secret"); };
    const auto config =
        manifest.destination
            ? Destinations::check_operators_part(manifest, *component.value(), secret)
            : complete_config(manifest.config_json, component.value()->config_schema, secret);
    for (const auto& [pointer, message] : config.errors)
        ADD_FAILURE() << pointer << ": " << message;
    const std::string_view type = component.value()->type;
    EXPECT_EQ(!manifest.http.empty(), type == ANNAL_COMPONENT_HTTP);
    EXPECT_EQ(
        !manifest.events.empty() || manifest.destination.has_value(), type == ANNAL_COMPONENT_SINK
    );
    EXPECT_EQ(!manifest.schedules.empty(), type == ANNAL_COMPONENT_JOB);
}

/// What the server starts with, and what people copy from, fits the plugins that are shipped with
/// it.
TEST(Shipped, EveryManifestFitsItsPlugin) {
    const auto folder = fs::path(ANNAL_SOURCE_DIR) / "manifests";
    const auto set = read_manifests({folder, folder / "examples"});
    for (const auto& error : set.errors) ADD_FAILURE() << error.text();
    EXPECT_GE(set.manifests.size(), 6U);
    Loader loader({fs::path(ANNAL_BINARY_DIR) / "plugins"});
    for (const auto& manifest : set.manifests) check(manifest, loader);
}

}  // namespace
}  // namespace annal::abi_test
