// Undoes gzip. Whatever the bytes are, the result may not depend on the pieces in which they come
// or in which room is given, and the output never passes that room; what zlib packed comes back
// whole, also as several members.
//
// Input: the seed of the pieces, then the bytes.

#include <zlib.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "runtime/http/gzip.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using annal::fuzz::require;
using annal::http::GzipReader;

constexpr std::size_t kOutputMax = 64U << 10;  // an input may be a bomb

struct Outcome {
    bool ok = true, whole = false, full = false;
    std::string text;
};

Outcome unpacked(std::string_view packed, std::uint8_t seed) {
    GzipReader reader;
    Outcome out;
    annal::fuzz::Sizes rooms(seed);
    for (std::string_view piece : annal::fuzz::pieces(packed, seed)) {
        while (out.ok && !out.full && (!piece.empty() || reader.pending())) {
            const std::size_t room = seed == 0 ? kOutputMax : out.text.size() + rooms.next(5'000);
            const std::size_t most = std::min(room, kOutputMax);
            out.ok = reader.decode(piece, out.text, most).has_value();
            require(out.text.size() <= most);
            out.full = out.text.size() == kOutputMax;
        }
    }
    out.whole = out.ok && reader.whole();
    return out;
}

std::string packed(std::string_view text) {
    z_stream stream{};
    require(deflateInit2(&stream, 1, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    std::string out(deflateBound(&stream, text.size()) + 64, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream.avail_in = static_cast<uInt>(text.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    require(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    const std::uint8_t seed = annal::fuzz::take_byte(text);
    const Outcome at_once = unpacked(text, 0);
    const Outcome in_pieces = unpacked(text, seed);
    if (!at_once.full && !in_pieces.full) {
        require(in_pieces.ok == at_once.ok && in_pieces.whole == at_once.whole);
        require(!at_once.ok || in_pieces.text == at_once.text);
    }
    const std::size_t half = text.size() / 2;
    const std::string members = packed(text.substr(0, half)) + packed(text.substr(half));
    const Outcome back = unpacked(members, seed);
    require(back.ok && back.whole && back.text == text);
    return 0;
}
