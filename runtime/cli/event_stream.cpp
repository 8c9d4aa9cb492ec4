#include "runtime/cli/event_stream.h"

#include <utility>

namespace annal::cli {

bool EventStreamReader::feed(std::string_view piece) {
    for (const char c : piece) {
        const bool second_half = after_cr_ && c == '\n';  // CR LF is one end of a line
        after_cr_ = c == '\r';
        if (second_half) continue;
        if (c != '\n' && c != '\r') {
            line_ += c;
            continue;
        }
        const bool goes_on = take_line(line_);
        line_.clear();
        if (!goes_on) return false;
    }
    return true;
}

void EventStreamReader::restart() {
    line_.clear();
    after_cr_ = has_data_ = false;
    message_ = {};
    id_ = last_id_;
}

bool EventStreamReader::take_line(std::string_view line) {
    if (line.empty()) return dispatch();
    const std::size_t colon = line.find(':');
    const std::string_view field = line.substr(0, colon);
    std::string_view value = colon == std::string_view::npos ? "" : line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (field == "event") {
        message_.event = value;
    } else if (field == "data") {
        if (has_data_) message_.data += '\n';
        message_.data += value;
        has_data_ = true;
    } else if (field == "id" && value.find('\0') == std::string_view::npos) {
        id_ = value;
    }
    return true;
}

bool EventStreamReader::dispatch() {
    last_id_ = id_;
    Message message;
    std::swap(message, message_);
    const bool has_data = std::exchange(has_data_, false);
    if (!has_data) return true;
    if (message.event.empty()) message.event = "message";
    return on_message_(message);
}

}  // namespace annal::cli
