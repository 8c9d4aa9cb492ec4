#include "metadata_members.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <vector>

#include "tests/support/parsed_json.h"
#include "tests/support/test_seed.h"

namespace authpi {
namespace {

constexpr std::array<std::string_view, 3> kNames{"request", "response", "duration_ms"};
using Values = std::array<std::string_view, 3>;

Values find(std::string_view object) {
    Values values{"-", "-", "-"};
    find_members(object, kNames, values);
    return values;
}
std::string_view request(std::string_view object) {
    return find(object)[0];
}

TEST(MetadataMembers, FindsEveryKindOfValue) {
    for (const std::string value :
         {"1",
          "-0.10e+2",
          "12345678901234567890",
          "true",
          "false",
          "null",
          "\"\"",
          "\"a\"",
          "{}",
          "[]",
          "[[],{}]",
          R"({"request":{"request":[1,{"a":"}"}]}})",
          R"("\\")",
          R"("\"")",
          R"("\\\"}")",
          R"("a,b:{[")",
          R"(["]"])",
          R"([ 1 , 2 ])",
          "{\n\t\"x\" : 1\r\n}"}) {
        EXPECT_EQ(request("{\"request\":" + value + "}"), value);
        EXPECT_EQ(request("{\"request\":" + value + ",\"z\":1}"), value);
        EXPECT_EQ(request("{\"a\":" + value + ",\"request\":" + value + "}"), value);
        EXPECT_EQ(
            request(" \n{ \"a\" :\t" + value + " , \"request\"\r\n: " + value + "\t \n}"), value
        );
    }
}

TEST(MetadataMembers, FindsAllOfThemInAnyOrder) {
    const Values expected{"1", "\"two\"", "3.0"};
    EXPECT_EQ(find(R"({"request":1,"response":"two","duration_ms":3.0})"), expected);
    EXPECT_EQ(find(R"({"duration_ms":3.0,"x":{},"response":"two","request":1})"), expected);
}

TEST(MetadataMembers, LeavesWhatIsNotThere) {
    for (const char* object :
         {"{}",
          " { } ",
          R"({"a":1})",
          R"({"requests":1,"reques":2,"Request":3,"":4})",
          R"({"a":{"request":1}})",
          R"({"a":[{"request":1}]})",
          R"({"a":"\"request\":1"})",
          R"({"a":"request"})",
          R"({"\"request":1,"request\"":2,"request\\":3})"}) {
        EXPECT_EQ(request(object), "-") << object;
    }
}

TEST(MetadataMembers, ReadsKeysThatAreWrittenWithEscapes) {
    for (const char* key :
         {R"(\u0072equest)",
          R"(reques\u0074)",
          R"(\u0072\u0065\u0071\u0075\u0065\u0073\u0074)",
          R"(re\u0071uest)"}) {
        EXPECT_EQ(request("{\"" + std::string(key) + "\":1}"), "1") << key;
    }
    EXPECT_EQ(find(R"({"duration\u005fms":1,"duration\u005Fm":2})")[2], "1");
    for (const char* key :
         {R"(\u0172equest)",
          R"(\u0052equest)",
          R"(request\u0000)",
          R"(\request)",
          R"(req\uD83D\uDE00)",
          R"(request\n)",
          R"(\u0072)",
          R"(\\u0072equest)"}) {
        EXPECT_EQ(request("{\"" + std::string(key) + "\":1}"), "-") << key;
    }
    std::array<std::string_view, 2> values{"-", "-"};
    const std::array<std::string_view, 2> names{"a/\"\\", "\b\f\n\r\t"};
    find_members(R"({"a\/\"\\":1,"\b\f\n\r\t":2})", names, values);
    EXPECT_EQ(values, (std::array<std::string_view, 2>{"1", "2"}));
}

/// Random JSON text with random space and escapes.
class Author {
public:
    explicit Author(std::uint32_t seed) : random_(seed) {}

    std::string space() { return std::string(below(3) == 0 ? below(3) : 0, below(2) ? ' ' : '\n'); }
    std::string key(std::string_view name) {
        std::string out = "\"";
        for (const char c : name) {
            if (below(4) == 0) {
                constexpr std::string_view kHex = "0123456789abcdef";
                const auto u = static_cast<unsigned char>(c);
                out += std::string("\\u00") + kHex[u >> 4U] + kHex[u & 15U];
            } else {
                out += c;
            }
        }
        return out + "\"";
    }
    std::string value(int depth) {
        constexpr std::array<const char*, 8> kScalars{
            "1.50", "null", "true", "\"a\\\"b\"", "\"\\\\\"", "\"}],:{[\"", "\"\\u0022é\"", "-7"};
        const std::size_t kind = below(depth > 0 ? 4 : 2);
        if (kind < 2) return kScalars.at(below(kScalars.size()));
        std::string out(1, kind == 2 ? '[' : '{');
        const std::size_t count = below(4);
        for (std::size_t i = 0; i < count; ++i) {
            out += i > 0 ? "," : "";
            if (kind == 3) out += space() + key("k" + std::to_string(i)) + space() + ":";
            out += space() + value(depth - 1) + space();
        }
        return out + (kind == 2 ? "]" : "}");
    }
    std::size_t below(std::size_t end) { return random_() % end; }

private:
    std::mt19937 random_;
};

TEST(MetadataMembers, FindsWhatWasWritten) {
    Author author(annal::test::test_seed());
    for (int round = 0; round < 3000; ++round) {
        Values expected{"-", "-", "-"};
        std::vector<std::string> kept(3);
        std::string text = author.space() + "{";
        for (std::size_t i = 0; i < 3; ++i) {
            text += i > 0 ? "," : "";
            text +=
                author.space() + author.key("other" + std::to_string(i)) + ":" + author.value(3);
            if (author.below(2) == 0) continue;
            expected[i] = kept[i] = author.value(5);
            text += "," + author.space() + author.key(kNames[i]) + author.space() + ":" +
                    author.space() + kept[i] + author.space();
        }
        text += author.space() + "}" + author.space();
        annal::test::parse(text);  // else this test's own text is wrong
        ASSERT_EQ(find(text), expected) << text;
    }
}

// It is never handed anything but valid JSON; what is cut must not make it read on all the same.
TEST(MetadataMembers, StaysWithinATextThatIsCut) {
    const std::string text =
        R"( {"a" : ["\"", {"b\\":1}], "requ\u0065st":{"x":"\u0041"},"z":1.5} )";
    for (std::size_t size = 0; size <= text.size(); ++size) {
        const std::vector<char> exact(
            text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size)
        );
        find({exact.data(), exact.size()});
    }
    for (const char* odd :
         {"[", "\"", "{\"", "{\"\\", "{\"\\u", "{\"\\u00\":", "{]", "{\"a\":]}", "x"}) {
        const std::string copy(odd);
        find(copy);
    }
}

TEST(MetadataMembers, TakesDeepNesting) {
    const std::string deep = std::string(30'000, '[') + std::string(30'000, ']');
    EXPECT_EQ(request("{\"a\":" + deep + ",\"request\":" + deep + "}"), deep);
}

}  // namespace
}  // namespace authpi
