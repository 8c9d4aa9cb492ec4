#include "tests/contract/store_contract.h"

#include <algorithm>
#include <random>

namespace annal::test {

Unit::Unit(std::string project) : arena_(std::make_shared<Arena>()) {
    unit_.project = std::move(project);
    unit_.memory = arena_;
}

Unit& Unit::event(std::vector<std::pair<Column, Text>> columns, TimeUs occurred_at, Text key) {
    EventDraft made;
    for (const auto& [column, value] : columns) {
        made[column] = value;
    }
    made.occurred_at = occurred_at;
    made.idempotency_key = key;
    return draft(made);
}

Unit& Unit::draft(const EventDraft& draft) {
    EventDraft copy = draft;
    for (Text& text : copy.columns) {
        text = arena_->copy(text);
    }
    copy.idempotency_key = arena_->copy(draft.idempotency_key);
    unit_.events.push_back(copy);
    return *this;
}

Unit& Unit::key(std::string request_key) {
    unit_.request_key = std::move(request_key);
    return *this;
}

Unit& Unit::put(std::string space, std::string key, std::string value) {
    return kv({KvOp::Kind::put, std::move(space), unit_.project, std::move(key), std::move(value)});
}

Unit& Unit::kv(KvOp op) {
    unit_.kv.push_back(std::move(op));
    return *this;
}

Unit& Unit::cursor(std::string subscription, Seq to, std::int64_t fence) {
    unit_.cursors.push_back({std::move(subscription), to, fence});
    return *this;
}

Unit& Unit::erase(Seq seq) {
    unit_.erase.push_back(seq);
    return *this;
}

void Truth::add(const EventDraft& draft, const Receipt& receipt) {
    Event event;
    event.id = receipt.id;
    event.seq = receipt.seq;
    event.created_at = receipt.created_at;
    event.occurred_at = draft.occurred_at;
    event.project_id = arena.copy(std::string_view(project));
    for (std::size_t c = 0; c < kColumns; ++c) {
        event.columns[c] = arena.copy(draft.columns[c]);
    }
    ASSERT_EQ(receipt.seq, static_cast<Seq>(events.size()));
    events.push_back(event);
}

void Truth::erase(Seq seq) {
    Event& event = events[static_cast<std::size_t>(seq)];
    event.deleted = true;
    event.occurred_at = kNoTime;
    event.columns.fill(Text());
}

void Truth::raise_floor(Seq to) {
    first_seq = std::max(first_seq, to);
    for (Event& event : events) event.deleted = event.deleted || event.seq < first_seq;
}

std::vector<Seq> Truth::expect(const Filter& filter, bool tombstones) const {
    std::vector<Seq> seqs;
    for (const Event& event : events) {
        if (event.seq < first_seq) continue;
        // A tombstone shows whatever the filter, within the time that is asked for.
        const bool in_time = (!filter.from || event.created_at >= *filter.from) &&
                             (!filter.before || event.created_at < *filter.before);
        if (event.deleted ? tombstones && in_time : filter.matches(event)) {
            seqs.push_back(event.seq);
        }
    }
    return seqs;
}

void StoreContract::SetUp() {
    harness_ = GetParam().make();
    open();
}

void StoreContract::TearDown() {
    harness_->fail_writes(false);
    harness_->hold_search(false);
    if (store_ != nullptr) {
        store_->close();
    }
    threads_.drain();
    store_.reset();
}

void StoreContract::open() {
    auto opened = harness_->open(clock_, metrics_, segment_events_);
    ASSERT_TRUE(opened.has_value()) << opened.error().detail;
    store_ = std::move(opened.value());
}

void StoreContract::reopen() {
    store_->close();
    store_.reset();
    open();
}

AppendOutcome StoreContract::append(const Unit& unit) {
    return std::move(append(std::vector<Unit>{unit}).front());
}

std::vector<AppendOutcome> StoreContract::append(const std::vector<Unit>& units) {
    std::vector<AppendUnit> built;
    for (const Unit& unit : units) {
        built.push_back(unit.build());
    }
    return run(store_->append(built));
}

std::vector<Receipt> StoreContract::receipts(const Unit& unit) {
    auto outcome = append(unit);
    EXPECT_TRUE(outcome.has_value()) << outcome.error().detail;
    return outcome.has_value() ? std::move(outcome.value()) : std::vector<Receipt>();
}

ScanPage StoreContract::scan(ScanRequest request) {
    auto page = run(store_->scan(std::move(request)));
    EXPECT_TRUE(page.has_value()) << page.error().detail;
    return page.has_value() ? std::move(page.value()) : ScanPage{{}, kNoSeq, true};
}

ScanRequest StoreContract::request(const std::string& project) const {
    ScanRequest made;
    made.project = project;
    return made;
}

std::vector<Seq> StoreContract::walk(
    const std::string& project,
    const Filter& filter,
    bool newest_first,
    std::uint32_t limit,
    bool tombstones
) {
    std::vector<Seq> seqs;
    ScanRequest next = request(project);
    next.filter = filter;
    next.newest_first = newest_first;
    next.limit = limit;
    next.tombstones = tombstones;
    for (int pages = 0; pages < 100'000; ++pages) {
        const ScanPage page = scan(next);
        EXPECT_LE(page.batch.events.size(), limit);
        for (const Event& event : page.batch.events) {
            seqs.push_back(event.seq);
        }
        if (page.exhausted) {
            return seqs;
        }
        const bool moved =
            !next.after || (newest_first ? page.scanned < *next.after : page.scanned > *next.after);
        EXPECT_TRUE(moved) << "a page that is not exhausted did not move on";
        if (!moved) {
            return seqs;
        }
        next.after = page.scanned;
    }
    ADD_FAILURE() << "the walk does not end";
    return seqs;
}

LogState StoreContract::log(const std::string& project) {
    auto state = run(store_->log_state(project));
    EXPECT_TRUE(state.has_value()) << state.error().detail;
    return state.has_value() ? state.value() : LogState{};
}

std::vector<Truth> StoreContract::fill(std::uint32_t seed, int events) {
    static const std::vector<std::string> actions = {
        "auth.login",
        "auth.logout",
        "auth.mfa.enroll",
        "auth.mfa_x.enroll",
        "user.created",
        "user.deleted",
        "billing.invoice.paid",
        "authz.check"};
    static const std::vector<std::string> words = {
        "Ärger im Büro",
        "password reset",
        "100% done_now",
        "PASSWORD changed",
        "日本語のログ",
        "xY"};
    std::mt19937 random(seed);
    const auto below = [&](std::size_t n) { return random() % n; };
    std::vector<Truth> truths(3);
    for (std::size_t p = 0; p < truths.size(); ++p) {
        truths[p].project = "project" + std::to_string(p);
    }
    for (int made = 0; made < events;) {
        Truth& truth = truths[below(8) < 6 ? 0 : 1 + below(2)];
        Unit unit(truth.project);
        const std::size_t size = 1 + below(12);
        for (std::size_t i = 0; i < size; ++i, ++made) {
            std::vector<std::string> kept;
            kept.reserve(kColumns);
            EventDraft draft;
            const auto set = [&](Column column, const std::string& value) {
                kept.push_back(value);
                draft[column] = Text(kept.back());
            };
            set(Column::action, actions[below(actions.size())]);
            for (std::size_t c = 0; c < kColumns; ++c) {
                const auto column = static_cast<Column>(c);
                if (column == Column::action || below(3) == 0) {
                    continue;
                }
                if (column == Column::description) {
                    set(column, words[below(words.size())]);
                } else if (column == Column::metadata) {
                    set(column, "{\"n\": " + std::to_string(below(100)) + ".10}");
                } else {
                    // Few values, one of them empty, of unequal weight.
                    const std::size_t value = below(3) == 0 ? below(12) : below(3);
                    set(column,
                        value == 2 ? "" : std::string(name(column)) + std::to_string(value));
                }
            }
            if (below(3) == 0) {
                draft.occurred_at =
                    clock_.wall_us() - static_cast<TimeUs>(below(7'200)) * kSecondUs;
            }
            unit.draft(draft);
        }
        const AppendUnit built = unit.build();
        const auto answered = receipts(unit);
        for (std::size_t i = 0; i < answered.size(); ++i) {
            truth.add(built.events[i], answered[i]);
        }
        clock_.advance(static_cast<TimeUs>(below(300)) * kSecondUs);
        if (below(6) == 0 && !truth.events.empty()) {
            const auto seq = static_cast<Seq>(below(truth.events.size()));
            if (!truth.events[static_cast<std::size_t>(seq)].deleted) {
                receipts(Unit(truth.project).erase(seq));
                truth.erase(seq);
            }
        }
    }
    return truths;
}

void expect_same(const Event& event, const Event& expected) {
    EXPECT_EQ(event.seq, expected.seq);
    EXPECT_EQ(event.id, expected.id);
    EXPECT_EQ(event.created_at, expected.created_at);
    EXPECT_EQ(event.occurred_at, expected.occurred_at);
    EXPECT_EQ(event.project_id, expected.project_id);
    EXPECT_EQ(event.deleted, expected.deleted);
    for (std::size_t c = 0; c < kColumns; ++c) {
        EXPECT_TRUE(event.columns[c] == expected.columns[c])
            << "seq " << event.seq << " " << name(static_cast<Column>(c));
    }
}

void StoreContract::expect_equal(const Truth& truth, bool newest_first) {
    const std::size_t size = truth.events.size();
    const auto hidden = static_cast<std::size_t>(truth.first_seq);
    std::size_t seen = newest_first ? 0 : hidden;
    ScanRequest page_request = request(truth.project);
    page_request.newest_first = newest_first;
    page_request.tombstones = true;
    page_request.limit = 97;
    while (true) {
        const ScanPage page = scan(page_request);
        for (const Event& event : page.batch.events) {
            ASSERT_LT(seen, size);
            const Event& expected = truth.events[newest_first ? size - 1 - seen : seen];
            ASSERT_EQ(event.seq, expected.seq);
            expect_same(event, expected);
            ++seen;
        }
        if (page.exhausted) {
            break;
        }
        page_request.after = page.scanned;
    }
    EXPECT_EQ(seen, newest_first ? size - hidden : size);
}

}  // namespace annal::test
