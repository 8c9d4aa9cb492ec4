#include "runtime/plugin/address_policy.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

namespace annal {
namespace {

AddressPolicy policy(const std::vector<std::string>& allow = {}) {
    return AddressPolicy::create(allow).value();
}

bool denied(const AddressPolicy& policy, const char* text) {
    const auto address = Address::parse(text);
    EXPECT_TRUE(address) << text;
    return policy.deny(*address).has_value();
}

struct Edge {
    const char* before;  ///< the last address below the range; null: none, or denied by a neighbour
    const char* first;
    const char* last;
    const char* behind;
};

// Every range of the list with the addresses on both sides of both ends.
constexpr Edge kEdges[] = {
    {nullptr, "0.0.0.0", "0.255.255.255", "1.0.0.0"},
    {"9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"},
    {"100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"},
    {"126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"},
    {"169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"},
    {"172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"},
    {"191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0"},
    {"192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"},
    {"192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0"},
    {"192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"},
    {"198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"},
    {"198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0"},
    {"203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"},
    {"223.255.255.255", "224.0.0.0", "239.255.255.255", nullptr},
    {nullptr, "240.0.0.0", "255.255.255.255", nullptr},
    {nullptr, "::", "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", nullptr},
    {nullptr, "100::", "100::ffff:ffff:ffff:ffff", "100:0:0:1::"},
    {"2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
     "2001::",
     "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
     "2001:200::"},
    {"2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
     "2001:db8::",
     "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
     "2001:db9::"},
    {"2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
     "2002::",
     "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
     "2003::"},
    {"3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
     "3fff::",
     "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
     "3fff:1000::"},
    {"5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
     "5f00::",
     "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
     "5f01::"},
    {"fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
     "fc00::",
     "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
     "fe00::"},
    {"fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
     "fe80::",
     "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
     nullptr},
    {nullptr, "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", nullptr},
    {nullptr, "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", nullptr},
};

TEST(AddressPolicy, DeniesEveryRangeUpToItsEdges) {
    const AddressPolicy p = policy();
    for (const Edge& edge : kEdges) {
        EXPECT_TRUE(denied(p, edge.first)) << edge.first;
        EXPECT_TRUE(denied(p, edge.last)) << edge.last;
        if (edge.before != nullptr) {
            EXPECT_FALSE(denied(p, edge.before)) << edge.before;
        }
        if (edge.behind != nullptr) {
            EXPECT_FALSE(denied(p, edge.behind)) << edge.behind;
        }
    }
}

TEST(AddressPolicy, LetsPublicAddressesThrough) {
    const AddressPolicy p = policy();
    for (const char* text :
         {"8.8.8.8",
          "1.1.1.1",
          "93.184.216.34",
          "2606:4700::1111",
          "2a00:1450:4001::1",
          "4000::1"}) {
        EXPECT_FALSE(denied(p, text)) << text;
    }
}

TEST(AddressPolicy, SeesThroughEveryFormThatCarriesIpv4) {
    const AddressPolicy p = policy();
    for (const char* text : {
             "::ffff:127.0.0.1",     // mapped
             "::ffff:8.8.8.8",       // mapped, public inside: still no form for a socket
             "::127.0.0.1",          // compatible
             "::7f00:1",             // the same in hex
             "::ffff:0:7f00:1",      // SIIT
             "::5efe:10.0.0.1",      // ISATAP without a prefix
             "64:ff9b:1::7f00:1",    // NAT64, local use
             "2002:7f00:1::",        // 6to4
             "2001:0:4136:e378::1",  // Teredo
             "fd00:ec2::254",        // a metadata service
             "169.254.169.254",      // the other one
         }) {
        EXPECT_TRUE(denied(p, text)) << text;
    }
    EXPECT_TRUE(denied(p, "2600::5efe:7f00:1")) << "ISATAP behind a public prefix";
    EXPECT_TRUE(denied(p, "2600::200:5efe:808:808")) << "the same for a public IPv4 address";
    EXPECT_FALSE(denied(p, "2600::100:5efe:808:808")) << "only looks like it";
    EXPECT_TRUE(denied(p, "64:ff9b::7f00:1")) << "NAT64 of loopback";
    EXPECT_TRUE(denied(p, "64:ff9b::a00:1")) << "NAT64 of 10.0.0.1";
    EXPECT_FALSE(denied(p, "64:ff9b::808:808")) << "NAT64 of 8.8.8.8";
}

TEST(AddressPolicy, TheOperatorsRangesWin) {
    const AddressPolicy p = policy({"127.0.0.0/8", "10.1.2.3", "fd00:1::/32"});
    EXPECT_FALSE(denied(p, "127.0.0.1"));
    EXPECT_FALSE(denied(p, "::ffff:127.0.0.1")) << "the mapped form of an allowed address";
    EXPECT_FALSE(denied(p, "64:ff9b::7f00:1"));
    EXPECT_FALSE(denied(p, "10.1.2.3"));
    EXPECT_TRUE(denied(p, "10.1.2.4")) << "a single address is a range of one";
    EXPECT_FALSE(denied(p, "fd00:1::9"));
    EXPECT_TRUE(denied(p, "fd00:2::9"));
    EXPECT_TRUE(denied(p, "::1")) << "an IPv4 range says nothing about IPv6 loopback";
}

TEST(AddressPolicy, NamesARangeThatIsNone) {
    for (const char* text :
         {"localhost",
          "10.0.0.0/33",
          "10.0.0.0/",
          "10.0.0.0/8x",
          "10.0.0/8",
          "::/129",
          "",
          "fe80::1%eth0/64"}) {
        const auto made = AddressPolicy::create({"10.0.0.0/8", text});
        ASSERT_FALSE(made) << text;
        EXPECT_EQ(made.error().code, Errc::invalid);
        EXPECT_NE(made.error().detail.find(text), std::string::npos) << made.error().detail;
    }
}

TEST(AddressPolicy, SaysWhy) {
    EXPECT_EQ(
        policy().deny(*Address::parse("169.254.169.254")),
        "169.254.169.254 is in 169.254.0.0/16 (link-local)"
    );
}

TEST(AddressPolicy, DeniesTheNodeItself) {
    const Address own = *Address::parse("93.184.216.34");
    const AddressPolicy p = policy();
    EXPECT_FALSE(p.deny(own));
    EXPECT_TRUE(p.deny(own, {own}));
    EXPECT_TRUE(p.deny(*Address::parse("64:ff9b::5db8:d822"), {own})) << "through NAT64";
    EXPECT_FALSE(policy({"93.184.216.0/24"}).deny(own, {own}));
}

bool denied_at(const AddressPolicy& policy, const char* text, std::uint16_t port) {
    return policy.deny(*Address::parse(text), port, AddressPolicy::Port::any, {}).has_value();
}

TEST(AddressPolicy, AnyPortMeansThoseOfTheWebAtPublicAddresses) {
    const AddressPolicy p = AddressPolicy::create({"10.1.0.0/16", "fd00:1::/32"}, {9000}).value();
    for (const char* host : {"8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"}) {
        for (const std::uint16_t port : {80, 443, 8080, 8088, 8443, 9000})
            EXPECT_FALSE(denied_at(p, host, port)) << host << " " << port;
        for (const std::uint16_t port : {1, 22, 25, 79, 81, 444, 5432, 6379, 8081, 9001, 65535})
            EXPECT_TRUE(denied_at(p, host, port)) << host << " " << port;
        EXPECT_FALSE(p.deny(*Address::parse(host), 25, AddressPolicy::Port::named, {})) << host;
    }
    for (const char* host : {"10.1.2.3", "fd00:1::1", "::ffff:10.1.2.3", "64:ff9b::a01:203"})
        EXPECT_FALSE(denied_at(p, host, 25)) << host << " lies in the operator's ranges";
    EXPECT_TRUE(denied_at(p, "10.2.0.1", 443)) << "a port opens no address";
}

TEST(AddressPolicy, NobodyReachesTheNodesOwnListener) {
    const Address own = *Address::parse("10.1.2.3");
    const AddressPolicy p =
        AddressPolicy::create({"10.0.0.0/8", "127.0.0.0/8", "::1"}, {}, 8'080).value();
    for (const auto permission : {AddressPolicy::Port::any, AddressPolicy::Port::named}) {
        for (const char* host :
             {"10.1.2.3", "127.0.0.1", "127.9.9.9", "::1", "::ffff:10.1.2.3", "64:ff9b::7f00:1"}) {
            const Address address = *Address::parse(host);
            EXPECT_TRUE(p.deny(address, 8'080, permission, {own})) << host;
            EXPECT_FALSE(p.deny(address, 8'081, permission, {own})) << host;
        }
        EXPECT_FALSE(p.deny(*Address::parse("10.1.2.4"), 8'080, permission, {own}))
            << "another machine's";
    }
    const AddressPolicy nowhere = AddressPolicy::create({"127.0.0.0/8"}, {}, 0).value();
    EXPECT_FALSE(nowhere.deny(*Address::parse("127.0.0.1"), 0, AddressPolicy::Port::named, {}));
}

TEST(Address, IsReadFromTextStrictly) {
    for (const char* text :
         {"127.1",
          "0177.0.0.1",
          "0x7f000001",
          "2130706433",
          "127.0.0.1.",
          " 127.0.0.1",
          "::1%lo",
          "[::1",
          "",
          "1.2.3.4.5"}) {
        EXPECT_FALSE(Address::parse(text)) << text;
    }
    EXPECT_EQ(Address::parse("[::1]"), Address::parse("0:0:0:0:0:0:0:1"));
    EXPECT_EQ(Address::parse("2001:DB8::1")->text(), "2001:db8::1");
}

TEST(Address, IsReadFromASocketAddress) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_addr.s_addr = htonl(0x7f000001);
    EXPECT_EQ(Address::of(reinterpret_cast<const sockaddr&>(v4))->text(), "127.0.0.1");
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_addr = in6addr_loopback;
    EXPECT_EQ(Address::of(reinterpret_cast<const sockaddr&>(v6))->text(), "::1");
    sockaddr other{};
    other.sa_family = AF_UNIX;
    EXPECT_FALSE(Address::of(other));
}

TEST(OwnAddresses, IncludeLoopback) {
    const auto own = own_addresses();
    EXPECT_NE(std::find(own.begin(), own.end(), *Address::parse("127.0.0.1")), own.end());
}

}  // namespace
}  // namespace annal
