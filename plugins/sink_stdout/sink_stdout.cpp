/// A stream of events as lines of canonical JSON on standard output.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: stdout}
///     spec:
///       library: {name: sink_stdout}
///       triggers:
///         - {name: all, events: {project: proj_1}}
///
/// A pipe keeps nothing: after a crash the batch in flight comes again, byte for byte. Within one
/// process a batch that got stuck half-way goes on where it stopped.
///
/// Docker splits lines longer than 16 KiB in two, which then are no JSON any more. `line_bytes_max`
/// makes an event of a longer line TOO_LARGE, so that it is not delivered; without it such a line
/// is written, and a warning tells of it.
#include <annal/sdk.hpp>

#include <poll.h>
#include <unistd.h>
#include <csignal>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <tuple>

namespace {

/// Keeps SIGPIPE from this thread for its lifetime: a reader that went away is an error here, not
/// the end of the process.
class NoSigpipe {
public:
    NoSigpipe() {
        sigemptyset(&pipe_);
        sigaddset(&pipe_, SIGPIPE);
        sigset_t pending;
        sigpending(&pending);
        was_pending_ = sigismember(&pending, SIGPIPE) == 1;
        pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
    }
    NoSigpipe(const NoSigpipe&) = delete;
    NoSigpipe& operator=(const NoSigpipe&) = delete;
    ~NoSigpipe() {
        if (!was_pending_) {
            const timespec now{0, 0};
            while (sigtimedwait(&pipe_, nullptr, &now) == -1 && errno == EINTR) {
            }
        }
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    sigset_t pipe_{}, before_{};
    bool was_pending_ = false;
};

}  // namespace

class StdoutSink : public annal::Sink {
public:
    static constexpr auto kName = "stdout";

    static auto config() {
        return std::tuple{
            annal::optional("line_bytes_max", &StdoutSink::line_bytes_max_, 0)
                .range(0, std::int64_t{64} << 20)
                .about("the longest line, without its newline, that is written; 0: any"),
        };
    }

    annal::Status open() { return host().require(ANNAL_SERVICE_CODEC); }

    annal::Status encode(const annal::Batch& batch, annal::Encoder& out) {
        annal::Buffer line;
        for (const annal_event& event : batch) {
            line.clear();
            const annal_writer writer = line.writer();
            if (annal::Status status = host().render(event, writer); !status.ok()) {
                return status;
            }
            const auto size = static_cast<std::int64_t>(line.size());
            if (line_bytes_max_ > 0 && size > line_bytes_max_) {
                return {
                    ANNAL_TOO_LARGE,
                    "a line of " + std::to_string(size) + " bytes; line_bytes_max is " +
                        std::to_string(line_bytes_max_)};
            }
            if (line_bytes_max_ == 0 && size > kDockerLineBytes) {
                warn_of_long_line(size);
            }
            out.append(line.view());
            out.push('\n');
            out.end_event();
        }
        return {};
    }

    annal::Outcome send(const annal::Delivery& delivery) {
        std::string_view rest = delivery.payload();
        if (stuck_key_ == delivery.idempotency_key() && stuck_at_ <= rest.size()) {
            rest.remove_prefix(stuck_at_);
        } else if (stuck_at_ > 0) {
            // Another batch than the one that broke off: end its line, so that only that one is
            // spoilt.
            if (std::string_view newline = "\n"; write_all(newline, delivery.deadline_us()) != 0) {
                return annal::retry("standard output takes nothing");
            }
        }
        stuck_at_ = 0;
        const int error = write_all(rest, delivery.deadline_us());
        if (error == 0) {
            stuck_key_.clear();
            return annal::delivered();
        }
        stuck_key_ = delivery.idempotency_key();
        stuck_at_ = delivery.payload().size() - rest.size();
        return annal::retry(std::string("standard output: ") + std::strerror(error));
    }

private:
    static constexpr std::int64_t kDockerLineBytes = std::int64_t{16} << 10;

    /// Once a minute: where long lines are usual, one for each would be most of the log.
    void warn_of_long_line(std::int64_t bytes) {
        constexpr std::int64_t kQuietUs = 60LL * 1'000'000;
        const std::int64_t now_us = host().monotonic_us();
        if (warned_us_ == kNever || now_us - warned_us_ >= kQuietUs) {
            warned_us_ = now_us;
            host().warn("stdout.long_line", {{"bytes", std::to_string(bytes)}});
        }
    }

    /// Writes `rest` and cuts off what went out. Returns 0 or the error that stopped it.
    ///
    /// In pieces that a pipe with room takes without blocking, so that a reader which stands still
    /// holds up no thread beyond the deadline.
    int write_all(std::string_view& rest, std::int64_t deadline_us) const {
        const NoSigpipe quiet;
        while (!rest.empty()) {
            if (!wait_for_room(deadline_us)) {
                return ETIMEDOUT;
            }
            const ssize_t n =
                ::write(STDOUT_FILENO, rest.data(), std::min<std::size_t>(rest.size(), PIPE_BUF));
            if (n >= 0) {
                rest.remove_prefix(static_cast<std::size_t>(n));
            } else if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) {
                return errno;
            }
        }
        return 0;
    }
    /// True when a write may succeed, or will say what is wrong.
    [[nodiscard]] bool wait_for_room(std::int64_t deadline_us) const {
        for (;;) {
            const std::int64_t left_ms = deadline_us / 1000 - host().monotonic_us() / 1000;
            if (left_ms <= 0) {
                return false;
            }
            pollfd fd{STDOUT_FILENO, POLLOUT, 0};
            const int ready =
                ::poll(&fd, 1, static_cast<int>(std::min<std::int64_t>(left_ms, 1000)));
            if (ready > 0 || (ready < 0 && errno != EINTR)) {
                return true;
            }
        }
    }

    static constexpr std::int64_t kNever = -1;
    std::int64_t line_bytes_max_ = 0;
    std::int64_t warned_us_ = kNever;
    std::string stuck_key_;     // of the batch that broke off
    std::size_t stuck_at_ = 0;  // bytes of it that are out
};

ANNAL_PLUGIN("annal.sink-stdout", "1.0.0", "Annal", "Apache-2.0", StdoutSink)
