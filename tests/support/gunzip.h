#pragma once

#include <zlib.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace annal::test {

/// What was compressed, for looking into requests. Throws unless `packed` is exactly one gzip
/// member.
inline std::string gunzip(std::string_view packed) {
    z_stream stream{};
    if (inflateInit2(&stream, MAX_WBITS + 16) != Z_OK) throw std::runtime_error("no zlib");
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    std::string out;
    int code = Z_OK;
    while (code == Z_OK) {
        char piece[16384];
        stream.next_out = reinterpret_cast<Bytef*>(piece);
        stream.avail_out = sizeof(piece);
        code = inflate(&stream, Z_NO_FLUSH);
        out.append(piece, sizeof(piece) - stream.avail_out);
    }
    const bool whole = code == Z_STREAM_END && stream.avail_in == 0;
    inflateEnd(&stream);
    if (!whole) throw std::runtime_error("not one gzip member");
    return out;
}

}  // namespace annal::test
