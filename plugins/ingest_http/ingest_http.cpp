/// POST /v1/audit/events: events in, ids and seqs out, once they are durable.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: ingest-http}
///     spec:
///       library: {name: ingest_http}
///       triggers:
///         - {name: ingest, http: {methods: [POST], route: /v1/audit/events, scope: audit:ingest}}
///       permissions: {append: true}
///
/// One event, {"events":[…]} or newline-delimited JSON. A request is one unit, all or nothing,
/// unless `?partial=true` stores the valid events of it; newline-delimited JSON of more than 10 000
/// events or 8 MiB is stored in chunks of 1 000 events, and the answer names the last line that is
/// durable. The codec service parses and validates; this file decides what to answer.
#include <annal/sdk.hpp>
#include <openapi_yaml.hpp>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "answers.h"
#include "line_chunks.h"
#include "request_options.h"

namespace ingest {
namespace {

constexpr std::size_t kUnitEventsMax = 10'000;
constexpr std::size_t kUnitBytesMax =
    std::size_t{8} << 20;  // of newline-delimited JSON that is stored as one unit
constexpr std::size_t kChunkEvents = 1'000;
constexpr std::size_t kChunkBytes = std::size_t{4} << 20;
constexpr std::size_t kChunkedKeyBytesMax = 240;  // leaves room for "#" and the chunk's number

/// A request body in the call's arena, where the events that point into it outlive this object.
class Body {
public:
    explicit Body(const annal::Call& call) : call_(call) {}
    /// False: the call's memory is used up.
    bool append(std::string_view piece, std::size_t size_hint) {
        if (piece.size() > room_.size() - size_) {
            const std::size_t wanted =
                std::max({size_ + piece.size(), size_ * 2, size_hint, std::size_t{512}});
            const std::span<char> grown = call_.allocate(wanted);
            if (grown.empty()) {
                return false;
            }
            if (size_ > 0) {
                std::memcpy(grown.data(), room_.data(), size_);
            }
            room_ = grown;
        }
        std::memcpy(room_.data() + size_, piece.data(), piece.size());
        size_ += piece.size();
        return true;
    }
    [[nodiscard]] std::string_view view() const { return {room_.data(), size_}; }
    [[nodiscard]] std::size_t size() const { return size_; }

private:
    const annal::Call& call_;
    std::span<char> room_;
    std::size_t size_ = 0;
};

annal::Problem too_large(std::size_t bytes_max) {
    return annal::Problem(413, "too_large")
        .detail(
            "a request takes at most " + std::to_string(bytes_max) +
            " bytes; send larger loads as NDJSON (application/x-ndjson), which is stored in chunks"
        );
}

annal::Problem out_of_memory() {
    return annal::Problem(413, "too_large")
        .detail("the request needs more memory than one call may use");
}

/// Where in `document` the byte at `offset` is, as people count.
std::string position_text(std::string_view document, std::int64_t offset) {
    const std::string_view before = document.substr(0, static_cast<std::size_t>(offset));
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const auto last_newline = before.rfind('\n');
    const std::size_t column =
        before.size() - (last_newline == std::string_view::npos ? 0 : last_newline + 1) + 1;
    return "byte " + std::to_string(offset) + " (line " + std::to_string(line) + ", column " +
           std::to_string(column) + ")";
}

annal::Problem malformed(const annal_parsed& parsed, std::string_view document) {
    annal::Problem problem(400, "malformed");
    const annal::Rows issues(parsed.issues, parsed.n_issues, parsed.issue_stride);
    std::string detail = "the body is malformed JSON: see errors";
    if (!issues.empty() && issues.front().offset >= 0) {
        detail =
            "malformed JSON at " + position_text(document, issues.front().offset) + ": see errors";
    }
    return problem.detail(std::move(detail)).issues(issues);
}

annal::Problem invalid_events(annal::Rows<annal_issue> issues) {
    return annal::Problem(422, "invalid_events")
        .detail("nothing was stored: see errors")
        .issues(issues);
}

/// What keeps a parsed document from being stored; none: its batch may go.
std::optional<annal::Problem> obstacle(
    const annal_parsed& parsed, std::string_view document, bool partial
) {
    const annal::Rows issues(parsed.issues, parsed.n_issues, parsed.issue_stride);
    const bool has_events = parsed.batch != nullptr && parsed.batch->count > 0;
    switch (parsed.status) {
        case ANNAL_OK:
            if (has_events) {
                return std::nullopt;
            }
            return annal::Problem(422, "empty_batch").detail("the request holds no events");
        case ANNAL_UNPROCESSABLE:
            if (partial && has_events) {
                return std::nullopt;
            }
            return invalid_events(issues);
        case ANNAL_TOO_LARGE:
            return annal::Problem(413, "too_many_events")
                .detail(
                    "a request takes at most " + std::to_string(kUnitEventsMax) +
                    " events; send more as NDJSON (application/x-ndjson), which is stored in chunks"
                )
                .issues(issues);
        default:
            return malformed(parsed, document);
    }
}

/// Events that have an issue. A request lists a bounded number of them, so of a very long bad one
/// not all are counted.
std::size_t wrong_events(const annal_parsed& parsed) {
    std::size_t count = 0;
    std::uint32_t last = UINT32_MAX;
    for (std::uint32_t i = 0; i < parsed.n_issues; ++i) {
        const auto* issue = ANNAL_AT(annal_issue, parsed.issues, parsed.issue_stride, i);
        count += issue->index != last ? 1 : 0;  // they ascend
        last = issue->index;
    }
    return count;
}

}  // namespace

class IngestHttp : public annal::HttpHandler {
public:
    static constexpr auto kName = "ingest_http";
    static constexpr const char* kOpenapi = annal::kOpenapiYaml;
    static auto config() {
        return std::tuple{
            annal::optional("body_bytes_max", &IngestHttp::body_bytes_max_, std::int64_t{8} << 20)
                .range(1024, std::int64_t{1} << 30)
                .about("largest JSON body, and longest line of newline-delimited JSON, in bytes"),
        };
    }

    annal::Status open() {
        async_failures_ = host().define_counter(
            "annal_ingest_async_failures_total",
            "Events accepted with Prefer: respond-async that could not be stored"
        );
        read_bytes_ = host().define_counter(
            "annal_ingest_bytes_total", "Bytes of events read from requests, after gzip"
        );
        valid_events_ = host().define_counter(
            "annal_ingest_valid_events_total", "Events read from requests that can be stored"
        );
        invalid_events_ = host().define_counter(
            "annal_ingest_invalid_events_total", "Events read from requests that break a rule"
        );
        annal::Status status = host().require(ANNAL_SERVICE_CODEC);
        return status.ok() ? host().require(ANNAL_SERVICE_BUS) : status;
    }

    annal::Task<> handle(annal::Request& request, annal::Response& response) {
        RequestOptions options;
        if (const auto problem = read_options(request, options)) {
            co_await response.fail(*problem);
            co_return;
        }
        Body body(request.call());
        LineCounter lines;
        const auto limit = static_cast<std::size_t>(body_bytes_max_);
        const std::size_t hint =
            request.content_length() > 0
                ? std::min(static_cast<std::size_t>(request.content_length()), limit)
                : 0;
        for (;;) {
            const annal::Chunk chunk = co_await request.read();
            if (!chunk.ok()) {
                co_await response.fail(annal::Problem(chunk.status()));
                co_return;
            }
            if (chunk.end()) {
                break;
            }
            if (!options.ndjson && chunk.bytes().size() > limit - body.size()) {
                co_await response.fail(too_large(limit));
                co_return;
            }
            if (!body.append(chunk.bytes(), hint)) {
                co_await response.fail(out_of_memory());
                co_return;
            }
            if (options.ndjson) {
                lines.feed(chunk.bytes());
                if (lines.filled_lines() > kUnitEventsMax || body.size() > kUnitBytesMax) {
                    co_await stream(request, response, options, body.view());
                    co_return;
                }
            }
        }
        co_await store(request, response, options, body.view());
    }

private:
    /// Stores a whole body as one unit.
    annal::Task<> store(
        annal::Request& request,
        annal::Response& response,
        const RequestOptions& options,
        std::string_view body
    ) {
        const annal_parsed* parsed = parse(request, body, options.ndjson, 0);
        if (parsed == nullptr) {
            co_await response.fail(out_of_memory());
            co_return;
        }
        if (const auto problem = obstacle(*parsed, body, options.partial)) {
            co_await response.fail(*problem);
            co_return;
        }
        annal::Append append;
        append.events(parsed->batch).request_key(options.request_key);
        if (options.respond_async) {
            co_await store_later(request, response, append);
            co_return;
        }
        const annal::Receipts receipts = co_await request.call().append(append);
        if (!receipts.ok()) {
            co_await response.fail(annal::Problem(receipts.status()));
            co_return;
        }
        const auto& rows = receipts.rows();
        const bool all_replayed = std::all_of(
            rows.begin(), rows.end(), [](const annal_receipt& row) { return row.replayed != 0; }
        );
        annal::Buffer answer;
        if (parsed->single != 0 && !options.partial && rows.size() == 1) {
            append_single(answer, host(), rows.front());
        } else {
            append_batch(answer, host(), rows, *parsed, options.partial);
        }
        co_await response.send(all_replayed ? 200 : 201, "application/json", answer.view());
    }

    /// Fire and forget: the client has its answer before the events are durable, and does not learn
    /// of a failure.
    annal::Task<> store_later(
        annal::Request& request, annal::Response& response, const annal::Append& append
    ) {
        annal::Headers headers;
        headers.add("content-type", "application/json").add("preference-applied", "respond-async");
        co_await response.send(202, headers, R"({"status":"accepted"})");
        const annal::Receipts receipts = co_await request.call().append(append);
        if (!receipts.ok()) {
            async_failures_.record();
            host().warn(
                "ingest.async_write_failed",
                {{"request_id", request.request_id()},
                 {"project", request.project()},
                 {"code", annal::code_word(receipts.status().code())},
                 {"detail", receipts.status().text()}}
            );
        }
    }

    /// Stores newline-delimited JSON of any length, chunk by chunk; `begun` is what has been read
    /// of it.
    annal::Task<> stream(
        annal::Request& request,
        annal::Response& response,
        const RequestOptions& options,
        std::string_view begun
    ) {
        if (annal::view(options.request_key).size() > kChunkedKeyBytesMax) {
            co_await response.fail(
                annal::Problem(400, "invalid_idempotency_key")
                    .detail("Idempotency-Key must be at most 240 characters for a body this large")
            );
            co_return;
        }
        LineChunks chunks(kChunkEvents, kChunkBytes);
        chunks.feed(begun);
        StreamTotals totals;
        for (bool ended = false;;) {
            for (std::string_view text = chunks.next(); !text.empty(); text = chunks.next()) {
                const auto problem = co_await store_chunk(request, options, text, totals);
                if (problem) {
                    co_await fail_stream(request, response, *problem, totals);
                    co_return;
                }
            }
            if (ended) {
                break;
            }
            if (chunks.waiting_bytes() > static_cast<std::size_t>(body_bytes_max_)) {
                const std::string line = std::to_string(totals.last_durable_line + 1);
                const std::string detail =
                    "a line from line " + line + " on is longer than a request may be";
                co_await fail_stream(
                    request, response, annal::Problem(413, "too_large").detail(detail), totals
                );
                co_return;
            }
            const annal::Chunk chunk = co_await request.read();
            if (!chunk.ok()) {
                co_await fail_stream(request, response, annal::Problem(chunk.status()), totals);
                co_return;
            }
            ended = chunk.end();
            if (ended) {
                chunks.finish();
            } else {
                chunks.feed(chunk.bytes());
            }
        }
        annal::Buffer answer;
        append_totals(answer, totals, options.partial);
        const bool all_replayed = totals.stored == 0 && totals.replayed > 0;
        co_await response.send(all_replayed ? 200 : 201, "application/json", answer.view());
    }

    /// Stores one chunk and adds to `totals` what became of it. A problem: nothing of the chunk was
    /// stored.
    annal::Task<std::optional<annal::Problem>> store_chunk(
        annal::Request& request,
        const RequestOptions& options,
        std::string_view text,
        StreamTotals& totals
    ) {
        const annal_parsed* parsed =
            parse(request, text, true, static_cast<std::uint32_t>(totals.last_durable_line));
        if (parsed == nullptr) {
            co_return out_of_memory();
        }
        LineCounter lines;
        lines.feed(text);
        const std::uint32_t valid = parsed->batch != nullptr ? parsed->batch->count : 0;
        totals.note_issues(*parsed);
        const bool tolerable = parsed->status == ANNAL_UNPROCESSABLE && options.partial;
        if (parsed->status != ANNAL_OK && !tolerable) {
            co_return annal::Problem(
                parsed->status == ANNAL_UNPROCESSABLE ? 422 : 400, "invalid_events"
            )
                .detail("the lines after last_durable_line were not stored: see errors")
                .issues(annal::Rows(totals.issues.data(), totals.issues.size()));
        }
        if (valid > 0) {
            const std::string key = std::string(annal::view(options.request_key)) + "#" +
                                    std::to_string(++totals.chunks);
            annal::Append append;
            append.events(parsed->batch);
            append.request_key(
                annal::is_null(options.request_key) ? annal::kNull : annal::to_str(key)
            );
            const annal::Receipts receipts = co_await request.call().append(append);
            if (!receipts.ok()) {
                co_return annal::Problem(receipts.status());
            }
            totals.note_receipts(receipts.rows());
        }
        totals.rejected += lines.filled_lines() - valid;
        totals.events += lines.filled_lines();
        totals.last_durable_line += parsed->lines;
        co_return std::nullopt;
    }

    /// Answers with the problem and with what is durable already.
    annal::Task<> fail_stream(
        annal::Request& request,
        annal::Response& response,
        const annal::Problem& problem,
        const StreamTotals& totals
    ) {
        annal::Buffer body;
        append_stream_problem(body, problem.raw(annal::to_str(request.request_id())), totals);
        const std::string retry_after = std::to_string(problem.retry_after());
        annal::Headers headers;
        headers.add("content-type", annal::kProblemJsonType);
        if (problem.retry_after() > 0) {
            headers.add("retry-after", retry_after);
        }
        co_await response.send(problem.status(), headers, body.view());
    }

    /// Null when the call's memory is used up.
    [[nodiscard]] const annal_parsed* parse(
        const annal::Request& request, std::string_view text, bool ndjson, std::uint32_t first_line
    ) const {
        const annal_parsed* parsed = nullptr;
        const annal_status code = host().codec()->parse(
            host().context(),
            request.call().raw(),
            annal::to_bytes(text),
            ndjson ? ANNAL_PARSE_NDJSON : ANNAL_PARSE_JSON,
            first_line,
            &parsed
        );
        if (code != ANNAL_OK) {
            return nullptr;
        }
        read_bytes_.record(static_cast<double>(text.size()));
        valid_events_.record(parsed->batch != nullptr ? parsed->batch->count : 0);
        invalid_events_.record(static_cast<double>(wrong_events(*parsed)));
        return parsed;
    }

    std::int64_t body_bytes_max_ = 0;
    annal::Metric async_failures_, read_bytes_, valid_events_, invalid_events_;
};

}  // namespace ingest

ANNAL_PLUGIN("annal.ingest-http", "1.0.0", "Annal", "Apache-2.0", ingest::IngestHttp)
