#include "runtime/core/json_text.h"
#include "runtime/core/time_text.h"
#include "runtime/event/event_json.h"

namespace annal {
namespace {

void append_nullable(std::string& out, const Text& text) {
    if (text.is_null()) {
        out += "null";
    } else {
        append_json_string(out, text.view());
    }
}

void append_time(std::string& out, TimeUs at) {
    out += '"';
    out += format_time(at);
    out += '"';
}

void append_key(std::string& out, std::string_view key) {
    out += ",\"";
    out += key;
    out += "\":";
}

void append_column(std::string& out, const Event& event, Column column) {
    append_key(out, name(column));
    append_nullable(out, event[column]);
}

void append_column_if_set(std::string& out, const Event& event, Column column) {
    if (!event[column].is_null()) {
        append_column(out, event, column);
    }
}

/// JSON strings hold no raw line breaks: those in the text stand between tokens, where a space
/// means the same and keeps the event on its line.
void append_metadata(std::string& out, const Text& metadata) {
    if (metadata.is_null()) {
        out += "{}";
        return;
    }
    const std::size_t begin = out.size();
    out += metadata.view();
    for (std::size_t i = out.find_first_of("\r\n", begin); i != std::string::npos;
         i = out.find_first_of("\r\n", i + 1)) {
        out[i] = ' ';
    }
}

/// All but the actor's and the object's end.
void append_beginning(std::string& out, const Event& event) {
    out += R"({"id":")";
    out += event.id.text();
    out += '"';
    append_column(out, event, Column::action);
    append_key(out, "created_at");
    append_time(out, event.created_at);
    append_key(out, "project_id");
    append_json_string(out, event.project_id);
    append_column(out, event, Column::organization_id);
    append_column(out, event, Column::user_id);
    append_column(out, event, Column::target_type);
    append_column(out, event, Column::target_id);
    append_key(out, name(Column::metadata));
    append_metadata(out, event[Column::metadata]);
    out += R"(,"actor":{"type":)";
    append_nullable(out, event[Column::actor_type]);
    out += R"(,"id":)";
    append_nullable(out, event[Column::actor_id]);
}

void append_email(std::string& out, const Event& event) {
    if (!event[Column::actor_email].is_null()) {
        out += R"(,"email":)";
        append_nullable(out, event[Column::actor_email]);
    }
}

void append_tombstone(std::string& out, const Event& event) {
    out += R"({"id":")";
    out += event.id.text();
    out += R"(","seq":)";
    append_int(out, event.seq);
    out += R"(,"deleted":true})";
}

}  // namespace

void append_envelope_json(std::string& out, const Event& event) {
    append_beginning(out, event);
    out += "}}";
}

void append_canonical_json(std::string& out, const Event& event) {
    if (event.deleted) {
        append_tombstone(out, event);
        return;
    }
    append_beginning(out, event);
    append_email(out, event);
    out += '}';
    append_key(out, "seq");
    append_int(out, event.seq);
    if (event.occurred_at != kNoTime) {
        append_key(out, "occurred_at");
        append_time(out, event.occurred_at);
    }
    for (const Column column :
         {Column::external_id,
          Column::auth_type,
          Column::client_id,
          Column::issuer_id,
          Column::agent_id,
          Column::ip,
          Column::user_agent,
          Column::description}) {
        append_column_if_set(out, event, column);
    }
    if (event.erased) {
        out += R"(,"erased":true)";
    }
    out += '}';
}

}  // namespace annal
