// Feeds arbitrary bytes to everything that reads short foreign text of a query: cursors, ids,
// times, patterns, and the base-64 and hexadecimal forms below them.

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/core/crypto.h"
#include "runtime/core/event_id.h"
#include "runtime/core/time_text.h"
#include "runtime/event/action.h"
#include "runtime/store/page_cursor.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using annal::fuzz::require;

const annal::CursorCodec& codec() {
    static const annal::CursorCodec made("fuzz");
    return made;
}

/// Nothing opens but what was sealed: bytes that open must be the one text of their seq.
void check_cursor(std::string_view text) {
    if (const auto seq = codec().open(text, "proj_a", {}, true)) {
        require(codec().seal("proj_a", {}, true, seq.value()) == text);
    }
}

void check_id(std::string_view text) {
    if (const auto id = annal::EventId::parse(text)) {
        require(annal::EventId::parse(id->text()) == id);
        require(annal::EventId::parse(id->uuid()) == id);
        (void)id->created_at();
    }
}

void check_time(std::string_view text) {
    if (const auto at = annal::parse_time(text)) {
        const std::string formatted = annal::format_time(at.value());
        require(formatted.size() == 27 && annal::parse_time(formatted).value() == at.value());
    }
    (void)annal::parse_duration(text);
    (void)annal::parse_size(text);
}

void check_encodings(std::string_view text) {
    if (const auto bytes = annal::from_base64url(text)) {
        require(annal::to_base64url(*bytes) == text);
    }
    require(annal::from_base64url(annal::to_base64url(text)) == text);
    (void)annal::from_base64(text);
    (void)annal::from_hex(text);
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    check_cursor(text);
    check_id(text);
    check_time(text);
    check_encodings(text);
    if (const auto patterns = annal::parse_patterns(text)) {
        require(!patterns.value().empty() && patterns.value().size() <= 100);
        (void)annal::matches_any(patterns.value(), text);
    }
    return 0;
}
