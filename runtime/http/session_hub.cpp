#include "runtime/http/session_hub.h"

#include <algorithm>
#include <array>

#include "runtime/core/crypto.h"
#include "runtime/http/session.h"

namespace annal::http {
namespace {

// Any other method counts as "other": a client must not be able to invent series.
constexpr std::array<std::string_view, 8> kKnownMethods = {
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "other"};

/// Connections of the Unix socket beyond the limit.
constexpr std::size_t kLocalReserve = 16;
/// Connections beyond the limit that are told so at one time; those beyond are just closed.
constexpr std::size_t kRefusedMax = 64;

std::size_t method_index(std::string_view method) {
    const auto at = std::find(kKnownMethods.begin(), kKnownMethods.end() - 1, method);
    return static_cast<std::size_t>(at - kKnownMethods.begin());
}

/// A bijection that spreads consecutive numbers over all 64 bits (splitmix64).
std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

}  // namespace

SessionHub::SessionHub(
    const Router& the_router,
    Authenticator& the_authenticator,
    const Clock& the_clock,
    const Limits& the_limits,
    Metrics& metrics
)
    : clock(the_clock),
      limits(the_limits),
      router_(&the_router),
      authenticator_(&the_authenticator),
      metrics_(metrics),
      seconds_(metrics.define(
          MetricKind::histogram,
          "annal_http_request_seconds",
          "Time from a request's head to the end of its answer."
      )),
      bytes_(metrics.define(
          MetricKind::counter, "annal_http_request_bytes_total", "Bytes of requests received."
      )),
      connections_(
          metrics.define(MetricKind::gauge, "annal_http_connections", "Open client connections.")
      ),
      handshake_failures_(metrics.define(
          MetricKind::counter,
          "annal_tls_handshake_failures_total",
          "TLS connections that ended before both sides had agreed."
      )),
      requests_(kMethods * kStatuses),
      seed_(random_u64()) {
    connections_.record(0);
}

bool SessionHub::take_memory(std::uint64_t bytes) {
    const std::uint64_t before = memory_.fetch_add(bytes, std::memory_order_relaxed);
    if (before + bytes <= limits.bodies_in_memory_max) return true;
    give_back(bytes);
    return false;
}

void SessionHub::give_back(std::uint64_t bytes) {
    memory_.fetch_sub(bytes, std::memory_order_relaxed);
}

SessionHub::Welcome SessionHub::enter(const std::shared_ptr<Session>& session) {
    const std::size_t max = limits.connections_max + (session->local() ? kLocalReserve : 0);
    const std::lock_guard lock(mutex_);
    if (sessions_.size() < max) {
        sessions_.emplace(session.get(), session);
        connections_.record(static_cast<double>(sessions_.size()));
        return Welcome::served;
    }
    if (refused_.size() >= kRefusedMax) return Welcome::dropped;
    refused_.emplace(session.get(), session);
    return Welcome::refused;
}

void SessionHub::leave(const Session* session) {
    {
        const std::lock_guard lock(mutex_);
        if (sessions_.erase(session) + refused_.erase(session) == 0) return;
        connections_.record(static_cast<double>(sessions_.size()));
    }
    changed();
}

std::vector<std::shared_ptr<Session>> SessionHub::sessions() const {
    std::vector<std::shared_ptr<Session>> all;
    const std::lock_guard lock(mutex_);
    all.reserve(sessions_.size() + refused_.size());
    for (const Sessions* some : {&sessions_, &refused_}) {
        for (const auto& [key, session] : *some) {
            if (auto alive = session.lock()) all.push_back(std::move(alive));
        }
    }
    return all;
}

void SessionHub::handler_ended() {
    if (--handlers_ == 0) changed();
}

bool SessionHub::quiet() const {
    if (handlers_ > 0) return false;
    const std::lock_guard lock(mutex_);
    return sessions_.empty();
}

bool SessionHub::deserted() const {
    const std::lock_guard lock(mutex_);
    return sessions_.empty() && refused_.empty();
}

void SessionHub::on_change(std::function<void()> changed) {
    const std::lock_guard lock(mutex_);
    on_change_ = std::move(changed);
}

void SessionHub::changed() {
    if (!stopping) return;
    std::function<void()> call;
    {
        const std::lock_guard lock(mutex_);
        call = on_change_;
    }
    if (call) call();
}

std::string SessionHub::new_request_id() {
    constexpr std::string_view kDigits = "0123456789abcdefghjkmnpqrstvwxyz";
    const std::uint64_t number = request_number_.fetch_add(1, std::memory_order_relaxed);
    // Unique within the process by the bijection, across processes by the random seed.
    std::array<std::uint64_t, 2> words = {mix(seed_ + number), mix(~seed_ ^ number)};
    std::string id = "req_";
    for (std::uint64_t& word : words) {
        for (int i = 0; i < 12; ++i, word >>= 5) id += kDigits[word & 31];
    }
    return id;
}

void SessionHub::record(
    std::string_view method, int status, std::int64_t duration_us, std::uint64_t bytes_in
) {
    const std::size_t index = method_index(method);
    const auto column = static_cast<std::size_t>(std::clamp(status, 0, 599));
    std::atomic<Metric*>& slot = requests_[index * kStatuses + column];
    Metric* metric = slot.load(std::memory_order_acquire);
    if (!metric) {
        metric = &metrics_.define(
            MetricKind::counter,
            "annal_http_requests_total",
            "Requests answered.",
            {{"method", std::string(kKnownMethods[index])}, {"status", std::to_string(column)}}
        );
        slot.store(metric, std::memory_order_release);
    }
    metric->record(1);
    seconds_.record(static_cast<double>(duration_us) / 1e6);
    bytes_.record(static_cast<double>(bytes_in));
}

}  // namespace annal::http
