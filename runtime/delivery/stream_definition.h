#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/event_id.h"
#include "runtime/event/action.h"
#include "runtime/plugin/manifest.h"

namespace annal {

/// What an ordered subscription is, whoever declared it: a manifest, or POST /v1/audit/streams.
struct StreamDefinition {
    std::string id;  ///< "aud_…"; declared in a manifest: "<instance>/<trigger>"
    std::string
        known_as;  ///< to the destination, and in dead letters: the id, or whose replay it is
    std::string subscription;  ///< names its cursor, lease and plan, within its project
    std::string project, name, destination;
    std::vector<ActionPattern> patterns;
    enum class From { earliest, latest } from = From::earliest;  ///< while it has no cursor
    std::uint32_t batch_events_max = 500;
    std::uint64_t batch_bytes_max = 1U << 20;  ///< encoded
    std::string format;                        ///< that writes the batches; empty: the sink itself
    double requests_per_second = 0;            ///< 0: as many as the destination takes
    /// What becomes of an event that the destination refuses for good.
    enum class OnPoison { dead_letter, block } on_poison = OnPoison::block;
    /// Raised by each change after which a batch may be encoded otherwise.
    std::int64_t revision = 0;
    std::optional<Seq> until;  ///< a replay ends with this event

    [[nodiscard]] static StreamDefinition of(
        const std::string& instance, const std::string& component, const EventsTrigger& trigger
    );
    /// Whether it leaves no event out.
    [[nodiscard]] bool takes_everything() const;
};

}  // namespace annal
