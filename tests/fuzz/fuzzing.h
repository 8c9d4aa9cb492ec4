#pragma once

#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace annal::fuzz {

/// Ends the program, and so makes libFuzzer keep the input, unless the property holds.
inline void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

/// Sizes that follow from a seed alone.
class Sizes {
public:
    explicit Sizes(std::uint8_t seed) : state_(seed * 2'654'435'761U + 1U) {}
    /// From 1 to `most`, small ones mostly.
    std::size_t next(std::size_t most) {
        state_ ^= state_ << 13U;
        state_ ^= state_ >> 17U;
        state_ ^= state_ << 5U;
        const std::size_t below = (state_ & 3U) == 0 ? most : (most < 8 ? most : 8);
        return 1 + state_ % below;
    }

private:
    std::uint32_t state_;
};

/// `text` in pieces of sizes that follow from `seed`; the seed 0 leaves it whole.
inline std::vector<std::string_view> pieces(std::string_view text, std::uint8_t seed) {
    std::vector<std::string_view> out;
    Sizes sizes(seed);
    while (!text.empty()) {
        const std::string_view piece = text.substr(0, seed == 0 ? text.size() : sizes.next(200));
        out.push_back(piece);
        text.remove_prefix(piece.size());
    }
    return out;
}

/// Takes single bytes off the front of an input; zeroes when there are none.
inline std::uint8_t take_byte(std::string_view& text) {
    if (text.empty()) {
        return 0;
    }
    const auto byte = static_cast<std::uint8_t>(text.front());
    text.remove_prefix(1);
    return byte;
}

}  // namespace annal::fuzz
