#include "runtime/store/postgres/values.h"

#include <gtest/gtest.h>

#include <random>

#include "runtime/store/postgres/connection.h"
#include "tests/support/postgres_cluster.h"
#include "tests/support/test_seed.h"

namespace annal::postgres {
namespace {

class ValuesTest : public testing::Test {
protected:
    void SetUp() override {
        Connection::Options options;
        options.url = test::shared_cluster().url("postgres");
        auto opened = Connection::open(options, dog_);
        ASSERT_TRUE(opened.has_value());
        db_ = std::move(opened.value());
    }
    Rows ask(const std::string& statement, const Params& params) {
        auto rows = db_->run(statement, params);
        EXPECT_TRUE(rows.has_value()) << rows.error().detail;
        return rows ? rows.value() : Rows();
    }
    std::string answer(const std::string& statement, const Params& params = {}) {
        const Rows rows = ask(statement, params);
        return rows.size() == 1 ? std::string(rows.text(0, 0).view()) : "no row";
    }

    Watchdog dog_;
    std::unique_ptr<Connection> db_;
};

const std::vector<std::string>& odd_texts() {
    static const std::vector<std::string> texts{
        "",
        "NULL",
        "{a,b}",
        "it's",
        "\"quoted\"",
        "back\\slash \\x00 \\'",
        "a,b;--/*",
        "$1 %s %_",
        "Ärger 日本語 \xF0\x9F\x98\x80",
        "line\nbreak\ttab\r",
        std::string(100'000, 'x')};
    return texts;
}

TEST_F(ValuesTest, TextsArriveAsTheyAre) {
    Array texts(Array::Of::text);
    for (const std::string& text : odd_texts()) texts.text(text);
    texts.null().text(Text()).text(Text(""));
    Params params;
    params.array(texts);
    const Rows rows =
        ask("SELECT t FROM unnest($1::text[]) WITH ORDINALITY u(t, n) ORDER BY n", params);
    ASSERT_EQ(rows.size(), odd_texts().size() + 3);
    for (std::size_t i = 0; i < odd_texts().size(); ++i) {
        EXPECT_FALSE(rows.is_null(i, 0));
        EXPECT_EQ(rows.text(i, 0).view(), odd_texts()[i]);
        Params one;
        one.text(odd_texts()[i]);
        EXPECT_EQ(answer("SELECT $1::text", one), odd_texts()[i]);
        EXPECT_EQ(answer("SELECT " + postgres::quoted(odd_texts()[i])), odd_texts()[i]);
    }
    EXPECT_TRUE(rows.is_null(odd_texts().size(), 0));
    EXPECT_TRUE(rows.is_null(odd_texts().size() + 1, 0));
    EXPECT_FALSE(rows.is_null(odd_texts().size() + 2, 0));
}

TEST_F(ValuesTest, BytesArriveAsTheyAre) {
    std::string all;
    for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
    Array bytes(Array::Of::bytea);
    bytes.bytes(std::string_view(all)).bytes(std::string_view()).null();
    Params params;
    params.array(bytes).bytes(all);
    const Rows rows =
        ask("SELECT b, $2::bytea FROM unnest($1::bytea[]) WITH ORDINALITY u(b, n) ORDER BY n",
            params);
    EXPECT_EQ(rows.bytes(0, 0), all);
    EXPECT_EQ(rows.bytes(0, 1), all);
    EXPECT_EQ(rows.bytes(1, 0), "");
    EXPECT_FALSE(rows.is_null(1, 0));
    EXPECT_TRUE(rows.is_null(2, 0));
}

TEST_F(ValuesTest, NumbersArriveAsTheyAre) {
    const std::vector<std::int64_t> numbers{
        0, 1, -1, 255, 256, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
    Array array(Array::Of::int8);
    for (const auto number : numbers) array.number(number);
    Params params;
    params.array(array);
    const Rows rows =
        ask("SELECT i FROM unnest($1::bigint[]) WITH ORDINALITY u(i, n) ORDER BY n", params);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        EXPECT_EQ(rows.integer(i, 0), numbers[i]);
        Params one;
        one.number(numbers[i]);
        EXPECT_EQ(answer("SELECT $1::bigint", one), std::to_string(numbers[i]));
    }
}

TEST_F(ValuesTest, AnEmptyArrayHasNoRows) {
    Array none(Array::Of::text);
    Params params;
    params.array(none);
    EXPECT_EQ(ask("SELECT * FROM unnest($1::text[])", params).size(), 0U);
}

TEST_F(ValuesTest, TimesArriveToTheMicrosecond) {
    std::mt19937_64 random(test::test_seed());
    std::vector<TimeUs> times{0, -1, 1, 946'684'800'000'000, 946'684'799'999'999};
    for (int i = 0; i < 200; ++i)
        times.push_back(static_cast<TimeUs>(random() % (200ULL * 365 * 86'400 * 1'000'000)));
    const std::string us = "(extract(epoch FROM t) * 1000000)::bigint";
    Array array(Array::Of::timestamptz);
    for (const TimeUs at : times) array.time(at);
    Params params;
    params.array(array);
    const Rows rows =
        ask("SELECT " + us + " FROM unnest($1::timestamptz[]) WITH ORDINALITY u(t, n) ORDER BY n",
            params);
    for (std::size_t i = 0; i < times.size(); ++i) {
        EXPECT_EQ(rows.integer(i, 0), times[i]);
        Params one;
        one.time(times[i]);
        const std::string text = std::to_string(times[i]);
        EXPECT_EQ(answer("SELECT " + us + " FROM (SELECT $1::timestamptz AS t) v", one), text);
        EXPECT_EQ(
            answer(
                "SELECT " + us + " FROM (SELECT timestamptz " + timestamp_literal(times[i]) +
                " AS t) v"
            ),
            text
        );
    }
}

// Claims may be any number; as a bound they are compared as if at the edge of what can be stored.
TEST_F(ValuesTest, TimesBeyondTheEdgeAreAtTheEdge) {
    for (const TimeUs at : {INT64_MIN, INT64_MIN + 1, INT64_MAX, INT64_MAX - 1}) {
        Params one;
        one.time(at);
        const std::string sign = at < 0 ? "<" : ">";
        EXPECT_EQ(answer("SELECT $1::timestamptz " + sign + " now()", one), "t") << at;
        EXPECT_EQ(within_timestamp(within_timestamp(at)), within_timestamp(at));
    }
    EXPECT_EQ(within_timestamp(1'773'500'000'000'000), 1'773'500'000'000'000);
}

TEST_F(ValuesTest, MonthsHaveNames) {
    const Month march = month_of(1'773'500'000'000'000);
    EXPECT_EQ(month_text(march), "2026-03-01");
    EXPECT_EQ(partition_name(march), "audit_events_2026_03");
    for (Month month = march; month.index < march.index + 30; month = next(month)) {
        EXPECT_EQ(parse_month(month_text(month)), month);
        EXPECT_EQ(parse_month(partition_name(month).substr(13)), month);
    }
}

TEST(TimestampLiteral, StaysWithinTheYearsThatItCanSay) {
    for (const TimeUs at : {INT64_MIN, -62'135'596'800 * kSecondUs - 1})
        EXPECT_EQ(timestamp_literal(at), "'0001-01-01 00:00:00.000000+00'");
    for (const TimeUs at : {INT64_MAX, 253'402'300'800 * kSecondUs})
        EXPECT_EQ(timestamp_literal(at), "'9999-12-31 23:59:59.999999+00'");
}

}  // namespace
}  // namespace annal::postgres
