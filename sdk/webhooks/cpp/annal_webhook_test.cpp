// The verifier against the shared vectors, and damaged requests drawn at random.
#include "sdk/webhooks/cpp/annal_webhook.hpp"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <ratio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace annal::webhook {
namespace {

namespace json = boost::json;
using Strings = std::vector<std::pair<std::string, std::string>>;

struct Vector {
    std::string name, body;
    Strings headers;
    std::vector<std::string> secrets;
    Options options;
    json::object expect;
};

std::string body_of(const json::object& vector) {
    if (const auto* body = vector.if_contains("body")) return std::string(body->as_string());
    return detail::from_base64(std::string_view(vector.at("body_base64").as_string())).value();
}

Vector read_vector(const json::object& vector) {
    Vector out;
    out.name = vector.at("name").as_string();
    out.body = body_of(vector);
    for (const auto& header : vector.at("headers").as_array()) {
        out.headers.emplace_back(header.at(0).as_string(), header.at(1).as_string());
    }
    for (const auto& secret : vector.at("secrets").as_array()) {
        out.secrets.emplace_back(secret.as_string());
    }
    out.options.now = vector.at("now").as_int64();
    if (const auto* tolerance = vector.if_contains("tolerance")) {
        out.options.tolerance = std::chrono::seconds(tolerance->as_int64());
    }
    out.options.accept_body_only = vector.contains("accept_body_only");
    out.expect = vector.at("expect").as_object();
    return out;
}

const std::vector<Vector>& vectors() {
    static const std::vector<Vector> all = [] {
        std::ifstream file(ANNAL_SOURCE_DIR "/sdk/webhooks/tests/vectors.json");
        const std::string text(std::istreambuf_iterator<char>(file), {});
        std::vector<Vector> out;
        const json::value parsed = json::parse(text);
        for (const auto& vector : parsed.as_array()) {
            out.push_back(read_vector(vector.as_object()));
        }
        return out;
    }();
    return all;
}

std::string_view word(Code code) {
    switch (code) {
        case Code::ok:
            return "ok";
        case Code::missing_header:
            return "missing_header";
        case Code::malformed_header:
            return "malformed_header";
        case Code::too_old:
            return "too_old";
        case Code::too_new:
            return "too_new";
        case Code::no_match:
            return "no_match";
        case Code::body_only:
            return "body_only";
        case Code::invalid_secret:
            return "invalid_secret";
    }
    return "";
}

json::object as_expected(const Verdict& verdict) {
    if (!verdict) return {{"error", word(verdict.code)}, {"message", verdict.message}};
    json::object out{{"scheme", nullptr}, {"id", nullptr}, {"timestamp", verdict.timestamp}};
    switch (verdict.scheme) {
        case Scheme::none:
            break;
        case Scheme::standard_webhooks:
            out["scheme"] = "standard_webhooks";
            out["id"] = verdict.id;
            break;
        case Scheme::authio_timestamped:
            out["scheme"] = "authio_timestamped";
            break;
        case Scheme::authio_body:
            out["scheme"] = "authio_body";
            out["timestamp"] = nullptr;
            break;
    }
    return out;
}

Verdict verdict_of(const Vector& v) {
    return verify(v.body, Headers(v.headers.begin(), v.headers.end()), v.secrets, v.options);
}

TEST(AnnalWebhook, Vectors) {
    ASSERT_GT(vectors().size(), 150U);
    for (const Vector& vector : vectors()) {
        EXPECT_EQ(as_expected(verdict_of(vector)), vector.expect) << vector.name;
    }
}

TEST(AnnalWebhook, ARefusalSaysNothingCertain) {
    for (const Vector& vector : vectors()) {
        const Verdict verdict = verdict_of(vector);
        if (verdict) continue;
        EXPECT_EQ(verdict.scheme, Scheme::none) << vector.name;
        EXPECT_TRUE(verdict.id.empty() && verdict.timestamp == 0) << vector.name;
    }
}

TEST(AnnalWebhook, TheClockIsTheSystems) {
    Vector vector = vectors().front();
    vector.options.now.reset();
    EXPECT_EQ(verdict_of(vector).code, Code::too_old);
    vector.options.tolerance = std::chrono::seconds(detail::unix_seconds());
    EXPECT_TRUE(verdict_of(vector));
}

TEST(AnnalWebhook, ExtremeTolerances) {
    Vector vector = vectors().front();
    for (auto tolerance : {std::chrono::seconds(-1), std::chrono::seconds::min()}) {
        vector.options.tolerance = tolerance;
        EXPECT_EQ(verdict_of(vector).code, Code::too_old);
    }
    vector.options.tolerance = std::chrono::seconds::max();
    EXPECT_TRUE(verdict_of(vector));
}

constexpr std::size_t kCounts[] = {0, 1, 1, 5};

class Damage {
public:
    explicit Damage(std::uint32_t seed) : random_(seed) {}
    std::size_t below(std::size_t end) {
        return std::uniform_int_distribution<std::size_t>(0, end - 1)(random_);
    }
    void apply(std::string& text, std::string_view alphabet) {
        std::string put;
        for (std::size_t i = kCounts[below(4)]; i > 0; --i) {
            put += alphabet[below(alphabet.size())];
        }
        text.replace(below(text.size() + 1), kCounts[below(4)], put);
    }

private:
    std::mt19937 random_;
};

TEST(AnnalWebhook, DamagedRequestsAreRefused) {
    const char* given = std::getenv("ANNAL_TEST_SEED");
    const auto seed = given == nullptr
                          ? std::random_device()()
                          : static_cast<std::uint32_t>(std::strtoul(given, nullptr, 10));
    SCOPED_TRACE("ANNAL_TEST_SEED=" + std::to_string(seed));
    Damage damage(seed);
    std::vector<Vector> accepted;
    for (const Vector& vector : vectors()) {
        if (vector.expect.contains("scheme")) accepted.push_back(vector);
    }
    using namespace std::string_view_literals;
    for (int i = 0; i < 4000; ++i) {
        const Vector& original = accepted[damage.below(accepted.size())];
        Vector vector = original;
        auto& header = vector.headers[damage.below(vector.headers.size())];
        damage.apply(header.second, "v1=,. \t\r\n\0+/09afAFzZ\xff\x80t"sv);
        if (damage.below(5) == 0) {
            vector.headers.push_back(Strings(vector.headers)[damage.below(vector.headers.size())]);
        }
        if (damage.below(5) == 0)
            damage.apply(
                vector.body,
                "\0 \xff"
                "a"sv
            );
        const Verdict verdict = verdict_of(vector);
        if (!verdict) continue;
        // What is accepted all the same has the body that was signed, and the id and the time.
        ASSERT_EQ(as_expected(verdict), original.expect) << original.name;
        ASSERT_EQ(vector.body, original.body) << original.name;
    }
}

}  // namespace
}  // namespace annal::webhook
