#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/plugin/call.h"
#include "runtime/plugin/instance.h"

namespace annal {

/// One document of a format component, written into a buffer; released with this object.
///
/// Threads: one at a time. Lifetime: within that of the instance and of the buffer.
class FormatDocument {
public:
    using Options = std::vector<std::pair<std::string, std::string>>;

    FormatDocument(const Instance& format, WriteBuffer& buffer);
    ~FormatDocument();
    FormatDocument(const FormatDocument&) = delete;
    FormatDocument& operator=(const FormatDocument&) = delete;

    /// Writes what stands before the first event. First of all, once.
    /// @error Errc::invalid  The format does not know an option, or not its value.
    [[nodiscard]] Result<void> begin(const Options& options);
    /// @error Errc::too_large  The buffer is full. And whatever the format says.
    [[nodiscard]] Result<void> encode(const annal_batch& batch);
    /// Writes what stands behind the last event.
    [[nodiscard]] Result<void> end();

    [[nodiscard]] std::string_view content_type() const { return to_view(table_.content_type); }
    [[nodiscard]] std::string_view extension() const { return to_view(table_.file_extension); }

private:
    [[nodiscard]] Result<void> outcome(annal_status status, annal_error error) const;

    const Instance& format_;
    const annal_format_v1& table_;
    WriteBuffer& buffer_;
    void* document_ = nullptr;
    bool begun_ = false;
};

}  // namespace annal
