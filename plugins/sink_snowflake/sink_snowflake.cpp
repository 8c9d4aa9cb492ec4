/// A stream of events as rows of a Snowflake table, each exactly once, through Snowpipe Streaming.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: warehouse}
///     spec:
///       library: {name: sink_snowflake}
///       config:
///         account: myorg-myaccount
///         user: ANNAL
///         private_key: {secretRef: snowflake/key}
///         database: AUDIT
///         schema: PUBLIC
///         table: EVENTS
///       triggers:
///         - {name: all, events: {project: proj_1}}
///       permissions: {http: ["*:443"]}
///
/// A stream has a channel of its own, whose offset token is the seq of the last row: Snowflake
/// commits rows and token together. That an append was answered does not make it durable, so a
/// batch counts as delivered once the channel's committed token has reached its last seq. Opening
/// the channel tells that token, gives up what is not committed, and shuts out whoever had it open;
/// it is opened again whenever it is not certain what an append came to, and only rows behind the
/// token are sent then.
///
/// A row has flat columns for what is searched, and the whole event as an object in EVENT. Rows
/// that Snowflake can't take (a missing NOT NULL column, a text too long for its column) reject the
/// batch. Snowflake passes them over without saying which they were, so all events of that batch
/// are rejected, one by one in the end: those among them that did fit are in the table too. A crash
/// between that and the host's record of it leaves no trace but the channel's error count, of which
/// the sink warns whenever it opens a channel.
///
/// Source: docs.snowflake.com, "Snowpipe Streaming REST API endpoints"
#include <annal/sdk.hpp>
#include <annal/sdk/digest.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "key_pair.h"
#include "streaming_answers.h"

namespace {

using annal::ClientResponse;
using annal::Outcome;
using sink_snowflake::ChannelStatus;

constexpr std::size_t kRowBytesMax = std::size_t{4} << 20;
constexpr std::size_t kRequestBytesMax = std::size_t{16} << 20;

/// A column and where its text comes from.
struct Column {
    const char* name;
    annal_str annal_event::*text;
};
constexpr std::array<Column, 17> kColumns{{
    {"ACTION", &annal_event::action},
    {"ACTOR_TYPE", &annal_event::actor_type},
    {"ACTOR_ID", &annal_event::actor_id},
    {"ACTOR_EMAIL", &annal_event::actor_email},
    {"AUTH_TYPE", &annal_event::auth_type},
    {"USER_ID", &annal_event::user_id},
    {"ORGANIZATION_ID", &annal_event::organization_id},
    {"CLIENT_ID", &annal_event::client_id},
    {"ISSUER_ID", &annal_event::issuer_id},
    {"AGENT_ID", &annal_event::agent_id},
    {"TARGET_TYPE", &annal_event::target_type},
    {"TARGET_ID", &annal_event::target_id},
    {"EXTERNAL_ID", &annal_event::external_id},
    {"IP", &annal_event::ip},
    {"USER_AGENT", &annal_event::user_agent},
    {"DESCRIPTION", &annal_event::description},
    {"PROJECT_ID", &annal_event::project_id},
}};

std::string url_part(std::string_view text) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (std::isalnum(byte) != 0 || c == '-' || c == '.' || c == '_' || c == '~') {
            out += c;
        } else {
            out += {'%', kDigits[byte >> 4U], kDigits[byte & 15U]};
        }
    }
    return out;
}

/// Channels' names do not tell upper from lower case, and stand in URLs. A stream whose name is
/// more than that gets a name of what can stand there, and a digest that no other stream has.
std::string channel_of(std::string_view stream) {
    std::string out(stream);
    for (char& c : out) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        c = plain ? c : '_';
    }
    if (out != stream) {
        out += "_" + annal::to_hex(annal::view(annal::sha256(stream))).substr(0, 16);
    }
    return out;
}

/// A channel as this instance has it.
struct Channel {
    bool open = false;
    std::string continuation_token;
    std::int64_t committed_seq = -1;
    std::int64_t appended_seq = -1;  ///< in flight up to here; no less than committed_seq
    std::int64_t errors = 0;         ///< rows_error_count that is known of
    int waits = 0;                   ///< deadlines in a row without the commit
    std::int64_t rejected_from = -1, rejected_to = -1;  ///< the last batch with rows not taken
    std::string rejected_why;
};

/// What a step of a delivery came to: go on, or an outcome.
using Stop = std::optional<Outcome>;

}  // namespace

class SnowflakeSink : public annal::Sink {
public:
    static constexpr auto kName = "snowflake";
    static auto config() {
        return std::tuple{
            annal::required("account", &SnowflakeSink::account_)
                .range(1, 255)
                .about("as in the account's URL: myorg-myaccount"),
            annal::required("user", &SnowflakeSink::user_).range(1, 255),
            annal::secret("private_key", &SnowflakeSink::private_key_)
                .range(1, 16384)
                .about("the user's RSA key in PEM form, not encrypted"),
            annal::required("database", &SnowflakeSink::database_).range(1, 255),
            annal::required("schema", &SnowflakeSink::schema_).range(1, 255),
            annal::required("table", &SnowflakeSink::table_).range(1, 255),
            annal::optional("pipe", &SnowflakeSink::pipe_, "")
                .range(0, 255)
                .about("the table's own pipe, TABLE-STREAMING, when empty"),
            annal::optional("role", &SnowflakeSink::role_, "")
                .range(0, 255)
                .about("the user's default role when empty"),
            annal::optional("url", &SnowflakeSink::url_, "")
                .range(0, 1024)
                .about("https://{account}.snowflakecomputing.com when empty"),
            annal::optional("poll_ms", &SnowflakeSink::poll_ms_, 500)
                .range(50, 10'000)
                .about("between two looks at whether rows are committed"),
        };
    }

    annal::Status open() {
        if (annal::Status status = key_.read(private_key_); !status.ok()) {
            return status;
        }
        if (url_.empty()) {
            url_ = "https://" + with_dashes(account_) + ".snowflakecomputing.com";
        }
        while (url_.ends_with('/')) {
            url_.pop_back();
        }
        if (!url_.starts_with("https://") && !url_.starts_with("http://")) {
            return {
                ANNAL_UNPROCESSABLE, "configuration: /url: must begin with https:// or http://"};
        }
        if (pipe_.empty()) {
            pipe_ = table_ + "-STREAMING";
        }
        const std::string below = "databases/" + url_part(database_) + "/schemas/" +
                                  url_part(schema_) + "/pipes/" + url_part(pipe_);
        pipe_path_ = "/v2/streaming/" + below;
        data_path_ = "/v2/streaming/data/" + below;
        annal::Status status = host().require(ANNAL_SERVICE_CODEC);
        return status.ok() ? host().require(ANNAL_SERVICE_HTTP_CLIENT) : status;
    }

    annal::Status encode(const annal::Batch& batch, annal::Encoder& out) {
        std::size_t total = 0;
        for (const annal_event& event : batch) {
            annal::Buffer row(kRowBytesMax);
            if (annal::Status status = write_row(event, row); !status.ok()) {
                return status;
            }
            total += row.size();
            if (row.overflowed() || total > kRequestBytesMax) {
                return {
                    ANNAL_TOO_LARGE,
                    row.overflowed() ? "a row of more than 4 MB" : "a request of more than 16 MB"};
            }
            out.append(row.view());
            out.end_event();
        }
        return {};
    }

    annal::Task<Outcome> send(const annal::Call& call, const annal::Delivery& delivery) {
        constexpr int kOpensMax = 2;
        const std::string name = channel_of(delivery.stream());
        Channel& channel = channels_[name];
        if (delivery.first_seq() >= channel.rejected_from &&
            delivery.last_seq() <= channel.rejected_to) {
            co_return annal::reject(channel.rejected_why);  // it was passed over already
        }
        for (int opens = 0;;) {
            if (!channel.open) {
                if (++opens > kOpensMax) {
                    co_return annal::retry("somebody else keeps opening the channel " + name);
                }
                Stop stop = co_await open_channel(call, name, channel, delivery.timeout_ms(host()));
                if (stop) {
                    co_return *stop;
                }
            }
            if (channel.committed_seq >= delivery.last_seq()) {
                co_return annal::delivered();
            }
            if (channel.appended_seq >= delivery.last_seq()) {
                break;
            }
            if (channel.appended_seq > channel.committed_seq) {
                channel.open = false;  // a part of it is under way, from another batch
                continue;
            }
            Stop stop = co_await append_rows(call, name, channel, delivery);
            if (stop) {
                co_return *stop;
            }
        }
        Outcome outcome = co_await wait_for_commit(call, name, channel, delivery);
        co_return outcome;
    }

    annal::Task<annal::Position> position(const annal::Call& call, std::string_view stream) {
        const std::string name = channel_of(stream);
        Channel& channel = channels_[name];
        Stop stop = co_await open_channel(call, name, channel, kAskTimeoutMs);
        annal::Position found;
        if (stop) {
            found.status = to_status(*stop);
        } else {
            found.seq = channel.committed_seq;
        }
        co_return found;
    }

    /// Tokens, and that the pipe answers. Opens no channel, which would shut out who delivers.
    annal::Task<annal::Status> probe(const annal::Call& call) {
        const std::string body = R"({"channel_names":["no_such_channel"]})";
        std::string target = pipe_path_ + ":bulk-channel-status";
        ClientResponse answer =
            co_await ask(call, "POST", std::move(target), body, kJson, kAskTimeoutMs);
        co_return annal::judge_probe(answer);
    }

private:
    static constexpr std::uint32_t kAskTimeoutMs = 10'000;
    static constexpr auto kJson = "application/json";
    static constexpr auto kLines = "application/x-ndjson";
    static constexpr auto kForm = "application/x-www-form-urlencoded";

    annal::Status write_row(const annal_event& event, annal::Buffer& row) const {
        annal::JsonWriter json(row);
        json.begin_object()
            .member("SEQ", event.seq)
            .member("EVENT_ID", event.id)
            .member("CREATED_AT", std::string_view(host().format_time(event.created_at_us)))
            .member("DELETED", annal::is_deleted(event));
        if (event.occurred_at_us != ANNAL_TIME_NONE && !annal::is_deleted(event)) {
            json.member("OCCURRED_AT", std::string_view(host().format_time(event.occurred_at_us)));
        }
        for (const Column& column : kColumns) {
            const bool erased = annal::is_deleted(event) && column.text != &annal_event::project_id;
            if (!erased && !annal::is_null(event.*column.text)) {
                json.member(column.name, event.*column.text);
            }
        }
        row.append(",\"EVENT\":");
        const annal_writer writer = row.writer();
        annal::Status status = host().render(event, writer);
        row.append("}\n");
        return row.overflowed() ? annal::Status() : status;  // the caller says that it is too large
    }

    /// What the names of hosts have in place of underscores.
    static std::string with_dashes(std::string text) {
        std::replace(text.begin(), text.end(), '_', '-');
        return text;
    }
    static annal::Status to_status(const Outcome& outcome) {
        const bool passes = outcome.verdict() == ANNAL_RETRY;
        return {
            passes ? ANNAL_UNAVAILABLE : ANNAL_DENIED,
            outcome.reason().text(),
            outcome.reason().retry_after_ms()};
    }
    /// Of an answer that is about the channel, not about rows: no event is to blame.
    [[nodiscard]] Outcome judge_channel(const ClientResponse& answer) const {
        if (answer.ok() && answer.http_status == 409) {
            return annal::retry(annal::describe(answer));
        }
        Outcome outcome = annal::judge(answer, host().wall_us());
        return outcome.verdict() == ANNAL_REJECT ? annal::pause(outcome.reason().text()) : outcome;
    }
    static ClientResponse misunderstood(const char* what) {
        ClientResponse out;
        out.status = {ANNAL_INVALID, std::string("Snowflake's answer is not ") + what};
        return out;
    }

    /// Finds the host that takes rows and a token for it, unless both are known. What is not a 200
    /// is what went wrong.
    annal::Task<ClientResponse> sign_in(const annal::Call& call, std::uint32_t timeout_ms) {
        constexpr std::int64_t kTokenLifeUs = 50LL * 60 * 1'000'000;  // Snowflake's is an hour
        ClientResponse fine;
        fine.http_status = 200;
        const std::int64_t now_us = host().wall_us();
        if (!token_.empty() && now_us < token_ends_us_) {
            co_return fine;
        }
        const std::string proof = "Bearer " + key_.token(account_, user_, now_us / 1'000'000);
        if (ingest_host_.empty()) {
            const std::string url = url_ + "/v2/streaming/hostname";
            annal::ClientRequest request("GET", url);
            request.header("Authorization", proof)
                .header("X-Snowflake-Authorization-Token-Type", "KEYPAIR_JWT")
                .timeout_ms(timeout_ms);
            ClientResponse answer = co_await call.fetch(request);
            if (!answer.ok() || answer.http_status != 200) {
                co_return answer;
            }
            ingest_host_ = with_dashes(sink_snowflake::text_or_member(answer.body, "hostname"));
            if (ingest_host_.empty()) {
                co_return misunderstood("the name of a host");
            }
        }
        std::string form =
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&scope=";
        form += url_part(ingest_host_);
        form += role_.empty() ? "" : "%20session%3Arole%3A" + url_part(role_);
        const std::string url = url_ + "/oauth/token";
        annal::ClientRequest request("POST", url);
        request.header("Authorization", proof)
            .header("Content-Type", kForm)
            .body(form)
            .timeout_ms(timeout_ms);
        ClientResponse answer = co_await call.fetch(request);
        if (!answer.ok() || answer.http_status != 200) {
            co_return answer;
        }
        token_ = sink_snowflake::text_or_member(answer.body, "token");
        if (token_.empty()) {
            token_ = sink_snowflake::text_or_member(answer.body, "access_token");
        }
        if (token_.empty()) {
            co_return misunderstood("a token");
        }
        token_ends_us_ = now_us + kTokenLifeUs;
        co_return fine;
    }

    /// One request to the host that takes rows; after a 401 once more with a new token.
    annal::Task<ClientResponse> ask(
        const annal::Call& call,
        std::string_view method,
        std::string target,
        std::string_view body,
        std::string_view type,
        std::uint32_t timeout_ms
    ) {
        for (bool again = true;; again = false) {
            ClientResponse signed_in = co_await sign_in(call, timeout_ms);
            if (!signed_in.ok() || signed_in.http_status != 200) {
                co_return signed_in;
            }
            const std::string scheme = url_.substr(0, url_.find("://") + 3);
            const std::string url = scheme + ingest_host_ + target;
            const std::string bearer = "Bearer " + token_;
            annal::ClientRequest request(method, url);
            request.header("Authorization", bearer)
                .header("Content-Type", type)
                .body(body)
                .timeout_ms(timeout_ms);
            ClientResponse answer = co_await call.fetch(request);
            if (!answer.ok() || answer.http_status != 401) {
                co_return answer;
            }
            token_.clear();
            if (!again) {
                co_return answer;
            }
        }
    }

    annal::Task<Stop> open_channel(
        const annal::Call& call, const std::string& name, Channel& channel, std::uint32_t timeout_ms
    ) {
        channel.open = false;
        // What is not committed is given up: the cursor is not behind it yet, so it comes again.
        const std::string body = R"({"fail_on_uncommitted_rows":false})";
        std::string target = pipe_path_ + "/channels/" + name;
        ClientResponse answer =
            co_await ask(call, "PUT", std::move(target), body, kJson, timeout_ms);
        if (!answer.ok() || answer.http_status != 200) {
            co_return judge_channel(answer);
        }
        const auto opened = sink_snowflake::read_opened(answer.body);
        if (!opened) {
            co_return annal::pause(
                "the channel " + name +
                " was opened, but its state is not ours: an offset token that is no seq comes from "
                "somebody else (" +
                annal::describe(answer) + ")"
            );
        }
        channel.open = true;
        channel.continuation_token = opened->continuation_token;
        channel.committed_seq = channel.appended_seq = opened->status.committed_seq;
        channel.waits = 0;
        if (opened->status.rows_error_count > channel.errors) {
            const std::string count = std::to_string(opened->status.rows_error_count);
            host().warn(
                "snowflake.rows_not_taken",
                {{"channel", name}, {"rows", count}, {"error", opened->status.error}}
            );
        }
        channel.errors = opened->status.rows_error_count;
        co_return std::nullopt;
    }

    /// Appends the rows that are not committed.
    annal::Task<Stop> append_rows(
        const annal::Call& call,
        const std::string& name,
        Channel& channel,
        const annal::Delivery& delivery
    ) {
        std::size_t first = 0;
        while (delivery.batch()[first].seq <= channel.committed_seq) {
            ++first;
        }
        const std::string_view rows =
            delivery.payload().substr(first == 0 ? 0 : delivery.raw().ends[first - 1]);
        std::string target = data_path_ + "/channels/" + name +
                             "/rows?continuationToken=" + url_part(channel.continuation_token) +
                             "&startOffsetToken=" + std::to_string(delivery.batch()[first].seq) +
                             "&endOffsetToken=" + std::to_string(delivery.last_seq());
        ClientResponse answer = co_await ask(
            call, "POST", std::move(target), rows, kLines, delivery.timeout_ms(host())
        );
        if (sink_snowflake::is_stale(answer)) {
            channel.open = false;
            co_return std::nullopt;  // opens it anew
        }
        if (answer.ok() && answer.http_status == 200) {
            const auto token = sink_snowflake::read_continuation_token(answer.body);
            if (token) {
                channel.continuation_token = *token;
                channel.appended_seq = delivery.last_seq();
                co_return std::nullopt;
            }
            channel.open = false;
            co_return annal::retry("an append was answered without a continuation token");
        }
        if (answer.ok() && answer.http_status == 429) {
            co_return annal::judge(answer, host().wall_us());
        }
        // Whether the rows are in is unknown; the channel tells when it is opened.
        channel.open = false;
        co_return annal::judge(answer, host().wall_us());
    }

    annal::Task<Outcome> wait_for_commit(
        const annal::Call& call,
        const std::string& name,
        Channel& channel,
        const annal::Delivery& delivery
    ) {
        constexpr int kWaitsMax = 5;
        const std::string body = R"({"channel_names":[")" + name + R"("]})";
        const auto poll_ms = static_cast<std::uint32_t>(poll_ms_);
        for (;;) {
            std::string target = pipe_path_ + ":bulk-channel-status";
            ClientResponse answer = co_await ask(
                call, "POST", std::move(target), body, kJson, delivery.timeout_ms(host())
            );
            const bool answered = answer.ok() && answer.http_status == 200;
            const auto status = answered ? sink_snowflake::read_status(answer.body) : std::nullopt;
            if (!status) {
                const bool gone = answered || (answer.ok() && answer.http_status == 404);
                channel.open = channel.open && !gone;
                co_return gone ? annal::retry("the channel " + name + " is not there any more")
                               : judge_channel(answer);
            }
            channel.committed_seq = status->committed_seq;
            if (status->committed_seq >= delivery.last_seq()) {
                co_return settle(channel, *status, delivery);
            }
            if (delivery.timeout_ms(host()) <= poll_ms) {
                break;
            }
            annal::Status slept = co_await call.sleep_ms(poll_ms);
            if (!slept.ok()) {
                break;
            }
        }
        if (++channel.waits >= kWaitsMax) {
            // Somebody may have opened the channel, and what was in flight is lost.
            channel.open = false;
        }
        co_return annal::retry(
            "the rows are appended, but committed only to seq " +
            std::to_string(channel.committed_seq)
        );
    }

    /// All rows of the delivery are behind the committed token: taken, or passed over.
    static Outcome settle(
        Channel& channel, const ChannelStatus& status, const annal::Delivery& delivery
    ) {
        channel.waits = 0;
        if (status.rows_error_count <= channel.errors) {
            return annal::delivered();
        }
        channel.rejected_why = std::to_string(status.rows_error_count - channel.errors) + " of " +
                               std::to_string(delivery.batch().size()) +
                               " rows were not taken: " + status.error;
        channel.errors = status.rows_error_count;
        channel.rejected_from = delivery.first_seq();
        channel.rejected_to = delivery.last_seq();
        return annal::reject(channel.rejected_why);
    }

    std::string account_, user_, private_key_, database_, schema_, table_, pipe_, role_, url_;
    std::int64_t poll_ms_ = 500;
    sink_snowflake::KeyPair key_;
    std::string pipe_path_, data_path_;
    std::string ingest_host_, token_;
    std::int64_t token_ends_us_ = 0;
    std::map<std::string, Channel> channels_;  // one for each stream of this instance
};

ANNAL_PLUGIN("annal.sink-snowflake", "1.0.0", "Annal", "Apache-2.0", SnowflakeSink)
