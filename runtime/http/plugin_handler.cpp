#include "runtime/http/plugin_handler.h"

#include <algorithm>
#include <array>
#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <chrono>
#include <cstring>
#include <list>
#include <mutex>
#include <optional>
#include <variant>
#include <vector>

#include "runtime/core/log.h"
#include "runtime/core/task_impl.h"
#include "runtime/http/response_head.h"
#include "runtime/plugin/call.h"
#include "runtime/plugin/service_filter.h"

namespace annal::http {
namespace {

namespace asio = boost::asio;
using Steady = std::chrono::steady_clock;
using Microseconds = std::chrono::microseconds;

constexpr std::size_t kProblemBytesMax = 1U << 20;
constexpr Microseconds kStalledAfter = std::chrono::seconds(60);

class Bridge;

/// When to stop waiting for plugins. All waits of one queue last equally long, so they end in the
/// order they began and one timer, set for the first, serves them all.
class DeadlineQueue : public std::enable_shared_from_this<DeadlineQueue> {
public:
    struct Entry;
    /// Where a bridge stands in the queue; the queue's lock guards it.
    using Place = std::optional<std::list<Entry>::iterator>;
    struct Entry {
        Steady::time_point at;
        std::shared_ptr<Bridge> bridge;
        std::uint64_t wait;
        Place* place;  ///< in the bridge
    };

    DeadlineQueue(asio::any_io_executor executor, Microseconds after)
        : timer_(std::move(executor)), after_(after) {}

    void add(std::shared_ptr<Bridge> bridge, std::uint64_t wait, Place& place);
    void remove(Place& place);

private:
    void arm();
    void on_timer();

    std::mutex mutex_;
    std::list<Entry> entries_;
    asio::steady_timer timer_;
    bool armed_ = false;
    const Microseconds after_;
};

/// What all requests of one handler share.
struct HandlerState {
    HandlerState(std::shared_ptr<Instance> i, HostEnvironment& e)
        : instance(std::move(i)),
          environment(e),
          owner(Call::owner_of(instance->manifest().instance)),
          silent(std::make_shared<DeadlineQueue>(
              *e.executor, Microseconds(instance->manifest().timeout_us)
          )),
          stalled(std::make_shared<DeadlineQueue>(
              *e.executor, std::max(Microseconds(instance->manifest().timeout_us), kStalledAfter)
          )) {}

    const std::shared_ptr<Instance> instance;
    HostEnvironment& environment;
    const std::uint16_t owner;
    const std::shared_ptr<DeadlineQueue> silent;   ///< no answer begun
    const std::shared_ptr<DeadlineQueue> stalled;  ///< an answer begun
    [[nodiscard]] const annal_http_v1& table() const { return instance->table<annal_http_v1>(); }
};

/// The request in the contract's form. Its text lives in the call, so that it outlives the
/// connection.
bool copy_request(Call& call, const Exchange& exchange, annal_request& out) {
    bool whole = true;
    const auto text = [&](std::string_view value) {
        const annal_str copied = call.copy(value);
        whole = whole && copied.ptr != nullptr;
        return copied;
    };
    const auto pairs = [&](const Pairs& from) -> const annal_pair* {
        auto* list = static_cast<annal_pair*>(
            call.allocate(sizeof(annal_pair) * from.size(), alignof(annal_pair))
        );
        whole = whole && list != nullptr;
        for (std::size_t i = 0; whole && i < from.size(); ++i)
            list[i] = {text(from[i].first), text(from[i].second)};
        return list;
    };
    const Request& request = exchange.request();
    out.struct_size = sizeof(annal_request);
    out.n_headers = static_cast<std::uint32_t>(request.headers.size());
    out.n_query = static_cast<std::uint32_t>(request.query.size());
    out.n_params = static_cast<std::uint32_t>(request.params.size());
    out.trigger = text(request.trigger);
    out.method = text(request.method);
    out.path = text(request.path);
    out.project_id = text(exchange.principal().project);
    out.key_id = text(exchange.principal().key_id);
    out.request_id = text(request.request_id);
    out.peer_ip = text(request.peer_ip);
    out.headers = pairs(request.headers);
    out.query = pairs(request.query);
    out.params = pairs(request.params);
    out.content_length = request.content_length;
    return whole;
}

Pairs to_pairs(const annal_pair* pairs, std::uint32_t count) {
    Pairs out;
    out.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        out.emplace_back(std::string(to_view(pairs[i].key)), std::string(to_view(pairs[i].value)));
    }
    return out;
}

Problem to_problem(const annal_problem& problem) {
    Problem out;
    out.status = static_cast<int>(problem.status);
    out.code = to_view(problem.code);
    out.title = to_view(problem.title);
    out.detail = to_view(problem.detail);
    out.request_id = to_view(problem.request_id);
    out.retry_after_s = problem.retry_after_s;
    if (problem.issue_stride < sizeof(annal_issue)) return out;
    for (std::uint32_t i = 0; i < problem.n_issues; ++i) {
        const annal_issue& issue = *ANNAL_AT(annal_issue, problem.issues, problem.issue_stride, i);
        Issue copy;
        copy.index = issue.index;
        copy.line = issue.line;
        copy.offset = issue.offset;
        copy.pointer = to_view(issue.pointer);
        copy.code = to_view(issue.code);
        copy.detail = to_view(issue.detail);
        out.issues.push_back(std::move(copy));
    }
    return out;
}

bool is_ndjson(const Request& request) {
    static constexpr std::array<std::string_view, 5> kTypes = {
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "application/jsonlines"};
    const auto header = request.header("content-type");
    if (!header) return false;
    std::string type(header->substr(0, header->find(';')));
    while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
    for (char& c : type) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

/// One request between its exchange and the plugin. The plugin asks, from any thread; the handler's
/// coroutine does, one thing after the other, and tells the plugin when it is done.
///
/// Lifetime: the call holds it until the plugin has completed; the handler's coroutine until the
/// answer has ended.
class Bridge : public std::enable_shared_from_this<Bridge> {
public:
    Bridge(std::shared_ptr<HandlerState> state, std::shared_ptr<Exchange> exchange)
        : state_(std::move(state)), exchange_(std::move(exchange)) {}

    /// Hands the request to the plugin and serves it until the answer has ended.
    Task<void> serve();
    /// The plugin has let wait number `wait` run out of time.
    void expire(std::uint64_t wait);

    /// The bridge behind a response that this file made; null for any other.
    [[nodiscard]] static Bridge* of(const annal_response& response);
    using Work = std::function<Task<Result<void>>(std::shared_ptr<Exchange>)>;
    /// Lets `work` answer the exchange in the plugin's place. When it fails before the first byte,
    /// the answer is the plugin's again.
    void lend(Work work, void* user, annal_done done);

private:
    struct ReadWish {
        void* user;
        annal_read_done done;
    };
    struct Finish {
        Pairs trailers;
    };
    struct SendWish {
        std::variant<std::string_view, Finish, Problem, Work> what;
        void* user;
        annal_done done;
    };
    struct Start {
        int status;
        Pairs headers;
    };
    enum class Step { wait, read, send, completed, expired, ended };

    // The plugin's side. [any-thread]
    static void read(void* r, void* user, annal_read_done done) noexcept;
    static annal_status start(
        void* r, std::uint32_t status, const annal_pair* headers, std::uint32_t n_headers
    ) noexcept;
    static void write(void* r, annal_bytes bytes, void* user, annal_done done) noexcept;
    static void finish(
        void* r, const annal_pair* trailers, std::uint32_t n_trailers, void* user, annal_done done
    ) noexcept;
    static void fail(void* r, const annal_problem* problem, void* user, annal_done done) noexcept;
    void want(SendWish wish, bool needs_start);
    [[nodiscard]] std::optional<Error> refusal(bool needs_start) const;
    void refuse(const Error& error, void* user, annal_done done);
    void completed(const annal_error* error);
    [[nodiscard]] bool cancelled();

    // The coroutine's side.
    std::shared_ptr<Call> make_call();
    [[nodiscard]] Step next();
    Task<void> wait();
    void park(asio::any_completion_handler<void()> handler);
    void wake_locked();
    Task<void> do_read();
    Task<void> do_send();
    Task<Result<void>> start_exchange();
    Task<Result<void>> send(SendWish& wish);
    Task<void> settle();
    Task<void> give_up();
    void drop_wishes();
    void end(bool answered);
    void log_misuse(std::string_view detail) const;

    const std::shared_ptr<HandlerState> state_;
    asio::any_io_executor executor_;
    annal_request request_{};
    annal_response response_{};
    std::string chunk_;  ///< what the plugin reads from: outlives the connection, as the call does

    std::mutex mutex_;  // guards what follows
    std::shared_ptr<Exchange> exchange_;
    std::optional<ReadWish> read_;
    std::optional<SendWish> send_;
    std::optional<Start> start_;
    bool reading_ = false, sending_ = false;  ///< one of them is being done
    bool started_ = false, ended_ = false, gone_ = false, completed_ = false, expired_ = false;
    std::optional<Error> error_;  ///< that the call was completed with
    asio::any_completion_handler<void()> waiter_;
    std::uint64_t wait_ = 0;
    DeadlineQueue* queue_ = nullptr;
    DeadlineQueue::Place place_;
};

// --- Deadlines
// --------------------------------------------------------------------------------------------------------

void DeadlineQueue::add(std::shared_ptr<Bridge> bridge, std::uint64_t wait, Place& place) {
    const std::lock_guard lock(mutex_);
    entries_.push_back({Steady::now() + after_, std::move(bridge), wait, &place});
    place = std::prev(entries_.end());
    if (!armed_) arm();
}

void DeadlineQueue::remove(Place& place) {
    std::list<Entry> removed;  // the bridge goes without the lock
    const std::lock_guard lock(mutex_);
    if (!place) return;
    removed.splice(removed.begin(), entries_, *place);
    place.reset();
    // The timer's handler, called for the cancellation, arms it again for whoever has come
    // meanwhile.
    if (entries_.empty() && armed_) timer_.cancel();
}

void DeadlineQueue::arm() {
    armed_ = true;
    timer_.expires_at(entries_.front().at);
    timer_.async_wait([weak = weak_from_this()](const boost::system::error_code&) {
        if (const auto self = weak.lock()) self->on_timer();
    });
}

void DeadlineQueue::on_timer() {
    std::list<Entry> due;
    {
        const std::lock_guard lock(mutex_);
        const auto now = Steady::now();
        while (!entries_.empty() && entries_.front().at <= now) {
            entries_.front().place->reset();
            due.splice(due.end(), entries_, entries_.begin());
        }
        armed_ = false;
        if (!entries_.empty()) arm();
    }
    for (const Entry& entry : due) entry.bridge->expire(entry.wait);
}

// --- The plugin's side
// ------------------------------------------------------------------------------------------------

Bridge* Bridge::of(const annal_response& response) {
    return response.start == &Bridge::start ? static_cast<Bridge*>(response.r) : nullptr;
}

void Bridge::log_misuse(std::string_view detail) const {
    log::error(
        "plugin.response_misused",
        {{"instance", state_->instance->manifest().instance},
         {"request_id", to_view(request_.request_id)},
         {"detail", detail}}
    );
}

void run_read_done(
    annal_read_done done, void* user, annal_status status, annal_bytes chunk
) noexcept {
    done(user, status, chunk);
}

void run_done(annal_done done, void* user, const annal_error* error) noexcept {
    done(user, error);
}

void Bridge::refuse(const Error& error, void* user, annal_done done) {
    if (error.code == Errc::internal) log_misuse(error.detail);
    // Never from within the plugin's own call: it may hold a lock there.
    asio::post(
        *state_->environment.executor,
        [self = shared_from_this(), error = to_abi(error), user, done] {
            run_done(done, user, &error);
        }
    );
}

/// Why nothing can be sent now; nothing when it can. Under the lock.
std::optional<Error> Bridge::refusal(bool needs_start) const {
    if (ended_)
        return Error{
            Errc::cancelled, "the answer has ended: the client is gone, or the deadline passed"};
    if (send_ || sending_)
        return Error{
            Errc::internal, "a second write, finish, fail or export before the first was done"};
    if (needs_start && !started_)
        return Error{Errc::internal, "a write or finish before the start of the answer"};
    if (!needs_start && started_)
        return Error{Errc::internal, "a fail or export after the start of the answer"};
    return std::nullopt;
}

void Bridge::want(SendWish wish, bool needs_start) {
    std::optional<Error> error;
    {
        const std::lock_guard lock(mutex_);
        error = refusal(needs_start);
        if (!error) {
            send_ = std::move(wish);
            return wake_locked();
        }
    }
    refuse(*error, wish.user, wish.done);
}

void Bridge::lend(Work work, void* user, annal_done done) {
    want({std::move(work), user, done}, false);
}

void Bridge::read(void* r, void* user, annal_read_done done) noexcept {
    auto& self = *static_cast<Bridge*>(r);
    annal_status status = ANNAL_OK;
    {
        const std::lock_guard lock(self.mutex_);
        if (self.ended_)
            status = ANNAL_CANCELLED;
        else if (self.read_ || self.reading_)
            status = ANNAL_INTERNAL;
        if (status == ANNAL_OK) {
            self.read_ = ReadWish{user, done};
            return self.wake_locked();
        }
    }
    if (status == ANNAL_INTERNAL) self.log_misuse("a second read before the first was done");
    asio::post(
        *self.state_->environment.executor,
        [kept = self.shared_from_this(), status, user, done] {
            run_read_done(done, user, status, {nullptr, 0});
        }
    );
}

annal_status Bridge::start(
    void* r, std::uint32_t status, const annal_pair* headers, std::uint32_t n_headers
) noexcept {
    auto& self = *static_cast<Bridge*>(r);
    Pairs copied = to_pairs(headers, n_headers);
    const char* wrong = nullptr;
    if (status < 200 || status > 599)
        wrong = "the status of an answer must be 200 to 599";
    else if (!check_headers(copied))
        wrong = "a header name is no token, or its value has a control character";
    if (wrong != nullptr) {
        self.log_misuse(wrong);
        return ANNAL_INVALID;
    }
    {
        const std::lock_guard lock(self.mutex_);
        if (self.ended_) return ANNAL_CANCELLED;
        if (!self.started_ && !self.send_ && !self.sending_) {
            self.started_ = true;
            self.start_ = Start{static_cast<int>(status), std::move(copied)};
            return ANNAL_OK;
        }
    }
    self.log_misuse("a second start of the answer");
    return ANNAL_INTERNAL;
}

void Bridge::write(void* r, annal_bytes bytes, void* user, annal_done done) noexcept {
    const auto* text = bytes.ptr != nullptr ? reinterpret_cast<const char*>(bytes.ptr) : "";
    const std::string_view view(text, bytes.ptr != nullptr ? bytes.len : 0);
    static_cast<Bridge*>(r)->want({view, user, done}, true);
}

void Bridge::finish(
    void* r, const annal_pair* trailers, std::uint32_t n_trailers, void* user, annal_done done
) noexcept {
    static_cast<Bridge*>(r)->want({Finish{to_pairs(trailers, n_trailers)}, user, done}, true);
}

void Bridge::fail(void* r, const annal_problem* problem, void* user, annal_done done) noexcept {
    static_cast<Bridge*>(r)->want({to_problem(*problem), user, done}, false);
}

void Bridge::completed(const annal_error* error) {
    const std::lock_guard lock(mutex_);
    completed_ = true;
    if (error != nullptr) error_ = to_error(*error);
    wake_locked();
}

bool Bridge::cancelled() {
    const std::lock_guard lock(mutex_);
    return gone_ || (exchange_ && exchange_->cancelled());
}

// --- The coroutine's side
// ---------------------------------------------------------------------------------------------

void Bridge::wake_locked() {
    if (!waiter_) return;
    if (queue_ != nullptr) queue_->remove(place_);
    asio::any_completion_handler<void()> waiter;
    waiter.swap(waiter_);
    asio::post(executor_, std::move(waiter));
}

void Bridge::expire(std::uint64_t wait) {
    const std::lock_guard lock(mutex_);
    if (!waiter_ || wait_ != wait) return;
    expired_ = true;
    wake_locked();
}

Bridge::Step Bridge::next() {
    const std::lock_guard lock(mutex_);
    if (ended_) return Step::ended;
    if (completed_ && send_ && std::holds_alternative<std::string_view>(send_->what)) {
        // What was to be written went with the call.
        send_.reset();
    }
    if (send_) return Step::send;
    if (completed_) return Step::completed;
    if (read_) return Step::read;
    return expired_ ? Step::expired : Step::wait;
}

void Bridge::park(asio::any_completion_handler<void()> handler) {
    const std::lock_guard lock(mutex_);
    waiter_.swap(handler);  // Boost 1.81's assignment calls itself for ever
    ++wait_;
    if (send_ || completed_ || read_) return wake_locked();
    queue_ = started_ ? state_->stalled.get() : state_->silent.get();
    queue_->add(shared_from_this(), wait_, place_);
}

Task<void> Bridge::wait() {
    auto initiation = [this](auto handler) { park(std::move(handler)); };
    co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(
        initiation, asio::use_awaitable
    );
}

std::shared_ptr<Call> Bridge::make_call() {
    const Principal& principal = exchange_->principal();
    Call::Options options;
    options.project = principal.project;
    options.actor_type = principal.key_id == "local" ? "system" : "api_key";
    options.actor_id = principal.key_id;
    options.owner = state_->owner;
    options.cancelled = [this] { return cancelled(); };
    options.on_complete = [this](const annal_error* error) { completed(error); };
    auto call = std::make_shared<Call>(std::move(options));
    call->keep(shared_from_this());
    if (!copy_request(*call, *exchange_, request_)) return nullptr;
    request_.r = this;
    request_.read = &Bridge::read;
    response_ = {
        sizeof(annal_response),
        0,
        this,
        &Bridge::start,
        &Bridge::write,
        &Bridge::finish,
        &Bridge::fail};
    return call;
}

/// The plugin's code; nothing that it throws can be let through a C function.
void run_handle(
    const HandlerState& state,
    annal_call* call,
    const annal_request& request,
    const annal_response& response
) noexcept {
    state.table().handle(state.instance->self(), call, &request, &response);
}

Task<void> Bridge::serve() {
    executor_ = co_await asio::this_coro::executor;
    if (is_ndjson(exchange_->request())) exchange_->stream_body();
    // Held to the end of the answer: the request's text is in it, and the plugin may have completed
    // the call long before.
    const std::shared_ptr<Call> call = make_call();
    // A request of more than the arena holds can't pass the server's limits.
    if (!call) co_return;
    run_handle(*state_, call->open(), request_, response_);
    while (true) {
        switch (next()) {
            case Step::wait:
                co_await wait();
                break;
            case Step::read:
                co_await do_read();
                break;
            case Step::send:
                co_await do_send();
                break;
            case Step::completed:
                co_await settle();
                break;
            case Step::expired:
                co_await give_up();
                break;
            case Step::ended:
                drop_wishes();
                co_return;
        }
    }
}

/// Tells the plugin about what it asked for while the answer ended.
void Bridge::drop_wishes() {
    std::optional<ReadWish> read_wish;
    std::optional<SendWish> send_wish;
    {
        const std::lock_guard lock(mutex_);
        read_wish.swap(read_);
        send_wish.swap(send_);
        if (completed_) return;
    }
    if (read_wish) run_read_done(read_wish->done, read_wish->user, ANNAL_CANCELLED, {nullptr, 0});
    if (!send_wish) return;
    const annal_error error = to_abi(Error{Errc::cancelled, "the answer has ended"});
    run_done(send_wish->done, send_wish->user, &error);
}

Task<void> Bridge::do_read() {
    ReadWish wish{};
    {
        const std::lock_guard lock(mutex_);
        wish = *read_;
        read_.reset();
        reading_ = true;
        expired_ = false;
    }
    const auto chunk = co_await exchange_->read();
    {
        const std::lock_guard lock(mutex_);
        reading_ = false;
        if (completed_) co_return;  // nobody is left to take it
    }
    if (!chunk) {
        run_read_done(
            wish.done, wish.user, static_cast<annal_status>(chunk.error().code), {nullptr, 0}
        );
        co_return;
    }
    chunk_.assign(chunk.value());
    run_read_done(
        wish.done,
        wish.user,
        ANNAL_OK,
        {reinterpret_cast<const std::uint8_t*>(chunk_.data()), chunk_.size()}
    );
}

Task<Result<void>> Bridge::start_exchange() {
    std::optional<Start> start;
    {
        const std::lock_guard lock(mutex_);
        start = std::move(start_);
        start_.reset();
    }
    if (!start) co_return ok();
    co_return exchange_->start(start->status, std::move(start->headers));
}

Task<Result<void>> Bridge::send(SendWish& wish) {
    if (auto* problem = std::get_if<Problem>(&wish.what)) {
        co_return co_await exchange_->fail(std::move(*problem));
    }
    if (auto* work = std::get_if<Work>(&wish.what)) co_return co_await (*work)(exchange_);
    auto begun = co_await start_exchange();
    if (!begun) co_return begun;
    if (auto* end_of_body = std::get_if<Finish>(&wish.what)) {
        co_return co_await exchange_->finish(std::move(end_of_body->trailers));
    }
    co_return co_await exchange_->write(std::get<std::string_view>(wish.what));
}

Task<void> Bridge::do_send() {
    std::optional<SendWish> wish;
    {
        const std::lock_guard lock(mutex_);
        wish = std::move(send_);
        send_.reset();
        sending_ = true;
        expired_ = false;
    }
    const auto outcome = co_await send(*wish);
    const bool was_write = std::holds_alternative<std::string_view>(wish->what);
    // An export that failed before its first byte leaves the answer to the plugin; nothing else can
    // be tried again.
    const bool lent = std::holds_alternative<Work>(wish->what) && !outcome && !exchange_->started();
    bool completed = false;
    {
        const std::lock_guard lock(mutex_);
        sending_ = false;
        completed = completed_;
    }
    if ((!was_write || !outcome) && !lent) end(outcome.has_value());
    if (completed) co_return;
    if (outcome) {
        run_done(wish->done, wish->user, nullptr);
        co_return;
    }
    const annal_error error = to_abi(outcome.error());
    run_done(wish->done, wish->user, &error);
}

/// The plugin has completed the call without an end of the answer.
Task<void> Bridge::settle() {
    if (exchange_->started()) {
        log_misuse("the call was completed before the answer was finished; the connection is cut");
        end(false);
        co_return;
    }
    Error error{Errc::internal, "the plugin completed the call without an answer"};
    {
        const std::lock_guard lock(mutex_);
        if (error_) error = *error_;
    }
    if (error.code == Errc::internal) log_misuse(error.detail);
    Problem problem = problem_of(error);
    const auto outcome = co_await exchange_->fail(std::move(problem));
    end(outcome.has_value());
}

Task<void> Bridge::give_up() {
    const bool begun = exchange_->started();
    log::warn(
        begun ? "plugin.response_stalled" : "plugin.handler_timeout",
        {{"instance", state_->instance->manifest().instance},
         {"trigger", to_view(request_.trigger)},
         {"request_id", to_view(request_.request_id)}}
    );
    const std::shared_ptr<Exchange> exchange = exchange_;
    end(false);
    if (begun) co_return;  // dropped without its end, it cuts the connection
    Problem problem = problem_of(Error{
        Errc::timeout, "the request was not answered in time; whether it took effect is not known"}
    );
    (void)co_await exchange->fail(std::move(problem));  // a client that is gone needs none
}

void Bridge::end(bool answered) {
    std::shared_ptr<Exchange> dropped;  // without the lock
    const std::lock_guard lock(mutex_);
    ended_ = true;
    gone_ = !answered;
    dropped = std::move(exchange_);
    exchange_.reset();
}

// --- The handler
// ------------------------------------------------------------------------------------------------------

annal_str run_render(
    const HandlerState& state, const annal_problem& problem, const annal_writer& out
) noexcept {
    return state.table().render_problem(state.instance->self(), &problem, &out);
}

class PluginHandler final : public Handler {
public:
    explicit PluginHandler(std::shared_ptr<HandlerState> state) : state_(std::move(state)) {}

    Task<void> handle(std::shared_ptr<Exchange> exchange) override {
        const auto bridge = std::make_shared<Bridge>(state_, std::move(exchange));
        co_await bridge->serve();
    }

    Document render(const Problem& problem) const override {
        std::vector<annal_issue> issues;
        issues.reserve(problem.issues.size());
        for (const Issue& issue : problem.issues) {
            issues.push_back(
                {issue.index,
                 issue.line,
                 issue.offset,
                 to_abi(std::string_view(issue.pointer)),
                 to_abi(std::string_view(issue.code)),
                 to_abi(std::string_view(issue.detail))}
            );
        }
        const annal_str no_detail{nullptr, 0};
        const annal_problem in{
            sizeof(annal_problem),
            static_cast<std::uint32_t>(problem.status),
            to_abi(std::string_view(problem.code)),
            to_abi(std::string_view(problem.title)),
            problem.detail.empty() ? no_detail : to_abi(std::string_view(problem.detail)),
            to_abi(std::string_view(problem.request_id)),
            problem.retry_after_s,
            static_cast<std::uint32_t>(issues.size()),
            sizeof(annal_issue),
            0,
            issues.data(),
        };
        WriteBuffer body(kProblemBytesMax);
        const annal_writer writer = body.writer();
        const std::string_view type = to_view(run_render(*state_, in, writer));
        // A plugin that renders nothing must not leave the client without a reason.
        if (type.empty() || body.view().empty()) return problem_json(problem);
        return {std::string(type), std::string(body.view())};
    }

private:
    const std::shared_ptr<HandlerState> state_;
};

Result<ExportRequest> to_export(const annal_export& request) {
    if (request.struct_size < sizeof(annal_export)) {
        return Error{Errc::invalid, "the export's struct_size is shorter than the contract's"};
    }
    ExportRequest out;
    BOOST_OUTCOME_TRY(out.filter, to_filter(request.filter));
    out.cursor = to_view(request.cursor);
    out.format = to_view(request.format);
    out.options = to_pairs(request.options, request.n_options);
    out.rows_max = request.rows_max;
    out.next_path = to_view(request.next_path);
    return out;
}

Result<TailRequest> to_tail(const annal_tail& request) {
    if (request.struct_size < sizeof(annal_tail)) {
        return Error{Errc::invalid, "the tail's struct_size is shorter than the contract's"};
    }
    TailRequest out;
    BOOST_OUTCOME_TRY(out.filter, to_filter(request.filter));
    if (request.after_seq == ANNAL_SEQ_NONE) return out;
    if (request.after_seq < kNoSeq) return Error{Errc::invalid, "must be -1 or a seq", "after"};
    out.after = request.after_seq;
    return out;
}

/// Lets `runner` answer in the plugin's place what the plugin has asked for with `converted`.
template <class Runner, class Request>
void run_in_place(
    HostEnvironment& environment,
    Runner& runner,
    Call& call,
    Result<Request> converted,
    const annal_response& response,
    void* user,
    annal_done done
) {
    Bridge* bridge = Bridge::of(response);
    std::optional<Error> error;
    if (bridge == nullptr)
        error = Error{Errc::invalid, "the response is not one that this host handed out"};
    else if (!converted)
        error = converted.error();
    if (error) {
        const auto kept = call.shared_from_this();
        asio::post(*environment.executor, [kept, error = to_abi(*error), user, done] {
            run_done(done, user, &error);
        });
        return;
    }
    auto work = [&runner, project = call.options().project, wanted = std::move(converted).value()](
                    std::shared_ptr<Exchange> exchange
                ) { return runner.run(project, wanted, std::move(exchange)); };
    bridge->lend(std::move(work), user, done);
}

}  // namespace

std::shared_ptr<Handler> make_plugin_handler(
    std::shared_ptr<Instance> instance, HostEnvironment& environment
) {
    return std::make_shared<PluginHandler>(
        std::make_shared<HandlerState>(std::move(instance), environment)
    );
}

void connect_exports(HostEnvironment& environment, Exporter& exporter) {
    environment.run_export = [&environment, &exporter](
                                 Call& call,
                                 const annal_export& request,
                                 const annal_response& response,
                                 void* user,
                                 annal_done done
                             ) {
        run_in_place(environment, exporter, call, to_export(request), response, user, done);
    };
}

void connect_tails(HostEnvironment& environment, TailHub& tails) {
    environment.run_tail = [&environment, &tails](
                               Call& call,
                               const annal_tail& request,
                               const annal_response& response,
                               void* user,
                               annal_done done
                           ) {
        run_in_place(environment, tails, call, to_tail(request), response, user, done);
    };
}

}  // namespace annal::http
