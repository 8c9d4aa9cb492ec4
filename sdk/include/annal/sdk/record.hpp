/// For sinks whose destinations take JSON records over HTTP, compressed if they like. Not part of
/// sdk.hpp, which depends on std alone: whoever includes this links ZLIB::ZLIB.
#pragma once

#include <annal/sdk/gzip.hpp>
#include <annal/sdk/json.hpp>
#include <annal/sdk/sink.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

namespace annal::inline sdk_v1 {

/// What a destination takes, in bytes before compression.
struct RecordLimits {
    std::uint64_t record_bytes_max, payload_bytes_max;
    std::size_t records_max = SIZE_MAX;
};

/// Writes one JSON record after another and holds them against the destination's limits, so that
/// nothing is left to the destination to cut or to drop.
///
///     annal::RecordWriter records(out, kLimits);
///     for (const annal_event& event : batch) {
///         annal::JsonWriter json = records.begin();
///         json.begin_object().member("seq", event.seq);
///         if (auto s = records.append_event(json, "audit", event); !s.ok()) return s;
///         json.end_object();
///         if (auto s = records.end_event(event); !s.ok()) return s;
///     }
///
/// Borrows the encoder; for the time of `encode`.
class RecordWriter {
public:
    RecordWriter(Encoder& out, const RecordLimits& limits) : out_(out), limits_(limits) {}

    /// For one record: no comma before its first value. What stands between records the sink writes
    /// into the encoder.
    [[nodiscard]] JsonWriter<Encoder> begin() { return JsonWriter<Encoder>(out_); }
    /// The event's canonical JSON as the member `key`, where none of its names can be taken for one
    /// of the record's.
    Status append_event(JsonWriter<Encoder>& json, std::string_view key, const annal_event& event) {
        json.key(key).separate();
        return out_.append_json(event);
    }
    /// Ends the event's part. ANNAL_TOO_LARGE: the record, or all so far, is more than the
    /// destination takes. A smaller batch may fit, as long as it has more than one event.
    Status end_event(const annal_event& event) {
        out_.end_event();
        const std::uint64_t size = out_.written() - begin_;
        begin_ = out_.written();
        if (size > limits_.record_bytes_max) {
            return too_large(
                "the event " + std::string(view(event.id)), size, limits_.record_bytes_max
            );
        }
        if (++records_ > limits_.records_max) {
            return too_large("the batch", records_, limits_.records_max, " events");
        }
        if (begin_ > limits_.payload_bytes_max) {
            return too_large("the batch", begin_, limits_.payload_bytes_max);
        }
        return {};
    }

private:
    [[nodiscard]] static Status too_large(
        const std::string& what, std::uint64_t is, std::uint64_t most, const char* unit = " bytes"
    ) {
        return {
            ANNAL_TOO_LARGE,
            what + " has " + std::to_string(is) + unit +
                " in the destination's form, which takes " + std::to_string(most)};
    }

    Encoder& out_;
    RecordLimits limits_;
    std::uint64_t begin_ = 0;
    std::size_t records_ = 0;
};

/// A delivery's payload as a POST that ends before the delivery's deadline does.
///
/// Lifetime: as long as the request is under way; borrows `url` and the delivery.
class RecordPost {
public:
    RecordPost(const Host& host, std::string_view url, const Delivery& delivery, bool compressed)
        : packed_(compressed ? gzip(delivery.payload()) : std::string()), request_("POST", url) {
        request_.body(compressed ? packed_ : delivery.payload());
        request_.timeout_ms(time_left_ms(host, delivery));
        if (compressed) {
            request_.header("Content-Encoding", "gzip");
        }
    }
    RecordPost(const RecordPost&) = delete;
    RecordPost& operator=(const RecordPost&) = delete;

    /// For the destination's own headers.
    [[nodiscard]] ClientRequest& request() { return request_; }

    /// What a request of `delivery` may take and still leave the sink the time to report: 1 ms to
    /// the minute that a request may take at all.
    [[nodiscard]] static std::uint32_t time_left_ms(const Host& host, const Delivery& delivery) {
        const std::int64_t left_ms = (delivery.deadline_us() - host.monotonic_us()) / 1000;
        return static_cast<std::uint32_t>(
            std::clamp<std::int64_t>(left_ms - left_ms / 20, 1, 60'000)
        );
    }

private:
    std::string packed_;
    ClientRequest request_;
};

}  // namespace annal::inline sdk_v1
