#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace annal::cli {

/// Takes Server-Sent Events apart, as the WHATWG's standard says a browser does, but for `retry`.
class EventStreamReader {
public:
    struct Message {
        std::string event;  ///< "message" when it was not named
        std::string data;
    };
    /// Takes each message that has data; false stops.
    using OnMessage = std::function<bool(const Message&)>;

    explicit EventStreamReader(OnMessage on_message) : on_message_(std::move(on_message)) {}

    /// A piece of the stream, cut anywhere. False when `on_message` wants no more.
    bool feed(std::string_view piece);
    /// A new connection begins; what the last one did not end is forgotten.
    void restart();
    /// Of the last message that was ended by an empty line, with or without data; empty: none yet.
    [[nodiscard]] const std::string& last_id() const { return last_id_; }
    void set_last_id(std::string id) { last_id_ = id_ = std::move(id); }

private:
    bool take_line(std::string_view line);
    bool dispatch();

    OnMessage on_message_;
    std::string line_;
    bool after_cr_ = false;
    bool has_data_ = false;
    Message message_;
    std::string id_, last_id_;
};

}  // namespace annal::cli
