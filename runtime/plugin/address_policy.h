#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"

struct sockaddr;

namespace annal {

/// An IPv4 or IPv6 address as bytes.
struct Address {
    bool v6 = false;
    std::array<std::uint8_t, 16> bytes{};  ///< IPv4: the first four

    /// "192.0.2.1", "2001:db8::1", also in brackets. Nothing else: no names, no octal, no zone.
    [[nodiscard]] static std::optional<Address> parse(std::string_view text);
    [[nodiscard]] static std::optional<Address> of(const sockaddr& address);
    [[nodiscard]] std::string text() const;
    friend bool operator==(const Address&, const Address&) = default;
};

/// A range of addresses: "10.0.0.0/8".
struct AddressRange {
    Address base;
    unsigned bits = 0;
    [[nodiscard]] static std::optional<AddressRange> parse(std::string_view text);
    [[nodiscard]] bool contains(const Address& address) const;
};

/// Decides which addresses the host's own outbound connections may reach: public unicast ones, and
/// what the operator allows.
///
/// The decision is made on the address that a socket is about to connect to, after name resolution.
/// An IPv4 address inside an IPv6 one (mapped, compatible, 6to4, …) does not get around it: all of
/// those forms are denied, but for 64:ff9b::/96, which is judged by the IPv4 address within. The
/// operator's IPv4 ranges hold for mapped addresses too. Thread-safe: never changes.
///
/// Ports: who may call any host at any port ("*:*") reaches public addresses at 80, 443, 8080,
/// 8088, 8443 and the operator's `ports` only, so that no mail server or database is spoken to by
/// mistake or design; addresses of the operator's ranges are reached at any port. The node's own
/// listener is reached by nobody, not even where the operator allows its address: a delivery to
/// oneself is a loop.
class AddressPolicy {
public:
    /// @param ports     beyond the five that are always there
    /// @param own_port  where this node listens; 0: nowhere
    /// @error Errc::invalid  One of the ranges is none; the detail names it.
    [[nodiscard]] static Result<AddressPolicy> create(
        const std::vector<std::string>& allow_cidrs,
        const std::vector<std::uint16_t>& ports = {},
        std::uint16_t own_port = 0
    );

    /// Why `address` is denied ("127.0.0.1 is in 127.0.0.0/8"); nothing when it may be reached.
    [[nodiscard]] std::optional<std::string> deny(const Address& address) const;
    /// The same for an address of this node itself, which no list can know.
    [[nodiscard]] std::optional<std::string> deny(
        const Address& address, const std::vector<Address>& own
    ) const;

    /// Whether the port was named by whoever gave the permission, or any would do.
    enum class Port { named, any };
    /// The whole judgement of a socket about to be connected: address, node itself, port.
    [[nodiscard]] std::optional<std::string> deny(
        const Address& address, std::uint16_t port, Port permission, const std::vector<Address>& own
    ) const;

private:
    [[nodiscard]] bool allows(const Address& address) const;
    std::vector<AddressRange> allowed_;
    std::vector<std::uint16_t> ports_;
    std::uint16_t own_port_ = 0;
};

/// The addresses of this node's interfaces, as of now.
[[nodiscard]] std::vector<Address> own_addresses();

}  // namespace annal
