#include "mini_host.h"

#include <algorithm>
#include <annal/sdk/buffer.hpp>
#include <annal/sdk/json.hpp>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace annal::test {
namespace {

struct ColumnName {
    const char* name;
    annal_str annal_event::*member;
    std::uint32_t field;
};
const ColumnName kColumnNames[] = {
    {"external_id", &annal_event::external_id, ANNAL_FIELD_EXTERNAL_ID},
    {"action", &annal_event::action, ANNAL_FIELD_ACTION},
    {"actor_type", &annal_event::actor_type, ANNAL_FIELD_ACTOR_TYPE},
    {"actor_id", &annal_event::actor_id, ANNAL_FIELD_ACTOR_ID},
    {"actor_email", &annal_event::actor_email, ANNAL_FIELD_ACTOR_EMAIL},
    {"auth_type", &annal_event::auth_type, ANNAL_FIELD_AUTH_TYPE},
    {"user_id", &annal_event::user_id, ANNAL_FIELD_USER_ID},
    {"organization_id", &annal_event::organization_id, ANNAL_FIELD_ORGANIZATION_ID},
    {"client_id", &annal_event::client_id, ANNAL_FIELD_CLIENT_ID},
    {"issuer_id", &annal_event::issuer_id, ANNAL_FIELD_ISSUER_ID},
    {"agent_id", &annal_event::agent_id, ANNAL_FIELD_AGENT_ID},
    {"target_type", &annal_event::target_type, ANNAL_FIELD_TARGET_TYPE},
    {"target_id", &annal_event::target_id, ANNAL_FIELD_TARGET_ID},
    {"ip", &annal_event::ip, ANNAL_FIELD_IP},
    {"user_agent", &annal_event::user_agent, 0},
    {"description", &annal_event::description, 0},
    {"metadata", &annal_event::metadata, 0},
    {"idempotency_key", &annal_event::idempotency_key, 0},
};

std::string text_of(annal_str s) {
    return std::string(view(s));
}

std::string time_text(std::int64_t us) {
    const std::time_t seconds = static_cast<std::time_t>(us / 1'000'000);
    std::tm tm{};
    gmtime_r(&seconds, &tm);
    char date[32];
    char out[64];
    std::strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    std::snprintf(out, sizeof(out), "%s.%06dZ", date, static_cast<int>(us % 1'000'000));
    return out;
}

/// "YYYY-MM-DDTHH:MM:SS[.f]Z" is all that the tests need.
bool read_time(std::string_view text, std::int64_t& out) {
    const std::string copy(text);
    std::tm tm{};
    const char* rest = strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest == nullptr) return false;
    std::int64_t fraction = 0;
    if (*rest == '.') {
        std::int64_t scale = 100'000;
        for (++rest; *rest >= '0' && *rest <= '9'; ++rest, scale /= 10)
            fraction += (*rest - '0') * scale;
    }
    if (std::string_view(rest) != "Z") return false;
    out = static_cast<std::int64_t>(timegm(&tm)) * 1'000'000 + fraction;
    return true;
}

bool matches_pattern(std::string_view action, std::string_view patterns) {
    while (!patterns.empty()) {
        const auto comma = patterns.find(',');
        const auto one = patterns.substr(0, comma);
        if (one == "*" || one == action) return true;
        if (one.ends_with(".*") && action.starts_with(one.substr(0, one.size() - 1))) return true;
        patterns =
            comma == std::string_view::npos ? std::string_view() : patterns.substr(comma + 1);
    }
    return false;
}

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) {
        return std::tolower(c);
    });
    return out;
}

bool time_holds(std::int64_t at, const annal_term& term) {
    if (term.op == ANNAL_OP_FROM) return at >= term.time_us;
    return term.op == ANNAL_OP_BEFORE ? at < term.time_us : at > term.time_us;
}

bool holds(const StoredEvent& event, const annal_term& term) {
    const auto column = [&](std::string_view name) {
        const auto found = event.text.find(name);
        return found == event.text.end() ? std::string() : found->second;
    };
    const auto wanted = view(term.text);
    if (term.field == ANNAL_FIELD_CREATED_AT) return time_holds(event.created_at_us, term);
    if (term.field == ANNAL_FIELD_OCCURRED_AT) {
        return time_holds(
            event.occurred_at_us == ANNAL_TIME_NONE ? event.created_at_us : event.occurred_at_us,
            term
        );
    }
    if (term.field == ANNAL_FIELD_TEXT) {
        for (const char* name : {"action", "actor_id", "target_id", "description"}) {
            if (lower(column(name)).find(lower(wanted)) != std::string::npos) return true;
        }
        return false;
    }
    if (term.op == ANNAL_OP_MATCH) return matches_pattern(column("action"), wanted);
    if (term.op == ANNAL_OP_PREFIX) return column("action").starts_with(wanted);
    for (const ColumnName& known : kColumnNames) {
        if (known.field == term.field) {
            const auto found = event.text.find(known.name);
            return found != event.text.end() && found->second == wanted;
        }
    }
    return false;
}

struct AppendedRow {
    std::string id;
    std::int64_t seq, at;
    std::uint32_t replayed;
};

struct TestCall {
    MiniHost* host = nullptr;
    std::vector<std::unique_ptr<char[]>> blocks;
    std::size_t bytes = 0;
    std::mutex mutex;
    std::condition_variable wake;
    bool done = false;
    std::optional<annal_error> error;

    void wait() {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return done; });
    }
};
TestCall& call_of(annal_call* call) {
    return *reinterpret_cast<TestCall*>(call);
}

MiniHost& host_of(annal_ctx* ctx) {
    return *reinterpret_cast<MiniHost*>(ctx);
}

annal_error error_of(annal_status code, const char* text) {
    annal_error error{};
    error.struct_size = sizeof(error);
    error.code = code;
    error.text_len = static_cast<std::uint32_t>(std::strlen(text));
    std::memcpy(error.text, text, error.text_len);
    return error;
}

}  // namespace

std::int64_t in_ms(std::int64_t ms) {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::microseconds>(now).count() + ms * 1000;
}

annal_event StoredEvent::raw() const {
    annal_event event{};
    event.seq = seq;
    event.created_at_us = created_at_us;
    event.occurred_at_us = occurred_at_us;
    event.flags = deleted ? ANNAL_EVENT_DELETED : 0;
    event.id = to_str(id);
    event.project_id = to_str(project);
    for (const ColumnName& column : kColumnNames) {
        if (const auto found = text.find(column.name); found != text.end()) {
            event.*column.member = to_str(found->second);
        }
    }
    return event;
}

RawBatch::RawBatch(const std::vector<StoredEvent>& events, std::string_view project) {
    for (const StoredEvent& event : events) events_.push_back(event.raw());
    batch_.struct_size = sizeof(batch_);
    batch_.count = static_cast<std::uint32_t>(events_.size());
    batch_.stride = sizeof(annal_event);
    batch_.events = events_.data();
    batch_.project_id = to_str(project);
}

/// The services' functions. Each gets the host from its context.
struct MiniHost::Services {
    static void log(
        annal_ctx* ctx, int32_t level, annal_str event, const annal_pair* fields, uint32_t count
    ) {
        LogLine line{level, text_of(event), {}};
        for (uint32_t i = 0; i < count; ++i)
            line.fields[text_of(fields[i].key)] = text_of(fields[i].value);
        host_of(ctx).logs.push_back(std::move(line));
    }
    static annal_metric* define(annal_ctx* ctx, int32_t, annal_str name, annal_str) {
        return reinterpret_cast<annal_metric*>(&host_of(ctx).metrics[text_of(name)]);
    }
    static void record(annal_metric* metric, double value) {
        *reinterpret_cast<double*>(metric) += value;
    }
    static int64_t wall(annal_ctx* ctx) { return host_of(ctx).wall_us; }
    static int64_t monotonic(annal_ctx* ctx) { return in_ms(0) + host_of(ctx).jumped_us_; }
    static void after(annal_ctx* ctx, annal_call*, uint32_t delay_ms, void* user, annal_done done) {
        MiniHost& host = host_of(ctx);
        if (host.refuse_after != ANNAL_OK) {
            const annal_error error =
                error_of(host.refuse_after, "the wait is over before its time");
            host.dispatch([=] { done(user, &error); });
            return;
        }
        host.slept_ms.push_back(delay_ms);
        host.jumped_us_ += std::int64_t{delay_ms} * 1000;
        host.wall_us += std::int64_t{delay_ms} * 1000;
        host.dispatch([=] { done(user, nullptr); });
    }

    static void* alloc(annal_call* handle, size_t size, size_t align) {
        TestCall& call = call_of(handle);
        if (call.bytes + size > call.host->arena_bytes_max) return nullptr;
        call.bytes += size;
        char* block = call.blocks.emplace_back(std::make_unique<char[]>(size + align)).get();
        const auto at = reinterpret_cast<std::uintptr_t>(block);
        return block + (align - at % align) % align;
    }
    static int32_t cancelled(annal_call*) { return 0; }
    static void complete(annal_call* handle, const annal_error* error) {
        TestCall& call = call_of(handle);
        const std::lock_guard lock(call.mutex);
        if (error != nullptr) call.error = *error;
        call.done = true;
        call.wake.notify_all();
    }

    // --- store
    static std::optional<annal_error> refused(MiniHost& host) {
        const annal_status code = host.refuse_store ? host.refuse_store() : ANNAL_OK;
        if (code == ANNAL_OK) return std::nullopt;
        annal_error error = error_of(code, "the store says no");
        error.retry_after_ms = host.retry_after_ms;
        return error;
    }
    static std::vector<annal_term> terms_of(const annal_filter* filter) {
        std::vector<annal_term> terms;
        for (uint32_t i = 0; filter != nullptr && i < filter->count; ++i)
            terms.push_back(*ANNAL_AT(annal_term, filter->terms, filter->stride, i));
        return terms;
    }
    static bool selects(const std::vector<annal_term>& terms, const StoredEvent& event) {
        return !event.deleted && std::all_of(terms.begin(), terms.end(), [&](const auto& term) {
            return holds(event, term);
        });
    }
    static void scan(
        annal_ctx* ctx, annal_call*, const annal_query* query, void* user, annal_page_done done
    ) {
        MiniHost& host = host_of(ctx);
        const std::vector<annal_term> terms = terms_of(query->filter);
        host.last_terms = terms;
        std::int64_t skip = ANNAL_HAS(query, annal_query, skip) ? query->skip : 0;
        host.last_skip = skip;
        const bool oldest_first = query->order == ANNAL_OLDEST_FIRST;
        std::int64_t beyond = oldest_first ? INT64_MIN : INT64_MAX;
        std::optional<annal_error> error = refused(host);
        if (!is_null(query->cursor)) {
            const std::string cursor = text_of(query->cursor);
            if (cursor.rfind("c", 0) != 0)
                error = error_of(ANNAL_INVALID, "not a cursor");
            else
                beyond = std::stoll(cursor.substr(1));
        }
        std::vector<StoredEvent> rows;
        bool more = false;
        std::int64_t last = beyond;
        std::uint32_t looked = 0;
        for (std::size_t i = 0; !error && i < host.events.size(); ++i) {
            const StoredEvent& event = host.events[oldest_first ? i : host.events.size() - 1 - i];
            if (oldest_first ? event.seq <= beyond : event.seq >= beyond) continue;
            if (rows.size() == query->limit || looked == host.scan_budget_rows) {
                more = true;
                break;
            }
            ++looked;
            last = event.seq;
            if (selects(terms, event) && skip-- <= 0) rows.push_back(event);
        }
        host.dispatch([=, rows = std::move(rows), cursor = "c" + std::to_string(last)] {
            if (error) return done(user, nullptr, &*error);
            const RawBatch batch(rows);
            annal_page page{};
            page.struct_size = sizeof(page);
            page.has_more = more ? 1 : 0;
            page.batch = batch.get();
            page.next_cursor = more ? to_str(cursor) : kNull;
            done(user, &page, nullptr);
        });
    }
    static void get(annal_ctx* ctx, annal_call*, annal_str id, void* user, annal_page_done done) {
        MiniHost& host = host_of(ctx);
        std::vector<StoredEvent> rows;
        for (const StoredEvent& event : host.events) {
            if (event.id == view(id) && !event.deleted) rows.push_back(event);
        }
        std::optional<annal_error> error = refused(host);
        if (!error && rows.empty()) error = error_of(ANNAL_NOT_FOUND, "no such event");
        host.dispatch([=, rows = std::move(rows)] {
            if (error) return done(user, nullptr, &*error);
            const RawBatch batch(rows);
            annal_page page{};
            page.struct_size = sizeof(page);
            page.batch = batch.get();
            done(user, &page, nullptr);
        });
    }
    static void count(
        annal_ctx* ctx, annal_call*, const annal_filter* filter, void* user, annal_total_done done
    ) {
        MiniHost& host = host_of(ctx);
        const std::vector<annal_term> terms = terms_of(filter);
        annal_total total{sizeof(annal_total), host.count_at_least ? 1U : 0U, 0};
        for (const StoredEvent& event : host.events) total.count += selects(terms, event) ? 1 : 0;
        const std::optional<annal_error> error = refused(host);
        host.dispatch([=] { error ? done(user, nullptr, &*error) : done(user, &total, nullptr); });
    }
    static void aggregate(
        annal_ctx* ctx,
        annal_call*,
        const annal_aggregation* what,
        void* user,
        annal_aggregate_done done
    ) {
        MiniHost& host = host_of(ctx);
        host.last_terms = terms_of(what->filter);
        host.aggregations.push_back(
            {what->interval, what->group_by, {what->unique, what->unique + what->n_unique}}
        );
        const std::optional<annal_error> error = refused(host);
        host.dispatch([=, counted = host.counted] {
            if (error) return done(user, nullptr, &*error);
            std::vector<annal_aggregate_row> rows;
            for (const Counted& row : counted) {
                const annal_str key = row.key ? to_str(*row.key) : kNull;
                rows.push_back({row.start_us, key, row.count, row.uniques.data()});
            }
            const annal_aggregate table{
                sizeof(annal_aggregate),
                static_cast<uint32_t>(rows.size()),
                sizeof(annal_aggregate_row),
                0,
                rows.data()};
            done(user, &table, nullptr);
        });
    }
    static void actions(
        annal_ctx* ctx, annal_call*, int64_t since, void* user, annal_actions_done done
    ) {
        MiniHost& host = host_of(ctx);
        std::map<std::string, std::pair<int64_t, int64_t>> counts;
        for (const StoredEvent& event : host.events) {
            if (event.created_at_us < since || event.deleted) continue;
            auto& [count, last] = counts[event.text.at("action")];
            ++count;
            last = event.created_at_us;
        }
        const std::optional<annal_error> error = refused(host);
        host.dispatch([=] {
            if (error) return done(user, nullptr, &*error);
            std::vector<annal_action_count> rows;
            for (const auto& [action, row] : counts)
                rows.push_back({to_str(action), row.first, row.second});
            std::stable_sort(rows.begin(), rows.end(), [](auto& a, auto& b) {
                return a.count > b.count;
            });
            const annal_actions table{
                sizeof(table),
                static_cast<uint32_t>(rows.size()),
                sizeof(annal_action_count),
                0,
                rows.data()};
            done(user, &table, nullptr);
        });
    }
    static void log_state(annal_ctx* ctx, annal_call*, void* user, annal_log_state_done done) {
        MiniHost& host = host_of(ctx);
        annal_log_state state{sizeof(state), 0, 0, static_cast<int64_t>(host.events.size()) - 1, 0};
        host.dispatch([=] { done(user, &state, nullptr); });
    }
    static void erase(
        annal_ctx* ctx, annal_call*, annal_str id, annal_str reason, void* user, annal_done done
    ) {
        MiniHost& host = host_of(ctx);
        host.last_reason = is_null(reason) ? "(null)" : text_of(reason);
        std::optional<annal_error> error = error_of(ANNAL_NOT_FOUND, "no such event");
        for (StoredEvent& event : host.events) {
            if (event.id == view(id) && !event.deleted) {
                event.deleted = true;
                error.reset();
            }
        }
        host.dispatch([=] { done(user, error ? &*error : nullptr); });
    }

    static void clean_up(annal_ctx* ctx, annal_call*, void* user, annal_cleanup_done done) {
        MiniHost& host = host_of(ctx);
        if (host.is_held) {
            const auto error = error_of(ANNAL_CONFLICT, "the project is under legal hold");
            return host.dispatch([=] { done(user, nullptr, &error); });
        }
        const annal_cleanup made = host.cleanup;
        host.dispatch([=] { done(user, &made, nullptr); });
    }

    // --- bus
    static void append(
        annal_ctx* ctx, annal_call*, const annal_append* request, void* user, annal_append_done done
    ) {
        MiniHost& host = host_of(ctx);
        const std::string key = text_of(request->request_key);
        const std::size_t number = host.request_keys.size();
        host.request_keys.push_back(is_null(request->request_key) ? "(null)" : key);
        host.append_sizes.push_back(request->batch != nullptr ? request->batch->count : 0);
        const annal_status code = host.refuse_append ? host.refuse_append(number) : ANNAL_OK;
        if (code != ANNAL_OK) {
            annal_error error = error_of(code, "the bus says no");
            error.retry_after_ms = host.retry_after_ms;
            return host.dispatch([=] { done(user, nullptr, &error); });
        }
        std::vector<AppendedRow> rows;
        if (const auto seen = host.replies.find(key); seen != host.replies.end() && !key.empty()) {
            for (const auto& [id, seq] : seen->second) {
                rows.push_back(
                    {id, seq, host.events[static_cast<std::size_t>(seq)].created_at_us, 1}
                );
            }
        } else {
            const Rows<annal_event> given(
                request->batch->events, request->batch->count, request->batch->stride
            );
            for (const annal_event& event : given) {
                rows.push_back(append_one(host, event));
                if (!key.empty()) host.replies[key].emplace_back(rows.back().id, rows.back().seq);
            }
        }
        host.dispatch([=] {
            std::vector<annal_receipt> raw;
            for (const AppendedRow& row : rows)
                raw.push_back({to_str(row.id), row.seq, row.at, row.replayed, 0});
            const annal_receipts table{
                sizeof(table),
                static_cast<uint32_t>(raw.size()),
                sizeof(annal_receipt),
                0,
                raw.data()};
            done(user, &table, nullptr);
        });
    }
    static AppendedRow append_one(MiniHost& host, const annal_event& event) {
        const std::string key = text_of(event.idempotency_key);
        if (const auto seen = host.replies.find("event:" + key);
            !key.empty() && seen != host.replies.end()) {
            const auto& [id, seq] = seen->second.front();
            return {id, seq, host.events[static_cast<std::size_t>(seq)].created_at_us, 1};
        }
        StoredEvent stored;
        stored.seq = static_cast<int64_t>(host.events.size());
        stored.created_at_us = host.wall_us += 1'000;
        stored.occurred_at_us = event.occurred_at_us;
        stored.id = "evt_" + std::to_string(stored.seq);
        stored.project = "proj_1";
        for (const ColumnName& column : kColumnNames) {
            if (!is_null(event.*column.member))
                stored.text[column.name] = text_of(event.*column.member);
        }
        host.events.push_back(stored);
        if (!key.empty()) host.replies["event:" + key].emplace_back(stored.id, stored.seq);
        return {stored.id, stored.seq, stored.created_at_us, 0};
    }

    // --- codec
    static annal_str keep(annal_call* call, std::string_view text) {
        char* copy = static_cast<char*>(alloc(call, text.size() + 1, 1));
        if (!text.empty()) std::memcpy(copy, text.data(), text.size());
        return {copy, text.size()};
    }
    template <class T>
    static T* keep_rows(annal_call* call, const std::vector<T>& rows) {
        void* copy = alloc(call, sizeof(T) * rows.size() + 1, alignof(T));
        if (copy != nullptr && !rows.empty())
            std::memcpy(copy, rows.data(), sizeof(T) * rows.size());
        return static_cast<T*>(copy);
    }
    struct Parse {
        annal_call* call;
        std::vector<annal_event> events;
        std::vector<uint32_t> indexes;
        std::vector<annal_issue> issues;

        void issue(
            uint32_t index,
            uint32_t line,
            int64_t offset,
            const char* pointer,
            const char* code,
            std::string_view detail
        ) {
            issues.push_back(
                {index, line, offset, to_str(pointer), to_str(code), keep(call, detail)}
            );
        }
        void add(const Json& json, uint32_t index, uint32_t line) {
            const std::size_t before = issues.size();
            annal_event event{};
            event.seq = -1;
            event.created_at_us = event.occurred_at_us = ANNAL_TIME_NONE;
            for (const auto& [key, value] : json.members()) {
                const Json& given = value;  // clang 14 captures no structured binding
                const auto take = [&](annal_str& into) { into = keep(call, given.string()); };
                if (key == "action")
                    take(event.action);
                else if (key == "target_type")
                    take(event.target_type);
                else if (key == "target_id")
                    take(event.target_id);
                else if (key == "user_id")
                    take(event.user_id);
                else if (key == "external_id")
                    take(event.external_id);
                else if (key == "description")
                    take(event.description);
                else if (key == "idempotency_key")
                    take(event.idempotency_key);
                else if (key == "actor" && value.find("type") != nullptr) {
                    event.actor_type = keep(call, value.find("type")->string());
                    if (const Json* id = value.find("id"))
                        event.actor_id = keep(call, id->string());
                } else if (key != "metadata")
                    issue(index, line, -1, "/x", "unknown_field", "no such field: " + key);
            }
            if (is_null(event.action))
                issue(index, line, -1, "/action", "missing_field", "action is required");
            if (is_null(event.actor_type))
                issue(index, line, -1, "/actor", "missing_field", "actor is required");
            if (issues.size() != before) return;
            events.push_back(event);
            indexes.push_back(index);
        }
    };
    static annal_status parse(
        annal_ctx*,
        annal_call* call,
        annal_bytes body,
        uint32_t form,
        uint32_t first_line,
        const annal_parsed** out
    ) {
        Parse parse{call, {}, {}, {}};
        annal_parsed parsed{};
        parsed.struct_size = sizeof(parsed);
        parsed.issue_stride = sizeof(annal_issue);
        std::string_view text = view(body);
        if (form == ANNAL_PARSE_JSON) {
            Json json;
            Json::Failure failure;
            if (!Json::parse(text, json, failure)) {
                parsed.status = ANNAL_INVALID;
                parse.issue(
                    UINT32_MAX, 0, static_cast<int64_t>(failure.at), "", "malformed", failure.what
                );
            } else if (const Json* list = json.find("events")) {
                uint32_t index = 0;
                for (const Json& one : list->items()) parse.add(one, index++, 0);
                if (index > 10'000) parsed.status = ANNAL_TOO_LARGE;
            } else {
                parsed.single = 1;
                parse.add(json, 0, 0);
            }
        } else {
            uint32_t index = 0;
            while (!text.empty()) {
                const auto end = text.find('\n');
                const std::string_view line = text.substr(0, end);
                text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
                ++parsed.lines;
                if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
                Json json;
                Json::Failure failure;
                if (Json::parse(line, json, failure))
                    parse.add(json, index, first_line + parsed.lines);
                else
                    parse.issue(
                        index,
                        first_line + parsed.lines,
                        static_cast<int64_t>(failure.at),
                        "",
                        "malformed",
                        failure.what
                    );
                ++index;
            }
        }
        if (parsed.status == ANNAL_OK && !parse.issues.empty()) parsed.status = ANNAL_UNPROCESSABLE;
        annal_batch batch{};
        batch.struct_size = sizeof(batch);
        batch.count = static_cast<uint32_t>(parse.events.size());
        batch.stride = sizeof(annal_event);
        batch.events = keep_rows(call, parse.events);
        batch.project_id = to_str("proj_1");
        parsed.batch = parse.events.empty() ? nullptr : keep_rows<annal_batch>(call, {batch});
        parsed.indexes = keep_rows(call, parse.indexes);
        parsed.n_issues = static_cast<uint32_t>(parse.issues.size());
        parsed.issues = keep_rows(call, parse.issues);
        *out = keep_rows<annal_parsed>(call, {parsed});
        return *out != nullptr ? ANNAL_OK : ANNAL_TOO_LARGE;
    }
    static annal_status render(
        annal_ctx*, const annal_event* event, uint32_t, const annal_writer* out
    ) {
        std::string text;
        StringOut into(text);
        JsonWriter json(into);
        json.begin_object().member("id", event->id);
        if (is_deleted(*event)) {
            json.member("seq", event->seq).member("deleted", true).end_object();
        } else {
            json.member("action", event->action)
                .member("created_at", time_text(event->created_at_us));
            json.member("project_id", event->project_id).member("target_id", event->target_id);
            json.key("metadata").raw(is_null(event->metadata) ? "{}" : view(event->metadata));
            json.member("seq", event->seq).end_object();
        }
        size_t cap = 0;
        uint8_t* room = out->reserve(out->w, text.size(), &cap);
        if (room == nullptr || cap < text.size()) return ANNAL_TOO_LARGE;
        std::memcpy(room, text.data(), text.size());
        out->commit(out->w, text.size());
        return ANNAL_OK;
    }
    static annal_status parse_time(annal_ctx*, annal_str text, int64_t* out) {
        return read_time(view(text), *out) ? ANNAL_OK : ANNAL_INVALID;
    }
    static void format_time(annal_ctx*, int64_t at, char out[28]) {
        const std::string text = time_text(at);
        std::memset(out, 0, 28);
        std::memcpy(out, text.data(), std::min<size_t>(27, text.size()));
    }

    // --- export
    static void run_export(
        annal_ctx* ctx,
        annal_call*,
        const annal_export* request,
        const annal_response* response,
        void* user,
        annal_done done
    ) {
        MiniHost& host = host_of(ctx);
        ExportSeen seen;
        seen.format = text_of(request->format);
        seen.cursor = text_of(request->cursor);
        seen.next_path = text_of(request->next_path);
        seen.rows_max = request->rows_max;
        seen.terms = request->filter->count;
        for (uint32_t i = 0; i < request->n_options; ++i) {
            seen.options.emplace_back(
                text_of(request->options[i].key), text_of(request->options[i].value)
            );
        }
        host.exports.push_back(seen);
        const annal_status code = host.refuse_export ? host.refuse_export(seen.format) : ANNAL_OK;
        if (code != ANNAL_OK) {
            const annal_error error = error_of(code, "the export says no");
            return host.dispatch([=] { done(user, &error); });
        }
        answer_empty(response, user, done);
    }
    static void answer_empty(const annal_response* response, void* user, annal_done done) {
        struct After {
            void* user;
            annal_done done;
        };
        response->start(response->r, 200, nullptr, 0);
        auto* after = new After{user, done};
        response->finish(response->r, nullptr, 0, after, [](void* given, const annal_error* error) {
            const std::unique_ptr<After> next(static_cast<After*>(given));
            next->done(next->user, error);
        });
    }
    static void run_tail(
        annal_ctx* ctx,
        annal_call*,
        const annal_tail* request,
        const annal_response* response,
        void* user,
        annal_done done
    ) {
        MiniHost& host = host_of(ctx);
        host.tails.push_back({request->after_seq, request->filter->count});
        if (host.refuse_tail != ANNAL_OK) {
            const annal_error error = error_of(host.refuse_tail, "the tail says no");
            return host.dispatch([=] { done(user, &error); });
        }
        answer_empty(response, user, done);
    }

    // --- outbound
    static void fetch(
        annal_ctx* ctx,
        annal_call*,
        const annal_client_request* request,
        void* user,
        annal_client_done done
    ) {
        MiniHost& host = host_of(ctx);
        MiniHost::Fetched seen;
        seen.method = text_of(request->method);
        seen.url = text_of(request->url);
        seen.body = std::string(view(request->body));
        seen.timeout_ms = request->timeout_ms;
        for (uint32_t i = 0; i < request->n_headers; ++i)
            seen.headers[text_of(request->headers[i].key)] = text_of(request->headers[i].value);
        host.fetched.push_back(seen);
        host.dispatch([&host, seen, user, done] {
            const MiniHost::Answer said = host.answer(seen);
            if (said.error != ANNAL_OK) {
                const annal_error error = error_of(said.error, said.error_text.c_str());
                return done(user, nullptr, &error);
            }
            std::vector<annal_pair> headers;
            for (const auto& [name, value] : said.headers)
                headers.push_back({to_str(name), to_str(value)});
            annal_client_response response{};
            response.struct_size = sizeof(response);
            response.status = said.status;
            response.headers = headers.data();
            response.n_headers = static_cast<uint32_t>(headers.size());
            response.body = to_bytes(said.body);
            done(user, &response, nullptr);
        });
    }

    static const void* service(annal_ctx* ctx, const char* id);
};

const void* MiniHost::Services::service(annal_ctx* ctx, const char* id) {
    static const annal_log_v1 kLog{sizeof(kLog), 0, log};
    static const annal_metrics_v1 kMetrics{sizeof(kMetrics), 0, define, record};
    static const annal_clock_v1 kClock{sizeof(kClock), 0, wall, monotonic, after};
    static const annal_clock_v1 kOldClock{
        offsetof(annal_clock_v1, after), 0, wall, monotonic, after};
    static const annal_store_v1 kStore{
        sizeof(kStore), 0, scan, get, actions, log_state, erase, count, aggregate, clean_up};
    static const annal_store_v1 kReadOnly{
        sizeof(kReadOnly), 0, scan, get, actions, log_state, nullptr, count, aggregate, nullptr};
    static const annal_bus_v1 kBus{sizeof(kBus), 0, append};
    static const annal_codec_v1 kCodec{sizeof(kCodec), 0, parse, render, parse_time, format_time};
    static const annal_export_v1 kExport{sizeof(kExport), 0, run_export, run_tail};
    static const annal_export_v1 kNoTails{sizeof(kNoTails), 0, run_export, nullptr};
    static const annal_http_client_v1 kHttpClient{sizeof(kHttpClient), 0, fetch};
    MiniHost& host = host_of(ctx);
    const std::map<std::string_view, const void*> tables{
        {ANNAL_SERVICE_LOG, &kLog},
        {ANNAL_SERVICE_METRICS, &kMetrics},
        {ANNAL_SERVICE_CLOCK, host.withhold_after ? &kOldClock : &kClock},
        {ANNAL_SERVICE_STORE, host.withhold_erase ? &kReadOnly : &kStore},
        {ANNAL_SERVICE_BUS, &kBus},
        {ANNAL_SERVICE_CODEC, &kCodec},
        {ANNAL_SERVICE_EXPORT, host.withhold_tail ? &kNoTails : &kExport},
        {ANNAL_SERVICE_HTTP_CLIENT, host.answer ? &kHttpClient : nullptr},
    };
    const auto found = tables.find(id);
    return found == tables.end() || host.withheld.count(id) != 0 ? nullptr : found->second;
}

MiniHost::MiniHost(bool asynchronous) : asynchronous_(asynchronous) {
    host_.struct_size = sizeof(host_);
    host_.abi_major = ANNAL_ABI_MAJOR;
    host_.abi_minor = ANNAL_ABI_MINOR;
    host_.ctx = reinterpret_cast<annal_ctx*>(this);
    host_.service = Services::service;
    host_.alloc = Services::alloc;
    host_.cancelled = Services::cancelled;
    host_.complete = Services::complete;
    if (asynchronous_) thread_ = std::thread([this] { loop(); });
}

MiniHost::~MiniHost() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
}

void MiniHost::dispatch(std::function<void()> work) {
    if (!asynchronous_) return work();
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(work));
    wake_.notify_all();
}

void MiniHost::loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) return;
        const std::function<void()> work = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        work();
        lock.lock();
    }
}

const MiniHost::LogLine* MiniHost::logged(std::string_view event) const {
    for (const LogLine& line : logs) {
        if (line.event == event) return &line;
    }
    return nullptr;
}

void MiniHost::fill(std::size_t count, const std::string& action) {
    for (std::size_t i = 0; i < count; ++i) {
        StoredEvent event;
        event.seq = static_cast<int64_t>(events.size());
        event.created_at_us = wall_us += 1'000'000;
        event.id = "evt_" + std::to_string(event.seq);
        event.project = "proj_1";
        event.set("action", action)
            .set("actor_type", "user")
            .set("actor_id", "usr_" + std::to_string(event.seq % 3));
        events.push_back(std::move(event));
    }
}

namespace {

/// One request on its way through a handler.
struct Exchange {
    MiniHost& host;
    const annal_http_v1& table;
    void* self;
    const RequestSpec& spec;
    std::size_t next_chunk = 0;
    std::string chunk;
    Reply reply;

    static void read(void* r, void* user, annal_read_done done) {
        auto& x = *static_cast<Exchange*>(r);
        x.host.dispatch([&x, user, done] {
            if (x.next_chunk == x.spec.chunks.size())
                return done(user, x.spec.read_end, annal_bytes{nullptr, 0});
            // A fresh copy each time, so that a handler which keeps an old chunk reads freed
            // memory.
            x.chunk = std::string(x.spec.chunks[x.next_chunk++]);
            x.chunk.shrink_to_fit();
            done(user, ANNAL_OK, to_bytes(x.chunk));
        });
    }
    static annal_status start(void* r, uint32_t status, const annal_pair* headers, uint32_t count) {
        auto& x = *static_cast<Exchange*>(r);
        if (x.reply.status != 0) return ANNAL_INTERNAL;
        x.reply.status = status;
        for (uint32_t i = 0; i < count; ++i)
            x.reply.headers[text_of(headers[i].key)] = text_of(headers[i].value);
        return ANNAL_OK;
    }
    static void write(void* r, annal_bytes bytes, void* user, annal_done done) {
        auto& x = *static_cast<Exchange*>(r);
        const bool gone =
            x.spec.client_gone_at && x.reply.body.size() + bytes.len > *x.spec.client_gone_at;
        if (!gone) x.reply.body.append(view(bytes));
        const annal_error error = error_of(ANNAL_CANCELLED, "the client is gone");
        x.host.dispatch([=] { done(user, gone ? &error : nullptr); });
    }
    static void finish(void* r, const annal_pair*, uint32_t, void* user, annal_done done) {
        auto& x = *static_cast<Exchange*>(r);
        x.reply.finished = true;
        x.host.dispatch([=] { done(user, nullptr); });
    }
    static void fail(void* r, const annal_problem* problem, void* user, annal_done done) {
        auto& x = *static_cast<Exchange*>(r);
        TextWriter text;
        const annal_writer writer = text.writer();
        const annal_str type = x.table.render_problem(x.self, problem, &writer);
        x.reply.status = problem->status;
        x.reply.headers["content-type"] = text_of(type);
        if (problem->retry_after_s > 0)
            x.reply.headers["retry-after"] = std::to_string(problem->retry_after_s);
        x.reply.body = text.text;
        x.reply.finished = true;
        x.host.dispatch([=] { done(user, nullptr); });
    }
};

std::vector<annal_pair> raw_pairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
    std::vector<annal_pair> out;
    for (const auto& [key, value] : pairs) out.push_back({to_str(key), to_str(value)});
    return out;
}

}  // namespace

Reply MiniHost::request(const annal_http_v1& table, void* self, const RequestSpec& spec) {
    Exchange x{*this, table, self, spec, 0, {}, {}};
    TestCall call;
    call.host = this;
    const auto headers = raw_pairs(spec.headers);
    const auto query = raw_pairs(spec.query);
    const auto params = raw_pairs(spec.params);
    annal_request request{};
    request.struct_size = sizeof(request);
    request.n_headers = static_cast<uint32_t>(headers.size());
    request.n_query = static_cast<uint32_t>(query.size());
    request.n_params = static_cast<uint32_t>(params.size());
    request.trigger = to_str(spec.trigger);
    request.method = to_str(spec.method);
    request.path = to_str(spec.path);
    request.project_id = to_str("proj_1");
    request.key_id = to_str("apikey_1");
    request.request_id = to_str("req_1");
    request.headers = headers.data();
    request.query = query.data();
    request.params = params.data();
    request.content_length = -1;
    request.r = &x;
    request.read = Exchange::read;
    annal_response response{};
    response.struct_size = sizeof(response);
    response.r = &x;
    response.start = Exchange::start;
    response.write = Exchange::write;
    response.finish = Exchange::finish;
    response.fail = Exchange::fail;
    table.handle(self, reinterpret_cast<annal_call*>(&call), &request, &response);
    call.wait();
    if (call.error) {
        x.reply.error = call.error->code;
        if (x.reply.status == 0) x.reply.status = 500;
    }
    return x.reply;
}

std::optional<annal_error> MiniHost::run(
    const annal_job_v1& table, void* self, std::string_view trigger
) {
    TestCall call;
    call.host = this;
    table.run(self, reinterpret_cast<annal_call*>(&call), to_str(trigger), 0);
    call.wait();
    return call.error;
}

Instance::Instance(MiniHost& host, const annal_component& component, std::string config)
    : component_(component) {
    annal_init init{};
    init.struct_size = sizeof(init);
    init.instance = to_str("test-instance");
    init.config_json = to_str(config);
    init.host = host.host();
    annal_error error{};
    error.struct_size = sizeof(error);
    // `create` stands at the same place in every table.
    if (std::string_view(component.type) == ANNAL_COMPONENT_FORMAT) {
        status_ = table<annal_format_v1>().create(&init, &self_, &error);
    } else {
        status_ = table<annal_sink_v1>().create(&init, &self_, &error);
    }
    error_.assign(error.text, error.text_len);
}

Instance::~Instance() {
    if (self_ == nullptr) return;
    if (std::string_view(component_.type) == ANNAL_COMPONENT_FORMAT) {
        table<annal_format_v1>().destroy(self_);
    } else {
        table<annal_sink_v1>().destroy(self_);
    }
}

Encoded encode(const annal_sink_v1& table, void* self, const annal_batch* batch) {
    Encoded out;
    out.ends.resize(batch->count, UINT64_MAX);
    TextWriter text;
    const annal_writer writer = text.writer();
    annal_error error{};
    error.struct_size = sizeof(error);
    out.status = table.encode(self, batch, &writer, out.ends.data(), &error);
    out.error.assign(error.text, error.text_len);
    out.bytes = std::move(text.text);
    return out;
}

namespace {

/// A delivery with the report that it waits for.
struct Delivering {
    SinkReply reply;
    std::mutex mutex;
    std::condition_variable wake;
    annal_delivery delivery{};

    Delivering(
        const annal_batch* batch,
        const Encoded& encoded,
        std::int64_t deadline_us,
        const std::string& key
    ) {
        delivery.struct_size = sizeof(delivery);
        delivery.attempt = 1;
        delivery.batch = batch;
        delivery.payload = to_bytes(encoded.bytes);
        delivery.ends = encoded.ends.data();
        delivery.idempotency_key = to_str(key);
        delivery.deadline_us = deadline_us;
        delivery.d = this;
        delivery.done = take;
    }
    static void take(
        void* d,
        uint32_t fallback,
        const annal_verdict* rows,
        uint32_t count,
        const annal_error* error
    ) {
        auto& self = *static_cast<Delivering*>(d);
        const std::lock_guard lock(self.mutex);
        SinkReply& out = self.reply;
        ++out.reports;
        out.verdict = fallback;
        for (uint32_t i = 0; i < count; ++i)
            out.exceptions.emplace_back(rows[i].index, rows[i].verdict);
        if (error != nullptr) {
            out.text.assign(error->text, error->text_len);
            out.retry_after_ms = error->retry_after_ms;
        }
        self.wake.notify_all();
    }
};

}  // namespace

SinkReply send(
    const annal_sink_v1& table,
    void* self,
    const annal_batch* batch,
    const Encoded& encoded,
    std::int64_t deadline_us,
    const std::string& key
) {
    Delivering one(batch, encoded, deadline_us, key);
    table.send(self, &one.delivery);
    return one.reply;
}

SinkReply deliver(
    MiniHost& host,
    const annal_sink_v1& table,
    void* self,
    const annal_batch* batch,
    const Encoded& encoded,
    const std::string& stream,
    std::int64_t deadline_us
) {
    const std::string key = stream + "/" + std::to_string(batch->events->seq) + "-" +
                            std::to_string(batch->events->seq + batch->count - 1);
    TestCall call;
    call.host = &host;
    Delivering one(batch, encoded, deadline_us, key);
    one.delivery.call = reinterpret_cast<annal_call*>(&call);
    one.delivery.stream = to_str(stream);
    one.delivery.fence = 1;
    table.send(self, &one.delivery);
    std::unique_lock lock(one.mutex);
    one.wake.wait(lock, [&] { return one.reply.reports > 0; });
    return one.reply;
}

SinkPosition find_position(
    MiniHost& host, const annal_sink_v1& table, void* self, const std::string& stream
) {
    struct Asked {
        SinkPosition found;
        TestCall call;
    } asked;
    asked.call.host = &host;
    table.find_position(
        self,
        reinterpret_cast<annal_call*>(&asked.call),
        to_str(stream),
        &asked,
        [](void* user, std::int64_t seq, const annal_error* error) {
            auto& out = *static_cast<Asked*>(user);
            const std::lock_guard lock(out.call.mutex);
            out.found.seq = seq;
            if (error != nullptr) out.found.error = *error;
            out.call.done = true;
            out.call.wake.notify_all();
        }
    );
    asked.call.wait();
    return asked.found;
}

std::optional<annal_error> probe(MiniHost& host, const annal_sink_v1& table, void* self) {
    TestCall call;
    call.host = &host;
    table.probe(self, reinterpret_cast<annal_call*>(&call));
    call.wait();
    return call.error;
}

annal_writer TextWriter::writer() {
    annal_writer writer{};
    writer.struct_size = sizeof(writer);
    writer.w = this;
    writer.reserve = [](void* w, size_t min, size_t* cap) -> uint8_t* {
        auto& self = *static_cast<TextWriter*>(w);
        if (min > self.bytes_max_ - self.text.size()) return nullptr;
        self.room_.assign(min, 0);  // never more than asked for
        *cap = min;
        return self.room_.data();
    };
    writer.commit = [](void* w, size_t n) {
        auto& self = *static_cast<TextWriter*>(w);
        self.text.append(reinterpret_cast<const char*>(self.room_.data()), n);
    };
    return writer;
}

}  // namespace annal::test
