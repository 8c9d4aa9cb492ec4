#include "hec_channel.h"

#include <gtest/gtest.h>

#include <regex>
#include <string>

namespace sink_splunk_hec {
namespace {

annal::ClientResponse setting(std::vector<std::string> cookies) {
    annal::ClientResponse answer;
    answer.headers.emplace_back("content-type", "text/html");
    for (std::string& cookie : cookies)
        answer.headers.emplace_back("set-cookie", std::move(cookie));
    return answer;
}

TEST(HecChannel, IsAGuidOfItsOwn) {
    HecChannel one, other;
    const std::regex guid("[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}");
    EXPECT_TRUE(std::regex_match(one.id(), guid)) << one.id();
    EXPECT_NE(one.id(), other.id());
    const std::string before = one.id();
    one.renew();
    EXPECT_NE(one.id(), before);
    EXPECT_TRUE(std::regex_match(one.id(), guid)) << one.id();
}

TEST(HecChannel, KeepsCookiesAndSendsThemBack) {
    HecChannel channel;
    EXPECT_EQ(channel.cookies(), "");
    EXPECT_FALSE(channel.keep_cookies(setting({"b=2; Path=/; HttpOnly", " a = x=y "})));
    EXPECT_EQ(channel.cookies(), "a=x=y; b=2");
    channel.renew();
    EXPECT_EQ(channel.cookies(), "a=x=y; b=2");
}

TEST(HecChannel, KnowsANewBackendByAChangedCookie) {
    HecChannel channel;
    EXPECT_FALSE(channel.keep_cookies(setting({"lb=one"})));
    EXPECT_FALSE(channel.keep_cookies(setting({})));
    EXPECT_FALSE(channel.keep_cookies(setting({"lb=one; Max-Age=60"})));
    EXPECT_FALSE(channel.keep_cookies(setting({"more=1"})));
    EXPECT_TRUE(channel.keep_cookies(setting({"more=1", "lb=two"})));
    EXPECT_EQ(channel.cookies(), "lb=two; more=1");
    EXPECT_FALSE(channel.keep_cookies(setting({"lb=two"})));
}

TEST(HecChannel, IsNotMisledByCookiesThatChangeAlways) {
    HecChannel channel;
    EXPECT_FALSE(channel.keep_cookies(setting({"AWSALB=1", "AWSALBCORS=1"})));
    EXPECT_FALSE(channel.keep_cookies(setting({"AWSALB=2", "AWSALBCORS=2"})));
    EXPECT_EQ(channel.cookies(), "AWSALB=2; AWSALBCORS=2");
}

TEST(HecChannel, CarriesNoMoreThanItMust) {
    HecChannel channel;
    channel.keep_cookies(setting({"no equals sign", "=nameless", "long=" + std::string(5000, 'x')})
    );
    EXPECT_EQ(channel.cookies(), "");
    for (int i = 10; i < 40; ++i) channel.keep_cookies(setting({"c" + std::to_string(i) + "=1"}));
    EXPECT_EQ(channel.cookies().size(), 16 * std::string("c10=1; ").size() - 2);
}

}  // namespace
}  // namespace sink_splunk_hec
