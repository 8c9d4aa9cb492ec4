#include "runtime/store/byte_codec.h"

#include <bit>
#include <cstring>

namespace annal {

static_assert(std::endian::native == std::endian::little, "stored numbers are little-endian");

void ByteWriter::number(std::int64_t value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    out_.append(bytes, sizeof value);
}

void ByteWriter::text(std::string_view text) {
    number(static_cast<std::int64_t>(text.size()));
    out_ += text;
}

std::int64_t ByteReader::number() {
    const std::string_view bytes = raw(sizeof(std::int64_t));
    std::int64_t value = 0;
    if (!bytes.empty()) {
        std::memcpy(&value, bytes.data(), sizeof value);
    }
    return value;
}

std::string_view ByteReader::text() {
    return raw(static_cast<std::size_t>(number()));
}

std::string_view ByteReader::raw(std::size_t size) {
    if (!good_ || size > left_.size()) {
        good_ = false;
        left_ = {};
        return {};
    }
    const std::string_view bytes = left_.substr(0, size);
    left_.remove_prefix(size);
    return bytes;
}

}  // namespace annal
