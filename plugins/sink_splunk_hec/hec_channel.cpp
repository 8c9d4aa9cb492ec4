#include "hec_channel.h"

#include <array>
#include <random>
#include <string_view>

namespace sink_splunk_hec {
namespace {

// What a server may make the sink carry; nobody needs more.
constexpr std::size_t kCookiesMax = 16;
constexpr std::size_t kCookieBytesMax = 4096;

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && text.front() == ' ') {
        text.remove_prefix(1);
    }
    while (!text.empty() && text.back() == ' ') {
        text.remove_suffix(1);
    }
    return text;
}

/// These balancers' cookies change with every answer, whichever server gives it.
bool changes_always(std::string_view name) {
    return name.starts_with("AWSALB");
}

}  // namespace

std::string HecChannel::cookies() const {
    std::string text;
    for (const auto& [name, value] : cookies_) {
        text += (text.empty() ? "" : "; ") + name + "=" + value;
    }
    return text;
}

bool HecChannel::keep_cookies(const annal::ClientResponse& answer) {
    bool changed = false;
    for (const auto& [key, header] : answer.headers) {
        if (key != "set-cookie") {
            continue;
        }
        const std::string_view pair = std::string_view(header).substr(0, header.find(';'));
        const auto equals = pair.find('=');
        if (equals == std::string_view::npos || pair.size() > kCookieBytesMax) {
            continue;
        }
        const std::string name(trimmed(pair.substr(0, equals)));
        const std::string value(trimmed(pair.substr(equals + 1)));
        const auto kept = cookies_.find(name);
        if (kept != cookies_.end()) {
            changed = changed || (kept->second != value && !changes_always(name));
            kept->second = value;
        } else if (!name.empty() && cookies_.size() < kCookiesMax) {
            cookies_.emplace(name, value);
        }
    }
    return changed;
}

void HecChannel::renew() {
    std::random_device random;
    std::array<unsigned char, 16> bytes{};
    for (unsigned char& byte : bytes) {
        byte = static_cast<unsigned char>(random());
    }
    bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0FU) | 0x40U);  // RFC 4122: random
    bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3FU) | 0x80U);
    constexpr std::string_view kHex = "0123456789ABCDEF";
    id_.clear();
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            id_ += '-';
        }
        id_ += kHex[bytes[i] >> 4U];
        id_ += kHex[bytes[i] & 15U];
    }
}

}  // namespace sink_splunk_hec
