#pragma once

#include <annal/abi.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace annal::test {

/// One event with its own text, by the names of abi.h's members ("actor_type"); what is absent is
/// null.
struct StoredEvent {
    std::int64_t seq = 0, created_at_us = 0, occurred_at_us = ANNAL_TIME_NONE;
    bool deleted = false;
    std::string id, project;
    std::map<std::string, std::string, std::less<>> text;

    StoredEvent& set(const std::string& column, std::string value) {
        text[column] = std::move(value);
        return *this;
    }
    [[nodiscard]] annal_event raw() const;  ///< borrows this event
};

/// A batch over stored events. Borrows them.
class RawBatch {
public:
    explicit RawBatch(const std::vector<StoredEvent>& events, std::string_view project = "proj_1");
    [[nodiscard]] const annal_batch* get() const { return &batch_; }

private:
    std::vector<annal_event> events_;
    annal_batch batch_{};
};

/// A deadline `ms` from now, as the ABI counts them.
[[nodiscard]] std::int64_t in_ms(std::int64_t ms);

/// What a handler answered.
struct Reply {
    std::uint32_t status = 0;
    std::map<std::string, std::string> headers;  ///< names in lower case
    std::string body;
    bool finished = false;
    std::optional<annal_status> error;  ///< the call ended with this
};

struct RequestSpec {
    std::string method = "GET", path = "/", trigger;
    std::vector<std::pair<std::string, std::string>> headers, query, params;
    std::vector<std::string> chunks;   ///< of the body
    annal_status read_end = ANNAL_OK;  ///< how the body ends
    std::optional<std::size_t>
        client_gone_at;  ///< writes beyond so many bytes of body are CANCELLED
};

/// A host over the C ABI with its services in memory: enough to run one component without the
/// runtime.
///
/// The codec knows events of the columns action, actor, target_type, target_id, user_id,
/// external_id, idempotency_key, description and metadata, and refuses those without an action or
/// an actor.
class MiniHost {
public:
    explicit MiniHost(bool asynchronous = false);
    ~MiniHost();
    MiniHost(const MiniHost&) = delete;
    MiniHost& operator=(const MiniHost&) = delete;

    // What a test arranges.
    std::set<std::string> withheld;  ///< ids of services that are NULL
    bool withhold_erase = false;
    std::int64_t wall_us = 1'780'000'000'000'000;
    std::vector<StoredEvent> events;  ///< the project's log, ascending
    std::map<std::string, std::vector<std::pair<std::string, std::int64_t>>>
        replies;  ///< of request keys: id, seq
    std::function<annal_status(std::size_t append)>
        refuse_append;  ///< not OK: the append with this number fails so
    std::function<annal_status()> refuse_store;
    std::uint32_t retry_after_ms = 0;
    bool count_at_least = false;  ///< counts end with their time
    /// What every aggregate answers; `uniques` must have as many numbers as are asked for.
    struct Counted {
        std::int64_t start_us = ANNAL_TIME_NONE;
        std::optional<std::string> key;
        std::int64_t count = 0;
        std::vector<std::int64_t> uniques;
    };
    std::vector<Counted> counted;
    std::uint32_t scan_budget_rows =
        UINT32_MAX;  ///< a scan looks at so many rows, then gives up with has_more
    std::size_t arena_bytes_max = SIZE_MAX;
    std::function<annal_status(std::string_view format)> refuse_export;
    annal_status refuse_tail = ANNAL_OK;
    bool withhold_tail = false;
    /// One request that went out, and what came back for it.
    struct Fetched {
        std::string method, url, body;
        std::map<std::string, std::string> headers;  ///< names as they were given
        std::uint32_t timeout_ms = 0;
    };
    struct Answer {
        std::uint32_t status = 200;
        std::string body;
        std::vector<std::pair<std::string, std::string>> headers;  ///< names in lower case
        annal_status error = ANNAL_OK;                             ///< not OK: there was no answer
        std::string error_text;
    };
    std::function<Answer(const Fetched&)> answer;  ///< none: the client is NULL to the component
    bool withhold_after = false;                   ///< a clock as before 1.1
    annal_status refuse_after = ANNAL_OK;          ///< whoever waits is told so, and no time passes

    annal_cleanup cleanup{sizeof(annal_cleanup), 365, 1'542, 0};  ///< what a cleanup comes to
    bool is_held = false;                                         ///< it is refused

    // What a test looks at.
    struct LogLine {
        std::int32_t level;
        std::string event;
        std::map<std::string, std::string> fields;
    };
    struct ExportSeen {
        std::string format, cursor, next_path;
        std::uint32_t rows_max = 0, terms = 0;
        std::vector<std::pair<std::string, std::string>> options;
    };
    struct AggregationSeen {
        std::uint32_t interval = 0, group_by = 0;
        std::vector<std::uint32_t> unique;
    };
    struct TailSeen {
        std::int64_t after = 0;
        std::uint32_t terms = 0;
    };
    std::vector<LogLine> logs;
    std::map<std::string, double> metrics;
    std::vector<std::string> request_keys;  ///< of every append, in order
    std::vector<std::size_t> append_sizes;
    std::vector<annal_term> last_terms;
    std::string last_reason;
    std::vector<ExportSeen> exports;
    std::vector<TailSeen> tails;
    std::vector<AggregationSeen> aggregations;
    std::int64_t last_skip = 0;
    std::vector<Fetched> fetched;
    std::vector<std::uint32_t> slept_ms;  ///< what was waited for; both clocks have jumped instead

    [[nodiscard]] const annal_host* host() const { return &host_; }
    [[nodiscard]] const LogLine* logged(std::string_view event) const;
    /// `count` events of distinct times, one second apart.
    void fill(std::size_t count, const std::string& action = "auth.signin");

    /// Runs one request through `table` and waits for the end of its call.
    Reply request(const annal_http_v1& table, void* self, const RequestSpec& spec);
    /// Runs one job and waits for its end.
    std::optional<annal_error> run(const annal_job_v1& table, void* self, std::string_view trigger);

    /// Calls `work` now, or on the host's own thread when it is asynchronous.
    void dispatch(std::function<void()> work);

private:
    struct Services;
    friend struct Services;
    void loop();

    annal_host host_{};
    bool asynchronous_;
    std::int64_t jumped_us_ = 0;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::function<void()>> queue_;
    bool stopping_ = false;
    std::thread thread_;
};

/// One component, created with `config` and destroyed with this object.
class Instance {
public:
    Instance(MiniHost& host, const annal_component& component, std::string config = "{}");
    ~Instance();
    Instance(const Instance&) = delete;
    Instance& operator=(const Instance&) = delete;

    [[nodiscard]] annal_status status() const { return status_; }
    [[nodiscard]] const std::string& error() const { return error_; }
    [[nodiscard]] void* self() const { return self_; }
    template <class V>
    [[nodiscard]] const V& table() const {
        return *static_cast<const V*>(component_.vtable);
    }

private:
    const annal_component& component_;
    annal_status status_ = ANNAL_OK;
    std::string error_;
    void* self_ = nullptr;
};

/// What a sink said about a delivery.
struct SinkReply {
    std::uint32_t verdict = 0, retry_after_ms = 0;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> exceptions;
    std::string text;
    int reports = 0;
};
struct Encoded {
    annal_status status = ANNAL_OK;
    std::string bytes, error;
    std::vector<std::uint64_t> ends;
};
/// Encodes `batch` as the host does.
Encoded encode(const annal_sink_v1& table, void* self, const annal_batch* batch);
SinkReply send(
    const annal_sink_v1& table,
    void* self,
    const annal_batch* batch,
    const Encoded& encoded,
    std::int64_t deadline_us = INT64_MAX,
    const std::string& key = "stream/0-1"
);
/// As `send`, for sinks that call services; waits for the report.
SinkReply deliver(
    MiniHost& host,
    const annal_sink_v1& table,
    void* self,
    const annal_batch* batch,
    const Encoded& encoded,
    const std::string& stream = "aud_1",
    std::int64_t deadline_us = INT64_MAX
);
struct SinkPosition {
    std::int64_t seq = -1;
    std::optional<annal_error> error;
};
SinkPosition find_position(
    MiniHost& host, const annal_sink_v1& table, void* self, const std::string& stream = "aud_1"
);
/// Nothing: the destination would take a delivery.
std::optional<annal_error> probe(MiniHost& host, const annal_sink_v1& table, void* self);

/// A growing text behind an annal_writer that hands out room in small pieces.
class TextWriter {
public:
    explicit TextWriter(std::size_t bytes_max = SIZE_MAX) : bytes_max_(bytes_max) {}
    [[nodiscard]] annal_writer writer();
    std::string text;

private:
    std::size_t bytes_max_;
    std::vector<std::uint8_t> room_;
};

}  // namespace annal::test
