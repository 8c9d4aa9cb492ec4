#include "runtime/plugin/address_policy.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>

namespace annal {
namespace {

struct DeniedRange {
    const char* range;
    const char* what;
};

// Sources: the IANA special-purpose address registries, and research/webhooks on the forms that
// carry IPv4.
constexpr DeniedRange kDenied[] = {
    {"0.0.0.0/8", "this network"},
    {"10.0.0.0/8", "private"},
    {"100.64.0.0/10", "shared by carriers"},
    {"127.0.0.0/8", "loopback"},
    {"169.254.0.0/16", "link-local"},
    {"172.16.0.0/12", "private"},
    {"192.0.0.0/24", "protocol assignments"},
    {"192.0.2.0/24", "documentation"},
    {"192.88.99.0/24", "6to4 relays"},
    {"192.168.0.0/16", "private"},
    {"198.18.0.0/15", "benchmarking"},
    {"198.51.100.0/24", "documentation"},
    {"203.0.113.0/24", "documentation"},
    {"224.0.0.0/4", "multicast"},
    {"240.0.0.0/4", "reserved and broadcast"},
    {"::/8", "unspecified, loopback, or an IPv4 address in disguise"},
    {"100::/64", "discard only"},
    {"2001::/23", "protocol assignments, Teredo"},
    {"2001:db8::/32", "documentation"},
    {"2002::/16", "6to4"},
    {"3fff::/20", "documentation"},
    {"5f00::/16", "segment routing"},
    {"fc00::/7", "unique local"},
    {"fe80::/10", "link-local"},
    {"fec0::/10", "site-local"},
    {"ff00::/8", "multicast"},
};

struct ParsedDenial {
    AddressRange range;
    DeniedRange source;
};

const std::vector<ParsedDenial>& denials() {
    static const std::vector<ParsedDenial> parsed = [] {
        std::vector<ParsedDenial> out;
        for (const DeniedRange& denied : kDenied)
            out.push_back({AddressRange::parse(denied.range).value(), denied});
        return out;
    }();
    return parsed;
}

/// The IPv4 address in the last four bytes, when the first twelve are `prefix`.
std::optional<Address> embedded(
    const Address& address, const std::array<std::uint8_t, 12>& prefix
) {
    if (!address.v6 || !std::equal(prefix.begin(), prefix.end(), address.bytes.begin()))
        return std::nullopt;
    Address v4;
    std::copy(address.bytes.begin() + 12, address.bytes.end(), v4.bytes.begin());
    return v4;
}

constexpr std::array<std::uint8_t, 12> kNat64 = {0x00, 0x64, 0xff, 0x9b};
constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/// An IPv4 address in the interface part behind any prefix: ISATAP.
bool is_isatap(const Address& address) {
    return address.v6 && (address.bytes[8] & 0xFDU) == 0 && address.bytes[9] == 0 &&
           address.bytes[10] == 0x5e && address.bytes[11] == 0xfe;
}

/// Whether the address is this machine whatever its interfaces are: loopback and unspecified.
bool leads_here(const Address& address) {
    static const Address kUnspecified{true, {}};
    static const Address kLoopback{true, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
    if (address.v6) return address == kUnspecified || address == kLoopback;
    return address.bytes[0] == 127 || address.bytes[0] == 0;
}

}  // namespace

std::optional<Address> Address::parse(std::string_view text) {
    if (text.size() >= 2 && text.front() == '[' && text.back() == ']')
        text = text.substr(1, text.size() - 2);
    if (text.size() >= INET6_ADDRSTRLEN || text.find('\0') != std::string_view::npos)
        return std::nullopt;
    const std::string terminated(text);
    Address out;
    if (inet_pton(AF_INET, terminated.c_str(), out.bytes.data()) == 1) return out;
    out.v6 = true;
    if (inet_pton(AF_INET6, terminated.c_str(), out.bytes.data()) == 1) return out;
    return std::nullopt;
}

std::optional<Address> Address::of(const sockaddr& address) {
    Address out;
    if (address.sa_family == AF_INET) {
        sockaddr_in v4{};
        std::memcpy(&v4, &address, sizeof(v4));
        std::memcpy(out.bytes.data(), &v4.sin_addr, sizeof(v4.sin_addr));
        return out;
    }
    if (address.sa_family == AF_INET6) {
        sockaddr_in6 v6{};
        std::memcpy(&v6, &address, sizeof(v6));
        out.v6 = true;
        std::memcpy(out.bytes.data(), &v6.sin6_addr, sizeof(v6.sin6_addr));
        return out;
    }
    return std::nullopt;
}

std::string Address::text() const {
    char out[INET6_ADDRSTRLEN] = {};
    inet_ntop(v6 ? AF_INET6 : AF_INET, bytes.data(), out, sizeof(out));
    return out;
}

std::optional<AddressRange> AddressRange::parse(std::string_view text) {
    const std::size_t slash = text.find('/');
    const auto base = Address::parse(text.substr(0, slash));
    if (!base) return std::nullopt;
    const unsigned bits_max = base->v6 ? 128 : 32;
    AddressRange out{*base, bits_max};
    if (slash != std::string_view::npos) {
        const std::string_view digits = text.substr(slash + 1);
        const auto [end, error] =
            std::from_chars(digits.data(), digits.data() + digits.size(), out.bits);
        if (error != std::errc() || end != digits.data() + digits.size() || out.bits > bits_max)
            return std::nullopt;
    }
    return out;
}

bool AddressRange::contains(const Address& address) const {
    if (address.v6 != base.v6) return false;
    const unsigned whole = bits / 8;
    if (!std::equal(base.bytes.begin(), base.bytes.begin() + whole, address.bytes.begin()))
        return false;
    if (bits % 8 == 0) return true;
    const unsigned mask = (0xFF00U >> (bits % 8)) & 0xFFU;
    return ((base.bytes[whole] ^ address.bytes[whole]) & mask) == 0;
}

Result<AddressPolicy> AddressPolicy::create(
    const std::vector<std::string>& allow_cidrs,
    const std::vector<std::uint16_t>& ports,
    std::uint16_t own_port
) {
    AddressPolicy policy;
    policy.ports_ = {80, 443, 8080, 8088, 8443};
    policy.ports_.insert(policy.ports_.end(), ports.begin(), ports.end());
    policy.own_port_ = own_port;
    for (const std::string& text : allow_cidrs) {
        const auto range = AddressRange::parse(text);
        if (!range) {
            return Error{
                Errc::invalid,
                "\"" + text +
                    "\" is not a range of addresses; write it like 10.1.0.0/16 or fd00::/8",
                "allow_cidrs",
                0};
        }
        policy.allowed_.push_back(*range);
    }
    return policy;
}

bool AddressPolicy::allows(const Address& address) const {
    const auto mapped = embedded(address, kMapped);
    return std::any_of(allowed_.begin(), allowed_.end(), [&](const AddressRange& range) {
        return range.contains(address) || (mapped && range.contains(*mapped));
    });
}

std::optional<std::string> AddressPolicy::deny(const Address& address) const {
    if (allows(address)) return std::nullopt;
    if (const auto v4 = embedded(address, kNat64)) return deny(*v4);
    for (const ParsedDenial& denied : denials()) {
        if (denied.range.contains(address)) {
            return address.text() + " is in " + denied.source.range + " (" + denied.source.what +
                   ")";
        }
    }
    if (is_isatap(address)) return address.text() + " carries an IPv4 address (ISATAP)";
    return std::nullopt;
}

std::optional<std::string> AddressPolicy::deny(
    const Address& address, const std::vector<Address>& own
) const {
    if (auto why = deny(address)) return why;
    const auto v4 = embedded(address, kNat64);
    const Address& meant = v4 ? *v4 : address;
    if (!allows(address) && !allows(meant) &&
        std::find(own.begin(), own.end(), meant) != own.end()) {
        return meant.text() + " is an address of this node itself";
    }
    return std::nullopt;
}

std::optional<std::string> AddressPolicy::deny(
    const Address& address, std::uint16_t port, Port permission, const std::vector<Address>& own
) const {
    if (auto why = deny(address, own)) return why;
    const auto nat64 = embedded(address, kNat64);
    const auto mapped = embedded(address, kMapped);
    const Address& meant = nat64 ? *nat64 : mapped ? *mapped : address;
    const bool here = leads_here(meant) || std::find(own.begin(), own.end(), meant) != own.end();
    if (own_port_ != 0 && port == own_port_ && here) {
        return meant.text() + " port " + std::to_string(port) + " is this node itself";
    }
    if (permission == Port::named || allows(address) || allows(meant) ||
        std::find(ports_.begin(), ports_.end(), port) != ports_.end()) {
        return std::nullopt;
    }
    return "port " + std::to_string(port) + " of " + address.text() +
           " is not one that any host may be reached at (80, 443, 8080, 8088, 8443 and "
           "outbound_ports); the operator can add it, or name host and port in the permission";
}

std::vector<Address> own_addresses() {
    std::vector<Address> out;
    ifaddrs* list = nullptr;
    if (getifaddrs(&list) != 0) return out;
    const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, &freeifaddrs);
    for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
        if (entry->ifa_addr == nullptr) continue;
        if (const auto address = Address::of(*entry->ifa_addr)) out.push_back(*address);
    }
    return out;
}

}  // namespace annal
