// What holds whatever is appended, erased and read, and in whatever order: tried on random choices.
#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <map>
#include <mutex>
#include <set>

#include "tests/contract/random_events.h"
#include "tests/support/test_seed.h"

namespace annal::test {
namespace {

constexpr TimeUs kApril = 1'775'001'600'000'000;  // 2026-04-01T00:00:00Z
constexpr std::chrono::milliseconds kBudget{60'000};
constexpr const char* kSpace = "plugin.x";
const std::vector<std::string> kProjects = {"p", "project-2", "Ω"};

struct Sent {
    AppendUnit unit;
    std::vector<Receipt> receipts;
};

// ---------------------------------------------------------------- round trip

/// One of the callers that append at the same time, and its own account of what must be there.
class Caller {
public:
    Caller(std::string name, std::uint32_t seed, std::uint32_t shared_seed)
        : name_(std::move(name)), random_(seed), shared_seed_(shared_seed) {}

    RandomEvents& random() { return random_; }
    const std::string& name() const { return name_; }

    /// The units of one call; what they change counts as done.
    std::vector<AppendUnit> draw(TimeUs now) {
        std::vector<AppendUnit> units;
        for (std::size_t n = 1 + random_.below(3); n > 0; --n) {
            units.push_back(draw_unit(now));
        }
        return units;
    }
    void sent(AppendUnit unit, std::vector<Receipt> receipts) {
        sent_.push_back({std::move(unit), std::move(receipts)});
    }
    const std::vector<Sent>& all_sent() const { return sent_; }

    /// (project, key) → value; nullopt: erased.
    std::map<std::pair<std::string, std::string>, std::optional<std::string>> values;
    std::map<std::string, Seq> cursors;  ///< by project, of the one subscription
    int raised = 0;  ///< times it was the one to raise the number that all share

private:
    AppendUnit draw_unit(TimeUs now) {
        switch (random_.below(6)) {
            case 0:
                return shared_unit(random_.below(6));
            case 1:
                return repeated_unit();
            case 2:
                return keyed_unit(now);
            default:
                return plain_unit(now);
        }
    }

    /// The same from every caller, whoever comes first.
    AppendUnit shared_unit(std::size_t number) const {
        RandomEvents same(shared_seed_ + static_cast<std::uint32_t>(number));
        Unit unit(kProjects[number % kProjects.size()]);
        for (std::size_t n = 1 + same.below(20); n > 0; --n) {
            same.add_event(unit, kApril);
        }
        return unit.key("shared " + std::to_string(number)).build();
    }

    // Whatever it would change beside the events stays as it was.
    AppendUnit repeated_unit() {
        if (keyed_.empty()) {
            return shared_unit(0);
        }
        AppendUnit unit = keyed_[random_.below(keyed_.size())];
        for (KvOp& op : unit.kv) {
            op.value = "not to be written";
        }
        return unit;
    }

    AppendUnit keyed_unit(TimeUs now) {
        const std::string key = name_ + " " + std::to_string(keyed_.size());
        Unit unit(kProjects[random_.below(kProjects.size())]);
        for (std::size_t n = 1 + random_.below(10); n > 0; --n) {
            random_.add_event(unit, now);
        }
        unit.key(key).put(kSpace, key, "first");
        keyed_.push_back(unit.build());
        values[{keyed_.back().project, key}] = "first";
        return keyed_.back();
    }

    AppendUnit plain_unit(TimeUs now) {
        const std::size_t project = random_.below(kProjects.size());
        Unit unit(kProjects[project]);
        for (std::size_t n = random_.below(random_.one_in(4) ? 51 : 8); n > 0; --n) {
            if (random_.one_in(6)) {
                add_shared_event(unit, project);
            } else {
                random_.add_event(unit, now);
            }
        }
        change_values(unit, kProjects[project]);
        if (random_.one_in(3)) {
            Seq& cursor = cursors.try_emplace(kProjects[project], kNoSeq).first->second;
            unit.cursor("stream " + name_, ++cursor);
        }
        return unit.build();
    }

    /// With a key, the same from every caller and sometimes twice in one unit.
    void add_shared_event(Unit& unit, std::size_t project) {
        const std::size_t number = random_.below(8);
        const auto seed = static_cast<std::uint32_t>(1'000 + number + project * 100);
        RandomEvents same(shared_seed_ + seed);
        const std::string key = "event " + std::to_string(number) + " é";
        same.add_event(unit, kApril, Text(key));
    }

    void change_values(Unit& unit, const std::string& project) {
        for (std::size_t n = random_.below(3); n > 0; --n) {
            const std::string key = name_ + "/" + std::to_string(random_.below(5));
            auto& value = values[{project, key}];
            if (value) {
                unit.kv({KvOp::Kind::require_equals, kSpace, project, key, *value});
            } else {
                unit.kv({KvOp::Kind::require_absent, kSpace, project, key, ""});
            }
            if (random_.one_in(3)) {
                unit.kv({KvOp::Kind::erase, kSpace, project, key, ""});
                value.reset();
            } else {
                value = random_.text(20);
                unit.put(kSpace, key, *value);
            }
        }
    }

    const std::string name_;
    RandomEvents random_;
    const std::uint32_t shared_seed_;
    std::vector<Sent> sent_;
    std::vector<AppendUnit> keyed_;
};

/// The logs as the receipts tell them, and that no receipt contradicts another.
class Receipts {
public:
    void read(const std::vector<Sent>& all) {
        for (const Sent& sent : all) {
            ASSERT_EQ(sent.receipts.size(), sent.unit.events.size());
            for (std::size_t i = 0; i < sent.receipts.size(); ++i) {
                const Place place{&sent.unit.events[i], &sent.receipts[i], &sent.unit};
                (sent.receipts[i].replayed ? replayed_ : written_).push_back(place);
            }
        }
    }

    std::vector<Truth> truths() {
        for (const Place& place : written_) {
            EXPECT_TRUE(logs_[place.unit->project].emplace(place.receipt->seq, place).second)
                << place.unit->project << " gave seq " << place.receipt->seq << " twice";
        }
        expect_keys_written_once();
        for (const Place& place : replayed_) {
            expect_original(place);
        }
        std::vector<Truth> truths;
        for (const auto& [project, log] : logs_) {
            Truth& truth = truths.emplace_back();
            truth.project = project;
            for (const auto& [seq, place] : log) {
                truth.add(*place.draft, *place.receipt);
            }
        }
        return truths;
    }

    std::size_t replayed() const { return replayed_.size(); }

private:
    struct Place {
        const EventDraft* draft;
        const Receipt* receipt;
        const AppendUnit* unit;
    };

    void expect_keys_written_once() {
        std::set<std::pair<std::string, std::string>> events;
        std::map<std::pair<std::string, std::string>, const AppendUnit*> requests;
        for (const Place& place : written_) {
            const std::string& project = place.unit->project;
            if (!place.draft->idempotency_key.is_null()) {
                const std::string key(place.draft->idempotency_key.view());
                EXPECT_TRUE(events.emplace(project, key).second) << key << " was written twice";
            }
            if (!place.unit->request_key.empty()) {
                const auto [first, is_new] =
                    requests.emplace(std::pair(project, place.unit->request_key), place.unit);
                EXPECT_EQ(first->second, place.unit) << first->first.second << " written twice";
            }
        }
    }

    void expect_original(const Place& again) {
        const auto& log = logs_[again.unit->project];
        const auto original = log.find(again.receipt->seq);
        ASSERT_NE(original, log.end()) << "replayed, but nothing was written";
        const Place& first = original->second;
        EXPECT_EQ(again.receipt->id, first.receipt->id);
        EXPECT_EQ(again.receipt->created_at, first.receipt->created_at);
        EXPECT_TRUE(again.draft->columns == first.draft->columns);
        EXPECT_EQ(again.draft->occurred_at, first.draft->occurred_at);
        EXPECT_TRUE(again.draft->idempotency_key == first.draft->idempotency_key);
        EXPECT_EQ(again.unit->request_key, first.unit->request_key);
    }

    std::vector<Place> written_, replayed_;
    std::map<std::string, std::map<Seq, Place>> logs_;
};

void expect_rising(const Truth& truth) {
    for (std::size_t i = 0; i < truth.events.size(); ++i) {
        const Event& event = truth.events[i];
        ASSERT_EQ(event.seq, static_cast<Seq>(i)) << "a hole in " << truth.project;
        EXPECT_EQ(event.id.created_at(), event.created_at);
        if (i > 0) {
            EXPECT_GT(event.created_at, truth.events[i - 1].created_at);
            EXPECT_LT(truth.events[i - 1].id, event.id);
        }
    }
}

TEST_P(StoreContract, WhatManyCallersAppendComesBackExactly) {
    constexpr int kCallers = 5, kCalls = 14;
    RandomEvents random(test_seed());
    clock_.step_to(kApril - static_cast<TimeUs>(random.below(3'600)) * kSecondUs);
    std::vector<std::unique_ptr<Caller>> callers;
    const std::uint32_t shared_seed = random.seed();
    for (int i = 0; i < kCallers; ++i) {
        callers.push_back(
            std::make_unique<Caller>("caller " + std::to_string(i), random.seed(), shared_seed)
        );
    }

    const auto append_some = [&](Caller& caller) -> Task<void> {
        std::vector<AppendUnit> units = caller.draw(clock_.wall_us());
        auto outcomes = co_await store_->append(units);
        for (std::size_t i = 0; i < units.size(); ++i) {
            EXPECT_TRUE(outcomes[i].has_value()) << outcomes[i].error().detail;
            if (outcomes[i].has_value()) {
                caller.sent(units[i], std::move(outcomes[i].value()));
            }
        }
    };
    // Only the caller that still finds the number as it read it may raise it.
    const auto raise = [&](Caller& caller) -> Task<void> {
        const auto read = co_await store_->kv_get("host.x", "p", "number");
        EXPECT_TRUE(read.has_value());
        const std::optional<std::string> found = read.has_value() ? read.value() : std::nullopt;
        Unit unit("p");
        caller.random().add_event(unit, kApril);
        const auto require = found ? KvOp::Kind::require_equals : KvOp::Kind::require_absent;
        unit.kv({require, "host.x", "p", "number", found.value_or("")});
        const std::string more = std::to_string(std::stoi(found.value_or("0")) + 1);
        unit.kv({KvOp::Kind::put, "host.x", "p", "number", more});
        std::vector<AppendUnit> units = {unit.build()};
        auto outcomes = co_await store_->append(units);
        if (outcomes[0].has_value()) {
            ++caller.raised;
            caller.sent(units[0], std::move(outcomes[0].value()));
        } else {
            EXPECT_EQ(outcomes[0].error().code, Errc::conflict) << outcomes[0].error().detail;
        }
    };
    const auto run_caller = [&](Caller& caller) -> Task<int> {
        for (int call = 0; call < kCalls; ++call) {
            co_await append_some(caller);
            co_await raise(caller);
            const auto step = static_cast<TimeUs>(caller.random().below(400)) * kSecondUs;
            if (caller.random().one_in(8)) {
                clock_.step_to(clock_.wall_us() - step);
            } else {
                clock_.advance(step);
            }
        }
        co_return kCalls;
    };
    std::vector<PendingTask<int>> running;
    for (auto& caller : callers) {
        running.push_back(start(run_caller(*caller)));
    }
    for (auto& done : running) {
        EXPECT_EQ(done.get(), kCalls);
    }

    Receipts receipts;
    int raised = 0;
    for (const auto& caller : callers) {
        receipts.read(caller->all_sent());
        raised += caller->raised;
    }
    const auto truths = receipts.truths();
    ASSERT_EQ(truths.size(), kProjects.size());
    EXPECT_GT(receipts.replayed(), 0U);
    EXPECT_GT(raised, 0);
    for (int round = 0; round < 3; ++round) {
        SCOPED_TRACE("round " + std::to_string(round));
        for (const Truth& truth : truths) {
            expect_rising(truth);
            expect_equal(truth, false);
            expect_equal(truth, true);
            const auto size = static_cast<std::int64_t>(truth.events.size());
            EXPECT_EQ(log(truth.project).head_seq, size - 1);
            EXPECT_EQ(run(store_->count(truth.project, {}, kBudget)).value().count, size);
            for (std::size_t i = random.below(7); i < truth.events.size(); i += 7) {
                const auto found = run(store_->get(truth.project, truth.events[i].id));
                ASSERT_TRUE(found.has_value()) << found.error().detail;
                ASSERT_EQ(found.value().events.size(), 1U);
                expect_same(found.value().events[0], truth.events[i]);
            }
        }
        for (const auto& caller : callers) {
            for (const auto& [where, value] : caller->values) {
                EXPECT_EQ(run(store_->kv_get(kSpace, where.first, where.second)).value(), value)
                    << where.first << " " << where.second;
            }
            for (const auto& [project, seq] : caller->cursors) {
                EXPECT_EQ(run(store_->cursor(project, "stream " + caller->name())).value(), seq);
            }
        }
        EXPECT_EQ(run(store_->kv_get("host.x", "p", "number")).value(), std::to_string(raised));
        if (round == 0) {
            harness_->settle();
        } else {
            reopen();
        }
    }
}

// ---------------------------------------------------------------- walks while the log changes

/// Moments of one test, in the order in which they came about.
using Tick = std::int64_t;
constexpr Tick kNever = std::numeric_limits<Tick>::max();

struct Life {
    Event event;  ///< as it was before it was erased
    Tick there_by = kNever;
    Tick going_from = kNever, gone_by = kNever;
};

/// What was done to one log and when. Thread-safe until it is read.
class Ledger {
public:
    explicit Ledger(std::string project) : project_(std::move(project)) {}

    Tick tick() { return ++ticks_; }

    void note(const AppendUnit& unit, const std::vector<Receipt>& receipts) {
        const Tick there_by = tick();
        const std::lock_guard lock(mutex_);
        for (std::size_t i = 0; i < receipts.size(); ++i) {
            Event event;
            event.id = receipts[i].id;
            event.seq = receipts[i].seq;
            event.created_at = receipts[i].created_at;
            event.occurred_at = unit.events[i].occurred_at;
            event.project_id = project_;
            event.columns = unit.events[i].columns;
            memory_.push_back(unit.memory);
            EXPECT_TRUE(lives_.emplace(event.seq, Life{event, there_by}).second);
        }
    }
    /// Some event that is still there, from now on going; kNoSeq: the choice fell on none.
    Seq pick_to_erase(RandomEvents& random) {
        const std::lock_guard lock(mutex_);
        const auto found = lives_.lower_bound(static_cast<Seq>(random.below(lives_.size())));
        if (found == lives_.end() || found->second.going_from != kNever) {
            return kNoSeq;
        }
        found->second.going_from = tick();
        return found->first;
    }
    void erased(Seq seq) {
        const std::lock_guard lock(mutex_);
        lives_[seq].gone_by = tick();
    }
    const std::map<Seq, Life>& lives() const { return lives_; }

private:
    std::atomic<Tick> ticks_{0};
    const std::string project_;
    std::mutex mutex_;
    std::map<Seq, Life> lives_;
    std::vector<std::shared_ptr<const void>> memory_;
};

struct SeenPage {
    Tick begun = 0, ended = 0;
    EventBatch batch;
};

struct Walked {
    ScanRequest request;
    Tick begun = 0, ended = 0;
    Seq head = kNoSeq;  ///< when it began
    std::vector<SeenPage> pages;
};

bool in_time(const Filter& filter, const Event& event) {
    return (!filter.from || event.created_at >= *filter.from) &&
           (!filter.before || event.created_at < *filter.before);
}

void expect_seen_rightly(
    const Walked& walked, const SeenPage& page, const Event& event, const Life& life
) {
    if (!event.deleted) {
        EXPECT_GT(life.gone_by, page.begun) << "seen although it was erased before";
        EXPECT_TRUE(walked.request.filter.matches(life.event));
        expect_same(event, life.event);
        return;
    }
    EXPECT_TRUE(walked.request.tombstones);
    EXPECT_LT(life.going_from, page.ended) << "a tombstone of what was not erased yet";
    EXPECT_TRUE(in_time(walked.request.filter, life.event));
    EXPECT_EQ(event.id, life.event.id);
    EXPECT_EQ(event.occurred_at, kNoTime);
    for (const Text& column : event.columns) {
        EXPECT_TRUE(column.is_null());
    }
}

/// Whether a walk owes an event to its caller.
bool is_owed(const Walked& walked, const Life& life) {
    if (life.there_by > walked.begun) {
        return false;
    }
    const bool matches = walked.request.filter.matches(life.event);
    if (life.going_from > walked.ended) {
        return matches;
    }
    // As itself or as its tombstone; what is erased meanwhile may be passed before it shows.
    return walked.request.tombstones && in_time(walked.request.filter, life.event) &&
           (matches || life.gone_by < walked.begun);
}

void expect_true_walk(const Walked& walked, const std::map<Seq, Life>& lives) {
    std::set<Seq> seen;
    std::optional<Seq> last;
    for (const SeenPage& page : walked.pages) {
        EXPECT_LE(page.batch.events.size(), walked.request.limit);
        for (const Event& event : page.batch.events) {
            if (last) {
                ASSERT_TRUE(walked.request.newest_first ? event.seq < *last : event.seq > *last)
                    << event.seq << " after " << *last;
            }
            last = event.seq;
            seen.insert(event.seq);
            const auto life = lives.find(event.seq);
            ASSERT_NE(life, lives.end()) << event.seq << " was never appended";
            expect_seen_rightly(walked, page, event, life->second);
        }
    }
    for (const auto& [seq, life] : lives) {
        if (is_owed(walked, life)) {
            EXPECT_TRUE(seen.contains(seq)) << "seq " << seq << " was passed over";
        }
    }
}

ScanRequest random_walk(RandomEvents& random, const Truth& known) {
    ScanRequest request;
    request.project = known.project;
    if (!random.one_in(3)) {
        request.filter = random.filter(known);
    }
    request.newest_first = random.one_in(2);
    request.tombstones = random.one_in(3);
    request.limit = static_cast<std::uint32_t>(1 + random.below(40));
    request.budget = std::chrono::milliseconds(std::array{0, 1, 2'000}[random.below(3)]);
    return request;
}

TEST_P(StoreContract, WalksStayWholeWhileTheLogGrowsAndEventsAreErased) {
    constexpr int kWriters = 2, kWalkers = 3, kWalks = 10, kUnits = 150, kErasures = 80;
    RandomEvents random(test_seed());
    Ledger ledger("p");
    std::atomic<int> walking{kWalkers};

    const auto append_one = [&](RandomEvents& mine) -> Task<void> {
        Unit unit("p");
        for (std::size_t n = 1 + mine.below(8); n > 0; --n) {
            mine.add_event(unit, clock_.wall_us());
        }
        Unit beside("q");
        beside.action("a.b");
        std::vector<AppendUnit> units = {unit.build(), beside.build()};
        auto outcomes = co_await store_->append(units);
        EXPECT_TRUE(outcomes[0].has_value());
        if (outcomes[0].has_value()) {
            ledger.note(units[0], outcomes[0].value());
        }
        clock_.advance(static_cast<TimeUs>(mine.below(60)) * kSecondUs);
    };
    const auto write = [&](std::uint32_t seed, int units) -> Task<int> {
        RandomEvents mine(seed);
        int made = 0;
        while (made < units && (made == 0 || walking > 0)) {
            co_await append_one(mine);
            ++made;
        }
        co_return made;
    };
    const auto erase = [&](std::uint32_t seed, int times) -> Task<int> {
        RandomEvents mine(seed);
        int made = 0;
        for (int tries = 0; tries < times * 3 && made < times && walking > 0; ++tries) {
            const Seq victim = ledger.pick_to_erase(mine);
            if (victim == kNoSeq) {
                continue;
            }
            Unit unit("p");
            unit.erase(victim);
            if (mine.one_in(2)) {
                unit.action("audit_log.entry.deleted");
            }
            std::vector<AppendUnit> units = {unit.build()};
            auto outcomes = co_await store_->append(units);
            EXPECT_TRUE(outcomes[0].has_value()) << outcomes[0].error().detail;
            if (outcomes[0].has_value()) {
                ledger.erased(victim);
                ledger.note(units[0], outcomes[0].value());
            }
            ++made;
        }
        co_return made;
    };
    // The filters are made from what was there before anything moved.
    ASSERT_EQ(run(write(random.seed(), 120)), 120);
    Truth known;
    known.project = "p";
    for (const auto& [seq, life] : ledger.lives()) {
        known.events.push_back(life.event);
    }
    ASSERT_GT(run(erase(random.seed(), 20)), 0);

    const auto walk_once = [&](ScanRequest request) -> Task<Walked> {
        Walked walked;
        walked.request = request;
        walked.begun = ledger.tick();
        const auto state = co_await store_->log_state("p");
        walked.head = state.value().head_seq;
        for (int pages = 0; pages < 20'000; ++pages) {
            SeenPage seen;
            seen.begun = ledger.tick();
            auto page = co_await store_->scan(request);
            seen.ended = ledger.tick();
            EXPECT_TRUE(page.has_value()) << page.error().detail;
            if (page.has_error()) {
                break;
            }
            seen.batch = std::move(page.value().batch);
            walked.pages.push_back(std::move(seen));
            const Seq scanned = page.value().scanned;
            if (page.value().exhausted || (!request.newest_first && scanned >= walked.head)) {
                break;
            }
            EXPECT_TRUE(
                !request.after ||
                (request.newest_first ? scanned < *request.after : scanned > *request.after)
            );
            request.after = scanned;
        }
        walked.ended = ledger.tick();
        co_return walked;
    };
    const auto walk_often = [&](std::uint32_t seed) -> Task<std::vector<Walked>> {
        RandomEvents mine(seed);
        std::vector<Walked> walks;
        for (int i = 0; i < kWalks; ++i) {
            ScanRequest request = random_walk(mine, known);
            Walked walked = co_await walk_once(std::move(request));
            walks.push_back(std::move(walked));
        }
        --walking;
        co_return walks;
    };
    std::vector<PendingTask<int>> writers;
    for (int i = 0; i < kWriters; ++i) {
        writers.push_back(start(write(random.seed(), kUnits)));
    }
    auto eraser = start(erase(random.seed(), kErasures));
    std::vector<PendingTask<std::vector<Walked>>> walkers;
    for (int i = 0; i < kWalkers; ++i) {
        walkers.push_back(start(walk_often(random.seed())));
    }
    int units = 0;
    std::vector<Walked> walks;
    for (auto& walker : walkers) {
        auto some = walker.get();
        std::move(some.begin(), some.end(), std::back_inserter(walks));
    }
    for (auto& writer : writers) {
        units += writer.get();
    }
    const int erasures = eraser.get();
    std::printf("%d units and %d erasures under %zu walks\n", units, erasures, walks.size());
    EXPECT_GT(units, 0);
    EXPECT_GT(erasures, 0);

    // What is there at last is seen whole, before and after older parts were made quick to search.
    for (int round = 0; round < 2; ++round) {
        if (round == 1) {
            harness_->settle();
        }
        for (const bool newest_first : {true, false}) {
            ScanRequest request;
            request.project = "p";
            request.newest_first = newest_first;
            request.tombstones = newest_first;
            request.limit = 500;
            walks.push_back(run(walk_once(request)));
        }
    }
    for (const Walked& walked : walks) {
        const auto& r = walked.request;
        SCOPED_TRACE(
            std::string(r.newest_first ? "newest" : "oldest") + " first, limit " +
            std::to_string(r.limit) + ", budget " + std::to_string(r.budget.count()) +
            (r.tombstones ? ", tombstones" : "") + (r.filter.matches_all() ? "" : ", filtered") +
            (r.filter.text ? ", text \"" + *r.filter.text + "\"" : "")
        );
        ASSERT_NO_FATAL_FAILURE(expect_true_walk(walked, ledger.lives()));
    }
}

// ---------------------------------------------------------------- filters

TEST_P(StoreContract, RandomFiltersWhileFresh) {
    RandomEvents random(test_seed());
    segment_events_ = 10'000;
    reopen();
    expect_filters_agree(random, fill(random, 600), 300);
}

TEST_P(StoreContract, RandomFiltersBeforeOldPartsCanBeSearched) {
    RandomEvents random(test_seed());
    harness_->hold_search(true);
    const auto truths = fill(random, 600);
    expect_filters_agree(random, truths, 300);
    harness_->hold_search(false);
    harness_->settle();
    expect_filters_agree(random, truths, 50);
}

TEST_P(StoreContract, RandomFiltersAfterSettling) {
    RandomEvents random(test_seed());
    const auto truths = fill(random, 600);
    harness_->settle();
    expect_filters_agree(random, truths, 300);
}

}  // namespace

std::vector<Truth> StoreContract::fill(RandomEvents& random, int events) {
    std::vector<Truth> truths(2);
    truths[0].project = "p";
    truths[1].project = "project-2";
    for (int made = 0; made < events;) {
        Truth& truth = truths[random.one_in(4) ? 1 : 0];
        Unit unit(truth.project);
        for (std::size_t n = 1 + random.below(12); n > 0; --n) {
            random.add_event(unit, clock_.wall_us());
        }
        const AppendUnit built = unit.build();
        const auto answered = receipts(unit);
        for (std::size_t i = 0; i < answered.size(); ++i) {
            truth.add(built.events[i], answered[i]);
            ++made;
        }
        clock_.advance(static_cast<TimeUs>(random.below(300)) * kSecondUs);
        const auto victim = static_cast<Seq>(random.below(truth.events.size()));
        if (random.one_in(8) && !truth.events[static_cast<std::size_t>(victim)].deleted) {
            receipts(Unit(truth.project).erase(victim));
            truth.erase(victim);
        }
    }
    return truths;
}

void StoreContract::expect_filters_agree(
    RandomEvents& random, const std::vector<Truth>& truths, int rounds
) {
    int found = 0;
    for (int round = 0; round < rounds; ++round) {
        const Truth& truth = truths[random.below(truths.size())];
        const Filter filter = random.filter(truth);
        const bool newest_first = random.one_in(2), tombstones = random.one_in(4);
        const auto limit = static_cast<std::uint32_t>(1 + random.below(60));
        SCOPED_TRACE(
            "round " + std::to_string(round) + " text \"" + filter.text.value_or("(none)") + "\""
        );
        auto expected = truth.expect(filter, tombstones);
        found += expected.empty() ? 0 : 1;
        const auto total = run(store_->count(truth.project, filter, kBudget));
        ASSERT_TRUE(total.has_value()) << total.error().detail;
        EXPECT_EQ(total.value().count, static_cast<std::int64_t>(truth.expect(filter).size()));
        if (newest_first) {
            std::reverse(expected.begin(), expected.end());
        }
        ASSERT_EQ(walk(truth.project, filter, newest_first, limit, tombstones), expected);
    }
    EXPECT_GT(found, rounds / 4) << "too few filters select anything";
}

}  // namespace annal::test
