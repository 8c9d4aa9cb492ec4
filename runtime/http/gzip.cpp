#include "runtime/http/gzip.h"

#include <zlib.h>

#include <algorithm>

#include "runtime/core/fatal.h"

namespace annal::http {

struct GzipReader::State {
    z_stream stream{};
    bool pending = false;
    bool inside = false;  // a member has begun and not ended
};

GzipReader::GzipReader() : state_(std::make_unique<State>()) {
    constexpr int kGzipOnly = 16;
    if (inflateInit2(&state_->stream, MAX_WBITS + kGzipOnly) != Z_OK) {
        fatal("http.gzip", "zlib could not be initialised: out of memory");
    }
}

GzipReader::~GzipReader() {
    inflateEnd(&state_->stream);
}

bool GzipReader::pending() const {
    return state_->pending;
}

bool GzipReader::whole() const {
    return !state_->inside;
}

Result<void> GzipReader::decode(std::string_view& input, std::string& out, std::size_t size_max) {
    z_stream& stream = state_->stream;
    while (out.size() < size_max && (!input.empty() || state_->pending)) {
        constexpr std::size_t kStep = 16U << 10;
        const std::size_t before = out.size();
        const std::size_t room = std::min(size_max - before, kStep);
        const std::size_t offered = std::min<std::size_t>(input.size(), 1U << 30);
        out.resize(before + room);
        stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
        stream.avail_in = static_cast<uInt>(offered);
        stream.next_out = reinterpret_cast<Bytef*>(out.data() + before);
        stream.avail_out = static_cast<uInt>(room);
        const int status = inflate(&stream, Z_NO_FLUSH);
        out.resize(before + room - stream.avail_out);
        const std::size_t used = offered - stream.avail_in;
        state_->inside = state_->inside || used > 0;
        input.remove_prefix(used);
        state_->pending = stream.avail_out == 0;
        if (status == Z_STREAM_END) {
            state_->inside = false;
            state_->pending = false;
            inflateReset(&stream);
        } else if (status == Z_BUF_ERROR) {
            state_->pending = false;
            if (used == 0) break;
        } else if (status != Z_OK) {
            return Error{
                Errc::invalid,
                std::string("the body is not valid gzip: ") +
                    (stream.msg ? stream.msg : "damaged") +
                    "; compress it again, or send it without Content-Encoding"};
        }
    }
    return ok();
}

}  // namespace annal::http
