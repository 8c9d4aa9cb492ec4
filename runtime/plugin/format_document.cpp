#include "runtime/plugin/format_document.h"

namespace annal {
namespace {

annal_error empty_error() {
    annal_error error{};
    error.struct_size = sizeof(error);
    return error;
}

annal_status run_begin(
    const annal_format_v1& format,
    void* self,
    const std::vector<annal_pair>& options,
    void** document,
    const annal_writer& out,
    annal_error& error
) noexcept {
    return format.begin(
        self, options.data(), static_cast<std::uint32_t>(options.size()), document, &out, &error
    );
}

annal_status run_encode(
    const annal_format_v1& format,
    void* document,
    const annal_batch& batch,
    const annal_writer& out,
    annal_error& error
) noexcept {
    return format.encode(document, &batch, &out, &error);
}

annal_status run_end(
    const annal_format_v1& format, void* document, const annal_writer& out, annal_error& error
) noexcept {
    return format.end(document, &out, &error);
}

void run_release(const annal_format_v1& format, void* document) noexcept {
    format.release(document);
}

}  // namespace

FormatDocument::FormatDocument(const Instance& format, WriteBuffer& buffer)
    : format_(format), table_(format.table<annal_format_v1>()), buffer_(buffer) {}

FormatDocument::~FormatDocument() {
    if (begun_) run_release(table_, document_);
}

Result<void> FormatDocument::begin(const Options& options) {
    std::vector<annal_pair> pairs;
    pairs.reserve(options.size());
    for (const auto& [key, value] : options)
        pairs.push_back({to_abi(std::string_view(key)), to_abi(std::string_view(value))});
    const annal_writer out = buffer_.writer();
    annal_error error = empty_error();
    const annal_status status = run_begin(table_, format_.self(), pairs, &document_, out, error);
    begun_ = status == ANNAL_OK;
    return outcome(status, error);
}

Result<void> FormatDocument::encode(const annal_batch& batch) {
    const annal_writer out = buffer_.writer();
    annal_error error = empty_error();
    return outcome(run_encode(table_, document_, batch, out, error), error);
}

Result<void> FormatDocument::end() {
    const annal_writer out = buffer_.writer();
    annal_error error = empty_error();
    return outcome(run_end(table_, document_, out, error), error);
}

Result<void> FormatDocument::outcome(annal_status status, annal_error error) const {
    if (status == ANNAL_OK) return ok();
    error.code = status;
    Error out = to_error(error);
    if (out.detail.empty())
        out.detail =
            "the format " + std::string(format_.component().name) + " failed without saying why";
    return out;
}

}  // namespace annal
