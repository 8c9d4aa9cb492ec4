#include "runtime/store/postgres/event_rows.h"

namespace annal::postgres {
namespace {

std::string make_columns() {
    std::string list = "e.seq, e.id, e.deleted, e.occurred_at";
    for (std::size_t c = 0; c < kColumns; ++c) {
        list += ", e.";
        list += name(static_cast<Column>(c));
    }
    return list;
}

std::string parameter(Params& params, Array& values, const char* type) {
    params.array(values);
    return "$" + std::to_string(params.size()) + "::" + type + "[]";
}

}  // namespace

EventRows::EventRows()
    : project_(Array::Of::text),
      seq_(Array::Of::int8),
      created_at_(Array::Of::timestamptz),
      occurred_at_(Array::Of::int8),
      id_(Array::Of::uuid),
      leaf_(Array::Of::bytea),
      salt_(Array::Of::bytea),
      columns_(kColumns, Array(Array::Of::text)) {}

void EventRows::add(
    const std::string& project, const SealedEvent& sealed, const EventDraft& draft
) {
    project_.text(project);
    seq_.number(sealed.seq);
    created_at_.time(sealed.created_at);
    if (draft.occurred_at == kNoTime) {
        occurred_at_.null();
    } else {
        occurred_at_.number(draft.occurred_at);
    }
    id_.bytes(sealed.id.bytes);
    leaf_.bytes(sealed.leaf);
    salt_.bytes(sealed.salt);
    for (std::size_t c = 0; c < kColumns; ++c) columns_[c].text(draft.columns[c]);
}

std::string EventRows::insert_statement(Params& params) {
    std::string names = "project_id, seq, created_at, occurred_at, id, leaf, salt";
    std::string arrays = parameter(params, project_, "text");
    arrays += ", " + parameter(params, seq_, "bigint");
    arrays += ", " + parameter(params, created_at_, "timestamptz");
    arrays += ", " + parameter(params, occurred_at_, "bigint");
    arrays += ", " + parameter(params, id_, "uuid");
    arrays += ", " + parameter(params, leaf_, "bytea");
    arrays += ", " + parameter(params, salt_, "bytea");
    for (std::size_t c = 0; c < kColumns; ++c) {
        names += ", ";
        names += name(static_cast<Column>(c));
        arrays += ", " + parameter(params, columns_[c], "text");
    }
    const std::string version = std::to_string(kSealVersion);
    return "INSERT INTO audit_events (" + names + ", version) SELECT r.*, " + version +
           " FROM unnest(" + arrays + ") r(" + names + ")";
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
    if (!event.deleted) {
        if (!rows.is_null(row, column + 3)) event.occurred_at = rows.integer(row, column + 3);
        for (std::size_t c = 0; c < kColumns; ++c)
            event.columns[c] = batch.arena.copy(rows.text(row, column + 4 + static_cast<int>(c)));
    }
    batch.events.push_back(event);
}

}  // namespace annal::postgres
