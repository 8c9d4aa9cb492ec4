#include <gtest/gtest.h>
#include <annal/sdk/buffer.hpp>
#include <annal/sdk/sink.hpp>

#include "tests/support/mini_host.h"

namespace {

TEST(Buffer, GrowsUpToItsLimit) {
    annal::Buffer buffer(5000);
    const std::string piece(3000, 'x');
    buffer.append(piece);
    EXPECT_FALSE(buffer.overflowed());
    buffer.append(piece);
    EXPECT_TRUE(buffer.overflowed());
    EXPECT_EQ(buffer.view(), piece);  // what does not fit is left out whole
    buffer.clear();
    buffer.append("again");
    EXPECT_EQ(buffer.view(), "again");
}

TEST(Writer, KeepsPiecesInOrderAcrossWindows) {
    annal::test::TextWriter host;
    const annal_writer raw = host.writer();
    std::string expected;
    {
        annal::Writer out(raw);
        for (int i = 0; i < 5000; ++i) {
            const std::string piece = std::to_string(i) + ",";
            out.append(piece);
            expected += piece;
            if (i % 1000 == 0) {
                const std::string large(10'000, static_cast<char>('a' + i / 1000));
                out.append(large);
                expected += large;
            }
        }
        EXPECT_EQ(out.written(), expected.size());
        EXPECT_TRUE(out.status().ok());
    }
    EXPECT_EQ(host.text, expected);
}

TEST(Writer, ReportsTheHostsLimit) {
    annal::test::TextWriter host(100);
    const annal_writer raw = host.writer();
    annal::Writer out(raw);
    out.append(std::string(60, 'x'));
    EXPECT_TRUE(out.status().ok());
    out.append(std::string(60, 'y'));
    EXPECT_EQ(out.status().code(), ANNAL_TOO_LARGE);
    out.append("z");  // nothing is taken once something is missing
    out.flush();
    EXPECT_EQ(host.text, std::string(60, 'x'));
}

TEST(Status, CutsItsTextBetweenCharacters) {
    const annal::Status status(ANNAL_INVALID, std::string(495, 'x') + "é");
    const annal_error error = status.to_error();
    EXPECT_EQ(error.text_len, 495U);
    EXPECT_EQ(annal::Status::from(&error).text(), std::string(495, 'x'));
    EXPECT_EQ(annal::Status::from(&error).code(), ANNAL_INVALID);
    EXPECT_TRUE(annal::Status::from(nullptr).ok());
}

TEST(Status, NeverTakesAnErrorForSuccess) {
    annal_error error{};
    error.struct_size = sizeof(error);
    error.code = ANNAL_OK;
    EXPECT_EQ(annal::Status::from(&error).code(), ANNAL_INTERNAL);
    error.code = ANNAL_INVALID;
    error.text_len = 100'000;  // a length beyond the text is not followed
    EXPECT_EQ(annal::Status::from(&error).text().size(), sizeof(error.text));
}

TEST(Rows, StepsOverElementsThatGrew) {
    struct Wider {
        annal_verdict known;
        char added[40];
    };
    const Wider wide[3] = {
        {{1, 1, {nullptr, 0}}, {}}, {{2, 1, {nullptr, 0}}, {}}, {{3, 1, {nullptr, 0}}, {}}};
    const annal::Rows<annal_verdict> rows(&wide[0].known, 3, sizeof(Wider));
    std::uint32_t sum = 0;
    for (const annal_verdict& row : rows) sum = sum * 10 + row.index;
    EXPECT_EQ(sum, 123U);
    EXPECT_EQ(rows.back().index, 3U);
    EXPECT_TRUE(annal::Rows<annal_verdict>(nullptr, 5).empty());
}

}  // namespace
