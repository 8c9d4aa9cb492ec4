#include "runtime/store/sqlite/row.h"

namespace annal::sqlite {
namespace {

constexpr int kFirstText = 6;

std::string make_columns() {
    std::string list = "key, created_at, occurred_at, random, deleted, salt IS NULL";
    for (std::size_t c = 0; c < kColumns; ++c) {
        list += ", ";
        list += name(static_cast<Column>(c));
    }
    return list;
}

}  // namespace

const std::string& row_columns() {
    static const std::string list = make_columns();
    return list;
}

void read_row(
    const Query& row, const std::string& project, const Segment::Keys* erasing, Event& event
) {
    const std::int64_t key = row.integer(0);
    event.seq = seq_of(key);
    event.created_at = row.integer(1);
    event.id = EventId::make(event.created_at, static_cast<std::uint64_t>(row.integer(3)));
    event.project_id = project;
    const auto* const pending = Segment::pending(erasing, key);
    event.deleted = row.integer(4) != 0 || (pending != nullptr && *pending == Segment::kWhole);
    event.erased = !event.deleted && (row.integer(5) != 0 || pending != nullptr);
    if (event.deleted) {
        event.occurred_at = kNoTime;
        event.columns.fill(Text());
        return;
    }
    event.occurred_at = row.is_null(2) ? kNoTime : row.integer(2);
    for (std::size_t c = 0; c < kColumns; ++c) {
        event.columns[c] = row.text(kFirstText + static_cast<int>(c));
    }
    if (pending != nullptr) {
        Scrub{event.seq, *pending}.apply(event.columns);
    }
}

void keep(Event event, const std::string& project, EventBatch& batch) {
    // One copy of the project's name serves the batch.
    event.project_id = batch.events.empty() ? batch.arena.copy(std::string_view(project))
                                            : batch.events.front().project_id;
    for (Text& text : event.columns) {
        text = batch.arena.copy(text);
    }
    batch.events.push_back(event);
}

}  // namespace annal::sqlite
