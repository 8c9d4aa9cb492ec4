#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/core/time_text.h"
#include "runtime/event/catalog.h"
#include "runtime/event/event_json.h"
#include "runtime/plugin/call.h"
#include "runtime/plugin/service_catalog.h"
#include "runtime/plugin/services.h"

namespace annal {
namespace {

constexpr std::size_t kRefusedMax = 1'000;  // issues of a strict project's request

/// A parsed document in the contract's form; kept by the call.
struct ParsedDocument {
    ParsedEvents parsed;
    std::string project;
    std::vector<annal_event> events;
    annal_batch batch{};
};

annal_status to_abi(ParsedEvents::Status status) {
    switch (status) {
        case ParsedEvents::Status::ok:
            return ANNAL_OK;
        case ParsedEvents::Status::malformed:
            return ANNAL_INVALID;
        case ParsedEvents::Status::invalid:
            return ANNAL_UNPROCESSABLE;
        case ParsedEvents::Status::too_many:
            return ANNAL_TOO_LARGE;
    }
    return ANNAL_INTERNAL;
}

annal_event to_event(const EventDraft& draft, std::string_view project) {
    Event event;
    event.columns = draft.columns;
    event.occurred_at = draft.occurred_at;
    event.project_id = project;
    annal_event out = annal::to_abi(event, {});
    out.id = {nullptr, 0};
    out.idempotency_key = annal::to_abi(draft.idempotency_key);
    return out;
}

/// Issues go into the arena, not into the document: a caller gathers them over many chunks.
const annal_issue* copy_issues(Call& call, const std::vector<Issue>& issues) {
    auto* out = static_cast<annal_issue*>(
        call.allocate(sizeof(annal_issue) * issues.size(), alignof(annal_issue))
    );
    if (out == nullptr) return nullptr;
    for (std::size_t i = 0; i < issues.size(); ++i) {
        const Issue& issue = issues[i];
        out[i] = {
            issue.index,
            issue.line,
            issue.offset,
            call.copy(issue.pointer),
            call.copy(issue.code),
            call.copy(issue.detail)};
        if (out[i].pointer.ptr == nullptr || out[i].code.ptr == nullptr ||
            out[i].detail.ptr == nullptr) {
            return nullptr;
        }
    }
    return out;
}

/// The line, from 1, of each event of `lines`; blank lines hold none.
std::vector<std::uint32_t> lines_of_events(std::string_view lines, std::uint32_t first_line) {
    std::vector<std::uint32_t> out;
    for (std::uint32_t line = first_line + 1; !lines.empty(); ++line) {
        const std::size_t end = std::min(lines.find('\n'), lines.size());
        const bool blank =
            lines.substr(0, end).find_first_not_of(" \t\r") == std::string_view::npos;
        if (!blank) out.push_back(line);
        lines.remove_prefix(std::min(end + 1, lines.size()));
    }
    return out;
}

/// Moves the drafts that a strict project refuses from the valid ones to the issues.
void refuse_unknown(
    ParsedEvents& parsed, std::string_view body, std::uint32_t form, std::uint32_t first_line
) {
    std::vector<EventDraft> drafts;
    std::vector<std::uint32_t> indexes;
    std::vector<Issue> refused;
    for (std::size_t i = 0; i < parsed.drafts.size(); ++i) {
        std::vector<Issue> issues = Catalog::shipped().strict_check(parsed.drafts[i]);
        if (issues.empty()) {
            drafts.push_back(parsed.drafts[i]);
            indexes.push_back(parsed.indexes[i]);
        }
        for (Issue& issue : issues) {
            issue.index = parsed.indexes[i];
            if (refused.size() < kRefusedMax) refused.push_back(std::move(issue));
        }
    }
    if (drafts.size() == parsed.drafts.size()) return;
    if (form == ANNAL_PARSE_NDJSON) {
        const auto lines = lines_of_events(body, first_line);
        for (Issue& issue : refused)
            issue.line = issue.index < lines.size() ? lines[issue.index] : 0;
    }
    parsed.drafts = std::move(drafts);
    parsed.indexes = std::move(indexes);
    parsed.issues.insert(parsed.issues.end(), refused.begin(), refused.end());
    std::stable_sort(
        parsed.issues.begin(),
        parsed.issues.end(),
        [](const Issue& a, const Issue& b) { return a.index < b.index; }
    );
    parsed.status = ParsedEvents::Status::invalid;
}

/// The batch of the valid events. Null when there are none.
const annal_batch* make_batch(ParsedDocument& document) {
    const std::vector<EventDraft>& drafts = document.parsed.drafts;
    if (drafts.empty()) return nullptr;
    document.events.reserve(drafts.size());
    for (const EventDraft& draft : drafts)
        document.events.push_back(to_event(draft, document.project));
    document.batch = {
        sizeof(annal_batch),
        static_cast<std::uint32_t>(drafts.size()),
        sizeof(annal_event),
        0,
        document.events.data(),
        annal::to_abi(std::string_view(document.project)),
    };
    return &document.batch;
}

annal_status parse_in(
    const annal_ctx& ctx,
    Call& call,
    std::string_view body,
    std::uint32_t form,
    std::uint32_t first_line,
    const annal_parsed** out
) {
    auto document = std::make_shared<ParsedDocument>();
    document->project = call.options().project;
    ParsedEvents& parsed = document->parsed;
    parsed = form == ANNAL_PARSE_NDJSON ? parse_ndjson(body, document->project, first_line)
                                        : parse_events(body, document->project);
    const bool usable =
        parsed.status == ParsedEvents::Status::ok || parsed.status == ParsedEvents::Status::invalid;
    if (usable && is_strict(ctx.environment.settings, document->project)) {
        refuse_unknown(parsed, body, form, first_line);
    }
    auto* result =
        static_cast<annal_parsed*>(call.allocate(sizeof(annal_parsed), alignof(annal_parsed)));
    const annal_issue* issues = copy_issues(call, parsed.issues);
    if (result == nullptr || issues == nullptr) return ANNAL_TOO_LARGE;
    const annal_batch* batch = make_batch(*document);
    *result = {
        sizeof(annal_parsed),
        to_abi(parsed.status),
        parsed.single ? 1U : 0U,
        parsed.lines,
        batch,
        batch != nullptr ? parsed.indexes.data() : nullptr,
        static_cast<std::uint32_t>(parsed.issues.size()),
        sizeof(annal_issue),
        issues,
    };
    parsed.issues = {};
    if (batch != nullptr) {
        const std::size_t bytes =
            sizeof(ParsedDocument) + parsed.arena.bytes() +
            batch->count * (sizeof(annal_event) + sizeof(EventDraft) + sizeof(std::uint32_t));
        call.keep_parsed(batch->events, batch->stride, batch->count, bytes, document);
    }
    *out = result;
    return ANNAL_OK;
}

annal_status parse(
    annal_ctx* ctx,
    annal_call* handle,
    annal_bytes body,
    std::uint32_t form,
    std::uint32_t first_line,
    const annal_parsed** out
) noexcept {
    *out = nullptr;
    const auto call = Call::share(handle);
    if (!call || (form != ANNAL_PARSE_JSON && form != ANNAL_PARSE_NDJSON)) return ANNAL_INVALID;
    const char* text = body.ptr != nullptr ? reinterpret_cast<const char*>(body.ptr) : "";
    return parse_in(*ctx, *call, {text, body.ptr != nullptr ? body.len : 0}, form, first_line, out);
}

Event to_event(const annal_event& event) {
    Event out;
    out.id = EventId::parse(to_view(event.id)).value_or(EventId{});
    out.seq = event.seq;
    out.created_at = event.created_at_us;
    out.occurred_at = event.occurred_at_us;
    out.project_id = to_view(event.project_id);
    out.columns = to_draft(event).columns;
    out.deleted = (event.flags & ANNAL_EVENT_DELETED) != 0;
    out.erased = (event.flags & ANNAL_EVENT_ERASED) != 0;
    return out;
}

annal_status render(
    annal_ctx*, const annal_event* event, std::uint32_t form, const annal_writer* out
) noexcept {
    if (form != ANNAL_RENDER_CANONICAL) return ANNAL_UNSUPPORTED;
    thread_local std::string text;
    text.clear();
    append_canonical_json(text, to_event(*event));
    std::size_t cap = 0;
    std::uint8_t* room = out->reserve(out->w, text.size(), &cap);
    if (room == nullptr || cap < text.size()) return ANNAL_TOO_LARGE;
    std::memcpy(room, text.data(), text.size());
    out->commit(out->w, text.size());
    return ANNAL_OK;
}

annal_status parse_text_time(annal_ctx*, annal_str text, std::int64_t* out_us) noexcept {
    const auto at = parse_time(to_view(text));
    if (!at) return ANNAL_INVALID;
    *out_us = at.value();
    return ANNAL_OK;
}

void format_text_time(annal_ctx*, std::int64_t time_us, char out[28]) noexcept {
    const std::string text = annal::format_time(time_us);
    std::memset(out, 0, 28);
    std::memcpy(out, text.data(), std::min<std::size_t>(text.size(), 27));
}

}  // namespace

const annal_codec_v1 kCodecService{
    sizeof(annal_codec_v1), 0, &parse, &render, &parse_text_time, &format_text_time};

}  // namespace annal
