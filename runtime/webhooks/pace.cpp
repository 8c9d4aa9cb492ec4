#include "runtime/webhooks/pace.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/clock.h"

namespace annal {
namespace {

constexpr double kWindowStep = 0.25;
constexpr std::uint32_t kFailuresBeforeRest = 5;
constexpr std::int64_t kRestFirstUs = kSecondUs, kRestMostUs = 60 * kSecondUs;
// What one burst was answered with is one word, however often it was said.
constexpr std::int64_t kOneWordUs = kSecondUs;
constexpr double kSlower = 0.95, kRateMin = 0.1, kRateMax = 5'000;
constexpr std::int64_t kSteadyUs = 30 * kSecondUs;
constexpr double kGrowth = 0.01, kGrowthMost = 0.2;
constexpr std::int64_t kGrowthDoublesUs = 15 * kSecondUs;

}  // namespace

std::int64_t Pace::next_us(std::int64_t now_us) const {
    if (under_way_ >= static_cast<int>(window_)) return kWhenOneEnds;
    if (failures_ > 0 && under_way_ > 0) return kWhenOneEnds;
    return std::max({now_us, rest_until_us_, rate_ > 0 ? turn_us_ : 0});
}

void Pace::began(std::int64_t now_us) {
    ++under_way_;
    if (rate_ > 0) grow(now_us);
    if (rate_ <= 0) return;
    const auto interval = static_cast<std::int64_t>(kSecondUs / rate_);
    // Turns that were not used are gone, but for one.
    turn_us_ = std::max(turn_us_, now_us - interval) + interval;
}

void Pace::succeeded(std::int64_t now_us) {
    --under_way_;
    failures_ = 0;
    window_ = std::min(kWindowMax, window_ + kWindowStep);
    successes_.push_back(now_us);
    while (successes_.front() <= now_us - kSecondUs) successes_.pop_front();
}

void Pace::failed(std::int64_t now_us, std::uint64_t random) {
    --under_way_;
    window_ = std::max(1.0, window_ / 2);
    if (now_us < rest_until_us_) return;  // it began before the rest, so it says nothing new
    if (++failures_ < kFailuresBeforeRest) return;
    const auto doublings = std::min<std::uint32_t>(failures_ - kFailuresBeforeRest, 6);
    const std::int64_t rest = std::min(kRestFirstUs << doublings, kRestMostUs);
    const auto spread = static_cast<std::int64_t>(random % static_cast<std::uint64_t>(rest / 2));
    rest_until_us_ = std::max(rest_until_us_, now_us + rest - rest / 4 + spread);
}

void Pace::overloaded(std::int64_t now_us, std::int64_t wait_us) {
    --under_way_;
    rest_until_us_ = std::max(rest_until_us_, now_us + wait_us);
    if (slowed_us_ == 0 || now_us - slowed_us_ > kOneWordUs) slow_down(now_us);
}

void Pace::cancelled() {
    --under_way_;
}

void Pace::slow_down(std::int64_t now_us) {
    while (!successes_.empty() && successes_.front() <= now_us - kSecondUs) successes_.pop_front();
    const auto taken = static_cast<double>(successes_.size());
    const double before = rate_ > 0 ? std::min(rate_, std::max(taken, rate_ / 2)) : taken;
    rate_ = std::max(kRateMin, std::max(before, 1.0) * kSlower);
    window_ = std::max(1.0, window_ / 2);
    slowed_us_ = grown_us_ = now_us;
}

/// Once a second, and ever faster the longer nothing speaks against it.
void Pace::grow(std::int64_t now_us) {
    const std::int64_t steady = now_us - slowed_us_ - kSteadyUs;
    if (steady < 0 || now_us - grown_us_ < kSecondUs) return;
    grown_us_ = now_us;
    const double doublings = static_cast<double>(steady / kGrowthDoublesUs);
    rate_ *= 1 + std::min(kGrowthMost, kGrowth * std::exp2(doublings));
    if (rate_ > kRateMax) rate_ = 0;
}

}  // namespace annal
