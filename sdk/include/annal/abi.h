/* The contract between the Annal host and a plugin: plain C, append-only, checked against every released layout.
 *
 * A plugin is a shared library that exports one function, `annal_module_v1`, which returns static data: who it is and
 * which components it carries. The host creates one instance of a component for each manifest document and talks to it
 * through the component's table of functions; the plugin talks back through services that it looks up by name.
 *
 * Rules that make this last:
 *   - Every struct that crosses starts with `struct_size`. Fields are only ever added at the end; read one that is newer
 *     than 1.0 through ANNAL_HAS. Structs are passed by pointer and never embedded by value in one another.
 *   - Arrays of structs carry a `stride` in bytes, so that their elements can grow. Use ANNAL_AT.
 *   - Component types and services are found by a string id with a revision. What is unknown, not permitted to this
 *     instance, or newer than the host is NULL: one code path for all three.
 *   - Enumerations from plugin to host may grow; a new value from host to plugin needs a new revision of its service.
 *   - Data passed in is borrowed for the time stated; data handed out lives in the call's arena (`alloc`).
 *   - Nothing throws or longjmps across. An exception, a missed deadline or a bad index means "retry", never "delivered".
 *
 * Threads: [any-thread] may be called from any thread at any time; [strand] is never called concurrently for one
 * instance, though not always from the same thread; [concurrent] is called from several threads at once. A plugin's own
 * threads may call [any-thread] functions only, and must be joined before `destroy` returns.
 *
 * Text is UTF-8 without terminator; a NULL pointer is null, a length of 0 behind a pointer is the empty text. Times are
 * microseconds since 1970-01-01T00:00:00Z. Sizes are bytes.
 */
#ifndef ANNAL_ABI_H
#define ANNAL_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The host refuses a module whose major differs from its own, or whose minor is newer than its own. */
#define ANNAL_ABI_MAJOR 1
#define ANNAL_ABI_MINOR 3

/* Whether the struct behind `p` is long enough to hold `member`, and the member is set. */
#define ANNAL_HAS(p, type, member) \
    ((p)->struct_size >= offsetof(type, member) + sizeof((p)->member) && (p)->member)

/* Element `i` of an array of `type` whose elements are `stride` bytes apart. */
#define ANNAL_AT(type, base, stride, i) ((const type *)((const char *)(base) + (size_t)(stride) * (size_t)(i)))

typedef struct annal_str { const char *ptr; size_t len; } annal_str;
typedef struct annal_bytes { const uint8_t *ptr; size_t len; } annal_bytes;
typedef struct annal_pair { annal_str key, value; } annal_pair;

/* Result of a call. A code that a side does not know counts as ANNAL_INTERNAL. */
typedef int32_t annal_status;
enum {
    ANNAL_OK = 0,
    ANNAL_INVALID = 1,         /* malformed input                            HTTP 400 */
    ANNAL_UNPROCESSABLE = 2,   /* well-formed, but against a rule            HTTP 422 */
    ANNAL_UNAUTHENTICATED = 3, /* no or bad credentials                      HTTP 401 */
    ANNAL_DENIED = 4,          /* known, but not allowed                     HTTP 403 */
    ANNAL_NOT_FOUND = 5,       /* no such object in this project             HTTP 404 */
    ANNAL_CONFLICT = 6,        /* idempotency key or precondition broken     HTTP 409 */
    ANNAL_TOO_LARGE = 7,       /* a documented limit is exceeded             HTTP 413 */
    ANNAL_UNSUPPORTED = 8,     /* media type, encoding, or missing feature   HTTP 415 */
    ANNAL_BUSY = 9,            /* this project's share is used up, retry     HTTP 429 */
    ANNAL_UNAVAILABLE = 10,    /* the node can't now, nothing was done       HTTP 503 */
    ANNAL_TIMEOUT = 11,        /* deadline passed, the outcome is unknown    HTTP 503 */
    ANNAL_CANCELLED = 12,      /* the client or the host gave up             (none)   */
    ANNAL_INTERNAL = 13        /* a defect                                   HTTP 500 */
};

/* Why a call failed; owned by the caller, filled by the callee. `text` is UTF-8, `text_len` bytes, cut at 496. */
typedef struct annal_error {
    uint32_t struct_size;
    annal_status code;
    uint32_t retry_after_ms; /* 0: not stated */
    uint32_t text_len;
    char text[496];
} annal_error;

#define ANNAL_TIME_NONE INT64_MIN

/* One event, stored or to be appended. Columns are null or UTF-8; `metadata` is the text of one JSON object, byte for
 * byte as it was received. Handed to a plugin: borrowed, read-only. */
typedef struct annal_event {
    int64_t seq;            /* position in the project's log; -1 before the append */
    int64_t created_at_us;  /* recorded time, strictly increasing with seq; ANNAL_TIME_NONE before the append */
    int64_t occurred_at_us; /* claimed time; ANNAL_TIME_NONE when not claimed */
    uint32_t flags;         /* ANNAL_EVENT_* */
    uint32_t reserved;
    annal_str id;           /* "evt_" and 26 digits; null before the append */
    annal_str project_id;
    annal_str external_id, action, actor_type, actor_id, actor_email, auth_type, user_id, organization_id, client_id,
        issuer_id, agent_id, target_type, target_id, ip, user_agent, description, metadata;
    annal_str idempotency_key; /* on the way in only */
} annal_event;

enum {
    ANNAL_EVENT_DELETED = 1u, /* a tombstone: only id, project_id, seq and created_at are set */
    ANNAL_EVENT_ERASED = 2u   /* since 1.3: personal data was erased; columns that held some are null, metadata is {} */
};

/* A run of events of one project in ascending seq (streams) or in the order asked for (lists, exports). */
typedef struct annal_batch {
    uint32_t struct_size, count, stride, reserved;
    const annal_event *events;
    annal_str project_id;
} annal_batch;

/* The host's growing buffer. reserve returns room for at least `min` bytes and says how much in `*cap`, or NULL when the
 * buffer's limit is reached (return ANNAL_TOO_LARGE then); commit takes the first `n` of them. [same thread as the call] */
typedef struct annal_writer {
    uint32_t struct_size, reserved;
    void *w;
    uint8_t *(*reserve)(void *w, size_t min, size_t *cap);
    void (*commit)(void *w, size_t n);
} annal_writer;

/* --- Host ------------------------------------------------------------------------------------------------------ */

typedef struct annal_ctx annal_ctx;   /* the host's side of one instance */
typedef struct annal_call annal_call; /* one call in flight: its project, arena, deadline and cancellation */

typedef struct annal_host {
    uint32_t struct_size;
    uint16_t abi_major, abi_minor;
    annal_ctx *ctx;
    /* The table of a service ("annal.log/1"), or NULL: unknown, newer than this host, or not permitted. Valid until
     * `destroy` returns. [any-thread] */
    const void *(*service)(annal_ctx *ctx, const char *id);
    /* Memory that lives until the call is completed; NULL when the call's limit is reached. [any-thread] */
    void *(*alloc)(annal_call *call, size_t size, size_t align);
    /* 1 once the client is gone, the deadline has passed, or the host is stopping. [any-thread] */
    int32_t (*cancelled)(annal_call *call);
    /* Ends the call, exactly once, after which nothing that belongs to it may be touched. `error` NULL means success.
     * An http call that has not started its response gets the error (or a 500) rendered for it. [any-thread] */
    void (*complete)(annal_call *call, const annal_error *error);
    /* Since 1.3. What the run of a job has to show: one JSON object, at most 1 MiB, before `complete`; the last one counts.
     * INVALID, TOO_LARGE. [any-thread] */
    annal_status (*report)(annal_call *call, annal_str json);
} annal_host;

/* What `create` gets. `config_json` is valid against the component's schema with its defaults filled in; secrets are
 * resolved. Borrowed for the time of `create`, except `host`, which lives until `destroy` returns. */
typedef struct annal_init {
    uint32_t struct_size, reserved;
    annal_str instance;
    annal_str config_json;
    const annal_host *host;
} annal_init;

/* --- Services: host functions, each [any-thread] unless said otherwise -------------------------------------------- */

#define ANNAL_SERVICE_LOG "annal.log/1"
enum { ANNAL_LOG_DEBUG = 0, ANNAL_LOG_INFO = 1, ANNAL_LOG_WARN = 2, ANNAL_LOG_ERROR = 3 };
typedef struct annal_log_v1 {
    uint32_t struct_size, reserved;
    /* One JSON line with a constant event name ("sink.retry") and flat keys; no payloads, no secrets. */
    void (*write)(annal_ctx *ctx, int32_t level, annal_str event, const annal_pair *fields, uint32_t count);
} annal_log_v1;

#define ANNAL_SERVICE_METRICS "annal.metrics/1"
enum { ANNAL_METRIC_COUNTER = 0, ANNAL_METRIC_GAUGE = 1, ANNAL_METRIC_HISTOGRAM = 2 };
typedef struct annal_metric annal_metric;
typedef struct annal_metrics_v1 {
    uint32_t struct_size, reserved;
    /* Defines a metric; call in `create` only. The host adds the label instance. NULL when the name is not a legal
     * Prometheus name or is taken with another kind. */
    annal_metric *(*define)(annal_ctx *ctx, int32_t kind, annal_str name, annal_str help);
    /* Counter: adds. Gauge: sets. Histogram: observes. */
    void (*record)(annal_metric *metric, double value);
} annal_metrics_v1;

#define ANNAL_SERVICE_CLOCK "annal.clock/1"
typedef struct annal_clock_v1 {
    uint32_t struct_size, reserved;
    int64_t (*wall_us)(annal_ctx *ctx);
    int64_t (*monotonic_us)(annal_ctx *ctx);
    /* Since 1.1. Calls `done`, never from within `after`, once `delay_ms` (at most an hour) have passed, or, with CANCELLED,
     * soon after the call was cancelled or its deadline passed. INVALID: the delay, or a call that is not in flight. */
    void (*after)(annal_ctx *ctx, annal_call *call, uint32_t delay_ms, void *user,
                  void (*done)(void *user, const annal_error *error));
} annal_clock_v1;

/* Selection of events: every term must hold. The order of terms does not matter. */
enum { /* fields of a term */
    ANNAL_FIELD_ACTION = 1, /* MATCH: list of patterns; PREFIX: plain prefix; EQ */
    ANNAL_FIELD_EXTERNAL_ID = 2, ANNAL_FIELD_ACTOR_TYPE = 3, ANNAL_FIELD_ACTOR_ID = 4, ANNAL_FIELD_ACTOR_EMAIL = 5,
    ANNAL_FIELD_AUTH_TYPE = 6, ANNAL_FIELD_USER_ID = 7, ANNAL_FIELD_ORGANIZATION_ID = 8, ANNAL_FIELD_CLIENT_ID = 9,
    ANNAL_FIELD_ISSUER_ID = 10, ANNAL_FIELD_AGENT_ID = 11, ANNAL_FIELD_TARGET_TYPE = 12, ANNAL_FIELD_TARGET_ID = 13,
    ANNAL_FIELD_IP = 14,
    ANNAL_FIELD_CREATED_AT = 32,  /* FROM (inclusive), BEFORE (exclusive), AFTER (exclusive) */
    ANNAL_FIELD_OCCURRED_AT = 33, /* FROM, BEFORE, AFTER */
    ANNAL_FIELD_TEXT = 34         /* CONTAINS: literal, case-insensitive for ASCII, in action, actor_id, target_id, description */
};
enum { /* operators of a term */
    ANNAL_OP_EQ = 1, ANNAL_OP_MATCH = 2, ANNAL_OP_PREFIX = 3, ANNAL_OP_FROM = 4, ANNAL_OP_BEFORE = 5, ANNAL_OP_AFTER = 6,
    ANNAL_OP_CONTAINS = 7
};
typedef struct annal_term {
    uint32_t field, op;
    annal_str text;  /* EQ, PREFIX, CONTAINS: the value; MATCH: comma-separated patterns (exact, "ns.*" or "*") */
    int64_t time_us; /* FROM, BEFORE, AFTER */
} annal_term;

typedef struct annal_filter {
    uint32_t struct_size, count, stride, reserved;
    const annal_term *terms;
} annal_filter;

enum { ANNAL_NEWEST_FIRST = 0, ANNAL_OLDEST_FIRST = 1 };
typedef struct annal_query {
    uint32_t struct_size, limit; /* 1..1000 */
    const annal_filter *filter;  /* NULL: all */
    annal_str cursor;            /* null: from the start; else a next_cursor of the same project and filter */
    uint32_t order, reserved;
    int64_t skip;                /* since 1.3: matches to pass over first, without a cursor; TOO_LARGE beyond 100 000 of them
                                    when the filter has more than created_at */
} annal_query;

typedef struct annal_page {
    uint32_t struct_size, has_more;
    const annal_batch *batch; /* may be empty although has_more is 1: the time budget ended the page early */
    annal_str next_cursor;    /* null unless has_more; opaque, authenticated, bound to project, filter and order */
} annal_page;

typedef struct annal_action_count { annal_str action; int64_t count, last_seen_us; } annal_action_count;
typedef struct annal_actions { uint32_t struct_size, count, stride, reserved; const annal_action_count *rows; } annal_actions;

typedef struct annal_total { uint32_t struct_size, at_least /* 1: the time was over before all was counted */; int64_t count; } annal_total;

enum { ANNAL_INTERVAL_NONE = 0, ANNAL_INTERVAL_HOUR = 1, ANNAL_INTERVAL_DAY = 2, ANNAL_INTERVAL_WEEK = 3 /* from Monday */ };
/* What to count: the events of `filter` by interval of created_at (UTC) and by the values of one field, and beside each count
 * the distinct values of other fields. Fields are ANNAL_FIELD_ACTION to ANNAL_FIELD_IP. */
typedef struct annal_aggregation {
    uint32_t struct_size, interval;
    const annal_filter *filter;  /* NULL: all */
    uint32_t group_by, n_unique; /* group_by 0: one count for all; else events whose field is null or empty are left out */
    const uint32_t *unique;      /* at most 16 */
} annal_aggregation;
typedef struct annal_aggregate_row {
    int64_t start_us; /* of its interval; ANNAL_TIME_NONE without one */
    annal_str key;    /* null without group_by */
    int64_t count;
    const int64_t *uniques; /* n_unique numbers: distinct values that are neither null nor empty */
} annal_aggregate_row;
/* By ascending start, then descending count, then key. Where nothing was counted there is no row. */
typedef struct annal_aggregate { uint32_t struct_size, count, stride, reserved; const annal_aggregate_row *rows; } annal_aggregate;

typedef struct annal_log_state {
    uint32_t struct_size, reserved;
    int64_t first_seq; /* lowest seq that is still readable */
    int64_t head_seq;  /* seq of the newest event, -1 when there is none */
    int64_t head_at_us;
} annal_log_state;

/* Results and errors in the callbacks below are borrowed for the time of the callback; on failure the result is NULL. */
typedef void (*annal_page_done)(void *user, const annal_page *page, const annal_error *error);
typedef void (*annal_actions_done)(void *user, const annal_actions *rows, const annal_error *error);
typedef void (*annal_total_done)(void *user, const annal_total *total, const annal_error *error);
typedef void (*annal_aggregate_done)(void *user, const annal_aggregate *rows, const annal_error *error);
typedef void (*annal_log_state_done)(void *user, const annal_log_state *state, const annal_error *error);
typedef void (*annal_done)(void *user, const annal_error *error);

/* What a project's own retention has taken away. */
typedef struct annal_cleanup {
    uint32_t struct_size, retention_days;
    int64_t deleted;   /* events that could be read until now */
    int64_t cutoff_us; /* what is older is gone */
} annal_cleanup;
typedef void (*annal_cleanup_done)(void *user, const annal_cleanup *cleanup, const annal_error *error);

/* Needs permissions.store: [read]; `erase` and `clean_up` need [delete] and are NULL without it. Everything happens in the call's project. */
#define ANNAL_SERVICE_STORE "annal.store/1"
typedef struct annal_store_v1 {
    uint32_t struct_size, reserved;
    void (*scan)(annal_ctx *ctx, annal_call *call, const annal_query *query, void *user, annal_page_done done);
    /* `id` in either form, evt_… or UUID. A page of one; ANNAL_NOT_FOUND also for a deleted event. */
    void (*get)(annal_ctx *ctx, annal_call *call, annal_str id, void *user, annal_page_done done);
    /* Actions recorded since `since_us`, with count and last occurrence, by descending count, then name. */
    void (*actions)(annal_ctx *ctx, annal_call *call, int64_t since_us, void *user, annal_actions_done done);
    void (*log_state)(annal_ctx *ctx, annal_call *call, void *user, annal_log_state_done done);
    /* Erases the content of one event, keeps its seq as a tombstone, and records audit_log.entry.deleted. CONFLICT: the
     * project is under legal hold. */
    void (*erase)(annal_ctx *ctx, annal_call *call, annal_str id, annal_str reason, void *user, annal_done done);
    /* Since 1.3. How many events the filter selects. */
    void (*count)(annal_ctx *ctx, annal_call *call, const annal_filter *filter, void *user, annal_total_done done);
    /* Since 1.3. Exact, of one moment. TOO_LARGE: more than 100 000 rows; ask for a shorter time or a longer interval.
     * UNAVAILABLE: more than the node counts in its time; narrow the filter. */
    void (*aggregate)(annal_ctx *ctx, annal_call *call, const annal_aggregation *what, void *user, annal_aggregate_done done);
    /* Since 1.3. Takes away what is older than the project's audit_retention_days (unset: than the months that the node
     * keeps), and records audit_log.cleaned_up. CONFLICT: the project is under legal hold. */
    void (*clean_up)(annal_ctx *ctx, annal_call *call, void *user, annal_cleanup_done done);
} annal_store_v1;

/* One operation on the instance's own ordered key space in the call's project. */
enum { ANNAL_KV_PUT = 1, ANNAL_KV_ERASE = 2, ANNAL_KV_ABSENT = 3 /* precondition */, ANNAL_KV_EQUALS = 4 /* precondition */ };
typedef struct annal_kv_op { uint32_t kind, reserved; annal_str key; annal_bytes value; } annal_kv_op;
typedef struct annal_kv_ops { uint32_t struct_size, count, stride, reserved; const annal_kv_op *ops; } annal_kv_ops;

typedef struct annal_append {
    uint32_t struct_size, reserved;
    const annal_batch *batch;  /* events as columns, at most 10 000; borrowed until done. May be NULL when kv is set. */
    annal_str request_key;     /* idempotency key of the whole request, or null */
    const annal_kv_ops *kv;    /* committed with the events, all or none; NULL: none */
} annal_append;

typedef struct annal_receipt {
    annal_str id;
    int64_t seq, created_at_us;
    uint32_t replayed, reserved; /* 1: this idempotency key was seen before; this is the original answer */
} annal_receipt;
typedef struct annal_receipts { uint32_t struct_size, count, stride, reserved; const annal_receipt *rows; } annal_receipts;
typedef void (*annal_append_done)(void *user, const annal_receipts *receipts, const annal_error *error);

/* Needs permissions.append. */
#define ANNAL_SERVICE_BUS "annal.bus/1"
typedef struct annal_bus_v1 {
    uint32_t struct_size, reserved;
    /* Appends to the log of the call's project, all or nothing, and reports once it is durable.
     * ANNAL_UNPROCESSABLE: an event breaks a rule. ANNAL_CONFLICT: a key was used with other content, or a precondition
     * failed. ANNAL_BUSY, ANNAL_UNAVAILABLE: nothing was written, retry_after_ms says when to try again. */
    void (*append)(annal_ctx *ctx, annal_call *call, const annal_append *request, void *user, annal_append_done done);
} annal_bus_v1;

/* One thing that is wrong with a request. */
typedef struct annal_issue {
    uint32_t index;  /* which event of the batch, from 0; UINT32_MAX: the request itself */
    uint32_t line;   /* NDJSON: line number from 1; else 0 */
    int64_t offset;  /* byte offset in the document, -1 when not known */
    annal_str pointer; /* JSON pointer, "" for the document */
    annal_str code;    /* a stable word: "malformed", "unknown_field", "too_long", … */
    annal_str detail;  /* a sentence for people */
} annal_issue;

enum {
    ANNAL_PARSE_JSON = 0,  /* one event, or {"events": […]} */
    ANNAL_PARSE_NDJSON = 1 /* complete lines, one event each; blank lines are passed over */
};
typedef struct annal_parsed {
    uint32_t struct_size;
    annal_status status;           /* OK; INVALID: not JSON at all (issues has the position); UNPROCESSABLE: see issues;
                                      TOO_LARGE: more than 10 000 events */
    uint32_t single;               /* 1: the document was one event, not a batch */
    uint32_t lines;                /* NDJSON: lines read, blank ones included */
    const annal_batch *batch;      /* the valid events, in order; NULL when there are none */
    const uint32_t *indexes;       /* for each valid event its index in the request */
    uint32_t n_issues, issue_stride;
    const annal_issue *issues;     /* ascending by index */
} annal_parsed;

enum { ANNAL_RENDER_CANONICAL = 0 /* the envelope of lists, JSONL, streams and webhooks, one line without newline */ };

/* Needs no permission. Everything handed out lives in the call's arena. */
#define ANNAL_SERVICE_CODEC "annal.codec/1"
typedef struct annal_codec_v1 {
    uint32_t struct_size, reserved;
    /* Parses and validates `body` for the call's project (limits, grammar, UTF-8, duplicate keys, foreign project). `body`
     * is borrowed until its events have been appended, or the call is completed: events point into it. Of a body without
     * end the host keeps the newest 32 MiB of parsed events a call: append a chunk before parsing many more. `first_line`
     * counts lines of earlier chunks. Fails only with TOO_LARGE when the arena is exhausted. */
    annal_status (*parse)(annal_ctx *ctx, annal_call *call, annal_bytes body, uint32_t form, uint32_t first_line,
                          const annal_parsed **out);
    annal_status (*render)(annal_ctx *ctx, const annal_event *event, uint32_t form, const annal_writer *out);
    /* ISO 8601 with zone, in all its forms. ANNAL_INVALID otherwise. */
    annal_status (*parse_time)(annal_ctx *ctx, annal_str text, int64_t *out_us);
    /* Writes "2026-05-14T18:42:13.001000Z" (27 bytes). */
    void (*format_time)(annal_ctx *ctx, int64_t time_us, char out[28]);
} annal_codec_v1;

/* Ordered keys, private to the instance, per project. Needs permissions.kv. Values are at most 64 KiB, keys 512 bytes. */
#define ANNAL_SERVICE_KV "annal.kv/1"
typedef struct annal_kv_row { annal_str key; annal_bytes value; } annal_kv_row;
typedef struct annal_kv_rows { uint32_t struct_size, count, stride, has_more; const annal_kv_row *rows; } annal_kv_rows;
typedef void (*annal_kv_done)(void *user, const annal_kv_rows *rows, const annal_error *error);
typedef struct annal_kv_v1 {
    uint32_t struct_size, reserved;
    /* Rows whose key begins with `prefix` and is greater than `after` (null: from the first), ascending, at most `limit`. */
    void (*scan)(annal_ctx *ctx, annal_call *call, annal_str prefix, annal_str after, uint32_t limit, void *user, annal_kv_done done);
    /* All operations or none; ANNAL_CONFLICT when a precondition does not hold. Durable when done. */
    void (*commit)(annal_ctx *ctx, annal_call *call, const annal_kv_ops *ops, void *user, annal_done done);
} annal_kv_v1;

/* Outbound HTTP under the host's address policy: no redirects, TLS verified, every resolved address checked, body capped.
 * Needs permissions.http: ["host:port", …]; "*:443" is any host at that port. */
#define ANNAL_SERVICE_HTTP_CLIENT "annal.http_client/1"
typedef struct annal_client_request {
    uint32_t struct_size, timeout_ms; /* whole request, body included; 1..60000 */
    annal_str method, url;
    const annal_pair *headers;
    uint32_t n_headers, response_bytes_max; /* at most 64 KiB are kept */
    annal_bytes body;                       /* borrowed until done */
} annal_client_request;
typedef struct annal_client_response {
    uint32_t struct_size, status;
    const annal_pair *headers;
    uint32_t n_headers, truncated;
    annal_bytes body;
} annal_client_response;
/* error: UNAVAILABLE (connect, reset), TIMEOUT, DENIED (address or host not allowed, or a certificate that can't be verified),
 * INVALID (URL). */
typedef void (*annal_client_done)(void *user, const annal_client_response *response, const annal_error *error);
typedef struct annal_http_client_v1 {
    uint32_t struct_size, reserved;
    void (*send)(annal_ctx *ctx, annal_call *call, const annal_client_request *request, void *user, annal_client_done done);
} annal_http_client_v1;

/* Named secrets that permissions.secrets allows. */
#define ANNAL_SERVICE_SECRETS "annal.secrets/1"
typedef struct annal_secrets_v1 {
    uint32_t struct_size, reserved;
    /* Into the call's arena. ANNAL_NOT_FOUND, ANNAL_DENIED. Never log it. */
    annal_status (*get)(annal_ctx *ctx, annal_call *call, annal_str name, annal_str *out);
} annal_secrets_v1;

/* Settings of the call's project (audit_retention_days, catalog, …). Needs permissions.config. */
#define ANNAL_SERVICE_CONFIG "annal.config/1"
typedef struct annal_config_v1 {
    uint32_t struct_size, reserved;
    /* The value as JSON text, or its default, into the call's arena. ANNAL_NOT_FOUND: no such key. */
    annal_status (*get)(annal_ctx *ctx, annal_call *call, annal_str key, annal_str *out);
} annal_config_v1;

/* How long events stay, for all projects of the node's store. Needs permissions.retention. Since 1.3. */
#define ANNAL_SERVICE_RETENTION "annal.retention/1"
typedef struct annal_retention_policy {
    uint32_t struct_size;
    uint32_t months;         /* whole months that are kept beside the current one; 0: as the node's settings say */
    uint32_t forward_months; /* months that are made ready ahead; 0: as the node's settings say */
    uint32_t unread_days;    /* how much longer events stay that a stream has not read; at most 366 */
    annal_str archive;       /* folder of a file for whatever is taken away; null: none is made */
    annal_str archive_to;    /* or the destination for it, by its name, whose sink has `verify`; null: none */
} annal_retention_policy;
/* `json`: what was done and what was not, and why. */
typedef void (*annal_retention_done)(void *user, annal_str json, const annal_error *error);
typedef struct annal_retention_v1 {
    uint32_t struct_size, reserved;
    /* The node's policy; in `create` only. CONFLICT: another instance has one. INVALID, UNPROCESSABLE: the policy. */
    annal_status (*declare)(annal_ctx *ctx, const annal_retention_policy *policy, annal_error *error);
    /* Applies it once, or says with `dry_run` what that would do. What fails for one project does not keep it from the
     * others: INTERNAL then, after everything. */
    void (*run)(annal_ctx *ctx, annal_call *call, int32_t dry_run, void *user, annal_retention_done done);
} annal_retention_v1;

/* --- Component: annal.http/1 --------------------------------------------------------------------------------------- */

/* A chunk of the body, decoded (Content-Encoding: gzip is undone by the host); length 0 with status OK is its end. A body
 * of newline-delimited JSON may be of any length: the plugin bounds what it keeps. The chunk is valid until the next read or until the call is completed. Errors: TOO_LARGE, INVALID (broken encoding),
 * CANCELLED, TIMEOUT. */
typedef void (*annal_read_done)(void *user, annal_status status, annal_bytes chunk);

typedef struct annal_request {
    uint32_t struct_size, n_headers, n_query, n_params;
    annal_str trigger;    /* name of the manifest's trigger that matched */
    annal_str method, path;
    annal_str project_id, key_id, request_id, peer_ip;
    const annal_pair *headers; /* names in lower case, in order of arrival */
    const annal_pair *query;   /* decoded, in order of arrival, duplicates kept */
    const annal_pair *params;  /* of the route's {name}s */
    int64_t content_length;    /* -1: chunked or none stated */
    void *r;
    /* One read at a time. */
    void (*read)(void *r, void *user, annal_read_done done);
} annal_request;

/* An answer that did not work out, in no product's form yet: see render_problem. */
typedef struct annal_problem {
    uint32_t struct_size, status; /* HTTP status */
    annal_str code;               /* a stable word: "not_found", "insufficient_scope", "invalid_cursor", … */
    annal_str title, detail;      /* detail may be null */
    annal_str request_id;
    uint32_t retry_after_s, n_issues, issue_stride, reserved;
    const annal_issue *issues;
} annal_problem;

typedef struct annal_response {
    uint32_t struct_size, reserved;
    void *r;
    /* Status line and headers, once; not flushed before the first write or finish. Content-Length and Transfer-Encoding
     * are the host's business. */
    annal_status (*start)(void *r, uint32_t status, const annal_pair *headers, uint32_t n_headers);
    /* Sends a part of the body; done is called when the peer has taken enough of it that more may come. `bytes` is
     * borrowed until then. CANCELLED: the client is gone. One write at a time. */
    void (*write)(void *r, annal_bytes bytes, void *user, annal_done done);
    /* Ends the response, with trailers (sent when the client accepts them). */
    void (*finish)(void *r, const annal_pair *trailers, uint32_t n_trailers, void *user, annal_done done);
    /* start, write and finish of an error document in this component's own form. Only before start. */
    void (*fail)(void *r, const annal_problem *problem, void *user, annal_done done);
} annal_response;

/* The host answers an export itself: scan, format and socket never pass through the plugin. Needs permissions.export. */
#define ANNAL_SERVICE_EXPORT "annal.export/1"
typedef struct annal_export {
    uint32_t struct_size, rows_max;  /* 1..100000 */
    const annal_filter *filter;
    annal_str cursor;
    annal_str format;                /* name of an annal.format/1 component: "csv", "jsonl" */
    const annal_pair *options;       /* handed to the format: {"csv_safe","false"} */
    uint32_t n_options, reserved;
    annal_str next_path;             /* path and query of the continuation without cursor=, for Link: rel=next; may be null */
} annal_export;
/* The host answers a live tail itself: Server-Sent Events, each with its seq as id, its action as event and the canonical
 * JSON as data. It ends with the client, with the client's key, or with the host. */
#define ANNAL_SEQ_NONE INT64_MIN
typedef struct annal_tail {
    uint32_t struct_size, reserved;
    const annal_filter *filter; /* NULL: all */
    int64_t after_seq;          /* go on behind this seq; -1: from the first; ANNAL_SEQ_NONE: only what is yet to come */
} annal_tail;
typedef struct annal_export_v1 {
    uint32_t struct_size, reserved;
    /* Answers `response` wholly. Errors before the first byte: NOT_FOUND (no such format), INVALID (cursor), UNAVAILABLE:
     * the response is then still the plugin's to fail. */
    void (*run)(annal_ctx *ctx, annal_call *call, const annal_export *request, const annal_response *response, void *user, annal_done done);
    /* Answers `response` wholly, for as long as the tail lasts. Errors before the first byte: INVALID (after_seq lies beyond
     * the newest event), UNAVAILABLE (too many tails): the response is then still the plugin's to fail. */
    void (*tail)(annal_ctx *ctx, annal_call *call, const annal_tail *request, const annal_response *response, void *user, annal_done done);
} annal_export_v1;

#define ANNAL_COMPONENT_HTTP "annal.http/1"
typedef struct annal_http_v1 {
    uint32_t struct_size, reserved;
    annal_status (*create)(const annal_init *init, void **self, annal_error *error);
    void (*destroy)(void *self);
    /* Answers one request: authenticated, of the required scope, routed here by a trigger. `request` and `response` live
     * until the call is completed; the response may end well before the call does. [concurrent] */
    void (*handle)(void *self, annal_call *call, const annal_request *request, const annal_response *response);
    /* Renders an error in this product's form; also for answers that the host makes under this component's routes (401,
     * 403, 404, 405, 413, 429, 503). Returns the content type, static text. [concurrent] */
    annal_str (*render_problem)(void *self, const annal_problem *problem, const annal_writer *body);
} annal_http_v1;

/* --- Component: annal.format/1 ------------------------------------------------------------------------------------- */

#define ANNAL_COMPONENT_FORMAT "annal.format/1"
typedef struct annal_format_v1 {
    uint32_t struct_size, reserved;
    annal_str content_type, file_extension; /* "text/csv; charset=utf-8", "csv" */
    annal_status (*create)(const annal_init *init, void **self, annal_error *error);
    void (*destroy)(void *self);
    /* One document: begin, encode for each batch, end or abandon. Different documents [concurrent]. An option that the
     * format does not know, or a bad value, is ANNAL_INVALID. */
    annal_status (*begin)(void *self, const annal_pair *options, uint32_t n_options, void **document, const annal_writer *out, annal_error *error);
    annal_status (*encode)(void *document, const annal_batch *batch, const annal_writer *out, annal_error *error);
    annal_status (*end)(void *document, const annal_writer *out, annal_error *error);
    /* Frees the document; always the last call. */
    void (*release)(void *document);
} annal_format_v1;

/* --- Component: annal.sink/1 --------------------------------------------------------------------------------------- */

enum { ANNAL_DELIVERED = 1, ANNAL_RETRY = 2, ANNAL_REJECT = 3 /* this event will never be taken */, ANNAL_PAUSE = 4 /* configuration: 401, 403, TLS … */ };

/* The verdict on one event of a delivery. */
typedef struct annal_verdict { uint32_t index, verdict; annal_str detail; } annal_verdict;

/* One batch on its way to the destination. Alive until `done` is called. */
typedef struct annal_delivery {
    uint32_t struct_size, attempt; /* 1, 2, … */
    const annal_batch *batch;
    annal_bytes payload;   /* what encode wrote, byte-identical on every attempt; empty when the sink has no encode */
    const uint64_t *ends;  /* for each event the end of its part of the payload; NULL without encode */
    annal_str idempotency_key;
    int64_t deadline_us;   /* monotonic */
    void *d;
    /* Reports the outcome, exactly once: `fallback` for all events but the exceptions. A missing report, a bad index or
     * verdict counts as RETRY for the whole batch. [any-thread] */
    void (*done)(void *d, uint32_t fallback, const annal_verdict *exceptions, uint32_t count, const annal_error *error);
    /* What services are called with on behalf of this attempt; the host completes it after done. */
    annal_call *call;
    /* Since 1.1. The stream's id, the same on every node and over every restart. Each change of the node that delivers it
     * raises `fence`: of two deliveries of one batch, the one with the lower fence comes from a node that is out of date. */
    annal_str stream;
    int64_t fence;
    /* Since 1.2. What the payload is when the host encoded it with a format: "text/csv; charset=utf-8", "csv". Empty: it is
     * what this sink's encode wrote. */
    annal_str content_type, file_extension;
} annal_delivery;

/* `seq`: the last that the destination holds durably, -1 for none. */
typedef void (*annal_position_done)(void *user, int64_t seq, const annal_error *error);

/* The payload may be a document of an annal.format/1 component, one for each batch: the sink carries bytes. Since 1.2. */
enum { ANNAL_SINK_TAKES_FORMATS = 1 };

#define ANNAL_COMPONENT_SINK "annal.sink/1"
typedef struct annal_sink_v1 {
    uint32_t struct_size, reserved;
    annal_status (*create)(const annal_init *init, void **self, annal_error *error);
    void (*destroy)(void *self);
    /* Optional. Bytes to send for `batch`: a pure function of the batch and the configuration, so that a retry after a crash
     * sends the same. Writes the end offset of each event to `ends[i]`. [strand] */
    annal_status (*encode)(void *self, const annal_batch *batch, const annal_writer *out, uint64_t *ends, annal_error *error);
    /* Delivers one batch; the next comes only after done. May block up to the delivery's deadline. [strand] */
    void (*send)(void *self, const annal_delivery *delivery);
    /* Optional. The last seq that the destination itself holds durably for `project_id`, -1 for none: the stream resumes
     * behind it, so that nothing is sent twice. [strand] */
    annal_status (*position)(void *self, annal_str project_id, int64_t *seq, annal_error *error);
    /* Since 1.1, optional, in place of `position`: the same for a destination that has to be asked over the network. May
     * also shut out whoever delivered the stream before. `done` exactly once, within the call's deadline. [strand] */
    void (*find_position)(void *self, annal_call *call, annal_str stream, void *user, annal_position_done done);
    /* Since 1.1, optional. Whether the destination would take a delivery now, found out without leaving one there. Ends with
     * host->complete. [strand] */
    void (*probe)(void *self, annal_call *call);
    uint64_t flags; /* since 1.2: ANNAL_SINK_* */
    /* Since 1.3, optional. Reads back what the destination holds of a delivery that it has taken, and reports as for `send`:
     * DELIVERED when that is the delivery's payload, PAUSE when it is not, RETRY when it can't be told now. [strand] */
    void (*verify)(void *self, const annal_delivery *delivery);
} annal_sink_v1;

/* --- Component: annal.job/1 ---------------------------------------------------------------------------------------- */

#define ANNAL_COMPONENT_JOB "annal.job/1"
typedef struct annal_job_v1 {
    uint32_t struct_size, reserved;
    annal_status (*create)(const annal_init *init, void **self, annal_error *error);
    void (*destroy)(void *self);
    /* One run of a schedule trigger; ends with host->complete. Never concurrently with itself. [strand] */
    void (*run)(void *self, annal_call *call, annal_str trigger, int64_t scheduled_us);
} annal_job_v1;

/* --- Module -------------------------------------------------------------------------------------------------------- */

typedef struct annal_component {
    uint32_t struct_size, reserved;
    const char *type;          /* ANNAL_COMPONENT_* */
    const char *name;          /* "file", "csv": what a manifest calls it */
    const char *config_schema; /* JSON Schema (draft 7) of the manifest's config; defaults are applied by the host */
    const void *vtable;        /* annal_sink_v1 …, static */
    /* Since 1.3, of annal.http/1, optional: what its routes are, for GET /openapi.json. One YAML or JSON document of at most
     * 1 MiB with `operations`, each an OpenAPI 3.1 Operation Object by the name of its trigger; and, when there are any,
     * `components` that they refer to, `errors` (the `content` of this product's error answers; problem+json without it) and
     * `tags`, of which the first is that of operations without any. Path, method, path parameters, security and the errors
     * that the host makes are added by the host. A bad document costs the description, never the route. */
    const char *openapi;
} annal_component;

typedef struct annal_module {
    uint32_t struct_size;
    uint16_t abi_major, abi_minor; /* what it was built against: ANNAL_ABI_MAJOR, ANNAL_ABI_MINOR */
    const char *id;                /* "com.acme.audit-sink" */
    const char *version, *vendor, *license;
    uint32_t n_components, reserved;
    const annal_component *const *components;
} annal_module;

#if defined(__GNUC__)
#define ANNAL_EXPORT __attribute__((visibility("default")))
#else
#define ANNAL_EXPORT
#endif

/* The one exported symbol. Returns static data; runs no code worth mentioning. */
ANNAL_EXPORT const annal_module *annal_module_v1(void);

#ifdef __cplusplus
}
#endif

#endif /* ANNAL_ABI_H */
