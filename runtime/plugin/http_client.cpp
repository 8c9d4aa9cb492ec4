#include "runtime/plugin/http_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "runtime/core/metrics.h"
#include "runtime/plugin/destination.h"
#include "runtime/plugin/outbound_queue.h"
#include "runtime/plugin/transfer.h"
#include "runtime/plugin/transfer_loop.h"

namespace annal {
namespace {

using Steady = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

constexpr std::size_t kRequestHeadersMax = 64;
constexpr std::size_t kRequestBytesMax = 64U << 20;
constexpr std::uint32_t kTimeoutMsMax = 60'000;
constexpr auto kNameTimeout = Milliseconds(2'000);
constexpr std::uint32_t kRetryAfterMs = 1'000;
constexpr auto kOwnAddressesAge = std::chrono::seconds(30);
constexpr auto kTick = Milliseconds(100);
/// libcurl has its own clock for a transfer; one that it overlooks ends all the same.
constexpr auto kOverdue = Milliseconds(500);
constexpr std::size_t kUnusedTransfersMax = 256;
constexpr std::size_t kKnownHostsMax = 8'192;

bool is_token(std::string_view text) {
    constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
    return !text.empty() && text.size() <= 128 &&
           std::all_of(text.begin(), text.end(), [&](char c) {
               return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                      kMarks.find(c) != std::string_view::npos;
           });
}

bool is_header_value(std::string_view text) {
    return text.size() <= 8192 && std::all_of(text.begin(), text.end(), [](char c) {
               const auto byte = static_cast<unsigned char>(c);
               return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
           });
}

bool same_word(std::string_view text, std::string_view lower_case) {
    return std::equal(
        text.begin(),
        text.end(),
        lower_case.begin(),
        lower_case.end(),
        [](char a, char b) { return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + 32) : a) == b; }
    );
}

Result<void> check_headers(const OutboundRequest& request) {
    // What frames the message, names the host or asks for an encoding is this client's business.
    static constexpr std::string_view kOwn[] = {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "accept-encoding",
        "expect",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
    };
    if (request.headers.size() > kRequestHeadersMax) {
        return Error{Errc::invalid, "more than 64 request headers", "headers", 0};
    }
    for (const auto& header : request.headers) {
        const std::string& name = header.first;
        if (!is_token(name) || !is_header_value(header.second)) {
            return Error{
                Errc::invalid,
                "a header name or value has characters that can't be sent",
                "headers",
                0};
        }
        const auto is_name = [&](std::string_view own) { return same_word(name, own); };
        if (std::any_of(std::begin(kOwn), std::end(kOwn), is_name)) {
            return Error{
                Errc::invalid, "the header " + name + " is set by the host itself", "headers", 0};
        }
    }
    return ok();
}

/// What can be known without a connection.
Result<std::unique_ptr<OutboundJob>> check_request(
    OutboundRequest& request, const AddressPolicy& policy
) {
    const bool tunnels = same_word(request.method, "connect") || same_word(request.method, "trace");
    if (!is_token(request.method) || tunnels) {
        return Error{Errc::invalid, "not a request method that can be sent", "method", 0};
    }
    if (request.timeout_ms < 1 || request.timeout_ms > kTimeoutMsMax) {
        return Error{Errc::invalid, "timeout_ms must be 1 to 60000", "timeout_ms", 0};
    }
    if (request.body.size() > kRequestBytesMax) {
        return Error{Errc::invalid, "a request body has at most 64 MiB", "body", 0};
    }
    BOOST_OUTCOME_TRY(check_headers(request));
    auto job = std::make_unique<OutboundJob>();
    BOOST_OUTCOME_TRY(job->destination, Destination::read(request.url));
    const Destination& to = job->destination;
    const auto permission = permission_for(to.place, request.allowed);
    if (!permission) {
        return Error{
            Errc::denied, "the manifest's permissions.http does not list " + to.place, {}, 0};
    }
    if (to.literal) {
        if (auto why = policy.deny(*to.literal, to.port, *permission, {}))
            return Error{Errc::denied, to.place + ": " + *why, {}, 0};
    }
    job->permission = *permission;
    job->accepted = Steady::now();
    job->deadline = job->accepted + Milliseconds(request.timeout_ms);
    job->request = std::move(request);
    return job;
}

Error overfull(const char* what) {
    return {Errc::unavailable, std::string(what) + "; nothing was sent", {}, kRetryAfterMs};
}

Error expired() {
    return overfull("waited for other requests until the deadline");
}

Error stopped() {
    return {Errc::unavailable, "the node is stopping", {}, kRetryAfterMs};
}

bool is_cancelled(const OutboundJob& job) {
    return job.request.cancelled && job.request.cancelled();
}

/// The client's own series; nothing without metrics.
class Counters {
public:
    explicit Counters(Metrics* metrics) {
        if (metrics == nullptr) return;
        const auto count = [&](const std::string& outcome) {
            return &metrics->define(
                MetricKind::counter,
                "annal_outbound_requests_total",
                "Outbound HTTP requests by how they ended.",
                {{"outcome", outcome}}
            );
        };
        answered_ = count("answered");
        for (const Errc code : kErrors) errors_[code] = count(name(code));
        in_flight_ = &metrics->define(
            MetricKind::gauge, "annal_outbound_in_flight", "Outbound HTTP requests under way."
        );
        waiting_ = &metrics->define(
            MetricKind::gauge, "annal_outbound_waiting", "Outbound HTTP requests that wait."
        );
    }
    void count(const Result<OutboundResponse>& outcome) {
        if (answered_ == nullptr) return;
        if (outcome) return answered_->record(1);
        const auto found = errors_.find(outcome.error().code);
        if (found != errors_.end()) found->second->record(1);
    }
    /// From the worker.
    void show(std::size_t in_flight, std::size_t waiting) {
        if (answered_ == nullptr || (in_flight == shown_[0] && waiting == shown_[1])) return;
        shown_ = {in_flight, waiting};
        in_flight_->record(static_cast<double>(in_flight));
        waiting_->record(static_cast<double>(waiting));
    }

private:
    static constexpr Errc kErrors[] = {
        Errc::invalid, Errc::denied, Errc::unavailable, Errc::timeout, Errc::cancelled};
    Metric *answered_ = nullptr, *in_flight_ = nullptr, *waiting_ = nullptr;
    std::map<Errc, Metric*> errors_;
    std::array<std::size_t, 2> shown_{0, 0};
};

}  // namespace

struct HttpClient::State {
    using Job = std::unique_ptr<OutboundJob>;
    using Host = OutboundQueue::Host;
    struct Answer {
        std::string key;
        Result<std::vector<Address>> addresses;
    };

    State(AddressPolicy p, Options o)
        : options(std::move(o)),
          counters(options.metrics),
          loop(options.connections_max),
          queue(
              {options.transfers_max,
               options.host_max,
               std::max<std::size_t>(options.queue_max / 2, 1)}
          ),
          policy(std::make_shared<const AddressPolicy>(std::move(p))),
          resolver(options.resolvers_max, options.lookup) {}

    // From any thread.
    [[nodiscard]] std::shared_ptr<const AddressPolicy> policy_now() {
        const std::lock_guard lock(mutex);
        return policy;
    }
    void finish(Job job, Result<OutboundResponse> outcome);
    void refuse(const Done& done, Error error);

    // From the worker.
    void work();
    [[nodiscard]] bool take_in();
    void take_in(Job job);
    void take_in(Answer answer);
    void begin_all();
    void begin(Host& host, Job job);
    void resolve(Host& host);
    [[nodiscard]] bool is_resolved(const Host& host, const OutboundJob& job) const;
    [[nodiscard]] std::vector<std::string> lookup_lines(Host& host);
    [[nodiscard]] std::unique_ptr<Transfer> unused_transfer();
    void end(Transfer& transfer, Result<OutboundResponse> outcome);
    void tick();
    void give_up_waiting();
    void give_up_transfers();
    void forget_hosts();
    void refresh_own();
    void stop();

    const Options options;
    Counters counters;
    TransferLoop loop;
    OutboundQueue queue;
    std::unordered_map<void*, std::unique_ptr<Transfer>> active;
    std::vector<std::unique_ptr<Transfer>> unused;
    std::vector<std::string> forgotten;  ///< lines that make libcurl forget hosts
    std::shared_ptr<const std::vector<Address>> own;
    Steady::time_point own_read_at, tick_at;

    std::atomic<std::size_t> outstanding{0};
    std::mutex mutex;
    bool stopping = false;
    std::shared_ptr<const AddressPolicy> policy;
    std::vector<Job> arrived;
    std::vector<Answer> answers;

    Resolver resolver;  // ends before what its answers go to
    std::thread thread;
};

void HttpClient::State::refuse(const Done& done, Error error) {
    const Result<OutboundResponse> outcome(std::move(error));
    counters.count(outcome);
    done(outcome);
}

void HttpClient::State::finish(Job job, Result<OutboundResponse> outcome) {
    --outstanding;  // first: `done` may send the next
    counters.count(outcome);
    job->done(std::move(outcome));
}

/// What others have brought; false: it is time to stop.
bool HttpClient::State::take_in() {
    std::vector<Job> jobs;
    std::vector<Answer> found;
    {
        const std::lock_guard lock(mutex);
        if (stopping) return false;
        jobs.swap(arrived);
        found.swap(answers);
    }
    for (Answer& answer : found) take_in(std::move(answer));
    for (Job& job : jobs) take_in(std::move(job));
    return true;
}

void HttpClient::State::take_in(Job job) {
    if (!queue.push(job))
        finish(std::move(job), overfull("too many requests wait for this host and port"));
}

void HttpClient::State::take_in(Answer answer) {
    Host* host = queue.find(answer.key);
    if (host == nullptr) return;
    host->looked_up = false;
    if (answer.addresses) {
        host->addresses = std::move(answer.addresses).value();
        host->resolved_at = Steady::now();
        return queue.resume(*host);
    }
    for (Job& job : queue.take_all(*host)) {
        Error error = answer.addresses.error();
        error.detail = job->destination.place + ": " + error.detail;
        finish(std::move(job), std::move(error));
    }
}

bool HttpClient::State::is_resolved(const Host& host, const OutboundJob& job) const {
    if (!host.resolved_at || host.looked_up) return false;
    return *host.resolved_at >= job.accepted ||
           Steady::now() < *host.resolved_at + options.name_cache;
}

void HttpClient::State::resolve(Host& host) {
    if (host.looked_up) return;
    host.looked_up = true;
    host.lookup_began = Steady::now();
    resolver.resolve(
        host.name,
        host.lookup_began + kNameTimeout,
        [this, key = host.key](Result<std::vector<Address>> found) {
            {
                const std::lock_guard lock(mutex);
                answers.push_back({key, std::move(found)});
            }
            loop.wake();
        }
    );
}

/// Given again with each request, which costs less than to know whether libcurl has seen it yet.
std::vector<std::string> HttpClient::State::lookup_lines(Host& host) {
    std::vector<std::string> lines = std::exchange(forgotten, {});
    if (host.name.empty()) return lines;
    std::string line = host.key + ":";
    for (const Address& address : host.addresses) {
        if (line.back() != ':') line += ',';
        line += address.v6 ? "[" + address.text() + "]" : address.text();
    }
    lines.push_back(std::move(line));
    host.told_to_curl = true;
    return lines;
}

std::unique_ptr<Transfer> HttpClient::State::unused_transfer() {
    if (unused.empty()) return std::make_unique<Transfer>(loop, options.ca_file);
    auto transfer = std::move(unused.back());
    unused.pop_back();
    return transfer;
}

void HttpClient::State::begin(Host& host, Job job) {
    if (Steady::now() >= job->deadline) {
        queue.ended(host.key);
        return finish(std::move(job), expired());
    }
    const auto now = policy_now();
    const Destination& to = job->destination;
    const std::vector<Address> literal =
        to.literal ? std::vector{*to.literal} : std::vector<Address>{};
    for (const Address& address : to.literal ? literal : host.addresses) {
        auto why = now->deny(address, to.port, job->permission, *own);
        if (!why) continue;
        queue.ended(host.key);
        Error error{Errc::denied, to.place + ": " + *why, {}, 0};
        return finish(std::move(job), std::move(error));
    }
    auto transfer = unused_transfer();
    if (!transfer->works()) {
        queue.ended(host.key);
        return finish(std::move(job), overfull("libcurl has no memory"));
    }
    transfer->begin(std::move(job), now, own, lookup_lines(host));
    Transfer& begun = *active.emplace(transfer->easy(), std::move(transfer)).first->second;
    if (!loop.add(begun.easy())) end(begun, overfull("libcurl has no memory"));
}

void HttpClient::State::begin_all() {
    while (auto next = queue.next(
               [this](const Host& host, const OutboundJob& job) { return is_resolved(host, job); },
               [this](Host& host) { resolve(host); }
           )) {
        begin(*next->host, std::move(next->job));
    }
}

void HttpClient::State::end(Transfer& transfer, Result<OutboundResponse> outcome) {
    loop.remove(transfer.easy());
    auto node = active.extract(transfer.easy());
    Job job = transfer.release();
    queue.ended(job->destination.key);
    if (unused.size() < kUnusedTransfersMax) unused.push_back(std::move(node.mapped()));
    finish(std::move(job), std::move(outcome));
}

void HttpClient::State::give_up_waiting() {
    const auto now = Steady::now();
    const auto name_over = [&](const Host& host, const OutboundJob& job) {
        return host.looked_up && now >= std::max(host.lookup_began, job.accepted) + kNameTimeout;
    };
    auto over = queue.remove_if([&](const Host& host, const OutboundJob& job) {
        return now >= job.deadline || is_cancelled(job) || name_over(host, job);
    });
    for (Job& job : over) {
        const std::string& place = job->destination.place;
        Error error{
            Errc::timeout, place + ": the name was not resolved in time", {}, kRetryAfterMs};
        if (is_cancelled(*job)) {
            error = {Errc::cancelled, "the call was given up", {}, 0};
        } else if (now >= job->deadline) {
            error = expired();
        }
        finish(std::move(job), std::move(error));
    }
}

void HttpClient::State::give_up_transfers() {
    const auto now = Steady::now();
    std::vector<std::pair<Transfer*, Error>> over;
    for (auto& [easy, transfer] : active) {
        const OutboundJob& job = transfer->job();
        if (is_cancelled(job)) {
            over.emplace_back(
                transfer.get(), Error{Errc::cancelled, "the call was given up", {}, 0}
            );
        } else if (now >= job.deadline + kOverdue) {
            over.emplace_back(
                transfer.get(),
                Error{Errc::timeout, job.destination.place + ": the deadline has passed", {}, 0}
            );
        }
    }
    for (auto& [transfer, error] : over) end(*transfer, std::move(error));
}

void HttpClient::State::forget_hosts() {
    const auto now = Steady::now();
    const bool many = queue.hosts() > kKnownHostsMax;
    queue.forget_if([&](const Host& host) {
        const bool stale =
            many || !host.resolved_at || now >= *host.resolved_at + options.name_cache;
        if (stale && host.told_to_curl) forgotten.push_back("-" + host.key);
        return stale;
    });
}

void HttpClient::State::refresh_own() {
    const auto now = Steady::now();
    if (own && now - own_read_at < kOwnAddressesAge) return;
    own = std::make_shared<const std::vector<Address>>(own_addresses());
    own_read_at = now;
}

void HttpClient::State::tick() {
    const auto now = Steady::now();
    if (now < tick_at) return;
    tick_at = now + kTick;
    give_up_waiting();
    give_up_transfers();
    forget_hosts();
    refresh_own();
}

void HttpClient::State::work() {
    refresh_own();
    while (true) {
        loop.look();
        if (!take_in()) return stop();
        begin_all();
        counters.show(queue.active(), queue.waiting());
        const bool idle = queue.active() == 0 && queue.hosts() == 0;
        const auto& ended = loop.turn(idle ? Milliseconds(3'600'000) : kTick);
        for (const auto& [easy, code] : ended) {
            Transfer& transfer = Transfer::of(easy);
            end(transfer, transfer.outcome(code));
        }
        tick();
    }
}

void HttpClient::State::stop() {
    while (!active.empty()) end(*active.begin()->second, stopped());
    std::vector<Job> left;
    {
        const std::lock_guard lock(mutex);
        left.swap(arrived);
    }
    auto waiting = queue.remove_if([](const Host&, const OutboundJob&) { return true; });
    std::move(waiting.begin(), waiting.end(), std::back_inserter(left));
    for (Job& job : left) finish(std::move(job), stopped());
    counters.show(0, 0);
    unused.clear();
}

HttpClient::HttpClient(AddressPolicy policy, Options options) {
    static const CURLcode initialized = curl_global_init(CURL_GLOBAL_DEFAULT);
    (void)initialized;  // a failure shows as a loop that does not work
    options.transfers_max = std::max<std::size_t>(options.transfers_max, 1);
    options.host_max = std::clamp<std::size_t>(options.host_max, 1, options.transfers_max);
    state_ = std::make_unique<State>(std::move(policy), std::move(options));
    state_->thread = std::thread([state = state_.get()] { state->work(); });
}

HttpClient::~HttpClient() {
    {
        const std::lock_guard lock(state_->mutex);
        state_->stopping = true;
    }
    state_->loop.wake();
    state_->thread.join();
}

void HttpClient::set_policy(AddressPolicy policy) {
    auto made = std::make_shared<const AddressPolicy>(std::move(policy));
    const std::lock_guard lock(state_->mutex);
    state_->policy = std::move(made);
}

void HttpClient::send(OutboundRequest request, Done done) {
    State& state = *state_;
    auto checked = check_request(request, *state.policy_now());
    if (!checked) return state.refuse(done, std::move(checked).error());
    auto job = std::move(checked).value();
    // One count for what waits and what is under way: how soon the worker looks does not matter.
    const std::size_t outstanding_max = state.options.transfers_max + state.options.queue_max;
    if (!state.loop.works() || ++state.outstanding > outstanding_max) {
        if (state.loop.works()) --state.outstanding;
        return state.refuse(done, overfull("too many outbound requests are waiting"));
    }
    job->done = std::move(done);
    std::unique_lock lock(state.mutex);
    if (state.stopping) {
        lock.unlock();
        return state.finish(std::move(job), stopped());
    }
    state.arrived.push_back(std::move(job));
    lock.unlock();
    state.loop.wake();
}

}  // namespace annal
