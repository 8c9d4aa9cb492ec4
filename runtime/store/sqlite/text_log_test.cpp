#include "runtime/store/sqlite/text_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <thread>

#include "runtime/store/filter.h"

namespace annal::sqlite {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr SeqRange kAll{0, kSeqMax, true};
constexpr SeqRange kAllOldest{0, kSeqMax, false};

/// One event of `pid` with these texts.
void add(
    TextLog& log,
    ProjectNumber pid,
    Seq seq,
    std::string_view action,
    std::string_view target = {},
    std::string_view description = {}
) {
    std::array<Text, kColumns> columns{};
    columns[static_cast<std::size_t>(Column::action)] = Text(action);
    if (!target.empty()) columns[static_cast<std::size_t>(Column::target_id)] = Text(target);
    if (!description.empty())
        columns[static_cast<std::size_t>(Column::description)] = Text(description);
    const Postings::Entry entry{row_key(pid, seq), 0, columns};
    log.add(std::span(&entry, 1));
}

std::vector<Seq> seqs(
    const TextLog& log, ProjectNumber pid, std::string_view needle, SeqRange range = kAll
) {
    return log.find(pid, needle, range, 1'000'000)->seqs;
}

TEST(TextLog, FindsInEveryTextInEitherCaseAndNowhereElse) {
    TextLog log;
    add(log, 1, 0, "session.created", "tgt_AB", "Signed In");
    add(log, 1, 1, "session.revoked", "tgt_cd");
    EXPECT_THAT(seqs(log, 1, "SESSION"), ElementsAre(1, 0));
    EXPECT_THAT(seqs(log, 1, "tgt_ab"), ElementsAre(0));
    EXPECT_THAT(seqs(log, 1, "signed in"), ElementsAre(0));
    EXPECT_THAT(seqs(log, 1, "createdtgt"), IsEmpty()) << "across two texts";
    EXPECT_THAT(seqs(log, 1, "signed insession"), IsEmpty()) << "across two events";
    EXPECT_THAT(seqs(log, 2, "session"), IsEmpty()) << "another project";
}

TEST(TextLog, KeepsToTheRangeTheDirectionAndTheLimit) {
    TextLog log;
    for (Seq seq = 0; seq < 10; ++seq) {
        add(log, 1, seq, "a.b");
        add(log, 2, seq, "a.b");
    }
    EXPECT_THAT(seqs(log, 1, "a.b", {3, 5, true}), ElementsAre(5, 4, 3));
    EXPECT_THAT(seqs(log, 2, "a.b", {3, 5, false}), ElementsAre(3, 4, 5));
    const auto first = log.find(1, "a.b", kAll, 4);
    EXPECT_THAT(first->seqs, ElementsAre(9, 8, 7, 6));
    EXPECT_FALSE(first->complete);
    EXPECT_TRUE(log.find(1, "a.b", kAll, 10)->complete);
}

TEST(TextLog, AgreesWithTheFilterOverManyChunks) {
    const auto seed = std::random_device()();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    TextLog log;
    std::vector<std::string> texts;
    for (Seq seq = 0; seq < 6'000; ++seq) {
        std::string text(100 + random() % 100, 'x');
        for (char& c : text) c = "abAB"[random() % 4];
        add(log, 1, seq, "a.b", "", text);
        texts.push_back(text);
    }
    for (int i = 0; i < 20; ++i) {
        std::string needle(1 + random() % 12, 'x');
        for (char& c : needle) c = "abAB"[random() % 4];
        std::vector<Seq> expected;
        for (std::size_t seq = 0; seq < texts.size(); ++seq)
            if (contains_ascii_ci(texts[seq], needle) || contains_ascii_ci("a.b", needle))
                expected.push_back(static_cast<Seq>(seq));
        EXPECT_EQ(seqs(log, 1, needle, kAllOldest), expected) << needle;
    }
}

TEST(TextLog, GivesUpBeyondItsLimitInsteadOfGrowing) {
    TextLog log;
    const std::string text(4'000, 'x');
    const auto enough = static_cast<Seq>(TextLog::kBytesMax / text.size() + 1);
    for (Seq seq = 0; seq < enough; ++seq) add(log, 1, seq, "a.b", "", text);
    EXPECT_FALSE(log.find(1, "a.b", kAll, 1).has_value());
}

TEST(TextLog, IsReadWhileItGrows) {
    TextLog log;
    constexpr Seq kEvents = 20'000;
    std::thread writer([&] {
        for (Seq seq = 0; seq < kEvents; ++seq) add(log, 1, seq, "a.b", "target", "some words");
    });
    Seq newest = -1;
    while (newest < kEvents - 1) {
        const auto found = log.find(1, "words", kAll, 1);
        if (found->seqs.empty()) continue;
        EXPECT_GE(found->seqs.front(), newest);
        newest = found->seqs.front();
    }
    writer.join();
}

}  // namespace
}  // namespace annal::sqlite
