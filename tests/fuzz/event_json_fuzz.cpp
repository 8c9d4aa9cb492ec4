// Feeds arbitrary bytes to the event reader and checks what it promises of any input: text it takes
// is text, what it renders is one line that it reads again, and issues are bounded.

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/core/json_text.h"
#include "runtime/core/limits.h"
#include "runtime/event/catalog.h"
#include "runtime/event/event_json.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using annal::Column;
using annal::ParsedEvents;
using annal::fuzz::require;

constexpr std::string_view kProject = "proj_a";

annal::Event stored(const annal::EventDraft& draft) {
    annal::Event event;
    event.id = annal::EventId::make(1'778'784'133'001'000, 1);
    event.seq = 1;
    event.created_at = 1'778'784'133'001'000;
    event.occurred_at = draft.occurred_at;
    event.project_id = kProject;
    event.columns = draft.columns;
    return event;
}

void check_valid(const annal::EventDraft& draft) {
    require(annal::check_draft(draft).empty());
    (void)annal::Catalog::shipped().strict_check(draft);
    std::string line;
    annal::append_canonical_json(line, stored(draft));
    require(line.find_first_of("\r\n") == std::string::npos);
    const ParsedEvents again = annal::parse_events(line, kProject);
    require(again.status == ParsedEvents::Status::ok && again.drafts.size() == 1);
    for (std::size_t i = 0; i + 1 < annal::kColumns; ++i) {
        if (static_cast<Column>(i) != Column::external_id) {
            require(again.drafts[0].columns[i] == draft.columns[i]);
        }
    }
}

void check(const ParsedEvents& parsed) {
    require(parsed.issues.size() <= annal::kIssuesPerRequestMax);
    require(parsed.drafts.size() == parsed.indexes.size());
    require((parsed.status == ParsedEvents::Status::ok) == parsed.issues.empty());
    for (const annal::Issue& issue : parsed.issues) {
        require(annal::is_utf8(issue.pointer) && annal::is_utf8(issue.detail));
        require(!issue.code.empty() && issue.pointer.size() < 1024);
    }
    for (const annal::EventDraft& draft : parsed.drafts) {
        check_valid(draft);
    }
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    check(annal::parse_events(text, kProject));
    check(annal::parse_ndjson(text, kProject, 0));
    annal::EventDraft draft;
    draft[Column::action] = "a.b";
    draft[Column::actor_type] = "user";
    draft[Column::metadata] = text;
    if (annal::check_draft(draft).empty()) {
        annal::Arena arena;
        annal::apply_defaults(draft, arena);
        check_valid(draft);
    }
    return 0;
}
