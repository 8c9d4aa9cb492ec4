#pragma once

#include <annal/sdk/host.hpp>
#include <annal/sdk/owned.hpp>
#include <annal/sdk/task.hpp>

#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace annal::inline sdk_v1 {

/// Terms that an event must all satisfy. Text is borrowed: from the request, usually.
class Filter {
public:
    Filter& equals(std::uint32_t field, std::string_view text) {
        return add(field, ANNAL_OP_EQ, to_str(text), 0);
    }
    /// Comma-separated patterns: an exact action, "ns.*" or "*".
    Filter& actions(std::string_view patterns) {
        return add(ANNAL_FIELD_ACTION, ANNAL_OP_MATCH, to_str(patterns), 0);
    }
    Filter& action_prefix(std::string_view prefix) {
        return add(ANNAL_FIELD_ACTION, ANNAL_OP_PREFIX, to_str(prefix), 0);
    }
    Filter& contains(std::string_view needle) {
        return add(ANNAL_FIELD_TEXT, ANNAL_OP_CONTAINS, to_str(needle), 0);
    }
    /// `op`: ANNAL_OP_FROM, ANNAL_OP_BEFORE or ANNAL_OP_AFTER.
    Filter& time(std::uint32_t field, std::uint32_t op, std::int64_t time_us) {
        return add(field, op, kNull, time_us);
    }

    [[nodiscard]] std::size_t size() const { return terms_.size(); }
    [[nodiscard]] const std::vector<annal_term>& terms() const { return terms_; }
    /// Borrows this filter.
    [[nodiscard]] annal_filter raw() const {
        annal_filter filter{};
        filter.struct_size = sizeof(filter);
        filter.count = static_cast<std::uint32_t>(terms_.size());
        filter.stride = sizeof(annal_term);
        filter.terms = terms_.data();
        return filter;
    }

private:
    Filter& add(std::uint32_t field, std::uint32_t op, annal_str text, std::int64_t time_us) {
        terms_.push_back(annal_term{field, op, text, time_us});
        return *this;
    }
    std::vector<annal_term> terms_;
};

/// What to list: `Query(filter).limit(50).cursor(text)`. Borrows the filter and the cursor.
class Query {
public:
    explicit Query(const Filter& filter) : filter_(&filter) {}
    Query& limit(std::uint32_t rows) {
        limit_ = rows;
        return *this;
    }
    /// A null cursor starts at the beginning.
    Query& cursor(annal_str cursor) {
        cursor_ = cursor;
        return *this;
    }
    Query& oldest_first() {
        order_ = ANNAL_OLDEST_FIRST;
        return *this;
    }
    /// Passes over so many matches first, in place of a cursor: for pages that have numbers.
    Query& skip(std::int64_t rows) {
        skip_ = rows;
        return *this;
    }

private:
    friend class Call;
    const Filter* filter_;
    std::uint32_t limit_ = 50, order_ = ANNAL_NEWEST_FIRST;
    annal_str cursor_ = kNull;
    std::int64_t skip_ = 0;
};

/// What to count: `Aggregation(filter).group_by(ANNAL_FIELD_ACTION).interval(ANNAL_INTERVAL_DAY)`.
/// Borrows the filter.
class Aggregation {
public:
    explicit Aggregation(const Filter& filter) : filter_(&filter) {}
    /// 0: one count for all.
    Aggregation& group_by(std::uint32_t field) {
        group_by_ = field;
        return *this;
    }
    Aggregation& interval(std::uint32_t interval) {
        interval_ = interval;
        return *this;
    }
    /// Counts the distinct values of `field` in each group too.
    Aggregation& unique(std::uint32_t field) {
        unique_.push_back(field);
        return *this;
    }

private:
    friend class Call;
    const Filter* filter_;
    std::uint32_t group_by_ = 0, interval_ = ANNAL_INTERVAL_NONE;
    std::vector<std::uint32_t> unique_;
};

/// Operations on the instance's key space that are committed together. Borrows keys and values.
class KvOps {
public:
    KvOps& put(std::string_view key, std::string_view value) {
        return add(ANNAL_KV_PUT, key, value);
    }
    KvOps& erase(std::string_view key) { return add(ANNAL_KV_ERASE, key, {}); }
    KvOps& expect_absent(std::string_view key) { return add(ANNAL_KV_ABSENT, key, {}); }
    KvOps& expect(std::string_view key, std::string_view value) {
        return add(ANNAL_KV_EQUALS, key, value);
    }
    [[nodiscard]] annal_kv_ops raw() const {
        annal_kv_ops ops{};
        ops.struct_size = sizeof(ops);
        ops.count = static_cast<std::uint32_t>(ops_.size());
        ops.stride = sizeof(annal_kv_op);
        ops.ops = ops_.data();
        return ops;
    }

private:
    KvOps& add(std::uint32_t kind, std::string_view key, std::string_view value) {
        ops_.push_back(annal_kv_op{kind, 0, to_str(key), to_bytes(value)});
        return *this;
    }
    std::vector<annal_kv_op> ops_;
};

/// What to append: events, key operations or both, all or none. Borrows everything.
class Append {
public:
    Append& events(const annal_batch* batch) {
        batch_ = batch;
        return *this;
    }
    /// Idempotency key of the whole request; null for none.
    Append& request_key(annal_str key) {
        key_ = key;
        return *this;
    }
    Append& kv(const KvOps& ops) {
        kv_ = &ops;
        return *this;
    }

private:
    friend class Call;
    const annal_batch* batch_ = nullptr;
    annal_str key_ = kNull;
    const KvOps* kv_ = nullptr;
};

/// A request to a foreign server. Borrows everything.
class ClientRequest {
public:
    ClientRequest(std::string_view method, std::string_view url)
        : method_(to_str(method)), url_(to_str(url)) {}
    ClientRequest& header(std::string_view name, std::string_view value) {
        headers_.push_back(annal_pair{to_str(name), to_str(value)});
        return *this;
    }
    ClientRequest& body(std::string_view bytes) {
        body_ = to_bytes(bytes);
        return *this;
    }
    ClientRequest& timeout_ms(std::uint32_t ms) {
        timeout_ms_ = ms;
        return *this;
    }

private:
    friend class Call;
    annal_str method_, url_;
    std::vector<annal_pair> headers_;
    annal_bytes body_{nullptr, 0};
    std::uint32_t timeout_ms_ = 10'000;
};

/// An export that the host answers itself. Borrows everything.
class Export {
public:
    Export(const Filter& filter, std::string_view format)
        : filter_(&filter), format_(to_str(format)) {}
    Export& rows_max(std::uint32_t rows) {
        rows_max_ = rows;
        return *this;
    }
    Export& cursor(annal_str cursor) {
        cursor_ = cursor;
        return *this;
    }
    Export& option(std::string_view name, std::string_view value) {
        options_.push_back(annal_pair{to_str(name), to_str(value)});
        return *this;
    }
    /// Path and query of the continuation, without its cursor.
    Export& next_path(std::string_view path) {
        next_path_ = to_str(path);
        return *this;
    }

private:
    friend class Call;
    const Filter* filter_;
    annal_str format_, cursor_ = kNull, next_path_ = kNull;
    std::vector<annal_pair> options_;
    std::uint32_t rows_max_ = 100'000;
};

/// A live tail that the host answers itself. Borrows everything.
class Tail {
public:
    explicit Tail(const Filter& filter) : filter_(&filter) {}
    /// Goes on behind this seq, -1 for the first event; without it only what is yet to come.
    Tail& after(std::int64_t seq) {
        after_ = seq;
        return *this;
    }

private:
    friend class Call;
    const Filter* filter_;
    std::int64_t after_ = ANNAL_SEQ_NONE;
};

/// One call in flight and the services that act in its project. Every function that ends later is
/// awaited:
///
///     const annal::Page page = co_await call.scan(query);
///     if (!page.ok()) …
///
/// A service that the instance does not have gives a failed Status, with the remedy in its text.
///
/// Lifetime: until the component's coroutine ends. Threads: [any-thread]; the SDK uses it from one
/// coroutine.
class Call {
public:
    Call(const Host& host, annal_call* raw) : host_(host), raw_(raw) {}
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    [[nodiscard]] const Host& host() const { return host_; }
    [[nodiscard]] annal_call* raw() const { return raw_; }

    /// Memory that lives until the call is completed; empty when the call's limit is reached or
    /// `size` is 0.
    [[nodiscard]] std::span<char> allocate(std::size_t size) const {
        void* at = size > 0 ? host_.raw()->alloc(raw_, size, 1) : nullptr;
        return at != nullptr ? std::span<char>(static_cast<char*>(at), size) : std::span<char>();
    }
    /// The client is gone, the deadline has passed, or the host is stopping.
    [[nodiscard]] bool cancelled() const { return host_.raw()->cancelled(raw_) != 0; }

    /// Lets `ms` pass without holding a thread; fails early when the call is cancelled or its
    /// deadline has passed, and at once on a host before 1.1.
    [[nodiscard]] auto sleep_ms(std::uint32_t ms) const {
        return operation<Status>([this, ms](auto& op) {
            const auto* clock = host_.find<annal_clock_v1>(ANNAL_SERVICE_CLOCK);
            if (clock == nullptr || !ANNAL_HAS(clock, annal_clock_v1, after)) {
                return op.settle([] { return Host::missing("annal.clock/1 of ABI 1.1"); });
            }
            clock->after(host_.context(), raw_, ms, &op, on_done(op));
        });
    }

    /// A page of events, copied.
    [[nodiscard]] auto scan(const Query& query) const {
        return detail::Operation<Page, Scan<Page>>(Scan<Page>{this, query, nullptr, copy_page});
    }
    /// A page of events without a copy: `visit(batch, has_more, next_cursor)` runs while the host
    /// holds it, and keeps nothing. Name the visitor first: GCC 12 destroys a capturing lambda
    /// twice when it is written into the call.
    template <class Visit>
    [[nodiscard]] auto scan(const Query& query, Visit& visit) const {
        return detail::Operation<Status, Scan<Status>>(Scan<Status>{
            this, query, &visit, visit_page<Visit>});
    }
    template <class Visit>
    void scan(const Query& query, const Visit&& visit) const = delete;

    /// The event with `id`, in either form. ANNAL_NOT_FOUND also when it was deleted.
    [[nodiscard]] auto get(std::string_view id) const {
        return make_get<Page>(id, nullptr, copy_page);
    }
    template <class Visit>
    [[nodiscard]] auto get(std::string_view id, Visit& visit) const {
        return make_get<Status>(id, &visit, visit_page<Visit>);
    }
    template <class Visit>
    void get(std::string_view id, const Visit&& visit) const = delete;

    /// Actions recorded since `since_us`, the most frequent first.
    [[nodiscard]] auto actions(std::int64_t since_us) const {
        return operation<ActionCounts>([this, since_us](auto& op) {
            const auto* store = host_.store();
            if (store == nullptr || !ANNAL_HAS(store, annal_store_v1, actions)) {
                return fail_missing<ActionCounts>(op, ANNAL_SERVICE_STORE);
            }
            store->actions(
                host_.context(), raw_, since_us, &op, on_rows<ActionCounts, annal_actions>(op)
            );
        });
    }
    /// How many events `filter` selects.
    [[nodiscard]] auto count(const Filter& filter) const {
        return operation<Total>([this, raw_filter = filter.raw()](auto& op) {
            const auto* store = host_.store();
            if (store == nullptr || !ANNAL_HAS(store, annal_store_v1, count)) {
                return settle_missing<Total>(op, "annal.store/1 of ABI 1.3");
            }
            using Op = std::remove_reference_t<decltype(op)>;
            store->count(
                host_.context(),
                raw_,
                &raw_filter,
                &op,
                [](void* user, const annal_total* total, const annal_error* error) noexcept {
                    static_cast<Op*>(user)->settle([&] {
                        Total out;
                        out.status = result_status(total, error);
                        if (out.ok()) {
                            out.count = total->count;
                            out.at_least = total->at_least != 0;
                        }
                        return out;
                    });
                }
            );
        });
    }
    /// Counts by interval and group.
    [[nodiscard]] auto aggregate(const Aggregation& what) const {
        return detail::Operation<Aggregate, CountGroups>(CountGroups{this, &what});
    }
    [[nodiscard]] auto log_state() const {
        return operation<LogState>([this](auto& op) {
            const auto* store = host_.store();
            if (store == nullptr || !ANNAL_HAS(store, annal_store_v1, log_state)) {
                return settle_missing<LogState>(op, ANNAL_SERVICE_STORE);
            }
            using Op = std::remove_reference_t<decltype(op)>;
            store->log_state(
                host_.context(),
                raw_,
                &op,
                [](void* user, const annal_log_state* state, const annal_error* error) noexcept {
                    static_cast<Op*>(user)->settle([&] {
                        LogState out;
                        out.status = result_status(state, error);
                        if (out.ok()) {
                            out.first_seq = state->first_seq;
                            out.head_seq = state->head_seq;
                            out.head_at_us = state->head_at_us;
                        }
                        return out;
                    });
                }
            );
        });
    }
    /// Erases the content of one event and records why.
    [[nodiscard]] auto erase(std::string_view id, std::string_view reason) const {
        return operation<Status>([this, id, reason](auto& op) {
            const auto* store = host_.store();
            if (store == nullptr || !ANNAL_HAS(store, annal_store_v1, erase)) {
                return op.settle([] { return Host::missing("annal.store/1 with store: [delete]"); }
                );
            }
            store->erase(host_.context(), raw_, to_str(id), to_str(reason), &op, on_done(op));
        });
    }

    /// Takes away what is older than the project's own retention.
    [[nodiscard]] auto clean_up() const {
        return operation<Cleanup>([this](auto& op) {
            const auto* store = host_.store();
            if (store == nullptr || !ANNAL_HAS(store, annal_store_v1, clean_up)) {
                return settle_missing<Cleanup>(op, "annal.store/1 of ABI 1.3 with store: [delete]");
            }
            using Op = std::remove_reference_t<decltype(op)>;
            store->clean_up(
                host_.context(),
                raw_,
                &op,
                [](void* user, const annal_cleanup* made, const annal_error* error) noexcept {
                    static_cast<Op*>(user)->settle([&] {
                        Cleanup out;
                        out.status = result_status(made, error);
                        if (out.ok()) {
                            out.deleted = made->deleted;
                            out.cutoff_us = made->cutoff_us;
                            out.retention_days = made->retention_days;
                        }
                        return out;
                    });
                }
            );
        });
    }
    /// Applies the retention that this instance has declared, or says what that would do.
    [[nodiscard]] auto run_retention(bool dry_run) const {
        return operation<RetentionReport>([this, dry_run](auto& op) {
            const auto* retention = host_.retention();
            if (retention == nullptr || !ANNAL_HAS(retention, annal_retention_v1, run)) {
                return settle_missing<RetentionReport>(op, ANNAL_SERVICE_RETENTION);
            }
            using Op = std::remove_reference_t<decltype(op)>;
            retention->run(
                host_.context(),
                raw_,
                dry_run ? 1 : 0,
                &op,
                [](void* user, annal_str json, const annal_error* error) noexcept {
                    static_cast<Op*>(user)->settle([&] {
                        RetentionReport out;
                        out.status = Status::from(error);
                        out.json = view(json);
                        return out;
                    });
                }
            );
        });
    }
    /// What a job's run has to show: one JSON object. A host of ABI 1.2 shows nothing.
    void report(std::string_view json) const {
        const annal_host* raw = host_.raw();
        if (ANNAL_HAS(raw, annal_host, report)) {
            (void)raw->report(raw_, to_str(json));
        }
    }

    /// Durable when it returns; one receipt for each event.
    [[nodiscard]] auto append(const Append& what) const {
        return operation<Receipts>(
            [this, what, kv = annal_kv_ops{}, request = annal_append{}](auto& op) mutable {
                const auto* bus = host_.bus();
                if (bus == nullptr || !ANNAL_HAS(bus, annal_bus_v1, append)) {
                    return fail_missing<Receipts>(op, ANNAL_SERVICE_BUS);
                }
                request.struct_size = sizeof(request);
                request.batch = what.batch_;
                request.request_key = what.key_;
                if (what.kv_ != nullptr) {
                    kv = what.kv_->raw();
                    request.kv = &kv;
                }
                bus->append(
                    host_.context(), raw_, &request, &op, on_rows<Receipts, annal_receipts>(op)
                );
            }
        );
    }

    /// Rows whose key begins with `prefix` and is greater than `after` (null: from the first),
    /// ascending.
    [[nodiscard]] auto kv_scan(std::string_view prefix, annal_str after, std::uint32_t limit)
        const {
        return operation<KvPage>([this, prefix, after, limit](auto& op) {
            const auto* kv = host_.kv();
            if (kv == nullptr || !ANNAL_HAS(kv, annal_kv_v1, scan)) {
                return settle_missing<KvPage>(op, ANNAL_SERVICE_KV);
            }
            using Op = std::remove_reference_t<decltype(op)>;
            kv->scan(
                host_.context(),
                raw_,
                to_str(prefix),
                after,
                limit,
                &op,
                [](void* user, const annal_kv_rows* rows, const annal_error* error) noexcept {
                    static_cast<Op*>(user)->settle([&] { return copy_kv(rows, error); });
                }
            );
        });
    }
    [[nodiscard]] auto kv_commit(const KvOps& ops) const {
        return operation<Status>([this, raw_ops = ops.raw()](auto& op) {
            const auto* kv = host_.kv();
            if (kv == nullptr || !ANNAL_HAS(kv, annal_kv_v1, commit)) {
                return op.settle([] { return Host::missing(ANNAL_SERVICE_KV); });
            }
            kv->commit(host_.context(), raw_, &raw_ops, &op, on_done(op));
        });
    }

    /// Sends a request to a server that permissions.http allows.
    [[nodiscard]] auto fetch(const ClientRequest& what) const {
        return operation<ClientResponse>([this, &what, request = annal_client_request{}](auto& op
                                         ) mutable {
            const auto* client = host_.http_client();
            if (client == nullptr || !ANNAL_HAS(client, annal_http_client_v1, send)) {
                return settle_missing<ClientResponse>(op, ANNAL_SERVICE_HTTP_CLIENT);
            }
            request.struct_size = sizeof(request);
            request.timeout_ms = what.timeout_ms_;
            request.method = what.method_;
            request.url = what.url_;
            request.headers = what.headers_.data();
            request.n_headers = static_cast<std::uint32_t>(what.headers_.size());
            request.response_bytes_max = 64U << 10;
            request.body = what.body_;
            using Op = std::remove_reference_t<decltype(op)>;
            client->send(
                host_.context(),
                raw_,
                &request,
                &op,
                [](void* user, const annal_client_response* response, const annal_error* error
                ) noexcept {
                    static_cast<Op*>(user)->settle([&] { return copy_response(response, error); });
                }
            );
        });
    }

    /// Answers `response` wholly, without the rows passing through the plugin. On failure the
    /// response is still to be failed.
    [[nodiscard]] auto run_export(const Export& what, const annal_response& response) const {
        return operation<Status>(
            [this, &what, &response, filter = annal_filter{}, request = annal_export{}](auto& op
            ) mutable {
                const auto* service = host_.exports();
                if (service == nullptr || !ANNAL_HAS(service, annal_export_v1, run)) {
                    return op.settle([] { return Host::missing(ANNAL_SERVICE_EXPORT); });
                }
                filter = what.filter_->raw();
                request.struct_size = sizeof(request);
                request.rows_max = what.rows_max_;
                request.filter = &filter;
                request.cursor = what.cursor_;
                request.format = what.format_;
                request.options = what.options_.data();
                request.n_options = static_cast<std::uint32_t>(what.options_.size());
                request.next_path = what.next_path_;
                service->run(host_.context(), raw_, &request, &response, &op, on_done(op));
            }
        );
    }

    /// Answers `response` wholly, for as long as the tail lasts. On failure the response is still
    /// to be failed.
    [[nodiscard]] auto run_tail(const Tail& what, const annal_response& response) const {
        return operation<Status>(
            [this, &what, &response, filter = annal_filter{}, request = annal_tail{}](auto& op
            ) mutable {
                const auto* service = host_.exports();
                if (service == nullptr || !ANNAL_HAS(service, annal_export_v1, tail)) {
                    return op.settle([] { return Host::missing(ANNAL_SERVICE_EXPORT); });
                }
                filter = what.filter_->raw();
                request.struct_size = sizeof(request);
                request.filter = &filter;
                request.after_seq = what.after_;
                service->tail(host_.context(), raw_, &request, &response, &op, on_done(op));
            }
        );
    }

    /// A secret that permissions.secrets allows. Never log it.
    [[nodiscard]] TextResult secret(std::string_view name) const {
        return text_from(host_.secrets(), ANNAL_SERVICE_SECRETS, name);
    }
    /// A setting of the project as JSON text, or its default.
    [[nodiscard]] TextResult setting(std::string_view key) const {
        return text_from(host_.config(), ANNAL_SERVICE_CONFIG, key);
    }

private:
    template <class R>
    struct Scan {
        template <class Op>
        void operator()(Op& op) {
            const auto* store = call->host_.store();
            if (store == nullptr || !ANNAL_HAS(store, annal_store_v1, scan)) {
                return op.settle([] { return R(Host::missing(ANNAL_SERVICE_STORE)); });
            }
            filter = query.filter_->raw();
            held.struct_size = sizeof(held);
            held.limit = query.limit_;
            held.filter = &filter;
            held.cursor = query.cursor_;
            held.order = query.order_;
            held.skip = query.skip_;
            self = &op;
            store->scan(call->host_.context(), call->raw_, &held, this, on_page<Scan, R, Op>);
        }
        const Call* call;
        Query query;
        void* visitor;
        R (*take)(void* visitor, const annal_page& page);
        void* self = nullptr;
        annal_filter filter{};
        annal_query held{};
    };
    template <class R>
    struct Get {
        template <class Op>
        void operator()(Op& op) {
            const auto* store = call->host_.store();
            if (store == nullptr || !ANNAL_HAS(store, annal_store_v1, get)) {
                return op.settle([] { return R(Host::missing(ANNAL_SERVICE_STORE)); });
            }
            self = &op;
            store->get(call->host_.context(), call->raw_, to_str(id), this, on_page<Get, R, Op>);
        }
        const Call* call;
        std::string_view id;
        void* visitor;
        R (*take)(void* visitor, const annal_page& page);
        void* self = nullptr;
    };

    struct CountGroups {
        template <class Op>
        void operator()(Op& op) {
            const auto* store = call->host_.store();
            if (store == nullptr || !ANNAL_HAS(store, annal_store_v1, aggregate)) {
                return settle_missing<Aggregate>(op, "annal.store/1 of ABI 1.3");
            }
            filter = what->filter_->raw();
            held.struct_size = sizeof(held);
            held.interval = what->interval_;
            held.filter = &filter;
            held.group_by = what->group_by_;
            held.n_unique = static_cast<std::uint32_t>(what->unique_.size());
            held.unique = what->unique_.data();
            self = &op;
            store->aggregate(call->host_.context(), call->raw_, &held, this, take<Op>);
        }
        template <class Op>
        static void take(
            void* user, const annal_aggregate* rows, const annal_error* error
        ) noexcept {
            auto* start = static_cast<CountGroups*>(user);
            static_cast<Op*>(start->self)->settle([&] {
                Aggregate out;
                out.status = result_status(rows, error);
                if (out.ok()) {
                    copy_aggregate(*rows, start->held.n_unique, out);
                }
                return out;
            });
        }
        const Call* call;
        const Aggregation* what;
        void* self = nullptr;
        annal_filter filter{};
        annal_aggregation held{};
    };

    template <class R, class F>
    [[nodiscard]] static detail::Operation<R, F> operation(F start) {
        return detail::Operation<R, F>(std::move(start));
    }
    template <class R>
    [[nodiscard]] detail::Operation<R, Get<R>> make_get(
        std::string_view id, void* visitor, R (*take)(void*, const annal_page&)
    ) const {
        return detail::Operation<R, Get<R>>(Get<R>{this, id, visitor, take});
    }

    template <class Start, class R, class Op>
    static void on_page(void* user, const annal_page* page, const annal_error* error) noexcept {
        auto* start = static_cast<Start*>(user);
        static_cast<Op*>(start->self)->settle([&]() -> R {
            Status status = result_status(page, error);
            return status.ok() ? start->take(start->visitor, *page) : R(std::move(status));
        });
    }
    [[nodiscard]] static Page copy_page(void*, const annal_page& page) { return Page(page); }
    template <class Visit>
    [[nodiscard]] static Status visit_page(void* visitor, const annal_page& page) {
        (*static_cast<Visit*>(visitor))(Batch(page.batch), page.has_more != 0, page.next_cursor);
        return {};
    }

    /// A host that reports neither a result nor an error has a defect; it is not a success.
    [[nodiscard]] static Status result_status(const void* result, const annal_error* error) {
        if (error == nullptr && result == nullptr) {
            return {ANNAL_INTERNAL, "the host gave neither a result nor an error"};
        }
        return Status::from(error);
    }
    template <class Op>
    [[nodiscard]] static annal_done on_done(Op&) {
        return [](void* user, const annal_error* error) noexcept {
            static_cast<Op*>(user)->settle([&] { return Status::from(error); });
        };
    }
    template <class Owned, class Raw, class Op>
    [[nodiscard]] static void (*on_rows(Op&))(void*, const Raw*, const annal_error*) {
        return [](void* user, const Raw* rows, const annal_error* error) noexcept {
            static_cast<Op*>(user)->settle([&]() -> Owned {
                Status status = result_status(rows, error);
                return status.ok() ? Owned(Rows(rows->rows, rows->count, rows->stride))
                                   : Owned(std::move(status));
            });
        };
    }
    template <class R, class Op>
    static void fail_missing(Op& op, const char* service) {
        op.settle([&] { return R(Host::missing(service)); });
    }
    template <class R, class Op>
    static void settle_missing(Op& op, const char* service) {
        op.settle([&] {
            R out;
            out.status = Host::missing(service);
            return out;
        });
    }

    static void copy_aggregate(const annal_aggregate& rows, std::size_t n_unique, Aggregate& out) {
        out.rows.reserve(rows.count);
        for (const annal_aggregate_row& row : Rows(rows.rows, rows.count, rows.stride)) {
            AggregateRow& copy = out.rows.emplace_back();
            copy.start_us = row.start_us;
            copy.key = view(row.key);
            copy.count = row.count;
            copy.uniques.assign(row.uniques, row.uniques + n_unique);
        }
    }
    [[nodiscard]] static KvPage copy_kv(const annal_kv_rows* rows, const annal_error* error) {
        KvPage out;
        out.status = result_status(rows, error);
        if (out.ok()) {
            out.has_more = rows->has_more != 0;
            for (const annal_kv_row& row : Rows(rows->rows, rows->count, rows->stride)) {
                KvRow& copy = out.rows.emplace_back();
                copy.key = view(row.key);
                copy.value = view(row.value);
            }
        }
        return out;
    }
    [[nodiscard]] static ClientResponse copy_response(
        const annal_client_response* response, const annal_error* error
    ) {
        ClientResponse out;
        out.status = result_status(response, error);
        if (out.ok()) {
            out.http_status = response->status;
            out.truncated = response->truncated != 0;
            out.body = view(response->body);
            for (std::uint32_t i = 0; i < response->n_headers; ++i) {
                out.headers.emplace_back(
                    view(response->headers[i].key), view(response->headers[i].value)
                );
            }
        }
        return out;
    }
    template <class Service>
    [[nodiscard]] TextResult text_from(
        const Service* service, const char* id, std::string_view name
    ) const {
        TextResult out;
        if (service == nullptr || !ANNAL_HAS(service, Service, get)) {
            out.status = Host::missing(id);
            return out;
        }
        annal_str text = kNull;
        const annal_status code = service->get(host_.context(), raw_, to_str(name), &text);
        if (code != ANNAL_OK) {
            out.status = Status(code, std::string(name) + " can't be read through " + id);
        }
        out.text = view(text);
        return out;
    }

    const Host& host_;
    annal_call* raw_;
};

}  // namespace annal::inline sdk_v1
