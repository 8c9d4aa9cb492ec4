#pragma once

#include <annal/sdk/component.hpp>

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
    [[nodiscard]] const annal_delivery& raw() const { return raw_; }

private:
    const annal_delivery& raw_;
    Batch batch_;
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
///     static constexpr auto kName = "acme";                                  what manifests call
///     it static auto config() { return std::tuple{annal::required(…), …}; }     optional
///     annal::Status open();                                                  optional: after the
///     configuration is set annal::Status encode(const annal::Batch&, annal::Encoder&); optional: a
///     pure function of its batch annal::Outcome send(const annal::Delivery&); may block up to the
///     deadline annal::Status position(std::string_view project, std::int64_t& seq);   optional:
///     the last seq that is there already
///
/// An exception in `send` is a retry. Threads: never two calls at once for one instance, not always
/// the same thread.
class Sink : public Component {};

namespace detail {

template <class T>
struct SinkThunks {
    static_assert(
        requires(T & t, const Delivery& d) {
            { t.send(d) } -> std::same_as<Outcome>;
        },
        "annal: a sink needs a public `annal::Outcome send(const annal::Delivery&)`"
    );
    static constexpr bool kHasEncode = requires { &T::encode; };
    static constexpr bool kHasPosition = requires { &T::position; };
    static_assert(
        !kHasEncode ||
            requires(T & t, const Batch& b, Encoder& e) {
                { t.encode(b, e) } -> std::same_as<Status>;
            },
        "annal: encode must be a public `annal::Status encode(const annal::Batch&, "
        "annal::Encoder&)`"
    );
    static_assert(
        !kHasPosition ||
            requires(T & t, std::string_view p, std::int64_t& s) {
                { t.position(p, s) } -> std::same_as<Status>;
            },
        "annal: position must be a public `annal::Status position(std::string_view project, "
        "std::int64_t& seq)`"
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
        bool reported = false;
        try {
            const Outcome outcome = attempt(*static_cast<T*>(self), *delivery);
            const std::vector<annal_verdict> rows = outcome.exceptions();
            const annal_error error = outcome.reason().to_error();
            const bool fine = outcome.verdict() == ANNAL_DELIVERED;
            reported = true;
            delivery->done(
                delivery->d,
                outcome.verdict(),
                rows.data(),
                static_cast<std::uint32_t>(rows.size()),
                fine ? nullptr : &error
            );
        } catch (...) {
            // Out of memory before the report: say the one thing that needs none.
            if (!reported) {
                delivery->done(delivery->d, ANNAL_RETRY, nullptr, 0, nullptr);
            }
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
        table.create = create<T>;
        table.destroy = destroy<T>;
        table.send = send;
        if constexpr (kHasEncode) {
            table.encode = encode;
        }
        if constexpr (kHasPosition) {
            table.position = position;
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
};

template <class T>
requires std::derived_from<T, Sink>
struct ComponentTraits<T> {
    static constexpr const char* kType = ANNAL_COMPONENT_SINK;
    static constexpr annal_sink_v1 kTable = SinkThunks<T>::make();
};

}  // namespace detail
}  // namespace annal::inline sdk_v1
