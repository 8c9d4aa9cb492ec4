#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <iostream>
#include <thread>

#include "runtime/cli/commands.h"
#include "runtime/cli/event_line.h"
#include "runtime/cli/event_stream.h"
#include "runtime/cli/node.h"

namespace annal::cli {

namespace {

using std::chrono::milliseconds;

constexpr auto kFirstPause = milliseconds(200);
constexpr auto kLongestPause = milliseconds(5'000);

/// Every message has been written in whole when it was shown, so there is nothing to undo.
extern "C" void stop_at_once(int) {
    ::_exit(kDone);
}

/// False when whoever reads is gone.
bool write_out(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
}

/// A tail over as many connections as it takes.
class Follower {
public:
    Follower(LocalClient client, const Arguments& arguments, std::string query, bool lines)
        : client_(std::move(client)),
          arguments_(arguments),
          query_(std::move(query)),
          reader_([this, lines](const EventStreamReader::Message& message) {
              reading_ = write_out((lines ? event_line(message.data) : message.data) + "\n");
              return reading_;
          }) {
        if (arguments.after) reader_.set_last_id(std::to_string(*arguments.after));
    }

    Result<int> run() {
        milliseconds pause = kFirstPause;
        while (true) {
            connected_ = false;
            auto answer = connect();
            if (!reading_) return kDone;
            if (answer && answer.value().status / 100 != 2) {
                const Error refusal = refusal_of(answer.value());
                if (refusal.code != Errc::busy) return refusal;
                note(refusal.detail);
            } else if (!ever_connected_ && !answer) {
                return answer.error();
            }
            if (connected_) {
                pause = kFirstPause;
                note("the tail has ended; waiting for the server to take it up again");
            }
            std::this_thread::sleep_for(pause);
            pause = std::min(2 * pause, kLongestPause);
        }
    }

private:
    Result<LocalClient::Answer> connect() {
        LocalClient::Call call;
        call.target = "/v1/audit/events/tail" + query_;
        call.project = arguments_.project;
        if (!reader_.last_id().empty()) call.headers["Last-Event-ID"] = reader_.last_id();
        call.on_body = [this](std::string_view piece) {
            if (!connected_ && ever_connected_) {
                note("connected again, behind seq " + reader_.last_id());
            }
            connected_ = ever_connected_ = true;
            return reader_.feed(piece);
        };
        reader_.restart();
        return client_.send(call);
    }
    static void note(const std::string& text) { std::cerr << "annal: " << text << std::endl; }

    const LocalClient client_;
    const Arguments& arguments_;
    const std::string query_;
    EventStreamReader reader_;
    bool reading_ = true;     ///< somebody takes what is written
    bool connected_ = false;  ///< this connection has given something
    bool ever_connected_ = false;
};

}  // namespace

int tail_events(const Arguments& arguments) {
    std::signal(SIGINT, stop_at_once);
    std::signal(SIGTERM, stop_at_once);
    std::signal(SIGPIPE, SIG_IGN);
    const auto settings = settings_of(arguments);
    if (!settings) return fail(settings.error(), kBadInput);
    const auto query = query_of(arguments.filters);
    if (!query) return fail(query.error(), kBadInput);
    LocalClient client(settings.value().unix_socket());
    if (!client.is_up()) {
        // Nothing would come in while nobody serves.
        const std::string socket = settings.value().unix_socket().string();
        return fail({Errc::unavailable, "no server listens on " + socket + ": start annal serve"});
    }
    const std::string form = arguments.tail_format.empty()
                                 ? (::isatty(STDOUT_FILENO) != 0 ? "line" : "jsonl")
                                 : arguments.tail_format;
    Follower follower(std::move(client), arguments, query.value(), form == "line");
    const Result<int> code = follower.run();
    return code ? code.value() : fail(code.error());
}

}  // namespace annal::cli
