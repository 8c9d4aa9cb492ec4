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
    std::uint32_t index =
        kWhole;              ///< which event of the request, from 0; kWhole: the request itself
    std::uint32_t line = 0;  ///< NDJSON: line number from 1; else 0
    std::int64_t offset =
        -1;               ///< byte offset in the document (NDJSON: in the line); -1 when not known
    std::string pointer;  ///< JSON pointer from the event's root: "/actor/type"; "" for the whole
    std::string code;     ///< malformed, duplicate_key, unknown_field, missing_field, wrong_type,
                       ///< too_long, too_deep, bad_utf8, nul_character, bad_time, bad_ip,
                       ///< bad_action, foreign_project, …
    std::string detail;  ///< a sentence for people
};

/// A posted document, taken apart. Drafts borrow from the body and from `arena`.
struct ParsedEvents {
    enum class Status { ok, malformed, invalid, too_many };
    Status status = Status::ok;  ///< malformed: not JSON at all; invalid: some events break rules
    bool single = false;         ///< the document was one event, not a batch
    std::uint32_t lines = 0;     ///< NDJSON: lines read, blank ones included
    std::vector<EventDraft> drafts;      ///< the valid events, in order
    std::vector<std::uint32_t> indexes;  ///< for each draft its index in the request
    std::vector<Issue> issues;           ///< ascending by index
    Arena arena;
};

/// Takes `body` apart: one event, or `{"events": […]}`. Accepts the native form (nested or flat
/// actor) and the envelope of lists and webhooks, whose `id` becomes external_id and whose
/// `created_at` becomes occurred_at (an explicit external_id or occurred_at wins). metadata is cut
/// from `body` byte for byte. Strict JSON: no duplicate keys (compared after unescaping), no
/// U+0000, well-formed UTF-8, depth and length limits. `project_id` in an event must equal
/// `project`. Never throws; linear in the size of `body`. `body` must outlive the result.
[[nodiscard]] ParsedEvents parse_events(std::string_view body, std::string_view project);

/// The same for newline-delimited JSON: complete lines, one event each; blank lines are passed
/// over. `first_line` is the number of lines in earlier chunks of the same body.
[[nodiscard]] ParsedEvents parse_ndjson(
    std::string_view lines, std::string_view project, std::uint32_t first_line
);

/// Checks one draft that did not come from JSON (a plugin's): required columns, lengths, UTF-8,
/// action grammar, ip, metadata. Empty when it is valid.
[[nodiscard]] std::vector<Issue> check_draft(const EventDraft& draft);

/// Appends the canonical JSON of `event`, one line without newline: the ten keys of the envelope
/// always (id, action, created_at, project_id, organization_id, user_id, target_type, target_id,
/// metadata, actor), then seq and the other columns that are set. metadata is copied byte for byte.
/// A tombstone is `{"id":…,"seq":…,"deleted":true}`.
void append_canonical_json(std::string& out, const Event& event);

}  // namespace annal
