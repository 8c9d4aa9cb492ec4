#pragma once

#include <annal/sdk/call.hpp>
#include <annal/sdk/component.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace annal::inline sdk_v1 {

/// What became of a delivery: one verdict for all events, and those that fared otherwise. Made by
/// `delivered`, `retry`, `reject` and `pause`; the default is a retry.
class [[nodiscard]] Outcome {
public:
    Outcome() = default;
    Outcome(std::uint32_t verdict, std::string text, std::uint32_t retry_after_ms = 0)
        : verdict_(verdict), reason_(ANNAL_UNAVAILABLE, std::move(text), retry_after_ms) {}

    /// The event at `index` of the batch will never be taken.
    Outcome& reject_event(std::uint32_t index, std::string why) {
        return except(index, ANNAL_REJECT, std::move(why));
    }
    Outcome& retry_event(std::uint32_t index, std::string why) {
        return except(index, ANNAL_RETRY, std::move(why));
    }
    Outcome& deliver_event(std::uint32_t index) { return except(index, ANNAL_DELIVERED, {}); }

    [[nodiscard]] std::uint32_t verdict() const { return verdict_; }
    [[nodiscard]] const Status& reason() const { return reason_; }

    /// The exceptions as the contract wants them. Borrows this outcome.
    [[nodiscard]] std::vector<annal_verdict> exceptions() const {
        std::vector<annal_verdict> rows;
        rows.reserve(exceptions_.size());
        for (const Exception& e : exceptions_) {
            rows.push_back(annal_verdict{e.index, e.verdict, to_str(e.why)});
        }
        return rows;
    }

private:
    struct Exception {
        std::uint32_t index, verdict;
        std::string why;
    };
    Outcome& except(std::uint32_t index, std::uint32_t verdict, std::string why) {
        exceptions_.push_back(Exception{index, verdict, std::move(why)});
        return *this;
    }

    std::uint32_t verdict_ = ANNAL_RETRY;
    Status reason_{ANNAL_UNAVAILABLE, "the sink gave no outcome"};
    std::vector<Exception> exceptions_;
};

[[nodiscard]] inline Outcome delivered() {
    return {ANNAL_DELIVERED, {}};
}
/// Not now: the host tries again with growing pauses, or after `retry_after_ms`.
[[nodiscard]] inline Outcome retry(std::string why, std::uint32_t retry_after_ms = 0) {
    return {ANNAL_RETRY, std::move(why), retry_after_ms};
}
/// Never: every event of the batch is refused for what it is. An outage is a `retry`.
[[nodiscard]] inline Outcome reject(std::string why) {
    return {ANNAL_REJECT, std::move(why)};
}
/// Not before somebody changes the configuration: credentials, TLS, a wrong address.
[[nodiscard]] inline Outcome pause(std::string why) {
    return {ANNAL_PAUSE, std::move(why)};
}

/// One batch on its way to the destination. Borrowed for the time of `send`.
class Delivery {
public:
    explicit Delivery(const annal_delivery& raw) : raw_(raw), batch_(raw.batch) {}
    [[nodiscard]] std::uint32_t attempt() const { return raw_.attempt; }
    [[nodiscard]] const Batch& batch() const { return batch_; }
    /// What `encode` wrote, the same bytes on every attempt; empty without encode.
    [[nodiscard]] std::string_view payload() const { return view(raw_.payload); }
    [[nodiscard]] std::string_view idempotency_key() const { return view(raw_.idempotency_key); }
    /// Monotonic; `send` must have returned by then.
    [[nodiscard]] std::int64_t deadline_us() const { return raw_.deadline_us; }
    /// The stream's id, the same on every node and over every restart; from a host that does not
    /// say it, what the idempotency key has before its last slash.
    [[nodiscard]] std::string_view stream() const {
        if (is_since(offsetof(annal_delivery, fence)) && raw_.stream.len > 0) {
            return view(raw_.stream);
        }
        const std::string_view key = idempotency_key();
        return key.substr(0, std::min(key.rfind('/'), key.size()));
    }
    /// What a request on behalf of this delivery may take: until the deadline, at least 1 ms, at
    /// most the 60 s that a request may take at all.
    [[nodiscard]] std::uint32_t timeout_ms(const Host& host) const {
        const std::int64_t left_ms = (raw_.deadline_us - host.monotonic_us()) / 1000;
        return static_cast<std::uint32_t>(std::clamp<std::int64_t>(left_ms, 1, 60'000));
    }
    /// Rises when another node takes the stream over; 0 from an older host.
    [[nodiscard]] std::int64_t fence() const {
        return is_since(offsetof(annal_delivery, content_type)) ? raw_.fence : 0;
    }
    /// What the payload is when a format wrote it and not `encode`: "text/csv; charset=utf-8", and
    /// "csv". Empty else.
    [[nodiscard]] std::string_view content_type() const {
        return is_since(sizeof(annal_delivery)) ? view(raw_.content_type) : std::string_view();
    }
    [[nodiscard]] std::string_view file_extension() const {
        return is_since(sizeof(annal_delivery)) ? view(raw_.file_extension) : std::string_view();
    }
    [[nodiscard]] std::int64_t first_seq() const { return batch_[0].seq; }
    [[nodiscard]] std::int64_t last_seq() const { return batch_[batch_.size() - 1].seq; }
    [[nodiscard]] const annal_delivery& raw() const { return raw_; }

private:
    [[nodiscard]] bool is_since(std::size_t size) const { return raw_.struct_size >= size; }
    const annal_delivery& raw_;
    Batch batch_;
};

/// Where a destination's own record of a stream ends.
struct Position {
    Status status;
    std::int64_t seq = -1;  ///< the last that it holds durably; -1: none
};

/// Where `encode` writes: the bytes of each event, each ended by `end_event`.
class Encoder {
public:
    Encoder(const Host& host, const annal_writer& out, std::uint64_t* ends, std::size_t count)
        : host_(host), out_(out), ends_(ends), count_(count) {}

    void append(std::string_view text) noexcept { out_.append(text); }
    void push(char c) noexcept { out_.push(c); }
    /// The canonical JSON of `event`; `{"id","seq","deleted":true}` when its content was erased.
    Status append_json(const annal_event& event) {
        const annal_writer raw = out_.raw();
        return host_.render(event, raw);
    }
    /// What was written since the last call is the next event's part.
    void end_event() noexcept {
        if (ended_ < count_) {
            ends_[ended_] = out_.written();
        }
        ++ended_;
    }
    /// Bytes so far.
    [[nodiscard]] std::uint64_t written() const { return out_.written(); }
    /// One line of canonical JSON for each event.
    Status append_lines(const Batch& batch) {
        for (const annal_event& event : batch) {
            if (Status status = append_json(event); !status.ok()) {
                return status;
            }
            push('\n');
            end_event();
        }
        return {};
    }
    [[nodiscard]] Status status() const {
        if (ended_ != count_) {
            return {
                ANNAL_INTERNAL,
                "encode ended " + std::to_string(ended_) + " events of " + std::to_string(count_) +
                    ": call end_event once for each"};
        }
        return out_.status();
    }

private:
    const Host& host_;
    Writer out_;
    std::uint64_t* ends_;
    std::size_t count_, ended_ = 0;
};

/// A destination for an ordered stream of events. An author's class has:
///
///     static constexpr auto kName = "acme";                      what manifests call it
///     annal::Outcome send(const annal::Delivery&);               may block up to the deadline; or
///     annal::Task<annal::Outcome> send(const annal::Call&, const annal::Delivery&);
///                                                                which holds no thread while it
///                                                                waits
/// and may have
///     static auto config() { return std::tuple{annal::required(…), …}; }
///     annal::Status open();                                      after the configuration is set
///     annal::Status encode(const annal::Batch&, annal::Encoder&);
///                                                                a pure function of its batch;
///                                                                TOO_LARGE: a smaller batch may
///                                                                fit
///     annal::Status position(std::string_view project, std::int64_t& seq); or
///     annal::Task<annal::Position> position(const annal::Call&, std::string_view stream);
///                                                                the last seq that is there
///                                                                already
///     annal::Task<annal::Status> probe(const annal::Call&);      whether it would take a delivery
///     now
///     annal::Task<annal::Outcome> verify(const annal::Call&, const annal::Delivery&);
///                                                                reads back what was delivered:
///                                                                `delivered` when it is there and
///                                                                the same, `pause` when it is not
///     static constexpr bool kTakesFormats = true;                it carries bytes: a stream may
///                                                                choose a format in place of
///                                                                `encode`, and each batch is then
///                                                                a document of that
///
/// Whatever reaches its destination over the network is better off with the coroutines: the host
/// has few threads for those that block. An exception in `send` is a retry. Threads: never two
/// calls at once for one instance, not always the same thread.
class Sink : public Component {};

namespace detail {

template <class T>
concept BlockingSend = requires(T& t, const Delivery& d) {
    { t.send(d) } -> std::same_as<Outcome>;
};
template <class T>
concept AwaitedSend = requires(T& t, const Call& c, const Delivery& d) {
    { t.send(c, d) } -> std::same_as<Task<Outcome>>;
};
template <class T>
concept BlockingPosition = requires(T& t, std::string_view p, std::int64_t& s) {
    { t.position(p, s) } -> std::same_as<Status>;
};
template <class T>
concept AwaitedPosition = requires(T& t, const Call& c, std::string_view s) {
    { t.position(c, s) } -> std::same_as<Task<Position>>;
};
template <class T>
concept Probe = requires(T& t, const Call& c) {
    { t.probe(c) } -> std::same_as<Task<Status>>;
};

template <class T>
concept Verify = requires(T& t, const Call& c, const Delivery& d) {
    { t.verify(c, d) } -> std::same_as<Task<Outcome>>;
};

template <class T>
struct SinkThunks {
    static_assert(
        BlockingSend<T> || AwaitedSend<T>,
        "annal: a sink needs a public `annal::Outcome send(const annal::Delivery&)` or "
        "`annal::Task<annal::Outcome> send(const annal::Call&, const annal::Delivery&)`"
    );
    static constexpr bool kHasEncode = requires { &T::encode; };
    static constexpr bool kHasPosition = requires { &T::position; };
    static constexpr bool kHasProbe = requires { &T::probe; };
    static constexpr bool kHasVerify = requires { &T::verify; };
    static constexpr bool takes_formats() {
        if constexpr (requires { T::kTakesFormats; }) {
            return T::kTakesFormats;
        }
        return false;
    }
    static_assert(
        !kHasEncode ||
            requires(T & t, const Batch& b, Encoder& e) {
                { t.encode(b, e) } -> std::same_as<Status>;
            },
        "annal: encode must be a public `annal::Status encode(const annal::Batch&, "
        "annal::Encoder&)`"
    );
    static_assert(
        !kHasPosition || BlockingPosition<T> || AwaitedPosition<T>,
        "annal: position must be a public `annal::Status position(std::string_view project, "
        "std::int64_t& seq)` or `annal::Task<annal::Position> position(const annal::Call&, "
        "std::string_view stream)`"
    );
    static_assert(
        !kHasProbe || Probe<T>,
        "annal: probe must be a public `annal::Task<annal::Status> probe(const annal::Call&)`"
    );
    static_assert(
        !kHasVerify || Verify<T>,
        "annal: verify must be a public `annal::Task<annal::Outcome> verify(const annal::Call&, "
        "const annal::Delivery&)`"
    );

    static annal_status encode(
        void* self,
        const annal_batch* batch,
        const annal_writer* out,
        std::uint64_t* ends,
        annal_error* error
    ) noexcept {
        return guarded(error, [&]() -> Status {
            T& sink = *static_cast<T*>(self);
            const Batch events(batch);
            Encoder encoder(ComponentAccess::host(sink), *out, ends, events.size());
            Status status = sink.encode(events, encoder);
            return status.ok() ? encoder.status() : status;
        });
    }
    static void send(void* self, const annal_delivery* delivery) noexcept {
        T& sink = *static_cast<T*>(self);
        if constexpr (AwaitedSend<T>) {
            start(sink, delivery, [](T& to, const Call& call, const Delivery& what) {
                return to.send(call, what);
            });
        } else {
            bool reported = false;
            try {
                report(*delivery, attempt(sink, *delivery), reported);
            } catch (...) {
                // Out of memory before the report: say the one thing that needs none.
                if (!reported) {
                    say_retry(*delivery);
                }
            }
        }
    }
    static void verify(void* self, const annal_delivery* delivery) noexcept {
        start(*static_cast<T*>(self), delivery, [](T& of, const Call& call, const Delivery& what) {
            return of.verify(call, what);
        });
    }
    static void find_position(
        void* self, annal_call* call, annal_str stream, void* user, annal_position_done done
    ) noexcept {
        T& sink = *static_cast<T*>(self);
        try {
            start_position(sink, ComponentAccess::host(sink), call, stream, user, done);
        } catch (...) {
            const annal_error error = Status(ANNAL_INTERNAL, {}).to_error();
            done(user, -1, &error);
        }
    }
    static void probe(void* self, annal_call* call) noexcept {
        T& sink = *static_cast<T*>(self);
        const Host& host = ComponentAccess::host(sink);
        try {
            start_probe(sink, host, call);
        } catch (...) {
            const annal_error error = Status(ANNAL_INTERNAL, {}).to_error();
            host.raw()->complete(call, &error);
        }
    }
    static annal_status position(
        void* self, annal_str project, std::int64_t* seq, annal_error* error
    ) noexcept {
        return guarded(error, [&]() -> Status {
            *seq = -1;
            std::int64_t found = -1;
            Status status = static_cast<T*>(self)->position(view(project), found);
            if (status.ok()) {
                *seq = found;
            }
            return status;
        });
    }
    static constexpr annal_sink_v1 make() {
        annal_sink_v1 table{};
        table.struct_size = sizeof(table);
        table.flags = takes_formats() ? ANNAL_SINK_TAKES_FORMATS : 0;
        table.create = create<T>;
        table.destroy = destroy<T>;
        table.send = send;
        if constexpr (kHasEncode) {
            table.encode = encode;
        }
        if constexpr (BlockingPosition<T>) {
            table.position = position;
        }
        if constexpr (AwaitedPosition<T>) {
            table.find_position = find_position;
        }
        if constexpr (kHasProbe) {
            table.probe = probe;
        }
        if constexpr (kHasVerify) {
            table.verify = verify;
        }
        return table;
    }

private:
    [[nodiscard]] static Outcome attempt(T& sink, const annal_delivery& delivery) {
        try {
            return sink.send(Delivery(delivery));
        } catch (...) {
            return retry("the sink threw: " + current_exception_text());
        }
    }
    template <class Step>
    static void start(T& sink, const annal_delivery* delivery, Step step) noexcept {
        try {
            await_outcome(sink, ComponentAccess::host(sink), delivery, step);
        } catch (...) {
            say_retry(*delivery);  // no memory for the coroutine
        }
    }
    template <class Step>
    static Detached await_outcome(
        T& sink, const Host& host, const annal_delivery* delivery, Step step
    ) {
        const Call call(host, delivery->call);
        const Delivery what(*delivery);
        Outcome outcome;
        try {
            outcome = co_await step(sink, call, what);
        } catch (...) {
            outcome = failed_by_exception();
        }
        bool reported = false;
        try {
            report(*delivery, outcome, reported);
        } catch (...) {
            if (!reported) {
                say_retry(*delivery);
            }
        }
    }
    static Detached start_position(
        T& sink,
        const Host& host,
        annal_call* raw_call,
        annal_str stream,
        void* user,
        annal_position_done done
    ) {
        const Call call(host, raw_call);
        Position found;
        try {
            found = co_await sink.position(call, view(stream));
        } catch (...) {
            found = Position{exception_status(), -1};
        }
        const annal_error error = found.status.to_error();
        done(user, found.status.ok() ? found.seq : -1, found.status.ok() ? nullptr : &error);
    }
    static Detached start_probe(T& sink, const Host& host, annal_call* raw_call) {
        const Call call(host, raw_call);
        Status status;
        try {
            status = co_await sink.probe(call);
        } catch (...) {
            status = exception_status();
        }
        const annal_error error = status.to_error();
        host.raw()->complete(raw_call, status.ok() ? nullptr : &error);
    }
    /// Within a handler only.
    [[nodiscard]] static Outcome failed_by_exception() noexcept {
        try {
            return retry("the sink threw: " + current_exception_text());
        } catch (...) {
            return {};
        }
    }
    [[nodiscard]] static Status exception_status() noexcept {
        try {
            return {ANNAL_INTERNAL, "the sink threw: " + current_exception_text()};
        } catch (...) {
            return {ANNAL_INTERNAL, {}};
        }
    }
    static void report(const annal_delivery& delivery, const Outcome& outcome, bool& reported) {
        const std::vector<annal_verdict> rows = outcome.exceptions();
        const annal_error error = outcome.reason().to_error();
        const bool fine = outcome.verdict() == ANNAL_DELIVERED;
        reported = true;
        delivery.done(
            delivery.d,
            outcome.verdict(),
            rows.data(),
            static_cast<std::uint32_t>(rows.size()),
            fine ? nullptr : &error
        );
    }
    static void say_retry(const annal_delivery& delivery) noexcept {
        delivery.done(delivery.d, ANNAL_RETRY, nullptr, 0, nullptr);
    }
};

template <class T>
requires std::derived_from<T, Sink>
struct ComponentTraits<T> {
    static constexpr const char* kType = ANNAL_COMPONENT_SINK;
    static constexpr annal_sink_v1 kTable = SinkThunks<T>::make();
};

}  // namespace detail
}  // namespace annal::inline sdk_v1
