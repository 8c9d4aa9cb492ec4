/// A stream of events into Sumo Logic, through an HTTP source.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: sumo-proj-1}
///     spec:
///       library: {name: sink_sumologic}
///       config: {url: {secretRef: sumo/source}, category: audit/annal, fields: ["env=prod"]}
///       triggers:
///         - {name: all, events: {project: proj_1}}
///       permissions:
///         secrets: [sumo/source]
///         http: ["endpoint4.collection.sumologic.com:443"]
///
/// One event is one line,
///     {"timestamp":"2026-05-14T18:42:13.001Z","event_id":"evt_…","seq":17,"audit":{…}}
/// with the recorded time first, for Sumo takes the earliest one that it finds, and the canonical
/// event under one key.
///
/// Who knows a source's URL may write to it, so the whole URL is a secret, and no text of this sink
/// says it, whatever an answer repeats of it. Sumo cuts a message of more than 64 KB into several,
/// of which none is JSON any more: such an event is refused by name unless `allow_sliced`. It knows
/// no key to tell a repeat by: a delivery whose answer was lost is there twice, with the same
/// `event_id`. There is nothing to ask whether it would take a delivery, either.
#include <annal/sdk.hpp>
#include <annal/sdk/record.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace {

// "KB" and "MB" are read as the smaller one of their two meanings.
constexpr std::uint64_t kMessageBytesMax = 64'000;
constexpr std::uint64_t kPayloadBytesMax = 1'000'000;
constexpr std::size_t kFieldsMax = 30;

/// Whether it can stand in a header.
bool is_plain(const std::string& text) {
    return std::none_of(text.begin(), text.end(), [](char c) {
        return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    });
}

bool is_field(const std::string& text) {
    const auto equals = text.find('=');
    return equals != std::string::npos && equals > 0 && equals + 1 < text.size() &&
           text.find('=', equals + 1) == std::string::npos && text.find(',') == std::string::npos &&
           is_plain(text);
}

/// What must not be said of `url`: all behind its host, and the last part of that, which is the
/// key, without the "=" at its end, which answers may escape.
std::vector<std::string> secrets_of(const std::string& url) {
    const auto scheme = url.find("://");
    const auto path = url.find('/', scheme == std::string::npos ? 0 : scheme + 3);
    if (path == std::string::npos) {
        return {};
    }
    std::string key = url.substr(url.rfind('/') + 1);
    while (!key.empty() && key.back() == '=') {
        key.pop_back();
    }
    std::vector<std::string> secrets{url.substr(path), std::move(key)};
    std::erase_if(secrets, [](const std::string& text) { return text.size() < 2; });
    return secrets;
}

void remove_all(std::string& text, const std::string& secret) {
    constexpr std::string_view kMark = "[secret]";
    for (std::size_t at = text.find(secret); at != std::string::npos;
         at = text.find(secret, at + kMark.size())) {
        text.replace(at, secret.size(), kMark);
    }
}

}  // namespace

class SumoLogicSink : public annal::Sink {
public:
    static constexpr auto kName = "sumo_logic";
    static auto config() {
        return std::tuple{
            annal::secret("url", &SumoLogicSink::url_)
                .range(1, 2048)
                .about("the URL of the HTTP source"),
            annal::optional("name", &SumoLogicSink::name_, "")
                .range(0, 1024)
                .about("the source's name in place of its own"),
            annal::optional("host", &SumoLogicSink::host_, "")
                .range(0, 1024)
                .about("the source's host in place of its own"),
            annal::optional("category", &SumoLogicSink::category_, "")
                .range(0, 1024)
                .about("the source's category in place of its own"),
            annal::optional("fields", &SumoLogicSink::fields_, {})
                .about("at most 30 fields of every message, each as key=value"),
            annal::optional("allow_sliced", &SumoLogicSink::allow_sliced_, false)
                .about("send events of more than 64 KB, which Sumo cuts into several messages"),
            annal::optional("gzip", &SumoLogicSink::gzip_, true).about("compress requests"),
        };
    }

    annal::Status open() {
        for (const char* service : {ANNAL_SERVICE_CODEC, ANNAL_SERVICE_HTTP_CLIENT}) {
            if (annal::Status status = host().require(service); !status.ok()) {
                return status;
            }
        }
        secrets_ = secrets_of(url_);
        return check_headers();
    }

    annal::Status encode(const annal::Batch& batch, annal::Encoder& out) {
        annal::RecordWriter records(
            out, {allow_sliced_ ? kPayloadBytesMax : kMessageBytesMax, kPayloadBytesMax}
        );
        for (const annal_event& event : batch) {
            annal::JsonWriter json = records.begin();
            json.begin_object().member("timestamp", in_ms(event.created_at_us));
            json.member("event_id", event.id).member("seq", event.seq);
            if (annal::Status status = records.append_event(json, "audit", event); !status.ok()) {
                return status;
            }
            json.end_object();
            out.push('\n');
            if (annal::Status status = records.end_event(event); !status.ok()) {
                return status;
            }
        }
        return {};
    }

    annal::Task<annal::Outcome> send(const annal::Call& call, const annal::Delivery& delivery) {
        annal::RecordPost post(host(), url_, delivery, gzip_);
        post.request().header("Content-Type", "application/json").header("X-Sumo-Client", "annal");
        add_header(post.request(), "X-Sumo-Name", name_);
        add_header(post.request(), "X-Sumo-Host", host_);
        add_header(post.request(), "X-Sumo-Category", category_);
        add_header(post.request(), "X-Sumo-Fields", joined_fields_);
        const annal::ClientResponse answer = co_await call.fetch(post.request());
        annal::Outcome outcome = judge(answer);
        co_return outcome;
    }

private:
    annal::Status check_headers() {
        if (!is_plain(name_) || !is_plain(host_) || !is_plain(category_)) {
            return {ANNAL_UNPROCESSABLE, "name, host and category can't have control characters"};
        }
        if (fields_.size() > kFieldsMax) {
            return {ANNAL_UNPROCESSABLE, "fields: Sumo Logic takes at most 30"};
        }
        for (const std::string& field : fields_) {
            if (!is_field(field)) {
                return {
                    ANNAL_UNPROCESSABLE,
                    "fields: must be key=value without another = or a comma: " + field};
            }
            joined_fields_ += (joined_fields_.empty() ? "" : ",") + field;
        }
        return {};
    }

    static void add_header(
        annal::ClientRequest& request, std::string_view name, const std::string& value
    ) {
        if (!value.empty()) {
            request.header(name, value);
        }
    }

    /// The codec's microseconds, cut.
    [[nodiscard]] std::string in_ms(std::int64_t time_us) const {
        constexpr std::size_t kToMs = std::string_view("2026-05-14T18:42:13.001").size();
        return std::string(std::string_view(host().format_time(time_us)).substr(0, kToMs)) + "Z";
    }

    /// 200 alone is Sumo's success. Before anything is said of an answer, and cut somewhere, it is
    /// rid of the secret.
    [[nodiscard]] annal::Outcome judge(annal::ClientResponse answer) const {
        remove_secrets(answer.body);
        for (auto& [name, value] : answer.headers) {
            remove_secrets(value);
        }
        const annal::Outcome outcome = annal::judge(answer, host().wall_us());
        if (outcome.verdict() == ANNAL_DELIVERED && answer.http_status != 200) {
            return annal::retry(annal::describe(answer));
        }
        std::string why = outcome.reason().text();
        remove_secrets(why);
        return {outcome.verdict(), std::move(why), outcome.reason().retry_after_ms()};
    }

    void remove_secrets(std::string& text) const {
        for (const std::string& secret : secrets_) {
            remove_all(text, secret);
        }
    }

    std::string url_, name_, host_, category_;
    std::vector<std::string> fields_;
    bool allow_sliced_ = false, gzip_ = true;
    std::vector<std::string> secrets_;
    std::string joined_fields_;
};

ANNAL_PLUGIN("annal.sink-sumologic", "1.0.0", "Annal", "Apache-2.0", SumoLogicSink)
