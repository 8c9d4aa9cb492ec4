#include "runtime/plugin/instance.h"

#include <gtest/gtest.h>

#include "runtime/plugin/http_client.h"
#include "tests/support/test_host.h"

namespace annal {
namespace {

using test::TestHost;
using test::TestPlugin;

annal_status fail_with(annal_error* error, annal_status code, std::string_view text) {
    error->code = code;
    error->text_len = static_cast<std::uint32_t>(text.size());
    std::copy(text.begin(), text.end(), error->text);
    return code;
}

TEST(Instance, IsCreatedWithItsCompletedConfigurationAndDestroyed) {
    TestHost host;
    TestPlugin plugin;
    {
        const auto instance = plugin.create(host.environment);
        ASSERT_TRUE(instance) << instance.error().detail;
        EXPECT_EQ(plugin.instance_name, "test-plugin");
        EXPECT_NE(plugin.config.find("\"size\":7"), std::string::npos) << plugin.config;
        EXPECT_EQ(instance.value()->manifest().instance, "test-plugin");
        EXPECT_EQ(instance.value()->self(), &plugin);
        EXPECT_STREQ(instance.value()->component().name, "test");
        EXPECT_EQ(plugin.host->abi_major, ANNAL_ABI_MAJOR);
        EXPECT_EQ(plugin.created, 1);
        EXPECT_EQ(plugin.destroyed, 0);
    }
    EXPECT_EQ(plugin.destroyed, 1);
}

TEST(Instance, RefusesAConfigurationAgainstTheSchemaWithEveryError) {
    TestHost host;
    TestPlugin plugin;
    plugin.manifest.config_json = R"({"size":"big","colour":"red"})";
    const auto instance = plugin.create(host.environment);
    ASSERT_FALSE(instance);
    EXPECT_EQ(instance.error().code, Errc::unprocessable);
    EXPECT_NE(instance.error().detail.find("size"), std::string::npos) << instance.error().detail;
    EXPECT_NE(instance.error().detail.find("colour"), std::string::npos) << instance.error().detail;
    EXPECT_EQ(plugin.created, 0);
}

TEST(Instance, SaysWhyCreateFailedAndDestroysNothing) {
    TestHost host;
    TestPlugin plugin;
    plugin.on_create = [](const annal_init*, annal_error* error) {
        return fail_with(error, ANNAL_UNAVAILABLE, "the bucket is not there");
    };
    {
        const auto instance = plugin.create(host.environment);
        ASSERT_FALSE(instance);
        EXPECT_EQ(instance.error().code, Errc::unavailable);
        EXPECT_EQ(instance.error().detail, "test-plugin: the bucket is not there");
    }
    EXPECT_EQ(plugin.destroyed, 0);
    plugin.on_create = [](const annal_init*, annal_error*) { return annal_status{ANNAL_DENIED}; };
    const auto silent = plugin.create(host.environment);
    EXPECT_EQ(silent.error().code, Errc::denied);
    EXPECT_NE(silent.error().detail.find("without saying why"), std::string::npos);
}

TEST(Instance, NamesTheComponentsThereAre) {
    TestHost host;
    TestPlugin plugin;
    plugin.manifest.component = "tset";
    const auto instance = plugin.create(host.environment);
    ASSERT_FALSE(instance);
    EXPECT_EQ(instance.error().code, Errc::not_found);
    EXPECT_NE(instance.error().detail.find("it has: test"), std::string::npos)
        << instance.error().detail;
    plugin.manifest.component = "test";
    EXPECT_TRUE(plugin.create(host.environment));
}

TEST(Instance, OfAModuleWithSeveralComponentsMustNameOne) {
    static const annal_http_v1 table{};
    static const annal_component a{
        sizeof(annal_component), 0, ANNAL_COMPONENT_HTTP, "one", "{}", &table, nullptr};
    static const annal_component b{
        sizeof(annal_component), 0, "annal.future/9", "two", "{}", &table, nullptr};
    static const annal_component* const components[] = {&a, &b};
    static const annal_module descriptor{
        sizeof(annal_module), 1, 0, "dev.annal.two", "1", "", "", 2, 0, components};
    const Module module{&descriptor, {}, {}};
    Manifest manifest;
    manifest.instance = "which";
    const auto found = find_component(manifest, module);
    ASSERT_FALSE(found);
    EXPECT_NE(found.error().detail.find("one, two"), std::string::npos) << found.error().detail;
    manifest.component = "two";
    EXPECT_EQ(find_component(manifest, module).value(), &b);
    TestHost host;
    EXPECT_EQ(Instance::create(manifest, module, host.environment).error().code, Errc::unsupported);
}

constexpr const char* kAllServices[] = {
    ANNAL_SERVICE_LOG,
    ANNAL_SERVICE_METRICS,
    ANNAL_SERVICE_CLOCK,
    ANNAL_SERVICE_CODEC,
    ANNAL_SERVICE_STORE,
    ANNAL_SERVICE_BUS,
    ANNAL_SERVICE_KV,
    ANNAL_SERVICE_HTTP_CLIENT,
    ANNAL_SERVICE_SECRETS,
    ANNAL_SERVICE_CONFIG,
    ANNAL_SERVICE_EXPORT,
};

std::vector<std::string> services_of(const TestPlugin& plugin) {
    std::vector<std::string> out;
    for (const char* id : kAllServices) {
        if (plugin.host->service(plugin.host->ctx, id) != nullptr) out.emplace_back(id);
    }
    return out;
}

TEST(Instance, FindsOnlyWhatNeedsNoPermissionWithoutAny) {
    TestHost host;
    TestPlugin plugin;
    host.environment.secrets = [](const std::string&) { return std::string("secret"); };
    const auto instance = plugin.create(host.environment).value();
    EXPECT_EQ(
        services_of(plugin),
        (std::vector<std::string>{
            ANNAL_SERVICE_LOG, ANNAL_SERVICE_METRICS, ANNAL_SERVICE_CLOCK, ANNAL_SERVICE_CODEC})
    );
    EXPECT_EQ(host.environment.http_client, nullptr) << "no threads for what nobody may use";
}

TEST(Instance, FindsEachServiceByItsOwnPermission) {
    TestHost host;
    host.environment.secrets = [](const std::string&) { return std::string("secret"); };
    const std::pair<std::function<void(Permissions&)>, const char*> grants[] = {
        {[](Permissions& p) { p.store_read = true; }, ANNAL_SERVICE_STORE},
        {[](Permissions& p) { p.append = true; }, ANNAL_SERVICE_BUS},
        {[](Permissions& p) { p.kv = true; }, ANNAL_SERVICE_KV},
        {[](Permissions& p) { p.http = {"example.com:443"}; }, ANNAL_SERVICE_HTTP_CLIENT},
        {[](Permissions& p) { p.secrets = {"token"}; }, ANNAL_SERVICE_SECRETS},
        {[](Permissions& p) { p.config = true; }, ANNAL_SERVICE_CONFIG},
        {[](Permissions& p) { p.export_ = true; }, ANNAL_SERVICE_EXPORT},
    };
    for (const auto& [grant, id] : grants) {
        TestPlugin plugin;
        grant(plugin.manifest.permissions);
        const auto instance = plugin.create(host.environment).value();
        const auto found = services_of(plugin);
        EXPECT_EQ(found.size(), 5U) << id;
        EXPECT_NE(std::find(found.begin(), found.end(), id), found.end()) << id;
    }
}

TEST(Instance, GetsEraseOnlyWithThePermissionToDelete) {
    TestHost host;
    TestPlugin plugin;
    plugin.manifest.permissions.store_read = true;
    auto instance = plugin.create(host.environment).value();
    EXPECT_EQ(plugin.service<annal_store_v1>(ANNAL_SERVICE_STORE)->erase, nullptr);
    plugin.manifest.permissions.store_delete = true;
    instance = plugin.create(host.environment).value();
    EXPECT_NE(plugin.service<annal_store_v1>(ANNAL_SERVICE_STORE)->erase, nullptr);
}

TEST(Instance, FindsNothingUnderUnknownOrNewerIds) {
    TestHost host;
    TestPlugin plugin;
    const auto instance = plugin.create(host.environment).value();
    for (const char* id : {"annal.log/2", "annal.log", "", "annal.sorcery/1"}) {
        EXPECT_EQ(plugin.host->service(plugin.host->ctx, id), nullptr) << id;
    }
    EXPECT_EQ(plugin.host->service(plugin.host->ctx, nullptr), nullptr);
    EXPECT_EQ(plugin.host->service(nullptr, ANNAL_SERVICE_LOG), nullptr);
}

TEST(Instance, RefusesAllowedRangesThatAreNone) {
    TestHost host;
    host.environment.allow_cidrs = {"not-a-range"};
    TestPlugin plugin;
    plugin.manifest.permissions.http = {"example.com:443"};
    EXPECT_EQ(plugin.create(host.environment).error().code, Errc::invalid);
}

TEST(Host, AllocatesCancelsAndCompletesThroughHandles) {
    TestHost host;
    TestPlugin plugin;
    const auto instance = plugin.create(host.environment).value();
    test::TestCall call;
    EXPECT_NE(plugin.host->alloc(call.handle, 10, 8), nullptr);
    EXPECT_EQ(plugin.host->cancelled(call.handle), 0);
    call.cancel();
    EXPECT_EQ(plugin.host->cancelled(call.handle), 1);
    plugin.host->complete(call.handle, nullptr);
    EXPECT_EQ(call.completions(), 1);
    EXPECT_EQ(plugin.host->alloc(call.handle, 10, 8), nullptr) << "a completed call has no arena";
    EXPECT_EQ(plugin.host->cancelled(call.handle), 1);
    testing::internal::CaptureStderr();
    plugin.host->complete(call.handle, nullptr);
    EXPECT_NE(
        testing::internal::GetCapturedStderr().find("plugin.call_completed_twice"),
        std::string::npos
    );
    EXPECT_EQ(call.completions(), 1);
}

}  // namespace
}  // namespace annal
