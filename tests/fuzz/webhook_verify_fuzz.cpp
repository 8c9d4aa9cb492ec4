// Verifies a webhook request. Whatever the bytes are, nothing is accepted that was not signed, a
// refusal has a text and says nothing certain, and who accepts a body alone accepts what is signed
// better too.
//
// Input: lines, a name and a value with a colon between; an empty line; the body.

#include <cstdint>
#include <string>
#include <string_view>

#include "sdk/webhooks/cpp/annal_webhook.hpp"
#include "tests/fuzz/fuzzing.h"

namespace {

using annal::fuzz::require;
using annal::webhook::Headers;
using annal::webhook::Verdict;

constexpr std::int64_t kNow = 1'614'265'330;
constexpr std::string_view kSignedBody = "{\"test\": 2432232314}";

std::string_view line_of(std::string_view& text) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    return line;
}

Headers headers_of(std::string_view& text) {
    Headers out;
    while (!text.empty()) {
        const std::string_view line = line_of(text);
        if (line.empty()) break;
        const std::size_t colon = line.find(':');
        const bool split = colon != std::string_view::npos;
        out.emplace_back(line.substr(0, colon), split ? line.substr(colon + 1) : "");
    }
    return out;
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view body(reinterpret_cast<const char*>(data), size);
    const Headers headers = headers_of(body);
    annal::webhook::Options options;
    options.now = kNow;
    const std::string secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const Verdict strict = annal::webhook::verify(body, headers, {secret}, options);
    require(strict || (!strict.message.empty() && strict.id.empty() && strict.timestamp == 0));
    require(strict.code != annal::webhook::Code::invalid_secret);
    // The corpus holds signatures of this body alone, and of none but this time.
    require(!strict || (body == kSignedBody && strict.timestamp == kNow));
    options.accept_body_only = true;
    const Verdict lenient = annal::webhook::verify(body, headers, {secret}, options);
    require(lenient.code != annal::webhook::Code::body_only);
    require(!strict || lenient);
    // What was signed with its time is, to who asks for no time, a body that begins with that: none
    // that Annal sends.
    require(!lenient || body == kSignedBody || body == "1614265330." + std::string(kSignedBody));
    return 0;
}
