#include "runtime/event/event_json.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>

#include "runtime/core/json_text.h"
#include "runtime/core/limits.h"
#include "runtime/core/time_text.h"
#include "runtime/event/draft_check.h"
#include "runtime/event/json_scanner.h"

namespace annal {
namespace {

using Kind = JsonScanner::Kind;

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr std::string_view kByteOrderMarkDetail =
    "the text begins with a byte order mark (EF BB BF); send UTF-8 without one";
/// Levels of nesting that a value of no meaning may have before it is called too deep.
constexpr std::size_t kForeignDepthMax = kMetadataDepthMax;

/// What a key of an event means. The first values are those of `Column`.
enum class Field : std::uint8_t {
    external_id,
    action,
    actor_type,
    actor_id,
    actor_email,
    auth_type,
    user_id,
    organization_id,
    client_id,
    issuer_id,
    agent_id,
    target_type,
    target_id,
    ip,
    user_agent,
    description,
    metadata,
    id,
    created_at,
    occurred_at,
    project_id,
    seq,
    actor,
    idempotency_key,
};
static_assert(static_cast<std::size_t>(Field::metadata) + 1 == kColumns);
static_assert(static_cast<std::size_t>(Field::ip) == static_cast<std::size_t>(Column::ip));

struct FieldName {
    std::string_view name;
    Field field;
};

/// Ordered by length, then by how often a key of that length is met.
constexpr std::array kFieldNames = std::to_array<FieldName>({
    {"id", Field::id},
    {"ip", Field::ip},
    {"seq", Field::seq},
    {"actor", Field::actor},
    {"action", Field::action},
    {"user_id", Field::user_id},
    {"metadata", Field::metadata},
    {"actor_id", Field::actor_id},
    {"agent_id", Field::agent_id},
    {"target_id", Field::target_id},
    {"auth_type", Field::auth_type},
    {"client_id", Field::client_id},
    {"issuer_id", Field::issuer_id},
    {"created_at", Field::created_at},
    {"project_id", Field::project_id},
    {"actor_type", Field::actor_type},
    {"user_agent", Field::user_agent},
    {"target_type", Field::target_type},
    {"occurred_at", Field::occurred_at},
    {"description", Field::description},
    {"external_id", Field::external_id},
    {"actor_email", Field::actor_email},
    {"organization_id", Field::organization_id},
    {"idempotency_key", Field::idempotency_key},
});
constexpr std::size_t kFieldNameMax = 15;

/// For each length the first index into kFieldNames that is not shorter.
constexpr auto kFirstOfLength = [] {
    std::array<std::uint8_t, kFieldNameMax + 2> first{};
    for (std::size_t length = 0; length < first.size(); ++length) {
        std::size_t i = 0;
        while (i < kFieldNames.size() && kFieldNames[i].name.size() < length) {
            ++i;
        }
        first[length] = static_cast<std::uint8_t>(i);
    }
    return first;
}();

std::optional<Field> field_of(std::string_view key) {
    if (key.size() > kFieldNameMax) {
        return std::nullopt;
    }
    for (std::size_t i = kFirstOfLength[key.size()]; i < kFirstOfLength[key.size() + 1]; ++i) {
        if (kFieldNames[i].name == key) {
            return kFieldNames[i].field;
        }
    }
    return std::nullopt;
}

std::string_view name_of(Kind kind) {
    switch (kind) {
        case Kind::object:
            return "an object";
        case Kind::array:
            return "an array";
        case Kind::string:
            return "a string";
        case Kind::number:
            return "a number";
        case Kind::boolean:
            return "a boolean";
        case Kind::null:
            return "null";
        case Kind::nothing:
            break;
    }
    return "nothing";
}

std::string not_a(std::string_view wanted, Kind kind) {
    return "must be " + std::string(wanted) + ", not " + std::string(name_of(kind));
}

/// Reads the events of one document or one line into a `ParsedEvents`.
class EventReader final : private JsonProblems {
public:
    EventReader(std::string_view document, std::string_view project, ParsedEvents& out)
        : scanner_(document, out.arena, *this), document_(document), project_(project), out_(out) {}

    /// One event or a batch. False: malformed.
    bool document() {
        switch (scanner_.peek()) {
            case Kind::object:
                return whole_object() && scanner_.end();
            case Kind::nothing:
                return scanner_.fail_expected(
                    "one event, {\"events\": […]}, or lines of events as application/x-ndjson"
                );
            default:
                break;
        }
        add("",
            "wrong_type",
            0,
            "must be one event or {\"events\": […]}, not " + std::string(name_of(scanner_.peek())));
        return scanner_.skip(kForeignDepthMax) && scanner_.end();
    }

    /// One event and nothing else. False: malformed.
    bool line(std::string_view text, std::uint32_t number, std::uint32_t index) {
        document_ = text;
        line_ = number;
        scanner_.restart(text);
        return event(index) && scanner_.end();
    }

    [[nodiscard]] Issue malformed(std::uint32_t index) const {
        Issue issue;
        issue.index = index;
        issue.line = line_;
        issue.offset = static_cast<std::int64_t>(scanner_.error_offset());
        issue.code = "malformed";
        issue.detail = scanner_.error_detail() + position();
        return issue;
    }

private:
    /// What belongs to the event that is being read.
    struct Current {
        EventDraft draft;
        Text id, actor_type, actor_id, actor_email;  // from `id` and the nested actor
        Text fallback_description;
        TimeUs created_at = kNoTime;
        bool action_refused = false;  // there, but of the wrong type: not missing
        bool actor_refused = false;
        bool nested_actor = false;
        bool flat_actor = false;
        bool events_key = false;
        std::uint32_t issues = 0;
    };

    [[nodiscard]] std::string position() const {
        const std::string_view before = document_.substr(0, scanner_.error_offset());
        const auto breaks = std::count(before.begin(), before.end(), '\n');
        const std::size_t last = before.rfind('\n');
        const std::size_t column =
            before.size() - (last == std::string_view::npos ? 0 : last + 1) + 1;
        std::string out = " (";
        if (line_ == 0) {
            out += "line " + std::to_string(breaks + 1) + ", ";
        }
        return out + "column " + std::to_string(column) + ", byte " +
               std::to_string(scanner_.error_offset()) + ")";
    }

    void problem(std::string_view code, std::size_t offset, std::string detail) override {
        add(scanner_.pointer(), code, offset, std::move(detail));
    }

    void add(std::string pointer, std::string_view code, std::size_t offset, std::string detail) {
        ++current_.issues;
        if (current_.issues > kIssuesPerEventMax || out_.issues.size() >= kIssuesPerRequestMax) {
            return;
        }
        out_.issues.push_back(
            {index_,
             line_,
             static_cast<std::int64_t>(offset),
             std::move(pointer),
             std::string(code),
             std::move(detail)}
        );
    }

    void add_here(std::string_view code, std::string detail) {
        add(scanner_.pointer(), code, scanner_.offset(), std::move(detail));
    }

    /// `{"events": […]}` shows by its first key; everything else is one event.
    bool whole_object() {
        bool batch = false;
        bool first = true;
        begin_event(0);
        event_offset_ = scanner_.offset();
        const auto on_member = [&](std::string_view key, std::size_t key_offset) {
            if (std::exchange(first, false) && key == "events") {
                batch = true;
                index_ = Issue::kWhole;
                return events();
            }
            if (batch) {
                add_here_at(
                    key_offset, "unknown_field", "stands beside `events`, which must be alone"
                );
                return scanner_.skip(kForeignDepthMax);
            }
            return member(key, key_offset);
        };
        if (!scanner_.object(on_member)) {
            return false;
        }
        if (batch) {
            return true;
        }
        out_.single = true;
        if (current_.events_key) {
            out_.issues.clear();
            index_ = Issue::kWhole;
            add("/events",
                "unknown_field",
                event_offset_,
                "`events` must be alone in its object: move the other keys into the events");
            return true;
        }
        finish_event();
        return true;
    }

    bool events() {
        if (const Kind kind = scanner_.peek(); kind != Kind::array) {
            add_here("wrong_type", not_a("an array of events", kind));
            return scanner_.skip(kForeignDepthMax);
        }
        std::uint32_t count = 0;
        const std::size_t offset = scanner_.offset();
        const auto on_element = [&](std::uint32_t index) {
            count = index + 1;
            // Beyond the limit only the grammar is still read.
            return index < kBatchEventsMax ? event(index) : scanner_.skip(kForeignDepthMax);
        };
        if (!scanner_.array(on_element)) {
            return false;
        }
        current_ = Current();
        index_ = Issue::kWhole;
        scanner_.reset_root();
        if (count == 0) {
            add("/events", "empty", offset, "needs at least one event");
        } else if (count > kBatchEventsMax) {
            too_many(count, offset);
        }
        return true;
    }

    void too_many(std::uint32_t count, std::size_t offset) {
        out_.issues.clear();
        current_.issues = 0;
        add("/events",
            "too_many",
            offset,
            std::to_string(count) + " events in one request; at most " +
                std::to_string(kBatchEventsMax) + " are allowed, or send them as NDJSON");
        out_.status = ParsedEvents::Status::too_many;
    }

    void begin_event(std::uint32_t index) {
        index_ = index;
        current_ = Current();
        scanner_.set_root();
        scanner_.reset_depth_report();
    }

    bool event(std::uint32_t index) {
        begin_event(index);
        if (const Kind kind = scanner_.peek(); kind != Kind::object) {
            if (kind == Kind::nothing) {
                return scanner_.fail_expected("an event");
            }
            add_here("wrong_type", "an event " + not_a("an object", kind));
            return scanner_.skip(kForeignDepthMax);
        }
        event_offset_ = scanner_.offset();
        if (!scanner_.object([&](std::string_view key, std::size_t key_offset) {
                return member(key, key_offset);
            })) {
            return false;
        }
        finish_event();
        return true;
    }

    bool member(std::string_view key, std::size_t key_offset) {
        const auto field = field_of(key);
        if (!field) {
            if (key == "events") {
                current_.events_key = true;
            }
            add_here_at(
                key_offset,
                "unknown_field",
                "is not a field of an event; put what is your own into metadata"
            );
            return scanner_.skip(kForeignDepthMax);
        }
        switch (*field) {
            case Field::metadata:
                return metadata();
            case Field::id:
                return checked_text(Column::external_id, current_.id);
            case Field::created_at:
                return time(current_.created_at);
            case Field::occurred_at:
                return time(current_.draft.occurred_at);
            case Field::project_id:
                return project();
            case Field::seq:
                return seq();
            case Field::actor:
                return actor();
            case Field::idempotency_key:
                return idempotency_key();
            case Field::actor_type:
            case Field::actor_id:
            case Field::actor_email:
                current_.flat_actor = true;
                break;
            default:
                break;
        }
        const auto column = static_cast<Column>(*field);
        return checked_text(column, current_.draft[column]);
    }

    void add_here_at(std::size_t offset, std::string_view code, std::string detail) {
        add(scanner_.pointer(), code, offset, std::move(detail));
    }

    /// A string or null; anything else is an issue and leaves `out` null.
    bool text(Text& out) {
        switch (const Kind kind = scanner_.peek()) {
            case Kind::string: {
                JsonScanner::String raw;
                if (!scanner_.string(raw)) {
                    return false;
                }
                out = scanner_.text(raw);
                return true;
            }
            case Kind::null:
                return scanner_.literal("null");
            default:
                if (kind != Kind::nothing) {
                    add_here("wrong_type", not_a("a string or null", kind));
                }
                return scanner_.skip(kForeignDepthMax);
        }
    }

    bool checked_text(Column column, Text& out) {
        (void)scanner_.peek();
        const std::size_t offset = scanner_.offset();
        const std::uint32_t issues_before = current_.issues;
        if (!text(out)) {
            return false;
        }
        if (!out.is_null()) {
            report(check_column(column, out.view()), offset);
        } else if (current_.issues > issues_before) {
            current_.action_refused |= column == Column::action;
            current_.actor_refused |= column == Column::actor_type;
        }
        return true;
    }

    void report(ColumnProblem found, std::size_t offset) {
        if (!found.code.empty()) {
            add_here_at(offset, found.code, std::move(found.detail));
        }
    }

    bool time(TimeUs& out) {
        (void)scanner_.peek();
        const std::size_t offset = scanner_.offset();
        Text written;
        if (!text(written)) {
            return false;
        }
        if (written.is_null()) {
            return true;
        }
        if (const auto at = parse_time(written.view())) {
            out = at.value();
        } else {
            add_here_at(offset, "bad_time", at.error().detail);
        }
        return true;
    }

    bool project() {
        (void)scanner_.peek();
        const std::size_t offset = scanner_.offset();
        Text named;
        if (!text(named)) {
            return false;
        }
        if (!named.is_null() && named.view() != project_) {
            add_here_at(
                offset,
                "foreign_project",
                "names another project than the one of the API key, which is " +
                    std::string(project_) + "; use that project's key or leave the field out"
            );
        }
        return true;
    }

    bool seq() {
        const Kind kind = scanner_.peek();
        if (kind != Kind::number && kind != Kind::null && kind != Kind::nothing) {
            add_here("wrong_type", not_a("a number or null", kind));
        }
        return scanner_.skip(kForeignDepthMax);
    }

    bool idempotency_key() {
        (void)scanner_.peek();
        const std::size_t offset = scanner_.offset();
        Text& key = current_.draft.idempotency_key;
        if (!text(key)) {
            return false;
        }
        if (!key.is_null()) {
            report(check_idempotency_key(key.view()), offset);
        }
        return true;
    }

    bool actor() {
        const Kind kind = scanner_.peek();
        if (kind != Kind::object) {
            if (kind != Kind::null && kind != Kind::nothing) {
                add_here("wrong_type", not_a("an object with type, id and email", kind));
                current_.actor_refused = true;
            }
            return scanner_.skip(kForeignDepthMax);
        }
        current_.nested_actor = true;
        return scanner_.object([&](std::string_view key, std::size_t key_offset) {
            if (key == "type") {
                return checked_text(Column::actor_type, current_.actor_type);
            }
            if (key == "id") {
                return checked_text(Column::actor_id, current_.actor_id);
            }
            if (key == "email") {
                return checked_text(Column::actor_email, current_.actor_email);
            }
            add_here_at(
                key_offset,
                "unknown_field",
                "is not a field of an actor, which has type, id and email"
            );
            return scanner_.skip(kForeignDepthMax);
        });
    }

    bool metadata() {
        const Kind kind = scanner_.peek();
        if (kind != Kind::object) {
            if (kind != Kind::null && kind != Kind::nothing) {
                add_here("wrong_type", not_a("an object", kind));
            }
            return scanner_.skip(kForeignDepthMax);
        }
        const std::size_t begin = scanner_.offset();
        if (!scanner_.object([&](std::string_view key, std::size_t) { return metadata_member(key); }
            )) {
            return false;
        }
        const std::string_view raw = scanner_.between(begin, scanner_.offset());
        report(check_column(Column::metadata, raw), begin);
        current_.draft[Column::metadata] = raw;
        return true;
    }

    bool metadata_member(std::string_view key) {
        if (key != "description" || scanner_.peek() != Kind::string) {
            return scanner_.skip(kMetadataDepthMax - 1);
        }
        JsonScanner::String value;
        if (!scanner_.string(value)) {
            return false;
        }
        current_.fallback_description =
            utf8_prefix(scanner_.text(value), size_max(Column::description));
        return true;
    }

    /// The nested and the flat form may both be there when they agree.
    void merge(Column column, const Text& nested) {
        Text& flat = current_.draft[column];
        if (nested.is_null() || flat == nested) {
            return;
        }
        if (flat.is_null()) {
            flat = nested;
            return;
        }
        add("/" + std::string(name(column)),
            "contradiction",
            event_offset_,
            "differs from the same value in actor; give it once");
    }

    void require_fields() {
        if (current_.draft[Column::action].is_null() && !current_.action_refused) {
            missing("/action");
        }
        if (!current_.draft[Column::actor_type].is_null() || current_.actor_refused) {
            return;
        }
        if (current_.nested_actor) {
            missing("/actor/type");
        } else {
            missing(current_.flat_actor ? "/actor_type" : "/actor");
        }
    }

    void missing(std::string pointer) {
        std::string detail = pointer == "/actor" ? "an event needs this field, with at least a type"
                                                 : "an event needs this field";
        add(std::move(pointer), "missing_field", event_offset_, std::move(detail));
    }

    void finish_event() {
        EventDraft& draft = current_.draft;
        merge(Column::actor_type, current_.actor_type);
        merge(Column::actor_id, current_.actor_id);
        merge(Column::actor_email, current_.actor_email);
        require_fields();
        if (current_.issues > 0) {
            return;
        }
        if (draft[Column::external_id].is_null()) {
            draft[Column::external_id] = current_.id;
        }
        if (draft.occurred_at == kNoTime) {
            draft.occurred_at = current_.created_at;
        }
        if (draft[Column::auth_type].is_null()) {
            draft[Column::auth_type] = draft[Column::actor_type];
        }
        if (draft[Column::metadata].is_null()) {
            draft[Column::metadata] = "{}";
        }
        if (draft[Column::description].is_null()) {
            draft[Column::description] = current_.fallback_description;
        }
        out_.drafts.push_back(draft);
        out_.indexes.push_back(index_);
    }

    JsonScanner scanner_;
    std::string_view document_;
    std::string_view project_;
    std::uint32_t line_ = 0;
    ParsedEvents& out_;
    Current current_;
    std::uint32_t index_ = Issue::kWhole;
    std::size_t event_offset_ = 0;
};

void refuse_whole(ParsedEvents& out, Issue issue, ParsedEvents::Status status) {
    out.drafts.clear();
    out.indexes.clear();
    out.issues.clear();
    out.issues.push_back(std::move(issue));
    out.status = status;
}

Issue byte_order_mark(std::uint32_t index, std::uint32_t line) {
    Issue issue;
    issue.index = index;
    issue.line = line;
    issue.offset = 0;
    issue.code = "malformed";
    issue.detail = kByteOrderMarkDetail;
    return issue;
}

void append_issue(ParsedEvents& out, Issue issue) {
    if (out.issues.size() < kIssuesPerRequestMax) {
        out.issues.push_back(std::move(issue));
    }
}

/// Takes back what was read of an event before its line turned out to be malformed.
void drop_event(ParsedEvents& out, std::uint32_t index) {
    if (!out.indexes.empty() && out.indexes.back() == index) {
        out.drafts.pop_back();
        out.indexes.pop_back();
    }
    while (!out.issues.empty() && out.issues.back().index == index) {
        out.issues.pop_back();
    }
}

bool is_blank(std::string_view line) {
    return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

ParsedEvents parse_events(std::string_view body, std::string_view project) {
    ParsedEvents out;
    if (body.starts_with(kByteOrderMark)) {
        refuse_whole(out, byte_order_mark(Issue::kWhole, 0), ParsedEvents::Status::malformed);
        return out;
    }
    EventReader reader(body, project, out);
    if (!reader.document()) {
        refuse_whole(out, reader.malformed(Issue::kWhole), ParsedEvents::Status::malformed);
    } else if (out.status == ParsedEvents::Status::too_many) {
        out.drafts.clear();
        out.indexes.clear();
    } else if (!out.issues.empty()) {
        out.status = ParsedEvents::Status::invalid;
    }
    return out;
}

ParsedEvents parse_ndjson(
    std::string_view lines, std::string_view project, std::uint32_t first_line
) {
    ParsedEvents out;
    EventReader reader(lines, project, out);
    std::uint32_t index = 0;
    while (!lines.empty()) {
        const std::size_t end = std::min(lines.find('\n'), lines.size());
        std::string_view line = lines.substr(0, end);
        lines.remove_prefix(std::min(end + 1, lines.size()));
        ++out.lines;
        if (is_blank(line)) {
            continue;
        }
        const std::uint32_t number = first_line + out.lines;
        if (index == kBatchEventsMax) {
            Issue issue;
            issue.line = number;
            issue.code = "too_many";
            issue.detail = "more than " + std::to_string(kBatchEventsMax) + " events in one piece";
            refuse_whole(out, std::move(issue), ParsedEvents::Status::too_many);
            return out;
        }
        if (line.starts_with(kByteOrderMark)) {
            append_issue(out, byte_order_mark(index, number));
        } else if (!reader.line(line, number, index)) {
            drop_event(out, index);
            append_issue(out, reader.malformed(index));
        }
        ++index;
    }
    if (out.drafts.size() < index) {
        out.status = ParsedEvents::Status::invalid;
    }
    return out;
}

}  // namespace annal
