/// Events as CSV (RFC 4180) with the columns that exports have had from the start, in their order.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: csv}
///     spec:
///       library: {name: format_csv}
///
/// Lines end with CR LF. Null is an empty field, the empty text is `""`. A field that begins like a
/// spreadsheet formula gets an apostrophe in front, unless the option csv_safe is "false". Erased
/// events are passed over.
#include <annal/sdk.hpp>

#include <array>
#include <memory>
#include <string>
#include <string_view>

namespace {

struct Column {
    std::string_view name;
    annal_str annal_event::*text;  // null: created_at
};
constexpr std::array kColumns{
    Column{"id", &annal_event::id},
    Column{"created_at", nullptr},
    Column{"action", &annal_event::action},
    Column{"actor_type", &annal_event::actor_type},
    Column{"actor_id", &annal_event::actor_id},
    Column{"user_id", &annal_event::user_id},
    Column{"project_id", &annal_event::project_id},
    Column{"target_type", &annal_event::target_type},
    Column{"target_id", &annal_event::target_id},
    Column{"ip", &annal_event::ip},
    Column{"user_agent", &annal_event::user_agent},
    Column{"description", &annal_event::description},
};

/// Whether a spreadsheet would run the field: https://owasp.org/www-community/attacks/CSV_Injection
bool looks_like_formula(std::string_view field) {
    return !field.empty() &&
           std::string_view("=+-@\t\r\n").find(field.front()) != std::string_view::npos;
}

void append_field(annal::Writer& out, annal_str text, bool safe) {
    if (annal::is_null(text)) {
        return;
    }
    const std::string_view field = annal::view(text);
    const bool guarded = safe && looks_like_formula(field);
    if (!field.empty() && field.find_first_of("\",\r\n") == std::string_view::npos) {
        if (guarded) {
            out.push('\'');
        }
        out.append(field);
        return;
    }
    out.append(guarded ? "\"'" : "\"");
    std::string_view rest = field;
    for (auto quote = rest.find('"'); quote != std::string_view::npos; quote = rest.find('"')) {
        out.append(rest.substr(0, quote + 1));
        out.push('"');
        rest.remove_prefix(quote + 1);
    }
    out.append(rest);
    out.push('"');
}

}  // namespace

class CsvFormat : public annal::Format {
public:
    static constexpr auto kName = "csv";
    static constexpr auto kContentType = "text/csv; charset=utf-8";
    static constexpr auto kFileExtension = "csv";

    annal::Status open() { return host().require(ANNAL_SERVICE_CODEC); }

    class Document {
    public:
        Document(const annal::Host& host, bool safe) : host_(host), safe_(safe) {}

        annal::Status encode(const annal::Batch& batch, annal::Writer& out) {
            for (const annal_event& event : batch) {
                if (!annal::is_deleted(event)) {
                    append_row(event, out);
                }
            }
            return {};
        }
        annal::Status end(annal::Writer&) { return {}; }

    private:
        void append_row(const annal_event& event, annal::Writer& out) {
            const annal::TimeText created_at = host_.format_time(event.created_at_us);
            for (std::size_t i = 0; i < kColumns.size(); ++i) {
                if (i > 0) {
                    out.push(',');
                }
                const auto column = kColumns[i].text;
                append_field(
                    out, column != nullptr ? event.*column : annal::to_str(created_at), safe_
                );
            }
            out.append("\r\n");
        }

        const annal::Host& host_;
        bool safe_;
    };

    annal::Status begin(
        const annal::Options& options, std::unique_ptr<Document>& document, annal::Writer& out
    ) {
        bool safe = true;
        for (const annal_pair& option : options) {
            const std::string_view value = annal::view(option.value);
            if (annal::view(option.key) != "csv_safe") {
                return {
                    ANNAL_INVALID,
                    "csv has no option " + std::string(annal::view(option.key)) +
                        ", only csv_safe"};
            }
            if (value != "true" && value != "false") {
                return {ANNAL_INVALID, "the option csv_safe must be true or false"};
            }
            safe = value == "true";
        }
        for (const Column& column : kColumns) {
            out.append(&column == kColumns.data() ? "" : ",");
            out.append(column.name);
        }
        out.append("\r\n");
        document = std::make_unique<Document>(host(), safe);
        return {};
    }
};

ANNAL_PLUGIN("annal.format-csv", "1.0.0", "Annal", "Apache-2.0", CsvFormat)
