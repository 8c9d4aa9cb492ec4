#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace annal {

/// Little-endian numbers and sized text, one after the other.
class ByteWriter {
public:
    explicit ByteWriter(std::string& out) : out_(out) {}
    void number(std::int64_t value);
    void text(std::string_view text);
    void raw(std::string_view bytes) { out_ += bytes; }

private:
    std::string& out_;
};

class ByteReader {
public:
    explicit ByteReader(std::string_view bytes) : left_(bytes) {}
    [[nodiscard]] bool at_end() const { return left_.empty(); }
    /// False from the first read beyond the end on; what is read then is zeros.
    [[nodiscard]] bool good() const { return good_; }
    std::int64_t number();
    std::string_view text();
    std::string_view raw(std::size_t size);

private:
    std::string_view left_;
    bool good_ = true;
};

}  // namespace annal
