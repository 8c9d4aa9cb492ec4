#include <boost/core/demangle.hpp>
#include <boost/pfr.hpp>
#include <boost/preprocessor.hpp>
#include <typeinfo>

#include "annal/abi.h"
#include "tests/abi/layout.h"

// The one list of abi.h's structs. A field that is added to the header and forgotten here does not
// compile: the number of fields is counted by the compiler itself.

namespace annal::abi_test {
namespace {

template <class T>
Struct begin_struct(Growth growth) {
    return {growth, sizeof(T), alignof(T), {}};
}

/// Boost.PFR counts an array's elements one by one and bit-fields not at all; abi.h has a single
/// array and no bit-field.
template <class T>
inline constexpr std::size_t kFieldCount = boost::pfr::tuple_size_v<T>;
template <>
inline constexpr std::size_t kFieldCount<annal_error> = 5;
static_assert(sizeof(annal_error) == offsetof(annal_error, text) + sizeof(annal_error::text));

#define FIELD(ignored, type, field) \
    out.fields.push_back(                                                  \
        {BOOST_PP_STRINGIZE(field), offsetof(type, field), sizeof(type::field), \
         boost::core::demangle(typeid(decltype(type::field)).name())}      \
    );

#define STRUCT(type, growth, ...)                                                 \
    {                                                                             \
        static_assert(                                                            \
            kFieldCount<type> == BOOST_PP_VARIADIC_SIZE(__VA_ARGS__),             \
            "a field of " #type " is missing from this table"                     \
        );                                                                        \
        Struct out = begin_struct<type>(Growth::growth);                          \
        BOOST_PP_SEQ_FOR_EACH(FIELD, type, BOOST_PP_VARIADIC_TO_SEQ(__VA_ARGS__)) \
        layout.structs.emplace(#type, std::move(out));                            \
    }

void add_values(Layout& layout) {
    STRUCT(annal_str, fixed, ptr, len)
    STRUCT(annal_bytes, fixed, ptr, len)
    STRUCT(annal_pair, fixed, key, value)
    STRUCT(annal_error, sized, struct_size, code, retry_after_ms, text_len, text)
    STRUCT(
        annal_event,
        strided,
        seq,
        created_at_us,
        occurred_at_us,
        flags,
        reserved,
        id,
        project_id,
        external_id,
        action,
        actor_type,
        actor_id,
        actor_email,
        auth_type,
        user_id,
        organization_id,
        client_id,
        issuer_id,
        agent_id,
        target_type,
        target_id,
        ip,
        user_agent,
        description,
        metadata,
        idempotency_key
    )
    STRUCT(annal_batch, sized, struct_size, count, stride, reserved, events, project_id)
    STRUCT(annal_writer, sized, struct_size, reserved, w, reserve, commit)
    STRUCT(
        annal_host,
        sized,
        struct_size,
        abi_major,
        abi_minor,
        ctx,
        service,
        alloc,
        cancelled,
        complete,
        report
    )
    STRUCT(annal_init, sized, struct_size, reserved, instance, config_json, host)
}

void add_services(Layout& layout) {
    STRUCT(annal_log_v1, sized, struct_size, reserved, write)
    STRUCT(annal_metrics_v1, sized, struct_size, reserved, define, record)
    STRUCT(annal_clock_v1, sized, struct_size, reserved, wall_us, monotonic_us, after)
    STRUCT(annal_term, strided, field, op, text, time_us)
    STRUCT(annal_filter, sized, struct_size, count, stride, reserved, terms)
    STRUCT(annal_query, sized, struct_size, limit, filter, cursor, order, reserved, skip)
    STRUCT(annal_page, sized, struct_size, has_more, batch, next_cursor)
    STRUCT(annal_action_count, strided, action, count, last_seen_us)
    STRUCT(annal_actions, sized, struct_size, count, stride, reserved, rows)
    STRUCT(annal_total, sized, struct_size, at_least, count)
    STRUCT(annal_aggregation, sized, struct_size, interval, filter, group_by, n_unique, unique)
    STRUCT(annal_aggregate_row, strided, start_us, key, count, uniques)
    STRUCT(annal_aggregate, sized, struct_size, count, stride, reserved, rows)
    STRUCT(annal_log_state, sized, struct_size, reserved, first_seq, head_seq, head_at_us)
    STRUCT(
        annal_store_v1,
        sized,
        struct_size,
        reserved,
        scan,
        get,
        actions,
        log_state,
        erase,
        count,
        aggregate,
        clean_up
    )
    STRUCT(annal_cleanup, sized, struct_size, retention_days, deleted, cutoff_us)
    STRUCT(annal_retention_policy, sized, struct_size, months, forward_months, unread_days, archive, archive_to)
    STRUCT(annal_retention_v1, sized, struct_size, reserved, declare, run)
    STRUCT(annal_kv_op, strided, kind, reserved, key, value)
    STRUCT(annal_kv_ops, sized, struct_size, count, stride, reserved, ops)
    STRUCT(annal_append, sized, struct_size, reserved, batch, request_key, kv)
    STRUCT(annal_receipt, strided, id, seq, created_at_us, replayed, reserved)
    STRUCT(annal_receipts, sized, struct_size, count, stride, reserved, rows)
    STRUCT(annal_bus_v1, sized, struct_size, reserved, append)
    STRUCT(annal_issue, strided, index, line, offset, pointer, code, detail)
    STRUCT(
        annal_parsed,
        sized,
        struct_size,
        status,
        single,
        lines,
        batch,
        indexes,
        n_issues,
        issue_stride,
        issues
    )
    STRUCT(annal_codec_v1, sized, struct_size, reserved, parse, render, parse_time, format_time)
    STRUCT(annal_kv_row, strided, key, value)
    STRUCT(annal_kv_rows, sized, struct_size, count, stride, has_more, rows)
    STRUCT(annal_kv_v1, sized, struct_size, reserved, scan, commit)
    STRUCT(
        annal_client_request,
        sized,
        struct_size,
        timeout_ms,
        method,
        url,
        headers,
        n_headers,
        response_bytes_max,
        body
    )
    STRUCT(annal_client_response, sized, struct_size, status, headers, n_headers, truncated, body)
    STRUCT(annal_http_client_v1, sized, struct_size, reserved, send)
    STRUCT(annal_secrets_v1, sized, struct_size, reserved, get)
    STRUCT(annal_config_v1, sized, struct_size, reserved, get)
    STRUCT(
        annal_export,
        sized,
        struct_size,
        rows_max,
        filter,
        cursor,
        format,
        options,
        n_options,
        reserved,
        next_path
    )
    STRUCT(annal_tail, sized, struct_size, reserved, filter, after_seq)
    STRUCT(annal_export_v1, sized, struct_size, reserved, run, tail)
}

void add_components(Layout& layout) {
    STRUCT(
        annal_request,
        sized,
        struct_size,
        n_headers,
        n_query,
        n_params,
        trigger,
        method,
        path,
        project_id,
        key_id,
        request_id,
        peer_ip,
        headers,
        query,
        params,
        content_length,
        r,
        read
    )
    STRUCT(
        annal_problem,
        sized,
        struct_size,
        status,
        code,
        title,
        detail,
        request_id,
        retry_after_s,
        n_issues,
        issue_stride,
        reserved,
        issues
    )
    STRUCT(annal_response, sized, struct_size, reserved, r, start, write, finish, fail)
    STRUCT(annal_http_v1, sized, struct_size, reserved, create, destroy, handle, render_problem)
    STRUCT(
        annal_format_v1,
        sized,
        struct_size,
        reserved,
        content_type,
        file_extension,
        create,
        destroy,
        begin,
        encode,
        end,
        release
    )
    STRUCT(annal_verdict, fixed, index, verdict, detail)
    STRUCT(
        annal_delivery,
        sized,
        struct_size,
        attempt,
        batch,
        payload,
        ends,
        idempotency_key,
        deadline_us,
        d,
        done,
        call,
        stream,
        fence,
        content_type,
        file_extension
    )
    STRUCT(
        annal_sink_v1,
        sized,
        struct_size,
        reserved,
        create,
        destroy,
        encode,
        send,
        position,
        find_position,
        probe,
        flags,
        verify
    )
    STRUCT(annal_job_v1, sized, struct_size, reserved, create, destroy, run)
    STRUCT(
        annal_component, sized, struct_size, reserved, type, name, config_schema, vtable, openapi
    )
    STRUCT(
        annal_module,
        sized,
        struct_size,
        abi_major,
        abi_minor,
        id,
        version,
        vendor,
        license,
        n_components,
        reserved,
        components
    )
}

#define NUMBER(name) layout.constants.emplace(#name, std::to_string(static_cast<long long>(name)))
#define TEXT(name) layout.constants.emplace(#name, name)

void add_constants(Layout& layout) {
    NUMBER(ANNAL_OK), NUMBER(ANNAL_INVALID), NUMBER(ANNAL_UNPROCESSABLE),
        NUMBER(ANNAL_UNAUTHENTICATED), NUMBER(ANNAL_DENIED);
    NUMBER(ANNAL_NOT_FOUND), NUMBER(ANNAL_CONFLICT), NUMBER(ANNAL_TOO_LARGE),
        NUMBER(ANNAL_UNSUPPORTED), NUMBER(ANNAL_BUSY);
    NUMBER(ANNAL_UNAVAILABLE), NUMBER(ANNAL_TIMEOUT), NUMBER(ANNAL_CANCELLED),
        NUMBER(ANNAL_INTERNAL);
    NUMBER(ANNAL_TIME_NONE), NUMBER(ANNAL_EVENT_DELETED), NUMBER(ANNAL_EVENT_ERASED),
        NUMBER(ANNAL_SEQ_NONE);
    NUMBER(ANNAL_LOG_DEBUG), NUMBER(ANNAL_LOG_INFO), NUMBER(ANNAL_LOG_WARN),
        NUMBER(ANNAL_LOG_ERROR);
    NUMBER(ANNAL_METRIC_COUNTER), NUMBER(ANNAL_METRIC_GAUGE), NUMBER(ANNAL_METRIC_HISTOGRAM);
    NUMBER(ANNAL_FIELD_ACTION), NUMBER(ANNAL_FIELD_EXTERNAL_ID), NUMBER(ANNAL_FIELD_ACTOR_TYPE),
        NUMBER(ANNAL_FIELD_ACTOR_ID);
    NUMBER(ANNAL_FIELD_ACTOR_EMAIL), NUMBER(ANNAL_FIELD_AUTH_TYPE), NUMBER(ANNAL_FIELD_USER_ID);
    NUMBER(ANNAL_FIELD_ORGANIZATION_ID), NUMBER(ANNAL_FIELD_CLIENT_ID),
        NUMBER(ANNAL_FIELD_ISSUER_ID);
    NUMBER(ANNAL_FIELD_AGENT_ID), NUMBER(ANNAL_FIELD_TARGET_TYPE), NUMBER(ANNAL_FIELD_TARGET_ID),
        NUMBER(ANNAL_FIELD_IP);
    NUMBER(ANNAL_FIELD_CREATED_AT), NUMBER(ANNAL_FIELD_OCCURRED_AT), NUMBER(ANNAL_FIELD_TEXT);
    NUMBER(ANNAL_OP_EQ), NUMBER(ANNAL_OP_MATCH), NUMBER(ANNAL_OP_PREFIX), NUMBER(ANNAL_OP_FROM),
        NUMBER(ANNAL_OP_BEFORE);
    NUMBER(ANNAL_INTERVAL_NONE), NUMBER(ANNAL_INTERVAL_HOUR), NUMBER(ANNAL_INTERVAL_DAY),
        NUMBER(ANNAL_INTERVAL_WEEK);
    NUMBER(ANNAL_OP_AFTER), NUMBER(ANNAL_OP_CONTAINS), NUMBER(ANNAL_NEWEST_FIRST),
        NUMBER(ANNAL_OLDEST_FIRST);
    NUMBER(ANNAL_KV_PUT), NUMBER(ANNAL_KV_ERASE), NUMBER(ANNAL_KV_ABSENT), NUMBER(ANNAL_KV_EQUALS);
    NUMBER(ANNAL_PARSE_JSON), NUMBER(ANNAL_PARSE_NDJSON), NUMBER(ANNAL_RENDER_CANONICAL);
    NUMBER(ANNAL_DELIVERED), NUMBER(ANNAL_RETRY), NUMBER(ANNAL_REJECT), NUMBER(ANNAL_PAUSE);
    NUMBER(ANNAL_SINK_TAKES_FORMATS);
    TEXT(ANNAL_SERVICE_LOG), TEXT(ANNAL_SERVICE_METRICS), TEXT(ANNAL_SERVICE_CLOCK),
        TEXT(ANNAL_SERVICE_STORE);
    TEXT(ANNAL_SERVICE_BUS), TEXT(ANNAL_SERVICE_CODEC), TEXT(ANNAL_SERVICE_KV),
        TEXT(ANNAL_SERVICE_HTTP_CLIENT);
    TEXT(ANNAL_SERVICE_SECRETS), TEXT(ANNAL_SERVICE_CONFIG), TEXT(ANNAL_SERVICE_EXPORT),
        TEXT(ANNAL_SERVICE_RETENTION);
    TEXT(ANNAL_COMPONENT_HTTP), TEXT(ANNAL_COMPONENT_FORMAT), TEXT(ANNAL_COMPONENT_SINK),
        TEXT(ANNAL_COMPONENT_JOB);
}

}  // namespace

Layout current_layout() {
    Layout layout;
    add_values(layout);
    add_services(layout);
    add_components(layout);
    add_constants(layout);
    return layout;
}

}  // namespace annal::abi_test
