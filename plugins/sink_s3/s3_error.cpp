#include "s3_error.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

namespace sink_s3 {
namespace {

/// The text of an element without children, one line of at most 200 bytes.
std::string element(std::string_view document, std::string_view name) {
    constexpr std::size_t kTextBytesMax = 200;
    constexpr std::array<std::pair<std::string_view, char>, 5> kEntities{
        {{"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}, {"&amp;", '&'}}};
    const std::string open = "<" + std::string(name) + ">";
    const std::size_t from = document.find(open);
    if (from == std::string_view::npos) {
        return {};
    }
    std::string_view rest = document.substr(from + open.size());
    rest = rest.substr(0, std::min(rest.find('<'), rest.size()));
    std::string out;
    while (!rest.empty() && out.size() < kTextBytesMax) {
        const auto entity = std::find_if(kEntities.begin(), kEntities.end(), [&](const auto& e) {
            return rest.starts_with(e.first);
        });
        char c = rest.front();
        std::size_t size = 1;
        if (entity != kEntities.end()) {
            c = entity->second;
            size = entity->first.size();
        }
        out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
        rest.remove_prefix(size);
    }
    return out;
}

bool passes_by_itself(std::uint32_t status, const std::string& code) {
    constexpr std::array<std::string_view, 9> kCodes{
        // The bytes were damaged on their way.
        "BadDigest",
        "XAmzContentSHA256Mismatch",
        "IncompleteBody",
        // S3 has too much to do, or waited too long for the body: a 400.
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        // A new bucket whose name has not got around.
        "TemporaryRedirect",
    };
    return std::find(kCodes.begin(), kCodes.end(), code) != kCodes.end() || status == 408 ||
           status == 409 || status == 425 || status == 429 || (status >= 500 && status != 501);
}

/// In milliseconds, unlike Retry-After.
std::uint32_t amz_retry_after_ms(const annal::ClientResponse& answer) {
    constexpr std::uint32_t kMaxMs = 24U * 60 * 60 * 1000;
    const auto text = annal::header_of(answer, "x-amz-retry-after");
    std::uint32_t ms = 0;
    if (!text || std::from_chars(text->data(), text->data() + text->size(), ms).ec != std::errc()) {
        return 0;
    }
    return std::min(ms, kMaxMs);
}

}  // namespace

S3Error S3Error::of(const annal::ClientResponse& answer) {
    constexpr std::size_t kDocumentBytesMax = 8192;
    const std::string_view document = std::string_view(answer.body).substr(0, kDocumentBytesMax);
    const std::size_t error = document.find("<Error>");
    if (error == std::string_view::npos) {
        return {};
    }
    return {element(document.substr(error), "Code"), element(document.substr(error), "Message")};
}

std::string explain(const annal::ClientResponse& answer) {
    const S3Error error = S3Error::of(answer);
    if (error.code.empty() && !answer.body.empty()) {
        return annal::describe(answer);  // not S3, but something in front of it
    }
    std::string text = "S3 answered " + std::to_string(answer.http_status);
    text += error.code.empty() ? "" : " " + error.code;
    text += error.message.empty() ? "" : ": " + error.message;
    if (const auto region = annal::header_of(answer, "x-amz-bucket-region");
        region && answer.http_status / 100 != 2) {
        text += " (the bucket is in the region " + std::string(region->substr(0, 64)) + ")";
    }
    return text;
}

std::uint64_t whole_size(const annal::ClientResponse& answer) {
    const auto range = annal::header_of(answer, "content-range");  // bytes 0-65535/70000
    if (!range) {
        return answer.body.size();
    }
    const std::size_t slash = range->find('/');
    if (slash == std::string_view::npos) {
        return 0;
    }
    const std::string_view text = range->substr(slash + 1);
    std::uint64_t size = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), size);
    return read.ec == std::errc() ? size : 0;
}

annal::Outcome judge_put(const annal::ClientResponse& answer, std::int64_t now_us) {
    if (!answer.ok() || answer.http_status / 100 == 2) {
        return annal::judge(answer, now_us);
    }
    std::string text = explain(answer);
    if (passes_by_itself(answer.http_status, S3Error::of(answer).code)) {
        const std::uint32_t wait =
            std::max(annal::retry_after_ms(answer, now_us), amz_retry_after_ms(answer));
        return annal::retry(std::move(text), wait);
    }
    return answer.http_status == 413 ? annal::reject(std::move(text))
                                     : annal::pause(std::move(text));
}

}  // namespace sink_s3
