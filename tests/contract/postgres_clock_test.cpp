// The database's clock, which stamps events. It is turned here by a function that stands before
// PostgreSQL's own in the search path.
#include <gtest/gtest.h>

#include "tests/contract/postgres_nodes.h"
#include "tests/support/postgres_cluster.h"

namespace annal::test {
namespace {

class PostgresClock : public testing::Test {
protected:
    PostgresClock() : url_(shared_cluster().create_database()) {
        Session session(url_);
        session.run(
            "CREATE SCHEMA turned; CREATE TABLE turned.by (span interval); INSERT INTO turned.by "
            "VALUES ('0'); CREATE FUNCTION turned.clock_timestamp() RETURNS timestamptz LANGUAGE "
            "sql AS 'SELECT pg_catalog.clock_timestamp() + span FROM turned.by'"
        );
        node_ = std::make_unique<Node>(with_path());
    }

    // New tables go to public; the clock is found in `turned` first all the same.
    [[nodiscard]] std::string with_path() const {
        return url_ + "&options=-c%20search_path%3Dpublic%2Cturned%2Cpg_catalog";
    }

    void turn(const std::string& span) {
        shared_cluster().sql(url_, "UPDATE turned.by SET span = '" + span + "'");
    }

    AppendOutcome append() { return node_->append(Unit("p").action("a.b")); }

    std::string url_;
    std::unique_ptr<Node> node_;
};

TEST_F(PostgresClock, StampsEvents) {
    turn("-400 days");
    node_ = std::make_unique<Node>(with_path());
    const auto made = append();
    ASSERT_TRUE(made.has_value()) << made.error().detail;
    EXPECT_LT(made.value()[0].created_at, SystemClock().wall_us() - 399 * kDayUs);
}

TEST_F(PostgresClock, AJumpForwardNeedsAWord) {
    ASSERT_TRUE(append().has_value());
    turn("2 hours");
    for (int i = 0; i < 2; ++i) {
        const auto refused = append();
        ASSERT_TRUE(refused.has_error());
        EXPECT_EQ(refused.error().code, Errc::unavailable);
        EXPECT_NE(refused.error().detail.find("clock jumped"), std::string::npos)
            << refused.error().detail;
        EXPECT_GT(refused.error().retry_after_ms, 0U);
    }
    EXPECT_FALSE(node_->store().health().refusal.empty());
    node_->store().confirm_clock();
    EXPECT_TRUE(append().has_value());
    EXPECT_EQ(node_->store().health().refusal, "");
}

TEST_F(PostgresClock, TheRefusalLastsAsLongAsItsReason) {
    ASSERT_TRUE(append().has_value());
    turn("2 hours");
    ASSERT_TRUE(append().has_error());
    // Asking for the health has the store try whether it can write: that is not the question.
    const auto is_refused = [this] {
        return node_->store().health().refusal.find("clock jumped") != std::string::npos;
    };
    EXPECT_FALSE(eventually([&] { return !is_refused(); }, std::chrono::milliseconds(1'500)));
    turn("0");
    EXPECT_TRUE(eventually([&] { return !is_refused(); })) << "though nobody appends";
    EXPECT_TRUE(append().has_value());
}

TEST_F(PostgresClock, AStepBackGoesOnFromTheLastStamp) {
    const auto first = append();
    ASSERT_TRUE(first.has_value());
    turn("-3 days");
    const auto second = append();
    ASSERT_TRUE(second.has_value());
    EXPECT_EQ(second.value()[0].created_at, first.value()[0].created_at + 1);
}

}  // namespace
}  // namespace annal::test
