#include "runtime/store/postgres/wake_ups.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "runtime/core/crypto.h"
#include "runtime/core/log.h"

namespace annal::postgres {
namespace {

constexpr const char* kChannel = "annal_appends";
constexpr std::size_t kPayloadMax = 7'900;           // PostgreSQL takes less than 8 000 bytes
constexpr std::chrono::milliseconds kQuiet{10'000};  // then the connection is tried
constexpr std::chrono::milliseconds kAnswer{5'000};  // for each statement
constexpr std::chrono::milliseconds kRetry{1'000};

/// "node\nproject\nproject…"; only the node when they are too many.
std::string payload_of(const std::string& node, const std::set<std::string>& projects) {
    std::string payload = node;
    for (const std::string& project : projects) {
        payload += '\n' + project;
        if (payload.size() > kPayloadMax) return node;
    }
    return payload;
}

std::vector<std::string> lines_of(const std::string& payload) {
    std::vector<std::string> lines;
    for (std::size_t begin = 0; begin <= payload.size();) {
        const auto end = std::min(payload.find('\n', begin), payload.size());
        lines.push_back(payload.substr(begin, end - begin));
        begin = end + 1;
    }
    return lines;
}

}  // namespace

WakeUps::WakeUps(Connection::Options options, Watchdog& watchdog, Metrics& metrics)
    : options_(std::move(options)),
      node_(random_token("", 12)),
      watchdog_(watchdog),
      sent_(metrics.define(
          MetricKind::counter,
          "annal_postgres_notifications_sent_total",
          "Wake-ups sent to other nodes."
      )),
      heard_(metrics.define(
          MetricKind::counter,
          "annal_postgres_notifications_heard_total",
          "Wake-ups from other nodes."
      )),
      connected_(metrics.define(
          MetricKind::gauge,
          "annal_postgres_wake_ups_connected",
          "1 while wake-ups from other nodes are heard."
      )),
      signal_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void WakeUps::on_appended(Appended appended) {
    const std::lock_guard lock(mutex_);
    appended_ = std::move(appended);
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
}

void WakeUps::note(const std::set<std::string>& projects) {
    if (projects.empty()) return;
    const std::lock_guard lock(mutex_);
    if (!appended_ || stopping_) return;
    const bool signalled = !projects_.empty();
    projects_.insert(projects.begin(), projects.end());
    if (!signalled) ::eventfd_write(signal_, 1);
}

void WakeUps::begin_stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    ::eventfd_write(signal_, 1);
}

void WakeUps::stop() {
    begin_stop();
    if (thread_.joinable()) thread_.join();
}

WakeUps::~WakeUps() {
    stop();
    ::close(signal_);
}

bool WakeUps::is_stopping() const {
    const std::lock_guard lock(mutex_);
    return stopping_;
}

void WakeUps::run() {
    while (!is_stopping()) {
        const auto served = serve();
        connected_.record(0);
        db_.reset();
        if (is_stopping()) return;
        if (const std::string& why = served.error().detail; repeats_.is_due(why))
            log::warn("postgres.wake_ups_lost", {{"error", why}});
        pause(kRetry);
    }
}

void WakeUps::pause(std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (!is_stopping() && std::chrono::steady_clock::now() < end) {
        pollfd wait{signal_, POLLIN, 0};
        ::poll(&wait, 1, static_cast<int>(time.count()));
        eventfd_t ignored = 0;
        ::eventfd_read(signal_, &ignored);
    }
}

/// Until the connection is lost or the node stops.
Result<void> WakeUps::serve() {
    BOOST_OUTCOME_TRYV(connect());
    auto tried = std::chrono::steady_clock::now();
    while (!is_stopping()) {
        auto now = std::chrono::steady_clock::now();
        BOOST_OUTCOME_TRY(const auto payloads, db_->await_notifications(signal_, patience(now)));
        eventfd_t ignored = 0;
        ::eventfd_read(signal_, &ignored);
        heard(payloads);
        now = std::chrono::steady_clock::now();
        db_->set_deadline(now + kAnswer);
        if (const auto projects = take(now); !projects.empty()) {
            BOOST_OUTCOME_TRYV(send(projects));
            tried = now;
        } else if (now - tried >= kQuiet) {
            BOOST_OUTCOME_TRYV(db_->run("SELECT 1"));
            tried = now;
        }
    }
    return ok();
}

Result<void> WakeUps::connect() {
    BOOST_OUTCOME_TRY(db_, Connection::open(options_, watchdog_));
    db_->set_deadline(std::chrono::steady_clock::now() + kAnswer);
    BOOST_OUTCOME_TRYV(db_->listen(kChannel));
    // What was taken for sending when the connection broke may be of any project.
    if (was_connected_) {
        BOOST_OUTCOME_TRYV(send({}));
    }
    was_connected_ = true;
    connected_.record(1);
    tell({});
    return ok();
}

std::set<std::string> WakeUps::take(Time now) {
    const std::lock_guard lock(mutex_);
    if (now - sent_at_ < kPause || projects_.empty()) return {};
    sent_at_ = now;
    return std::exchange(projects_, {});
}

std::chrono::milliseconds WakeUps::patience(Time now) const {
    const std::lock_guard lock(mutex_);
    if (projects_.empty()) return kQuiet;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(sent_at_ + kPause - now);
    return std::max(std::chrono::milliseconds(0), left + std::chrono::milliseconds(1));
}

Result<void> WakeUps::send(const std::set<std::string>& projects) {
    Params params;
    params.text(kChannel).text(payload_of(node_, projects));
    BOOST_OUTCOME_TRYV(db_->run("SELECT pg_notify($1::text, $2::text)", params));
    sent_.record(1);
    return ok();
}

void WakeUps::heard(const std::vector<std::string>& payloads) {
    std::set<std::string> projects;
    bool any = false;
    for (const std::string& payload : payloads) {
        const auto lines = lines_of(payload);
        if (lines.front() == node_) continue;
        heard_.record(1);
        any = any || lines.size() == 1;
        projects.insert(lines.begin() + 1, lines.end());
    }
    if (any) {
        tell({});
    } else if (!projects.empty()) {
        tell({projects.begin(), projects.end()});
    }
}

void WakeUps::tell(const std::vector<std::string>& projects) {
    Appended appended;
    {
        const std::lock_guard lock(mutex_);
        appended = appended_;
    }
    if (appended) appended(projects);
}

}  // namespace annal::postgres
