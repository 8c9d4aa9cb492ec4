/// A stream of events as logs of Datadog.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: datadog-proj-1}
///     spec:
///       library: {name: sink_datadog}
///       config: {api_key: {secretRef: datadog/api-key}, site: datadoghq.eu}
///       triggers:
///         - {name: all, events: {project: proj_1}}
///       permissions:
///         secrets: [datadog/api-key]
///         http: ["http-intake.logs.datadoghq.eu:443", "api.datadoghq.eu:443"]
///
/// One log is
///     {"ddsource","ddtags","hostname","service",            as configured, empty ones left out
///      "timestamp",                                         recorded time in ms, for Datadog's
///      clock "message",                                           the action
///      "event_id","seq","project_id","recorded_at",
///      "audit": {…}}                                        the event, canonical
/// The event stands under one key, for Datadog takes several names at the top (date, eventTime,
/// published_date …) for the log's own time. The message is the action, whose characters are known:
/// Datadog parses a message that looks like JSON, and a description is anybody's text.
///
/// Datadog answers 202 and cuts a log of more than 1 MB, so that limit, like its others, is kept
/// here: such an event is refused, by name. Datadog takes logs of the last 18 hours at their time,
/// older ones at the time of their arrival; `recorded_at` has the true one, and a warning is
/// logged. It knows no key to tell a repeat by: a delivery whose answer was lost is there twice,
/// with the same `event_id`.
#include <annal/sdk.hpp>
#include <annal/sdk/record.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace {

// "MB" is read as the smaller one of its two meanings.
constexpr annal::RecordLimits kLimits{1'000'000, 5'000'000, 1'000};
constexpr std::int64_t kHourUs = 3'600'000'000;
constexpr std::int64_t kAgeUsMax = 18 * kHourUs;
constexpr std::int64_t kWarningIntervalUs = kHourUs / 6;

}  // namespace

class DatadogSink : public annal::Sink {
public:
    static constexpr auto kName = "datadog";
    static auto config() {
        return std::tuple{
            annal::secret("api_key", &DatadogSink::api_key_)
                .range(1, 256)
                .about("an API key of the organization"),
            annal::optional("site", &DatadogSink::site_, "datadoghq.com")
                .one_of(
                    {"datadoghq.com",
                     "us3.datadoghq.com",
                     "us5.datadoghq.com",
                     "datadoghq.eu",
                     "uk1.datadoghq.com",
                     "ap1.datadoghq.com",
                     "ap2.datadoghq.com",
                     "ddog-gov.com",
                     "us2.ddog-gov.com"}
                )
                .about("where the organization lives"),
            annal::optional("url", &DatadogSink::url_, "")
                .range(0, 2048)
                .about("a proxy in place of https://http-intake.logs.SITE"),
            annal::optional("api_url", &DatadogSink::api_url_, "")
                .range(0, 2048)
                .about(
                    "a proxy in place of https://api.SITE, which is asked whether the key is valid"
                ),
            annal::optional("service", &DatadogSink::service_, "annal")
                .range(0, 200)
                .about("the logs' service"),
            annal::optional("source", &DatadogSink::source_, "annal")
                .range(0, 200)
                .about("the logs' ddsource, which chooses the pipeline"),
            annal::optional("hostname", &DatadogSink::hostname_, "")
                .range(0, 255)
                .about("the logs' hostname"),
            annal::optional("tags", &DatadogSink::tags_, {})
                .about("the logs' ddtags, as key:value"),
            annal::optional("gzip", &DatadogSink::gzip_, true).about("compress requests"),
        };
    }

    annal::Status open() {
        for (const char* service : {ANNAL_SERVICE_CODEC, ANNAL_SERVICE_HTTP_CLIENT}) {
            if (annal::Status status = host().require(service); !status.ok()) {
                return status;
            }
        }
        intake_ = (url_.empty() ? "https://http-intake.logs." + site_ : url_) + "/api/v2/logs";
        validate_ = (api_url_.empty() ? "https://api." + site_ : api_url_) + "/api/v1/validate";
        for (const std::string& tag : tags_) {
            if (tag.empty() || tag.find(',') != std::string::npos) {
                return {ANNAL_UNPROCESSABLE, "tags: a tag can't be empty or have a comma: " + tag};
            }
            joined_tags_ += (joined_tags_.empty() ? "" : ",") + tag;
        }
        return {};
    }

    annal::Status encode(const annal::Batch& batch, annal::Encoder& out) {
        annal::RecordWriter records(out, kLimits);
        std::size_t left = batch.size();
        out.push('[');
        for (const annal_event& event : batch) {
            annal::JsonWriter json = records.begin();
            write_head(json, event);
            if (annal::Status status = records.append_event(json, "audit", event); !status.ok()) {
                return status;
            }
            json.end_object();
            out.push(--left > 0 ? ',' : ']');
            if (annal::Status status = records.end_event(event); !status.ok()) {
                return status;
            }
        }
        return {};
    }

    annal::Task<annal::Outcome> send(const annal::Call& call, const annal::Delivery& delivery) {
        warn_of_late_events(delivery.batch());
        annal::RecordPost post(host(), intake_, delivery, gzip_);
        post.request().header("DD-API-KEY", api_key_).header("Content-Type", "application/json");
        const annal::ClientResponse answer = co_await call.fetch(post.request());
        co_return annal::judge(answer, host().wall_us());
    }

    annal::Task<annal::Status> probe(const annal::Call& call) {
        annal::ClientRequest request("GET", validate_);
        request.header("DD-API-KEY", api_key_);
        const annal::ClientResponse answer = co_await call.fetch(request);
        co_return annal::judge_probe(answer);
    }

private:
    void write_head(annal::JsonWriter<annal::Encoder>& json, const annal_event& event) const {
        json.begin_object();
        const auto member = [&](std::string_view name, const std::string& value) {
            if (!value.empty()) {
                json.member(name, value);
            }
        };
        member("ddsource", source_);
        member("ddtags", joined_tags_);
        member("hostname", hostname_);
        member("service", service_);
        json.member("timestamp", event.created_at_us / 1000);
        const bool erased = (event.flags & ANNAL_EVENT_DELETED) != 0;
        json.member("message", erased ? "erased" : annal::view(event.action));
        json.member("event_id", event.id).member("seq", event.seq);
        json.member("project_id", event.project_id);
        json.member("recorded_at", std::string_view(host().format_time(event.created_at_us)));
    }

    void warn_of_late_events(const annal::Batch& batch) {
        const std::int64_t now = host().wall_us();
        const std::int64_t oldest = batch[0].created_at_us;
        if (now - oldest <= kAgeUsMax || now < warn_again_us_) {
            return;
        }
        warn_again_us_ = now + kWarningIntervalUs;
        host().warn(
            "datadog.late_events",
            {{"oldest", host().format_time(oldest)},
             {"why",
              "Datadog shows events of more than 18 hours ago at the time of their arrival; "
              "recorded_at has the true one"}}
        );
    }

    std::string api_key_, site_, url_, api_url_, service_, source_, hostname_;
    std::vector<std::string> tags_;
    bool gzip_ = true;
    std::string intake_, validate_, joined_tags_;
    std::int64_t warn_again_us_ = 0;
};

ANNAL_PLUGIN("annal.sink-datadog", "1.0.0", "Annal", "Apache-2.0", DatadogSink)
