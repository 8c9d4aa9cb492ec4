#include "runtime/store/postgres/event_rows.h"

namespace annal::postgres {
namespace {

std::string make_columns() {
    std::string list = "e.seq, e.id, e.deleted, e.occurred_at, e.salt IS NULL";
    for (std::size_t c = 0; c < kColumns; ++c) {
        list += ", e.";
        list += name(static_cast<Column>(c));
    }
    return list;
}

enum Fixed : std::size_t { kProject, kSeq, kCreatedAt, kOccurredAt, kId, kLeaf, kSalt, kTexts };
constexpr const char* kFixedNames = "project_id, seq, created_at, occurred_at, id, leaf, salt";

}  // namespace

EventRows::EventRows() {
    using Of = Array::Of;
    for (const Of type :
         {Of::text, Of::int8, Of::timestamptz, Of::int8, Of::uuid, Of::bytea, Of::bytea})
        columns_.emplace_back(type);
    for (std::size_t c = 0; c < kColumns; ++c) columns_.emplace_back(Of::text);
}

void EventRows::add(
    const std::string& project, const SealedEvent& sealed, const EventDraft& draft
) {
    columns_[kProject].text(project);
    columns_[kSeq].number(sealed.seq);
    columns_[kCreatedAt].time(sealed.created_at);
    if (draft.occurred_at == kNoTime) {
        columns_[kOccurredAt].null();
    } else {
        columns_[kOccurredAt].number(draft.occurred_at);
    }
    columns_[kId].bytes(sealed.id.bytes);
    columns_[kLeaf].bytes(sealed.leaf);
    columns_[kSalt].bytes(sealed.salt);
    for (std::size_t c = 0; c < kColumns; ++c) columns_[kTexts + c].text(draft.columns[c]);
}

std::string EventRows::insert_statement(Params& params) {
    std::string names = kFixedNames;
    for (std::size_t c = 0; c < kColumns; ++c) {
        names += ", ";
        names += name(static_cast<Column>(c));
    }
    return "INSERT INTO audit_events (" + names + ", version) SELECT r.*, " +
           std::to_string(kSealVersion) + " FROM " + unnest(columns_, params) + " r";
}

const std::string& event_columns() {
    static const std::string list = make_columns();
    return list;
}

void read_event(
    const Rows& rows, std::size_t row, int column, const std::string& project, EventBatch& batch
) {
    Event event;
    event.seq = rows.integer(row, column);
    event.id = EventId::parse(rows.text(row, column + 1).view()).value_or(EventId{});
    event.created_at = event.id.created_at();
    event.deleted = rows.boolean(row, column + 2);
    // One copy of the project's name serves the batch.
    event.project_id = batch.events.empty() ? batch.arena.copy(std::string_view(project))
                                            : batch.events.front().project_id;
    event.erased = !event.deleted && rows.boolean(row, column + 4);
    if (!event.deleted) {
        if (!rows.is_null(row, column + 3)) event.occurred_at = rows.integer(row, column + 3);
        for (std::size_t c = 0; c < kColumns; ++c)
            event.columns[c] = batch.arena.copy(rows.text(row, column + 5 + static_cast<int>(c)));
    }
    batch.events.push_back(event);
}

}  // namespace annal::postgres
