#include "runtime/store/page_cursor.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

Filter filter_of(const char* actor) {
    Filter filter;
    filter.equals[static_cast<std::size_t>(Column::actor_id)] = actor;
    return filter;
}

void expect_refused(const Result<Seq>& opened, std::string_view why) {
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, Errc::invalid);
    EXPECT_EQ(opened.error().pointer, "cursor");
    EXPECT_NE(opened.error().detail.find(why), std::string::npos) << opened.error().detail;
}

TEST(PageCursorTest, OpensWhatItSealed) {
    const CursorCodec codec("key");
    for (const Seq seq : {Seq{0}, Seq{41}, kNoSeq, INT64_MAX, INT64_MIN}) {
        const auto cursor = codec.seal("proj_a", filter_of("x"), true, seq);
        EXPECT_EQ(codec.open(cursor, "proj_a", filter_of("x"), true).value(), seq);
    }
}

TEST(PageCursorTest, AReplacedKeyOpensAsLongAsItIsKept) {
    const auto old = CursorCodec("one").seal("proj_a", {}, true, 41);
    const CursorCodec both(std::vector<std::string>{"two", "one"});
    EXPECT_EQ(both.open(old, "proj_a", {}, true).value(), 41);
    const auto fresh = both.seal("proj_a", {}, true, 42);
    EXPECT_EQ(CursorCodec("two").open(fresh, "proj_a", {}, true).value(), 42);
    expect_refused(CursorCodec("two").open(old, "proj_a", {}, true), "altered");
    expect_refused(both.open(old, "proj_b", {}, true), "altered");
}

TEST(PageCursorTest, IsTextThatNeedsNoEscaping) {
    const auto cursor = CursorCodec("key").seal("proj_a", {}, false, 1'000'000);
    EXPECT_EQ(cursor.size(), 44U);
    for (const char c : cursor) {
        EXPECT_TRUE(std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_') << cursor;
    }
}

TEST(PageCursorTest, AnyAlteredCharacterIsRefused) {
    const CursorCodec codec("key");
    const auto cursor = codec.seal("proj_a", {}, true, 41);
    for (std::size_t i = 0; i < cursor.size(); ++i) {
        for (const char c : {'A', 'B', '_', '+', '=', ' '}) {
            std::string altered = cursor;
            if (altered[i] == c) {
                continue;
            }
            altered[i] = c;
            expect_refused(codec.open(altered, "proj_a", {}, true), "altered");
        }
    }
}

TEST(PageCursorTest, AnyOtherLengthIsRefused) {
    const CursorCodec codec("key");
    const auto cursor = codec.seal("proj_a", {}, true, 41);
    for (const std::string& other :
         {std::string(),
          std::string("0"),
          cursor.substr(1),
          cursor.substr(0, 43),
          cursor + "A",
          cursor + "=",
          cursor + cursor,
          std::string(44, 'A'),
          std::string(1'000'000, 'A')}) {
        expect_refused(codec.open(other, "proj_a", {}, true), "altered");
    }
}

TEST(PageCursorTest, AnotherProjectOrKeyIsRefused) {
    const CursorCodec codec("key");
    const auto cursor = codec.seal("proj_a", {}, true, 41);
    expect_refused(codec.open(cursor, "proj_b", {}, true), "project");
    expect_refused(codec.open(cursor, "proj_", {}, true), "project");
    expect_refused(CursorCodec("other").open(cursor, "proj_a", {}, true), "altered");
}

TEST(PageCursorTest, OtherFiltersOrOrderAreRefusedByName) {
    const CursorCodec codec("key");
    const auto cursor = codec.seal("proj_a", filter_of("x"), true, 41);
    expect_refused(codec.open(cursor, "proj_a", filter_of("y"), true), "other filters");
    expect_refused(codec.open(cursor, "proj_a", {}, true), "other filters");
    expect_refused(codec.open(cursor, "proj_a", filter_of("x"), false), "another order");
}

}  // namespace
}  // namespace annal
