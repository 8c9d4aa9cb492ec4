#include "line_chunks.h"

namespace ingest {
namespace {

bool is_filled(std::string_view line) {
    return line.find_first_not_of(" \t\r\n") != std::string_view::npos;
}

}  // namespace

void LineCounter::feed(std::string_view piece) {
    while (!piece.empty()) {
        const auto end = piece.find('\n');
        filled_line_open_ = filled_line_open_ || is_filled(piece.substr(0, end));
        if (end == std::string_view::npos) {
            return;
        }
        filled_ += filled_line_open_ ? 1 : 0;
        filled_line_open_ = false;
        piece.remove_prefix(end + 1);
    }
}

void LineChunks::feed(std::string_view piece) {
    text_.erase(0, at_);
    scanned_ -= at_;
    at_ = 0;
    text_.append(piece);
}

std::string_view LineChunks::next() {
    const auto take = [&](std::size_t end) {
        const std::string_view chunk = std::string_view(text_).substr(at_, end - at_);
        at_ = scanned_ = end;
        lines_ = 0;
        return chunk;
    };
    while (scanned_ < text_.size()) {
        const auto newline = text_.find('\n', scanned_);
        if (newline == std::string::npos && !finished_) {
            // The line's end is not here yet, but the chunk may be too long for it already.
            return text_.size() - at_ > bytes_max_ && scanned_ > at_ ? take(scanned_)
                                                                     : std::string_view();
        }
        const std::size_t end = newline == std::string::npos ? text_.size() : newline + 1;
        if (end - at_ > bytes_max_ && scanned_ > at_) {
            return take(scanned_);
        }
        lines_ += is_filled(std::string_view(text_).substr(scanned_, end - scanned_)) ? 1 : 0;
        scanned_ = end;
        if (lines_ == lines_max_ || end - at_ > bytes_max_) {
            return take(end);
        }
    }
    return finished_ && scanned_ > at_ ? take(scanned_) : std::string_view();
}

}  // namespace ingest
