#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/support/mini_host.h"
#include "tests/support/parsed_json.h"

namespace authpi {

using Pairs = std::vector<std::pair<std::string, std::string>>;
using Ids = std::vector<std::string>;

inline constexpr const char* kAccount = "proj_1";  // the project of the host's calls

/// The plugin in a host that calls back within the call, and in one that does it from a thread.
class PluginTest : public testing::TestWithParam<bool> {
protected:
    annal::test::Reply ask(
        const std::string& trigger, Pairs query = {}, Pairs params = {{"account_id", kAccount}}
    ) {
        const annal::test::Instance plugin(host_, *annal_module_v1()->components[0]);
        EXPECT_EQ(plugin.status(), ANNAL_OK) << plugin.error();
        annal::test::RequestSpec spec;
        spec.path = "/v1/accounts/proj_1/events";
        spec.trigger = trigger;
        spec.query = std::move(query);
        spec.params = std::move(params);
        const annal::test::Reply reply =
            host_.request(plugin.table<annal_http_v1>(), plugin.self(), spec);
        EXPECT_FALSE(reply.error);
        EXPECT_TRUE(reply.finished);
        EXPECT_EQ(reply.headers.at("content-type"), "application/json");
        return reply;
    }
    annal::test::Reply get(const std::string& id) {
        return ask("get", {}, {{"account_id", kAccount}, {"event_id", id}});
    }
    /// Of the events of a page.
    static Ids ids(const annal::test::Reply& reply) {
        EXPECT_EQ(reply.status, 200U) << reply.body;
        const annal::Json page = annal::test::parse(reply.body);
        Ids out;
        for (const annal::Json& event : page.find("data")->items())
            out.push_back(event.find("id")->string());
        return out;
    }
    static void expect_error(
        const annal::test::Reply& reply,
        std::uint32_t status,
        const char* error,
        const std::string& words = ""
    ) {
        EXPECT_EQ(reply.status, status) << reply.body;
        const annal::Json document = annal::test::parse(reply.body);
        ASSERT_EQ(document.members().size(), 3U) << reply.body;
        EXPECT_EQ(document.find("error")->string(), error) << reply.body;
        EXPECT_EQ(document.find("request_id")->string(), "req_1");
        const std::string& description = document.find("error_description")->string();
        EXPECT_FALSE(description.empty());
        EXPECT_NE(description.find(words), std::string::npos) << description;
    }

    annal::test::MiniHost host_{GetParam()};
};

}  // namespace authpi
