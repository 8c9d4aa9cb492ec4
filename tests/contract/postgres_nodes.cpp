#include "tests/contract/postgres_nodes.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "runtime/event/seal.h"

namespace annal::test {
namespace {

using postgres::Rows;

std::string text_of(const Rows& rows, std::size_t row, int column) {
    return std::string(rows.text(row, column).view());
}

std::string text_of(const Error& error) {
    return std::string(name(error.code)) + ": " + error.detail + ", again in " +
           std::to_string(error.retry_after_ms) + " ms";
}

template <std::size_t n>
std::array<std::uint8_t, n> bytes_of(const Rows& rows, std::size_t row, int column) {
    const std::string bytes = rows.bytes(row, column);
    std::array<std::uint8_t, n> out{};
    std::copy_n(bytes.begin(), std::min(n, bytes.size()), out.begin());
    return out;
}

struct StoredEvent {
    SealedEvent sealed;
    std::string name;
};

/// The logs of a database as they stand in its tables.
class Tables {
public:
    explicit Tables(const std::string& url) : session_(url) {}

    std::vector<std::string> projects() {
        const Rows rows = session_.run(
            "SELECT project_id FROM event_batches UNION SELECT project_id FROM audit_events"
        );
        std::vector<std::string> names;
        for (std::size_t i = 0; i < rows.size(); ++i) names.push_back(text_of(rows, i, 0));
        return names;
    }

    std::vector<StoredEvent> events(const std::string& project) {
        postgres::Params params;
        params.text(project);
        const Rows rows = session_.run(
            "SELECT seq, (extract(epoch FROM created_at) * 1000000)::bigint, uuid_send(id), leaf, "
            "external_id FROM audit_events WHERE project_id = $1::text ORDER BY seq",
            params
        );
        std::vector<StoredEvent> found;
        for (std::size_t i = 0; i < rows.size(); ++i) {
            StoredEvent event;
            event.sealed.seq = rows.integer(i, 0);
            event.sealed.created_at = rows.integer(i, 1);
            event.sealed.id.bytes = bytes_of<16>(rows, i, 2);
            event.sealed.leaf = bytes_of<32>(rows, i, 3);
            event.name = text_of(rows, i, 4);
            found.push_back(std::move(event));
        }
        return found;
    }

    std::vector<SealedBatch> batches(const std::string& project) {
        postgres::Params params;
        params.text(project);
        const Rows rows = session_.run(
            "SELECT first_seq, last_seq, last_at, digest, prev_digest FROM event_batches WHERE "
            "project_id = $1::text ORDER BY first_seq",
            params
        );
        std::vector<SealedBatch> found;
        for (std::size_t i = 0; i < rows.size(); ++i) {
            found.push_back(
                {rows.integer(i, 0),
                 rows.integer(i, 1),
                 rows.integer(i, 2),
                 bytes_of<32>(rows, i, 3),
                 bytes_of<32>(rows, i, 4),
                 {}}
            );
        }
        return found;
    }

    std::map<Seq, std::string> months(const std::string& project) {
        postgres::Params params;
        params.text(project);
        const Rows rows = session_.run(
            "SELECT first_seq, to_char(month, 'YYYY-MM') FROM project_months WHERE project_id = "
            "$1::text",
            params
        );
        std::map<Seq, std::string> found;
        for (std::size_t i = 0; i < rows.size(); ++i)
            found[rows.integer(i, 0)] = text_of(rows, i, 1);
        return found;
    }

private:
    Session session_;
};

/// What is wrong with one log, by itself.
class LogCheck {
public:
    LogCheck(std::string project, std::vector<std::string>& out)
        : project_(std::move(project)), out_(out) {}

    void events(const std::vector<StoredEvent>& events) {
        for (std::size_t i = 0; i < events.size(); ++i) {
            const SealedEvent& event = events[i].sealed;
            if (event.seq != static_cast<Seq>(i))
                return say("seq " + std::to_string(event.seq) + " in place " + std::to_string(i));
            if (event.id.created_at() != event.created_at) say("an id of another time", event.seq);
            if (i == 0) continue;
            const SealedEvent& before = events[i - 1].sealed;
            if (event.created_at <= before.created_at) say("created_at does not rise", event.seq);
            if (event.id <= before.id) say("the id does not rise", event.seq);
        }
    }

    void batches(const std::vector<SealedBatch>& batches, const std::vector<StoredEvent>& events) {
        Seq next = 0;
        Digest digest{};
        for (const SealedBatch& batch : batches) {
            if (batch.first_seq != next || batch.last_seq < next)
                return say("a batch does not join the one before it", batch.first_seq);
            if (batch.last_seq >= static_cast<Seq>(events.size()))
                return say("a batch without its events", batch.first_seq);
            std::vector<SealedEvent> own;
            for (Seq seq = batch.first_seq; seq <= batch.last_seq; ++seq)
                own.push_back(events[static_cast<std::size_t>(seq)].sealed);
            if (batch.last_at != own.back().created_at) say("last_at is wrong", batch.first_seq);
            if (batch.prev_digest != digest) say("the chain is broken", batch.first_seq);
            digest = batch_digest(
                batch.prev_digest, project_, batch.first_seq, batch.last_seq, batch.last_at, own
            );
            if (batch.digest != digest) say("not the digest of its leaves", batch.first_seq);
            next = batch.last_seq + 1;
        }
        if (next != static_cast<Seq>(events.size())) say("events without a batch", next);
    }

    void months(const std::map<Seq, std::string>& months, const std::vector<StoredEvent>& events) {
        std::map<Seq, std::string> expected;
        for (std::size_t i = 0; i < events.size(); ++i) {
            const Month month = month_of(events[i].sealed.created_at);
            if (i > 0 && month == month_of(events[i - 1].sealed.created_at)) continue;
            expected[static_cast<Seq>(i)] = postgres::month_text(month).substr(0, 7);
        }
        if (months != expected) say("its months begin elsewhere");
    }

    void say(const std::string& what) { out_.push_back(project_ + ": " + what); }
    void say(const std::string& what, Seq seq) { say(what + " at " + std::to_string(seq)); }

private:
    const std::string project_;
    std::vector<std::string>& out_;
};

template <class T>
T sound(Result<T> result) {
    if (result.has_error()) throw std::runtime_error(result.error().detail);
    return std::move(result.value());
}

}  // namespace

// --- Node

Node::Node(const std::string& url, annal::PostgresOptions options) {
    options.url = url;
    auto opened = open_postgres_store(options, metrics_);
    if (opened.has_error()) throw std::runtime_error(opened.error().detail);
    store_ = std::move(opened.value());
}

AppendOutcome Node::append(const Unit& unit) {
    return std::move(append(std::vector<Unit>{unit}).front());
}

std::vector<AppendOutcome> Node::append(const std::vector<Unit>& units) {
    std::vector<AppendUnit> built;
    for (const Unit& unit : units) built.push_back(unit.build());
    return run_task(store_->append(built));
}

std::vector<Seq> Node::all(const std::string& project) {
    std::vector<Seq> seqs;
    ScanRequest request;
    request.project = project;
    request.newest_first = false;
    request.tombstones = true;
    request.limit = 1'000;
    for (;;) {
        const auto page = run_task(store_->scan(request));
        EXPECT_TRUE(page.has_value()) << page.error().detail;
        if (!page) return seqs;
        for (const Event& event : page.value().batch.events) seqs.push_back(event.seq);
        if (page.value().exhausted) return seqs;
        request.after = page.value().scanned;
    }
}

double Node::metric(const std::string& name) const {
    std::istringstream lines(metrics_.render());
    double sum = 0;
    for (std::string line; std::getline(lines, line);) {
        const bool own = line.starts_with(name + " ") || line.starts_with(name + "{");
        if (own) sum += std::stod(line.substr(line.rfind(' ') + 1));
    }
    return sum;
}

void Node::close() {
    if (store_ != nullptr) store_->close();
    store_.reset();
}

// --- Session

Session::Session(const std::string& url) {
    postgres::Connection::Options options;
    options.url = url + (url.find('?') == std::string::npos ? "?" : "&") +
                  "application_name=beside&options=-cclient_min_messages%3Dwarning";
    db_ = sound(postgres::Connection::open(options, watchdog_));
}

postgres::Rows Session::run(const std::string& statements) {
    return sound(db_->run(statements));
}

postgres::Rows Session::run(const std::string& statement, const postgres::Params& params) {
    return sound(db_->run(statement, params));
}

std::string Session::value(const std::string& statement) {
    const auto rows = run(statement);
    return rows.size() == 0 ? std::string() : text_of(rows, 0, 0);
}

std::int64_t Session::number(const std::string& statement) {
    return run(statement).integer(0, 0);
}

// --- Account

void Account::record(const AppendUnit& unit, const AppendOutcome& outcome) {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < unit.events.size(); ++i) {
        const Name name(unit.project, unit.events[i][Column::external_id].view());
        if (name.second.empty()) continue;
        if (outcome.has_value()) {
            acknowledged_[name] = outcome.value().at(i);
        } else if (outcome.error().code != Errc::timeout) {
            refused_.insert(name);
        }
    }
    if (outcome.has_value()) return;
    ++errors_;
    const Error& error = outcome.error();
    const bool outage = error.code == Errc::unavailable || error.code == Errc::timeout;
    if (!outage || error.retry_after_ms == 0 || error.detail.empty())
        wrong_errors_.push_back(text_of(error));
}

std::size_t Account::acknowledged() const {
    const std::lock_guard lock(mutex_);
    return acknowledged_.size();
}

std::vector<std::string> Account::wrong_errors() const {
    const std::lock_guard lock(mutex_);
    return wrong_errors_;
}

std::size_t Account::errors() const {
    const std::lock_guard lock(mutex_);
    return errors_;
}

std::vector<std::string> Account::problems(const std::string& url) const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> out;
    std::map<Name, SealedEvent> stored;
    Tables tables(url);
    for (const std::string& project : tables.projects()) {
        LogCheck check(project, out);
        const auto events = tables.events(project);
        check.events(events);
        check.batches(tables.batches(project), events);
        check.months(tables.months(project), events);
        for (const StoredEvent& event : events) {
            if (event.name.empty()) continue;
            const bool is_new = stored.emplace(Name(project, event.name), event.sealed).second;
            if (!is_new) check.say(event.name + " is there twice");
            if (refused_.contains({project, event.name}))
                check.say(event.name + " was refused and is there");
        }
    }
    for (const auto& [name, receipt] : acknowledged_) {
        const auto found = stored.find(name);
        LogCheck check(name.first, out);
        if (found == stored.end()) {
            check.say(name.second + " was acknowledged and is lost");
        } else if (found->second.seq != receipt.seq || found->second.id != receipt.id || found->second.created_at != receipt.created_at) {
            check.say(name.second + " is not where its receipt says");
        }
    }
    return out;
}

// --- Follower

Follower::Follower(Node& node, std::string project)
    : node_(node), project_(std::move(project)), thread_([this] { run(); }) {}

Follower::~Follower() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
}

void Follower::run() {
    ScanRequest request;
    request.project = project_;
    request.newest_first = false;
    request.tombstones = true;
    request.limit = 500;
    while (!stopping_) {
        request.after = last_;
        const auto page = run_task(node_->scan(request));
        if (page.has_error()) {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            continue;
        }
        for (const Event& event : page.value().batch.events) {
            if (event.seq != last_ + 1)
                problems_.push_back(
                    std::to_string(event.seq) + " after " + std::to_string(last_.load())
                );
            last_ = event.seq;
        }
        if (page.value().scanned > last_)
            problems_.push_back("passed over what is before " + std::to_string(last_ + 1));
        if (page.value().batch.events.empty())
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

bool Follower::await(Seq seq, std::chrono::milliseconds patience) {
    return eventually([&] { return last_ >= seq; }, patience);
}

std::vector<std::string> Follower::finish() {
    stopping_ = true;
    thread_.join();
    return problems_;
}

// --- Load

Unit named_unit(const std::string& project, const std::string& name, int count) {
    Unit unit(project);
    for (int i = 0; i < count; ++i) {
        const std::string id = name + "/" + std::to_string(i);
        unit.event(
            {{Column::action, i % 3 == 0 ? "order.first" : "order.other"},
             {Column::external_id, Text(id)},
             {Column::actor_id, "someone"}}
        );
    }
    return unit;
}

Crowd::Crowd(int threads, std::function<void(int, int)> work) {
    for (int t = 0; t < threads; ++t) {
        threads_.emplace_back([this, t, work] {
            for (int n = 0; !stopping_; ++n) work(t, n);
        });
    }
}

void Crowd::stop() {
    stopping_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
}

bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds patience) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
}

bool await_waiters(const std::string& url, int count) {
    Session session(url);
    return eventually([&] {
        return session.number(
                   "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
                   "wait_event_type = 'Lock'"
               ) >= count;
    });
}

std::string name_in(const std::string& url) {
    const auto begin = url.find("///") + 3;
    return url.substr(begin, url.find('?') - begin);
}

std::chrono::milliseconds time_of(const std::function<void()>& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - begin
    );
}

void expect_none(const std::vector<std::string>& problems) {
    for (std::size_t i = 0; i < std::min<std::size_t>(problems.size(), 20); ++i)
        ADD_FAILURE() << problems[i];
    if (problems.size() > 20) ADD_FAILURE() << "and " << problems.size() - 20 << " more";
}

}  // namespace annal::test
