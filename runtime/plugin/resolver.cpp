#include "runtime/plugin/resolver.h"

#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

namespace annal {
namespace {

using Steady = std::chrono::steady_clock;
constexpr auto kIdle = std::chrono::seconds(10);
constexpr auto kGrace = std::chrono::seconds(1);
/// A thread shall not be held longer than anybody waits: a second for each server, twice.
constexpr int kServerSeconds = 1, kServerTries = 2;

bool speaks_v6() {
    static const bool speaks = [] {
        const int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd >= 0) close(fd);
        return fd >= 0;
    }();
    return speaks;
}

/// Each lookup reads /etc/resolv.conf anew (glibc does so only when it has changed), so that a
/// thread never asks servers of the past.
void shorten_waits() {
    if (res_init() != 0) return;
    _res.retrans = std::min(_res.retrans, kServerSeconds);
    _res.retry = std::min(_res.retry, kServerTries);
}

Result<std::vector<Address>> look_up(const std::string& name) {
    shorten_waits();
    addrinfo hints{};
    hints.ai_family = speaks_v6() ? AF_UNSPEC : AF_INET;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    const int code = getaddrinfo(name.c_str(), nullptr, &hints, &list);
    if (code != 0) {
        return Error{
            Errc::unavailable,
            "the name can't be resolved: " + std::string(gai_strerror(code)),
            {},
            1'000};
    }
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, &freeaddrinfo);
    std::vector<Address> out;
    for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
        const auto address = Address::of(*entry->ai_addr);
        if (address && std::find(out.begin(), out.end(), *address) == out.end())
            out.push_back(*address);
        if (out.size() > Resolver::kAddressesMax) break;
    }
    return out;
}

}  // namespace

struct Resolver::State : std::enable_shared_from_this<Resolver::State> {
    struct Job {
        std::string name;
        Steady::time_point give_up_at;
        Done done;
    };

    void run();
    void spawn();
    /// Holding the lock: after `stopping` nobody is called back.
    void tell(const Done& done, Result<std::vector<Address>> answer) {
        const std::lock_guard lock(mutex);
        if (!stopping) done(std::move(answer));
    }
    [[nodiscard]] Result<std::vector<Address>> answer(const Job& job) const;

    unsigned threads_max = 0;
    Lookup lookup;
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Job> waiting;
    unsigned threads = 0, idle = 0;
    bool stopping = false;
};

Result<std::vector<Address>> Resolver::State::answer(const Job& job) const {
    if (Steady::now() >= job.give_up_at) {
        return Error{Errc::timeout, "no thread was free to resolve the name in time", {}, 1'000};
    }
    auto found = lookup(job.name);
    if (!found) return found;
    if (found.value().empty()) {
        return Error{Errc::unavailable, "the name has no internet address", {}, 0};
    }
    if (found.value().size() > kAddressesMax) {
        return Error{Errc::unavailable, "the name has more than 64 addresses", {}, 0};
    }
    return found;
}

void Resolver::State::run() {
    std::unique_lock lock(mutex);
    while (true) {
        ++idle;
        const bool woken =
            changed.wait_for(lock, kIdle, [this] { return stopping || !waiting.empty(); });
        --idle;
        if (!woken || stopping) break;
        const Job job = std::move(waiting.front());
        waiting.pop_front();
        lock.unlock();
        tell(job.done, answer(job));
        lock.lock();
    }
    --threads;
    changed.notify_all();
}

/// The thread keeps the state alive, for it may be in getaddrinfo when the resolver ends.
void Resolver::State::spawn() {
    try {
        std::thread([self = shared_from_this()] { self->run(); }).detach();
        ++threads;
    } catch (const std::system_error&) {  // those that are there will come to it
    }
}

Resolver::Resolver(unsigned threads_max, Lookup lookup) : state_(std::make_shared<State>()) {
    state_->threads_max = std::max(threads_max, 1U);
    state_->lookup = lookup ? std::move(lookup) : Lookup(&look_up);
}

Resolver::~Resolver() {
    std::unique_lock lock(state_->mutex);
    state_->stopping = true;
    state_->waiting.clear();
    state_->changed.notify_all();
    state_->changed.wait_for(lock, kGrace, [this] { return state_->threads == 0; });
}

void Resolver::resolve(std::string name, Steady::time_point give_up_at, Done done) {
    std::unique_lock lock(state_->mutex);
    if (state_->waiting.size() < kWaitingMax) {
        if (state_->idle <= state_->waiting.size() && state_->threads < state_->threads_max)
            state_->spawn();
        if (state_->threads > 0) {
            state_->waiting.push_back({std::move(name), give_up_at, std::move(done)});
            state_->changed.notify_one();
            return;
        }
    }
    lock.unlock();
    done(Error{Errc::unavailable, "too many names are being resolved", {}, 1'000});
}

}  // namespace annal
