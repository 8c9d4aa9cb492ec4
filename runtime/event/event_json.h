#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/event/event.h"

namespace annal {

/// One thing that is wrong with a posted document.
struct Issue {
    static constexpr std::uint32_t kWhole = UINT32_MAX;
    /// Which event of the call, from 0; kWhole: the document itself.
    std::uint32_t index = kWhole;
    /// NDJSON: line number in the body, from 1; else 0.
    std::uint32_t line = 0;
    /// Byte offset in the document (NDJSON: in the line); -1 when not known.
    std::int64_t offset = -1;
    /// JSON pointer from the event's root: "/actor/type"; "" for the whole. Valid UTF-8, bounded.
    std::string pointer;
    /// malformed, duplicate_key, unknown_field, missing_field, wrong_type, too_long, too_deep,
    /// bad_utf8, nul_character, lone_surrogate, bad_time, bad_ip, bad_action, foreign_project,
    /// contradiction, too_many, empty; and unknown_action from the catalog.
    std::string code;
    std::string detail;  ///< a sentence for people
};

/// A posted document, taken apart. Drafts borrow from the body and from `arena`.
struct ParsedEvents {
    /// malformed: not JSON, nothing can be said about its events; invalid: some events break rules;
    /// too_many: more than kBatchEventsMax events. Other than ok and invalid leave no drafts.
    enum class Status { ok, malformed, invalid, too_many };
    Status status = Status::ok;
    bool single = false;                 ///< the document was one event, not a batch
    std::uint32_t lines = 0;             ///< NDJSON: lines read, blank ones included
    std::vector<EventDraft> drafts;      ///< the valid events, in order
    std::vector<std::uint32_t> indexes;  ///< for each draft its index in the call
    /// Ascending by index; at most kIssuesPerEventMax an event and kIssuesPerRequestMax in all.
    std::vector<Issue> issues;
    Arena arena;
};

/// Takes `body` apart: one event, or `{"events": […]}`. Accepts the native form (nested or flat
/// actor) and the envelope of lists and webhooks, whose `id` becomes external_id and whose
/// `created_at` becomes occurred_at (an explicit external_id or occurred_at wins). metadata is cut
/// from `body` byte for byte. Strict JSON: no duplicate keys (compared after unescaping), no
/// U+0000, well-formed UTF-8, depth and length limits. `project_id` in an event must equal
/// `project`; null is the same as absent; `seq` is read and passed over, so that an export can be
/// posted again. Fills in the defaults of `apply_defaults`. Never throws; linear in the size of
/// `body` (n log n in the keys of one object). `body` must outlive the result.
[[nodiscard]] ParsedEvents parse_events(std::string_view body, std::string_view project);

/// The same for newline-delimited JSON: complete lines, one event each; blank lines are passed
/// over. `first_line` is the number of lines in earlier chunks of the same body; indexes count from
/// 0 in each call. A malformed line is an issue of that line alone: the status is then `invalid`.
[[nodiscard]] ParsedEvents parse_ndjson(
    std::string_view lines, std::string_view project, std::uint32_t first_line
);

/// Checks one draft that did not come from JSON (a plugin's): required columns, lengths, UTF-8,
/// action grammar, ip, metadata. Empty when it is valid.
[[nodiscard]] std::vector<Issue> check_draft(const EventDraft& draft);

/// Fills what a valid draft may leave out: auth_type (actor_type), metadata ({}) and description
/// (the string metadata.description, cut to the column's length). New text lives in `arena`.
void apply_defaults(EventDraft& draft, Arena& arena);

/// Appends the envelope of `event`, without newline: id, action, created_at, project_id,
/// organization_id, user_id, target_type, target_id, metadata, actor with type and id, and nothing
/// else. For events that are not deleted. Source: seeds 001
void append_envelope_json(std::string& out, const Event& event);

/// Appends the canonical JSON of `event`, one line without newline: the ten keys of the envelope
/// always (id, action, created_at, project_id, organization_id, user_id, target_type, target_id,
/// metadata, actor with its email when there is one), then seq and the other columns that are set.
/// metadata is copied byte for byte, but that line breaks between its tokens become spaces.
/// A tombstone is `{"id":…,"seq":…,"deleted":true}`.
void append_canonical_json(std::string& out, const Event& event);

}  // namespace annal
