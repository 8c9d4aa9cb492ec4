// Compares the event reader with Boost.JSON on random documents: both must agree on what is JSON,
// but for the rules that events add.

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <random>

#include "runtime/event/event_json.h"

namespace annal {
namespace {

namespace json = boost::json;

class Documents {
public:
    explicit Documents(std::uint32_t seed) : random_(seed) {}

    std::string event() {
        std::string out = R"({"action":"a.b","actor":{"type":"user"},"metadata":)";
        object(out, 0);
        out += space();
        return out + "}";
    }

    /// Changes, drops, doubles or swaps some bytes.
    std::string spoil(std::string text) {
        for (unsigned i = pick(3) + 1; i > 0; --i) {
            const std::size_t at = pick(static_cast<unsigned>(text.size()));
            switch (pick(4)) {
                case 0:
                    text[at] = static_cast<char>(pick(256));
                    break;
                case 1:
                    text.erase(at, 1 + pick(3));
                    break;
                case 2:
                    text.insert(at, text.substr(at, 1 + pick(8)));
                    break;
                default:
                    text.insert(at, std::string(1, kInteresting[pick(kInteresting.size())]));
                    break;
            }
            if (text.empty()) {
                text = "x";
            }
        }
        return text;
    }

    unsigned pick(std::size_t count) {
        return static_cast<unsigned>(
            std::uniform_int_distribution<std::size_t>(0, count - 1)(random_)
        );
    }

private:
    static constexpr std::string_view kInteresting = "{}[]\",:\\/0123456789.eE+-tfnu \n\t\x80\xff";

    std::string space() { return std::array<const char*, 4>{"", "", " ", "\r\n\t"}[pick(4)]; }

    void value(std::string& out, int depth) {
        static constexpr std::array kLeaves = {
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1.10",
            "12345678901234567890",
            "1e5",
            "1E-05",
            "-1.5",
            "0.00",
            "1234.5e+2",
            "-9e-10"};
        switch (depth < 5 ? pick(5) : 3) {
            case 0:
                object(out, depth + 1);
                break;
            case 1:
                array(out, depth + 1);
                break;
            case 2:
                string(out);
                break;
            default:
                out += kLeaves[pick(kLeaves.size())];
                break;
        }
    }

    void object(std::string& out, int depth) {
        out += "{" + space();
        const unsigned count = pick(4);
        for (unsigned i = 0; i < count; ++i) {
            out += i > 0 ? "," + space() : "";
            string(out);
            out += space() + ":" + space();
            value(out, depth);
            out += space();
        }
        out += "}";
    }

    void array(std::string& out, int depth) {
        out += "[" + space();
        const unsigned count = pick(4);
        for (unsigned i = 0; i < count; ++i) {
            out += i > 0 ? "," + space() : "";
            value(out, depth);
            out += space();
        }
        out += "]";
    }

    void string(std::string& out) {
        static constexpr std::array kPieces = {
            "a",
            "description",
            "é",
            "…",
            "😀",
            R"(\n)",
            R"(\u00e9)",
            R"(\ud83d\ude00)",
            R"(\/)",
            R"(\")",
            "\x7f",
            R"(\u0000)",
            R"(\udc00)"};
        out += '"';
        for (unsigned i = pick(5); i > 0; --i) {
            out += kPieces[pick(pick(8) == 0 ? kPieces.size() : kPieces.size() - 2)];
        }
        out += '"';
    }

    std::mt19937 random_;
};

bool has_issue(const ParsedEvents& parsed, std::string_view code) {
    for (const Issue& issue : parsed.issues) {
        if (issue.code == code) {
            return true;
        }
    }
    return false;
}

struct Tally {
    int valid = 0, invalid = 0, malformed = 0;
};

void compare(const std::string& body, Tally& tally) {
    json::parse_options options;
    options.max_depth = 70;
    json::error_code error;
    const json::value value = json::parse(json::string_view(body), error, {}, options);
    const ParsedEvents parsed = parse_events(body, "p");
    if (error == json::error::exponent_overflow) {
        return;  // Boost's own limits of numbers
    }
    switch (parsed.status) {
        case ParsedEvents::Status::ok: {
            ++tally.valid;
            ASSERT_FALSE(error) << error.message() << ": " << body;
            const auto metadata = parsed.drafts.at(0)[Column::metadata].view();
            const json::value cut = json::parse(json::string_view(metadata), {}, options);
            const auto* whole = value.as_object().if_contains("metadata");
            ASSERT_TRUE(whole == nullptr || whole->is_null() ? metadata == "{}" : cut == *whole)
                << body;
            ASSERT_EQ(parsed.drafts[0][Column::action].view(), value.at("action").as_string())
                << body;
            break;
        }
        case ParsedEvents::Status::invalid: {
            ++tally.invalid;
            const bool not_unicode =
                has_issue(parsed, "bad_utf8") || has_issue(parsed, "lone_surrogate");
            ASSERT_EQ(error.failed(), not_unicode)
                << error.message() << ": " << parsed.issues[0].code << ": " << body;
            break;
        }
        default:
            ++tally.malformed;
            ASSERT_TRUE(error.failed()) << parsed.issues[0].detail << ": " << body;
            break;
    }
}

TEST(EventJsonDifferentialTest, AgreesWithBoostJson) {
    const std::uint32_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    Documents documents(seed);
    Tally tally;
    for (int i = 0; i < 20'000 && !HasFatalFailure(); ++i) {
        const std::string body = documents.event();
        compare(body, tally);
        compare(documents.spoil(body), tally);
    }
    // Each kind of answer must have been under test.
    EXPECT_GT(tally.valid, 1000);
    EXPECT_GT(tally.invalid, 1000);
    EXPECT_GT(tally.malformed, 1000);
}

}  // namespace
}  // namespace annal
