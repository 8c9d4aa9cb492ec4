#include "runtime/core/result.h"

#include <gtest/gtest.h>

#include <set>

namespace annal {
namespace {

constexpr int kLast = static_cast<int>(Errc::internal);

Result<int> half(int value) {
    if (value % 2 != 0) {
        return Error{Errc::invalid, "odd"};
    }
    return value / 2;
}

Result<int> quarter(int value) {
    BOOST_OUTCOME_TRY(const int halved, half(value));
    return half(halved);
}

TEST(ResultTest, ErrorsPropagate) {
    EXPECT_EQ(quarter(8).value(), 2);
    EXPECT_EQ(quarter(3).error().code, Errc::invalid);
    EXPECT_EQ(quarter(6).error().detail, "odd");
}

TEST(ResultTest, EveryCodeHasItsOwnNameAndAnErrorStatus) {
    std::set<std::string> names;
    for (int code = 1; code <= kLast; ++code) {
        names.insert(name(static_cast<Errc>(code)));
        EXPECT_GE(http_status(static_cast<Errc>(code)), 400) << code;
        EXPECT_LT(http_status(static_cast<Errc>(code)), 600) << code;
    }
    EXPECT_EQ(names.size(), static_cast<std::size_t>(kLast));
}

TEST(ResultTest, TheTableToHttpIsThePublishedOne) {
    EXPECT_EQ(http_status(Errc::invalid), 400);
    EXPECT_EQ(http_status(Errc::unauthenticated), 401);
    EXPECT_EQ(http_status(Errc::denied), 403);
    EXPECT_EQ(http_status(Errc::not_found), 404);
    EXPECT_EQ(http_status(Errc::conflict), 409);
    EXPECT_EQ(http_status(Errc::too_large), 413);
    EXPECT_EQ(http_status(Errc::unsupported), 415);
    EXPECT_EQ(http_status(Errc::unprocessable), 422);
    EXPECT_EQ(http_status(Errc::busy), 429);
    EXPECT_EQ(http_status(Errc::internal), 500);
    EXPECT_EQ(http_status(Errc::unavailable), 503);
    EXPECT_EQ(http_status(Errc::timeout), 503);
}

TEST(ResultTest, AForeignCodeIsADefect) {
    EXPECT_EQ(http_status(static_cast<Errc>(99)), 500);
    EXPECT_STREQ(name(static_cast<Errc>(99)), "internal");
}

}  // namespace
}  // namespace annal
