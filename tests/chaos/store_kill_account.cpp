#include "tests/chaos/store_kill_account.h"

#include "runtime/core/limits.h"
#include "runtime/core/metrics.h"
#include "runtime/core/run_task_impl.h"
#include "runtime/store/sqlite/sqlite_store.h"

namespace annal::test {
namespace {

constexpr TimeUs kKeysSurelyKept = 20 * kDayUs;
constexpr int kKeysTried = 4;

std::string unit_name(int caller, std::int64_t n) {
    return "unit " + std::to_string(n) + " of caller " + std::to_string(caller);
}

}  // namespace

void KillAccount::record(const KillAck& ack) {
    ++acknowledged_;
    const auto [known, is_new] = acks_[ack.caller].emplace(ack.n, ack.first_seq);
    if (known->second != ack.first_seq) {
        say(unit_name(static_cast<int>(ack.caller), ack.n) + " was answered with another seq");
    }
    if (ack.erased != kNoSeq) {
        erased_[KillUnit::project_of(static_cast<int>(ack.caller))].insert(ack.erased);
    }
}

std::vector<std::string> KillAccount::problems(const std::filesystem::path& directory) {
    SystemClock clock;
    Metrics metrics;
    SqliteOptions options;
    options.directory = directory;
    options.segment_events_max = 1'000'000;
    auto opened = open_sqlite_store(options, clock, metrics);
    if (opened.has_error()) {
        say("the store does not open: " + opened.error().detail);
        return std::exchange(problems_, {});
    }
    auto found = problems(*opened.value());
    opened.value()->close();
    return found;
}

std::vector<std::string> KillAccount::problems(EventStore& store) {
    std::map<std::string, Log> logs;
    for (int p = 0; p < 3; ++p) {
        const std::string project = KillUnit::project_of(p);
        read_log(store, project, logs[project]);
    }
    for (int caller = 0; caller < kKillCallers; ++caller) {
        check_caller(store, caller, logs[KillUnit::project_of(caller)]);
        check_keys(store, caller, logs[KillUnit::project_of(caller)]);
    }
    return std::exchange(problems_, {});
}

void KillAccount::read_log(EventStore& store, const std::string& project, Log& log) {
    ScanRequest request;
    request.project = project;
    request.newest_first = false;
    request.tombstones = true;
    request.limit = kPageMax;
    request.budget = std::chrono::minutes(1);
    while (true) {
        const auto page = run_task(store.scan(request));
        if (page.has_error()) {
            return say(project + " can't be read: " + page.error().detail);
        }
        for (const Event& event : page.value().batch.events) {
            if (event.seq != static_cast<Seq>(log.at.size())) {
                return say("a hole in " + project + " before " + std::to_string(event.seq));
            }
            if (!log.at.empty() && event.created_at <= log.at.back()) {
                say("created_at does not rise in " + project);
            }
            log.at.push_back(event.created_at);
            newest_ = std::max(newest_, event.created_at);
            if (event.deleted) {
                log.tombstones.insert(event.seq);
                continue;
            }
            const std::string name(event[Column::external_id].view());
            if (!log.names.emplace(name, event.seq).second) {
                say(name + " is there twice");
            }
            if (erased_[project].contains(event.seq)) {
                say(name + " was erased and is there");
            }
        }
        if (page.value().exhausted) {
            break;
        }
        request.after = page.value().scanned;
    }
    const auto total = run_task(store.count(project, {}, std::chrono::seconds(10)));
    if (total.has_error() || total.value().count != static_cast<std::int64_t>(log.names.size())) {
        say("the count of " + project + " is wrong");
    }
}

void KillAccount::check_caller(EventStore& store, int caller, const Log& log) {
    const std::string project = KillUnit::project_of(caller);
    const auto row = run_task(store.kv_get("plugin.chaos", project, std::to_string(caller)));
    const auto cursor = run_task(store.cursor(project, "chaos" + std::to_string(caller)));
    if (row.has_error() || cursor.has_error()) {
        return say("the row or the cursor can't be read");
    }
    const std::int64_t committed = row.value() ? std::atoll(row.value()->c_str()) : 0;
    if (cursor.value() != (committed == 0 ? kNoSeq : committed)) {
        say("the cursor of caller " + std::to_string(caller) + " and its row differ");
    }
    const auto& acks = acks_[caller];
    const std::int64_t answered = acks.empty() ? 0 : acks.rbegin()->first;
    if (committed < answered || committed > answered + 1) {
        say(unit_name(caller, answered) + " was acknowledged last, the store says " +
            std::to_string(committed));
    }
    for (std::int64_t n = 1; n <= std::max(committed, answered) + 1; ++n) {
        const auto ack = acks.find(n);
        for (int i = 0; i < KillUnit::count_of(caller, n); ++i) {
            const std::string name =
                std::to_string(caller) + "/" + std::to_string(n) + "/" + std::to_string(i);
            const auto found = log.names.find(name);
            const bool there = found != log.names.end();
            if (n > committed && there) {
                say(name + " is there without its row");
            } else if (n <= committed && !there && i > 0) {  // the first one may have been erased
                say(name + " is lost");
            } else if (n <= committed && !there && ack != acks.end() && !log.tombstones.contains(ack->second)) {
                say(name + " is lost");
            } else if (there && ack != acks.end() && found->second != ack->second + i) {
                say(name + " is in another place than was answered");
            }
        }
    }
}

// The newest acknowledged units again: the answer is the first one's.
void KillAccount::check_keys(EventStore& store, int caller, const Log& log) {
    const auto& acks = acks_[caller];
    int tried = 0;
    for (auto ack = acks.rbegin(); ack != acks.rend() && tried < kKeysTried; ++ack, ++tried) {
        const auto seq = static_cast<std::size_t>(ack->second);
        if (seq >= log.at.size() || log.at[seq] < newest_ - kKeysSurelyKept) {
            return;
        }
        const KillUnit made(caller, ack->first);
        std::vector<AppendUnit> units = {made.unit};
        const auto outcomes = run_task(store.append(units));
        if (outcomes[0].has_error() || !outcomes[0].value().at(0).replayed ||
            outcomes[0].value()[0].seq != ack->second) {
            say("the key of " + unit_name(caller, ack->first) + " is forgotten");
        }
    }
}

}  // namespace annal::test
