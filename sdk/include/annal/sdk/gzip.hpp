/// Compression for sinks whose destinations take it. Not part of sdk.hpp, which depends on std
/// alone: whoever includes this links ZLIB::ZLIB.
#pragma once

#include <zlib.h>

#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace annal::inline sdk_v1 {

/// `bytes` as one gzip member, always the same for the same bytes: the header names no time, no
/// file and no system, so that a retry sends what the first attempt sent. (Another release of zlib
/// may compress otherwise; digests that outlive an upgrade belong to the bytes before.)
///
/// Limits: 4 GiB. Throws std::bad_alloc and std::length_error, which in a sink are a retry.
/// @param level  1 (fast) to 9 (small)
[[nodiscard]] inline std::string gzip(std::string_view bytes, int level = 6) {
    constexpr int kGzipFraming = 16;
    constexpr int kMemoryLevel = 8;
    constexpr int kUnknownSystem = 255;
    if (bytes.size() > std::numeric_limits<uInt>::max()) {
        throw std::length_error("more than 4 GiB to compress at once");
    }
    z_stream stream{};
    if (deflateInit2(
            &stream, level, Z_DEFLATED, MAX_WBITS + kGzipFraming, kMemoryLevel, Z_DEFAULT_STRATEGY
        ) != Z_OK) {
        throw std::bad_alloc();
    }
    const auto end = [](z_stream* s) { deflateEnd(s); };
    const std::unique_ptr<z_stream, decltype(end)> guard(&stream, end);
    gz_header header{};
    header.os = kUnknownSystem;
    deflateSetHeader(&stream, &header);

    std::string out(deflateBound(&stream, static_cast<uLong>(bytes.size())), '\0');
    // zlib's interface is older than const.
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    if (deflate(&stream, Z_FINISH) != Z_STREAM_END) {
        throw std::length_error("the bound of zlib for its own output does not hold");
    }
    out.resize(stream.total_out);
    return out;
}

/// What `gzip`, or anybody else, has packed. Nothing: `packed` is not exactly one gzip member of at
/// most `max` bytes. Throws std::bad_alloc.
[[nodiscard]] inline std::optional<std::string> gunzip(std::string_view packed, std::size_t max) {
    constexpr int kGzipFraming = 16;
    z_stream stream{};
    if (packed.size() > std::numeric_limits<uInt>::max() ||
        max >= std::numeric_limits<uInt>::max()) {
        return std::nullopt;
    }
    if (inflateInit2(&stream, MAX_WBITS + kGzipFraming) != Z_OK) {
        throw std::bad_alloc();
    }
    const auto end = [](z_stream* s) { inflateEnd(s); };
    const std::unique_ptr<z_stream, decltype(end)> guard(&stream, end);
    std::string out(max + 1, '\0');  // room for a byte too many, which ends before the member does
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    if (inflate(&stream, Z_FINISH) != Z_STREAM_END || stream.avail_in != 0 ||
        stream.total_out > max) {
        return std::nullopt;
    }
    out.resize(stream.total_out);
    return out;
}

}  // namespace annal::inline sdk_v1
