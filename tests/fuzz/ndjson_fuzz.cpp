// Cuts text into the chunks of an NDJSON ingest. The cuts may not depend on how the text arrived,
// no byte may be lost, no chunk may pass its limits, no line may be cut, and the events of the
// chunks must be the events of the whole text.
//
// Input: lines of a chunk, eighths of its bytes, the seed of the pieces, then the text.

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "plugins/ingest_http/line_chunks.h"
#include "runtime/event/event_json.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using annal::fuzz::require;
using annal::fuzz::take_byte;

struct Limits {
    std::size_t lines, bytes;
};

std::vector<std::string> cut(std::string_view text, Limits limits, std::uint8_t seed) {
    ingest::LineChunks chunks(limits.lines, limits.bytes);
    std::vector<std::string> out;
    const auto drain = [&] {
        for (auto chunk = chunks.next(); !chunk.empty(); chunk = chunks.next()) {
            out.emplace_back(chunk);
        }
    };
    for (const std::string_view piece : annal::fuzz::pieces(text, seed)) {
        chunks.feed(piece);
        drain();
    }
    chunks.finish();
    drain();
    require(chunks.waiting_bytes() == 0);
    return out;
}

bool is_blank(std::string_view line) {
    return std::all_of(line.begin(), line.end(), [](char c) {
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
    });
}

std::size_t filled_lines(std::string_view text) {
    std::size_t filled = 0;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size() - 1);
        filled += is_blank(text.substr(0, end + 1)) ? 0 : 1;
        text.remove_prefix(end + 1);
    }
    return filled;
}

std::size_t counted(std::string_view text, std::uint8_t seed) {
    ingest::LineCounter counter;
    for (const std::string_view piece : annal::fuzz::pieces(text, seed)) {
        counter.feed(piece);
    }
    return counter.filled_lines();
}

void check_limits(const std::string& chunk, Limits limits, bool last) {
    require(last || chunk.back() == '\n');
    require(filled_lines(chunk) <= limits.lines);
    const bool one_line =
        chunk.find('\n') + 1 == chunk.size() || chunk.find('\n') == std::string::npos;
    require(chunk.size() <= limits.bytes || one_line);
}

std::size_t events(std::string_view text) {
    return annal::parse_ndjson(text, "proj_a", 0).drafts.size();
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    const Limits limits{1U + take_byte(text) % 32U, 8U * (1U + take_byte(text))};
    const std::uint8_t seed = take_byte(text);
    const std::vector<std::string> chunks = cut(text, limits, 0);
    require(cut(text, limits, seed) == chunks);
    require(counted(text, seed) == filled_lines(text));
    std::string joined;
    std::size_t of_chunks = 0;
    for (const std::string& chunk : chunks) {
        check_limits(chunk, limits, &chunk == &chunks.back());
        joined += chunk;
        of_chunks += events(chunk);
    }
    require(joined == text);
    require(of_chunks == events(text));
    return 0;
}
