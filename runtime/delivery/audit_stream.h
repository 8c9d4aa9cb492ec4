#pragma once

#include <boost/json/object.hpp>
#include <string>

#include "runtime/core/secret_box.h"
#include "runtime/delivery/stream_definition.h"
#include "runtime/store/event_store.h"

namespace annal {

/// A stream that was made over REST, as it is stored.
///
/// Rows: space "host.streams", the stream's project, its id as the key. The part of the
/// configuration that is secret is sealed; nothing else ever holds it.
struct AuditStream {
    enum class Status { active, paused, failed, revoked };

    std::string id;  ///< "aud_…"; a replay's: "rpl_…"
    std::string project, name, destination;
    boost::json::object config;  ///< without its secrets
    std::string sealed;          ///< its secrets: a JSON object, encrypted
    std::vector<ActionPattern> patterns;
    std::uint32_t batch_events_max = 500;
    std::uint64_t batch_bytes_max = 1U << 20;
    std::string format;  ///< see StreamDefinition
    double requests_per_second = 0;
    StreamDefinition::OnPoison on_poison = StreamDefinition::OnPoison::dead_letter;
    Status status = Status::active;
    std::string reason;         ///< why it is not active, in words
    std::int64_t revision = 1;  ///< see StreamDefinition
    std::int64_t starts = 0;    ///< how often it was set to work: each is a new `Stream`
    TimeUs created_at = kNoTime, updated_at = kNoTime;
    std::string parent;  ///< of a replay: the stream whose events are sent again
    Seq until = kNoSeq;  ///< of a replay: its last event

    [[nodiscard]] bool is_replay() const { return !parent.empty(); }
    [[nodiscard]] StreamDefinition definition() const;
    [[nodiscard]] std::string subscription() const { return "stream." + id; }
    [[nodiscard]] std::string to_row() const;
    /// @error Errc::internal  The row is damaged.
    [[nodiscard]] static Result<AuditStream> from_row(const KvRow& row);
    /// The whole configuration. @error  As `SecretBox::open`.
    [[nodiscard]] Result<boost::json::object> whole_config(const SecretBox& box) const;

    static constexpr const char* kSpace = "host.streams";
};

[[nodiscard]] const char* word(AuditStream::Status status);
[[nodiscard]] const char* word(StreamDefinition::OnPoison on_poison);

}  // namespace annal
