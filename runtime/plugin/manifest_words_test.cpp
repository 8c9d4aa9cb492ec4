#include "runtime/plugin/manifest_words.h"

#include <gtest/gtest.h>

#include <array>

namespace annal {
namespace {

TEST(ManifestWords, Routes) {
    for (const char* good : {"/", "/v1", "/v1/audit/events.{format}", "/{a}/{b}", "/a~b/c@d:e"}) {
        EXPECT_FALSE(route_defect(good)) << good << *route_defect(good);
    }
    for (const char* bad : {"",       "v1",   "/a/",  "//",       "/a//b", "/a b",  "/a?b",
                            "/a#b",   "/%41", "/{",   "/{}",      "/{a",   "/a}",   "/{a}{b}",
                            "/{a}.b", "/{A}", "/{1}", "/{a}/{a}", "/.",    "/../x", "/\xC3\xA9"}) {
        EXPECT_TRUE(route_defect(bad)) << bad;
    }
    EXPECT_TRUE(route_defect("/" + std::string(512, 'a')));
    EXPECT_FALSE(route_defect("/" + std::string(511, 'a')));
}

TEST(ManifestWords, RoutesOfOneShapeAnswerTheSamePaths) {
    EXPECT_EQ(route_shape("/a/{id}/b"), route_shape("/a/{name}/b"));
    EXPECT_NE(route_shape("/a/{id}/b"), route_shape("/a/{id}/c"));
    EXPECT_NE(route_shape("/a/{id}"), route_shape("/a/x{id}"));
}

TEST(ManifestWords, NearMissesAreSuggested) {
    const std::array<std::string_view, 3> words = {"scope", "route", "methods"};
    EXPECT_EQ(did_you_mean("scoep", words), " (did you mean \"scope\"?)");
    EXPECT_EQ(did_you_mean("Methods", words), " (did you mean \"methods\"?)");
    EXPECT_EQ(did_you_mean("method", words), " (did you mean \"methods\"?)");
    EXPECT_EQ(did_you_mean("colour", words), "");
    EXPECT_EQ(did_you_mean("", words), "");
    EXPECT_EQ(did_you_mean(std::string(100'000, 'a'), words), "");
}

TEST(ManifestWords, QuotingIsSafeToPrint) {
    EXPECT_EQ(in_quotes("a\nb\x1b"), "\"a\\x0ab\\x1b\"");
    const std::string umlauts = "x" + std::string(40, '\0').replace(0, 40, 40, 'a');
    EXPECT_EQ(in_quotes(umlauts), "\"" + umlauts + "\"");
    std::string wide;
    for (int i = 0; i < 40; ++i) wide += "é";
    for (const auto& text : {wide, "x" + wide}) {
        const auto shown = in_quotes(text);
        EXPECT_EQ(shown.substr(shown.size() - 4), "…\"");
        EXPECT_NE(static_cast<unsigned char>(shown[shown.size() - 5]), 0xC3) << "half a character";
    }
}

TEST(ManifestWords, HostsAndSecrets) {
    for (const char* good :
         {"a:1", "in.acme.example:443", "10.0.0.1:9000", "[::1]:65535", "*:443", "*:*"})
        EXPECT_TRUE(is_host_port(good)) << good;
    for (const char* bad :
         {"",
          ":",
          "a:",
          ":1",
          "a:0",
          "a:65536",
          "a:1x",
          "http://a:1",
          "a/b:1",
          "[::1:1",
          "[]:1",
          "-a:1",
          "a..b:1",
          "*",
          "*:0",
          "a*:1"}) {
        EXPECT_FALSE(is_host_port(bad)) << bad;
    }
    for (const char* good : {"token", "acme/token", "acme/*", "a/b/*"})
        EXPECT_TRUE(is_secret_pattern(good)) << good;
    for (const char* bad : {"", "*", "/*", "/a", "a/", "a//b", "a*", "a/*/b", "a b"})
        EXPECT_FALSE(is_secret_pattern(bad)) << bad;
}

TEST(ManifestWords, PointersAreEscaped) {
    EXPECT_EQ(pointer_to("/spec", "a/b~c"), "/spec/a~1b~0c");
}

}  // namespace
}  // namespace annal
