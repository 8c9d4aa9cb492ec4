#include "runtime/plugin/outbound_queue.h"

#include <algorithm>
#include <utility>

namespace annal {

bool OutboundQueue::push(std::unique_ptr<OutboundJob>& job) {
    const Destination& destination = job->destination;
    auto [at, made] = hosts_.try_emplace(destination.key);
    Host& host = at->second;
    if (made) {
        host.key = destination.key;
        if (!destination.literal) host.name = destination.name;
    }
    if (host.waiting.size() >= limits_.host_waiting_max) return false;
    host.waiting.push_back(std::move(job));
    ++waiting_;
    resume(host);
    return true;
}

void OutboundQueue::resume(Host& host) {
    if (host.in_turn || host.waiting.empty()) return;
    host.in_turn = true;
    turns_.push_back(&host);
}

bool OutboundQueue::has_room(const Host& host) const {
    const std::size_t others = active_ - host.active;
    const std::size_t left = limits_.total_max - std::min(others, limits_.total_max);
    const std::size_t share = (limits_.host_max * left + limits_.total_max - 1) / limits_.total_max;
    return host.active < std::max<std::size_t>(share, 1);
}

std::optional<OutboundQueue::Next> OutboundQueue::next(
    const IsResolved& is_resolved, const std::function<void(Host&)>& resolve
) {
    for (std::size_t left = turns_.size(); left > 0 && active_ < limits_.total_max; --left) {
        Host& host = *turns_.front();
        turns_.pop_front();
        host.in_turn = false;
        if (host.waiting.empty()) continue;
        if (!host.name.empty() && !is_resolved(host, *host.waiting.front())) {
            resolve(host);  // puts it back into turn when the answer is there
            continue;
        }
        const bool room = has_room(host);
        std::unique_ptr<OutboundJob> job;
        if (room) {
            job = std::move(host.waiting.front());
            host.waiting.pop_front();
            --waiting_;
            ++host.active;
            ++active_;
        }
        resume(host);
        if (room) return Next{&host, std::move(job)};
    }
    return std::nullopt;
}

void OutboundQueue::ended(const std::string& key) {
    --active_;
    --hosts_.at(key).active;
}

OutboundQueue::Host* OutboundQueue::find(const std::string& key) {
    const auto found = hosts_.find(key);
    return found == hosts_.end() ? nullptr : &found->second;
}

std::vector<std::unique_ptr<OutboundJob>> OutboundQueue::remove_if(
    const std::function<bool(const Host&, const OutboundJob&)>& is_over
) {
    std::vector<std::unique_ptr<OutboundJob>> over;
    if (waiting_ == 0) return over;
    for (auto& [key, host] : hosts_) {
        auto& jobs = host.waiting;
        const Host& seen = host;
        const auto first_over = std::stable_partition(jobs.begin(), jobs.end(), [&](auto& job) {
            return !is_over(seen, *job);
        });
        std::move(first_over, jobs.end(), std::back_inserter(over));
        jobs.erase(first_over, jobs.end());
    }
    waiting_ -= over.size();
    return over;
}

std::vector<std::unique_ptr<OutboundJob>> OutboundQueue::take_all(Host& host) {
    std::vector<std::unique_ptr<OutboundJob>> all(
        std::make_move_iterator(host.waiting.begin()), std::make_move_iterator(host.waiting.end())
    );
    host.waiting.clear();
    waiting_ -= all.size();
    return all;
}

void OutboundQueue::forget_if(const std::function<bool(const Host&)>& is_stale) {
    for (auto at = hosts_.begin(); at != hosts_.end();) {
        const Host& host = at->second;
        const bool used =
            !host.waiting.empty() || host.active > 0 || host.in_turn || host.looked_up;
        at = !used && is_stale(host) ? hosts_.erase(at) : std::next(at);
    }
}

}  // namespace annal
