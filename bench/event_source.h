#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace annal::bench {

/// One event as a client would send it. Text is borrowed from its source until the next event.
struct SampleEvent {
    std::string_view action, actor_id, actor_email, organization_id, target_type, target_id, ip,
        user_agent, description, metadata;
};

/// Audit events of a product with many customers, the same for the same seed: actions and users
/// are Zipf-distributed (a few make most of the noise), sessions and request ids never repeat, and
/// about one event in `kRareEvery` is by `kRareUser`. About 500 bytes each.
///
/// Not thread-safe.
class EventSource {
public:
    static constexpr int kUsers = 50'000;
    static constexpr int kOrganizations = 400;
    static constexpr int kRareEvery = 100'000;
    static constexpr std::string_view kRareUser = "usr_0000rarelyseen";

    explicit EventSource(std::uint64_t seed);

    [[nodiscard]] const SampleEvent& next();
    /// The next event as JSON, as POST /v1/audit/events takes it.
    void append_json(std::string& out);
    /// `{"events":[…]}` of `count` events.
    void append_batch(std::string& out, int count);

    /// The user at `rank`, 0 being the busiest.
    [[nodiscard]] static std::string user(int rank);
    [[nodiscard]] static std::string organization(int number);

private:
    std::mt19937_64 random_;
    std::vector<double> user_odds_, action_odds_;  // cumulative
    std::vector<std::string> users_, emails_, organizations_;
    std::string target_, ip_, metadata_;
    SampleEvent event_;
};

}  // namespace annal::bench
