/// A stream of events into Splunk, through an HTTP Event Collector.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: splunk-proj-1}
///     spec:
///       library: {name: sink_splunk_hec}
///       config: {url: "https://splunk.example:8088", token: {secretRef: splunk/token}, ack: true}
///       triggers:
///         - {name: all, events: {project: proj_1}}
///       permissions:
///         secrets: [splunk/token]
///         http: ["splunk.example:8088"]
///
/// One event is
///     {"time":1780000000.123,                              recorded time
///      "host","source","sourcetype","index",               as configured, empty ones left out
///      "fields":{"event_id":"evt_…","seq":"17"},           indexed, to search and to dedup by
///      "event":{…}}                                        the event, canonical
///
/// A collector answers 200 before anything is indexed, and what it then loses is lost. With `ack` a
/// delivery counts only when the indexer has confirmed it; the token must have acknowledgement
/// enabled. A confirmation that does not come until the delivery's deadline, that can't be asked
/// for, or that another indexer is asked for makes the delivery a retry, never a success. So
/// `limits.timeout` should be a minute or more: each retry is there twice, `dedup event_id` finds
/// it.
#include <annal/sdk.hpp>
#include <annal/sdk/record.hpp>

#include <cstdint>
#include <string>

#include "hec_channel.h"
#include "hec_reply.h"

namespace {

using sink_splunk_hec::HecReply;

constexpr std::int64_t kWarningIntervalUs = 600'000'000;

/// Epoch seconds with three decimals.
std::string hec_time(std::int64_t time_us) {
    const std::int64_t ms = time_us / 1000;
    std::string text = std::to_string(ms / 1000) + ".000";
    for (std::int64_t rest = ms % 1000, at = 1; at <= 3; ++at, rest /= 10) {
        text[text.size() - static_cast<std::size_t>(at)] = static_cast<char>('0' + rest % 10);
    }
    return text;
}

}  // namespace

class SplunkHecSink : public annal::Sink {
public:
    static constexpr auto kName = "splunk_hec";
    static auto config() {
        return std::tuple{
            annal::required("url", &SplunkHecSink::url_)
                .range(1, 2048)
                .about("the collector, as https://host:8088"),
            annal::secret("token", &SplunkHecSink::token_).range(1, 256).about("a token of it"),
            annal::optional("host", &SplunkHecSink::host_, "")
                .range(0, 255)
                .about("the events' host"),
            annal::optional("source", &SplunkHecSink::source_, "annal")
                .range(0, 1024)
                .about("the events' source"),
            annal::optional("sourcetype", &SplunkHecSink::sourcetype_, "annal:audit")
                .range(0, 1024)
                .about("the events' sourcetype"),
            annal::optional("index", &SplunkHecSink::index_, "")
                .range(0, 80)
                .about("the index; empty: the token's own"),
            annal::optional("ack", &SplunkHecSink::ack_, false)
                .about("count events as delivered only when the indexer has confirmed them"),
            annal::optional("ack_interval_ms", &SplunkHecSink::ack_interval_ms_, 1'000)
                .range(50, 60'000)
                .about("how often it is asked for that"),
            annal::optional("max_bytes", &SplunkHecSink::max_bytes_, 1'000'000)
                .range(1'000, 60'000'000)
                .about("of one request, before compression; Splunk Cloud takes 1 MB"),
            annal::optional("gzip", &SplunkHecSink::gzip_, true).about("compress requests"),
        };
    }

    annal::Status open() {
        for (const char* service : {ANNAL_SERVICE_CODEC, ANNAL_SERVICE_HTTP_CLIENT}) {
            if (annal::Status status = host().require(service); !status.ok()) {
                return status;
            }
        }
        while (!url_.empty() && url_.back() == '/') {
            url_.pop_back();
        }
        authorization_ = "Splunk " + token_;
        event_url_ = url_ + "/services/collector/event";
        return {};
    }

    annal::Status encode(const annal::Batch& batch, annal::Encoder& out) {
        const auto bytes_max = static_cast<std::uint64_t>(max_bytes_);
        annal::RecordWriter records(out, {bytes_max, bytes_max});
        for (const annal_event& event : batch) {
            annal::JsonWriter json = records.begin();
            write_head(json, event);
            if (annal::Status status = records.append_event(json, "event", event); !status.ok()) {
                return status;
            }
            json.end_object();
            if (annal::Status status = records.end_event(event); !status.ok()) {
                return status;
            }
        }
        return {};
    }

    annal::Task<annal::Outcome> send(const annal::Call& call, const annal::Delivery& delivery) {
        const std::string cookies = channel_.cookies();
        annal::RecordPost post(host(), event_url_, delivery, gzip_);
        sign(post.request(), cookies);
        post.request().header("Content-Type", "application/json");
        if (ack_) {
            post.request().header("X-Splunk-Request-Channel", channel_.id());
        }
        const annal::ClientResponse answer = co_await call.fetch(post.request());
        // Whoever took the events is whom to ask about them, also if it is somebody new.
        channel_.keep_cookies(answer);
        annal::Outcome outcome = sink_splunk_hec::judge_reply(
            answer, static_cast<std::uint32_t>(delivery.batch().size()), host().wall_us()
        );
        if (outcome.verdict() != ANNAL_DELIVERED) {
            co_return outcome;
        }
        const HecReply reply = *sink_splunk_hec::read_reply(answer);
        warn_of_capacity(reply, answer);
        if (!ack_) {
            co_return outcome;
        }
        if (!reply.ack_id) {
            co_return annal::pause(
                "the collector gave no ackId: enable indexer acknowledgement for the token, or set "
                "ack: false"
            );
        }
        annal::Outcome confirmed = co_await confirm(call, delivery, *reply.ack_id);
        if (confirmed.verdict() != ANNAL_DELIVERED) {
            // What comes late on the old channel must not be taken for the next attempt's.
            channel_.renew();
        }
        co_return confirmed;
    }

    annal::Task<annal::Status> probe(const annal::Call& call) {
        annal::ClientResponse answer = co_await ask_health(call, "/services/collector/health/1.0");
        if (answer.ok() && answer.http_status == 404) {
            answer = co_await ask_health(call, "/services/collector/health");
        }
        co_return annal::judge_probe(answer);
    }

private:
    void write_head(annal::JsonWriter<annal::Encoder>& json, const annal_event& event) const {
        json.begin_object().key("time").raw(hec_time(event.created_at_us));
        const auto member = [&](std::string_view name, const std::string& value) {
            if (!value.empty()) {
                json.member(name, value);
            }
        };
        member("host", host_);
        member("source", source_);
        member("sourcetype", sourcetype_);
        member("index", index_);
        json.key("fields").begin_object().member("event_id", event.id);
        json.member("seq", std::to_string(event.seq)).end_object();
    }

    void sign(annal::ClientRequest& request, const std::string& cookies) const {
        request.header("Authorization", authorization_);
        if (!cookies.empty()) {
            request.header("Cookie", cookies);
        }
    }

    /// Asks until the indexer confirms, or the delivery's time is over.
    annal::Task<annal::Outcome> confirm(
        const annal::Call& call, const annal::Delivery& delivery, std::int64_t ack_id
    ) {
        const std::string url = url_ + "/services/collector/ack?channel=" + channel_.id();
        const std::string body = "{\"acks\":[" + std::to_string(ack_id) + "]}";
        const std::int64_t interval_us = ack_interval_ms_ * 1000;
        std::string last = "it was not asked for yet";
        while (delivery.deadline_us() - host().monotonic_us() > interval_us) {
            const annal::Status slept =
                co_await call.sleep_ms(static_cast<std::uint32_t>(ack_interval_ms_));
            if (!slept.ok()) {
                co_return annal::retry(
                    "the indexer's confirmation was not waited for: " + slept.text()
                );
            }
            const std::string cookies = channel_.cookies();
            annal::ClientRequest request("POST", url);
            sign(request, cookies);
            request.header("Content-Type", "application/json").body(body);
            request.timeout_ms(annal::RecordPost::time_left_ms(host(), delivery));
            const annal::ClientResponse answer = co_await call.fetch(request);
            const bool moved = channel_.keep_cookies(answer);
            const auto acked = sink_splunk_hec::read_ack(answer, ack_id);
            if (acked.value_or(false)) {
                co_return annal::delivered();
            }
            if (moved) {
                co_return annal::retry(
                    "another indexer answered than the one that took the events; they are sent "
                    "again"
                );
            }
            if (!acked) {
                annal::Outcome trouble = judge_query(answer);
                if (trouble.verdict() == ANNAL_PAUSE) {
                    co_return trouble;
                }
                last = trouble.reason().text();
            } else {
                last = "it is not indexed yet";
            }
        }
        co_return annal::retry("the indexer did not confirm the events in time: " + last);
    }

    /// Never a success: the answer did not say whether the events are indexed.
    [[nodiscard]] annal::Outcome judge_query(const annal::ClientResponse& answer) const {
        annal::Outcome outcome = sink_splunk_hec::judge_reply(answer, 0, host().wall_us());
        if (outcome.verdict() == ANNAL_PAUSE) {
            return outcome;
        }
        const std::string why = outcome.reason().text();
        return annal::retry(
            why.empty() ? "no answer to the question: " + annal::describe(answer) : why
        );
    }

    annal::Task<annal::ClientResponse> ask_health(const annal::Call& call, const char* path) {
        const std::string url = url_ + path;
        const std::string cookies = channel_.cookies();
        annal::ClientRequest request("GET", url);
        sign(request, cookies);
        annal::ClientResponse answer = co_await call.fetch(request);
        co_return answer;
    }

    void warn_of_capacity(const HecReply& reply, const annal::ClientResponse& answer) {
        const std::int64_t now = host().wall_us();
        if (!sink_splunk_hec::is_near_capacity(reply) || now < warn_again_us_) {
            return;
        }
        warn_again_us_ = now + kWarningIntervalUs;
        host().warn("splunk_hec.near_capacity", {{"answer", annal::describe(answer)}});
    }

    std::string url_, token_, host_, source_, sourcetype_, index_;
    bool ack_ = false, gzip_ = true;
    std::int64_t ack_interval_ms_ = 1'000, max_bytes_ = 1'000'000;
    std::string authorization_, event_url_;
    sink_splunk_hec::HecChannel channel_;
    std::int64_t warn_again_us_ = 0;
};

ANNAL_PLUGIN("annal.sink-splunk-hec", "1.0.0", "Annal", "Apache-2.0", SplunkHecSink)
