/// Events as newline-delimited canonical JSON, one line each, metadata included.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: jsonl}
///     spec:
///       library: {name: format_jsonl}
///
/// Takes no options. Erased events are passed over.
#include <annal/sdk.hpp>

#include <memory>
#include <string>

class JsonlFormat : public annal::Format {
public:
    static constexpr auto kName = "jsonl";
    static constexpr auto kContentType = "application/x-ndjson";
    static constexpr auto kFileExtension = "jsonl";

    annal::Status open() { return host().require(ANNAL_SERVICE_CODEC); }

    class Document {
    public:
        explicit Document(const annal::Host& host) : host_(host) {}

        annal::Status encode(const annal::Batch& batch, annal::Writer& out) {
            const annal_writer raw = out.raw();
            for (const annal_event& event : batch) {
                if (annal::is_deleted(event)) {
                    continue;
                }
                if (annal::Status status = host_.render(event, raw); !status.ok()) {
                    return status;
                }
                out.push('\n');
            }
            return {};
        }
        annal::Status end(annal::Writer&) { return {}; }

    private:
        const annal::Host& host_;
    };

    annal::Status
    begin(const annal::Options& options, std::unique_ptr<Document>& document, annal::Writer&) {
        if (!options.empty()) {
            return {
                ANNAL_INVALID,
                "jsonl has no option " + std::string(annal::view(options.begin()->key))};
        }
        document = std::make_unique<Document>(host());
        return {};
    }
};

ANNAL_PLUGIN("annal.format-jsonl", "1.0.0", "Annal", "Apache-2.0", JsonlFormat)
