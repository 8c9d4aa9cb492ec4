#include "runtime/store/postgres/connection.h"

#include <libpq-fe.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <pqxx/pqxx>

#include "runtime/core/crypto.h"
#include "runtime/core/log.h"

#if defined(__SANITIZE_ADDRESS__)
// libpqxx 6 forgets a result when it finds the connection closed while it makes it: one for each
// connection that is lost.
extern "C" __attribute__((visibility("default"))) const char* __lsan_default_suppressions();
const char* __lsan_default_suppressions() {  // NOLINT: the name is the sanitizer's
    return "leak:libpqxx";
}
#endif

namespace annal::postgres {
namespace {

constexpr std::chrono::seconds kConnectTimeoutMin{2};  // libpq's

/// A position in the parameters that libpqxx walks over: each is passed as binary.
class BinaryValues {
public:
    explicit BinaryValues(std::vector<std::string>::const_iterator at) : at_(at) {}
    pqxx::binarystring operator*() const { return {at_->data(), at_->size()}; }
    BinaryValues& operator++() {
        ++at_;
        return *this;
    }
    bool operator!=(const BinaryValues& other) const { return at_ != other.at_; }

private:
    std::vector<std::string>::const_iterator at_;
};

const pqxx::result& result_of(const std::shared_ptr<const void>& pointer) {
    return *static_cast<const pqxx::result*>(pointer.get());
}

pqxx::field field_of(const std::shared_ptr<const void>& pointer, std::size_t row, int column) {
    return result_of(pointer)[static_cast<pqxx::result::size_type>(row)][column];
}

std::string first_line(std::string_view text) {
    for (const std::string_view prefix : {"ERROR:  ", "FATAL:  "})
        if (text.starts_with(prefix)) text.remove_prefix(prefix.size());
    std::string line(text.substr(0, text.find('\n')));
    return line.empty() ? "no reason was given" : line;
}

/// What a SQLSTATE means to a caller.
Errc code_of(std::string_view state) {
    if (state == "57014" || state == "55P03") return Errc::timeout;
    const std::string_view kind = state.substr(0, 2);
    // Connection, operator intervention, resources, locks and deadlocks, read-only, I/O.
    for (const std::string_view now : {"08", "57", "53", "55", "40", "25", "58", "28", "3D"})
        if (kind == now) return Errc::unavailable;
    return Errc::internal;
}

std::string advice(std::string_view state) {
    if (state == "25006") return "the database is read-only; ";
    if (state == "53100") return "the database's disk is full; ";
    if (state == "42501")
        return "the role may not do this: grant it CREATE on the database and on its schema, or "
               "run `annal migrate` as their owner; ";
    return {};
}

Error error_of(std::string_view state, std::string_view what) {
    Error error{code_of(state), "PostgreSQL: " + advice(state) + first_line(what)};
    if (!state.empty()) error.detail += " (SQLSTATE " + std::string(state) + ")";
    if (error.code != Errc::internal) error.retry_after_ms = 1'000;
    return error;
}

Error lost_error(std::string_view what) {
    return {
        Errc::unavailable, "the connection to PostgreSQL is lost: " + first_line(what), {}, 1'000};
}

/// libpq's message about a URL without what it repeats of it, where the password may stand.
std::string without_quotations(const std::string& message) {
    const std::size_t first = message.find('"'), last = message.rfind('"');
    if (first == std::string::npos) return message;
    return message.substr(0, first) + "…" + (last == first ? "" : message.substr(last + 1));
}

/// What a server says that refuses a connection, and what to do. Its SQLSTATE is not to be had.
Error connect_error(const std::string& what) {
    Error error{Errc::unavailable, "can't connect to PostgreSQL: " + first_line(what), {}, 1'000};
    for (const char* full : {"too many clients", "too many connections", "remaining connection"}) {
        if (what.find(full) == std::string::npos) continue;
        error.detail +=
            "; raise max_connections (or the limit of the role or the database), or "
            "lower postgres.*_connections";
        break;
    }
    return error;
}

/// There is no use in a connection that has no time to be made.
Error no_time_left() {
    return {
        Errc::unavailable, "the node is stopping: no connection to PostgreSQL is made", {}, 1'000};
}

Error unreadable_url(const std::string& why) {
    return {
        Errc::invalid,
        "is no URL of PostgreSQL (" + why +
            "): write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with what is special in it "
            "percent-encoded, or host=HOST dbname=DATABASE …"};
}

std::string connect_timeout_of(const Connection::Options& options) {
    return std::to_string(std::max(kConnectTimeoutMin, options.connect_timeout).count());
}

/// The caller's words win over ours.
Result<std::string> connection_words(const Connection::Options& options) {
    std::map<std::string, std::string> words{
        {"application_name", "annal"},
        {"client_encoding", "UTF8"},
        {"connect_timeout", connect_timeout_of(options)},
        {"tcp_user_timeout", std::to_string(options.tcp_user_timeout.count())},
        {"keepalives_idle", "30"},
    };
    char* message = nullptr;
    PQconninfoOption* given = PQconninfoParse(options.url.c_str(), &message);
    if (given == nullptr) {
        const std::string why = message == nullptr ? "out of memory" : first_line(message);
        PQfreemem(message);
        return unreadable_url(without_quotations(why));
    }
    for (const PQconninfoOption* word = given; word->keyword != nullptr; ++word)
        if (word->val != nullptr) words[word->keyword] = word->val;
    PQconninfoFree(given);
    if (options.is_hurried) words["connect_timeout"] = connect_timeout_of(options);
    // A password with a / or an @ in it is read as these, which libpq's messages repeat.
    const auto port = words.find("port"), host = words.find("host");
    if (port != words.end() && port->second.find_first_not_of("0123456789,") != std::string::npos)
        return unreadable_url("the port is no number");
    if (host != words.end() && host->second.find('@', 1) != std::string::npos)
        return unreadable_url("the host holds an @");
    std::string text;
    for (const auto& [word, value] : words) {
        text += word + "='";
        for (const char c : value) {
            if (c == '\'' || c == '\\') text += '\\';
            text += c;
        }
        text += "' ";
    }
    return text;
}

/// libpqxx forgets the SQLSTATE of those that have a class of their own.
std::string state_of(const pqxx::sql_error& error) {
    if (!error.sqlstate().empty()) return error.sqlstate();
    if (dynamic_cast<const pqxx::insufficient_privilege*>(&error) != nullptr) return "42501";
    if (dynamic_cast<const pqxx::syntax_error*>(&error) != nullptr) return "42601";
    return {};
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
/// A connection that came back by itself would have lost its transaction unnoticed.
void stay_lost(pqxx::connection& connection) {
    connection.inhibit_reactivation(true);
}
#pragma GCC diagnostic pop

}  // namespace

namespace {

/// Keeps what comes.
struct Receiver final : pqxx::notification_receiver {
    Receiver(pqxx::connection_base& connection, const std::string& channel)
        : notification_receiver(connection, channel) {}
    void operator()(const std::string& payload, int /*backend*/) override {
        payloads.push_back(payload);
    }
    std::vector<std::string> payloads;
};

/// What the server says besides, such as that it ends the session: libpq would write it to standard
/// error, between the log's lines.
struct NoticeLog final : pqxx::errorhandler {
    using errorhandler::errorhandler;
    bool operator()(const char text[]) noexcept override {
        std::string_view notice(text);
        while (notice.ends_with('\n')) notice.remove_suffix(1);
        is_chatter(notice) ? log::debug("postgres.notice", {{"notice", notice}})
                           : log::warn("postgres.notice", {{"notice", notice}});
        return false;
    }

private:
    /// "already exists, skipping", and libpqxx 6 at a session that ended: the call it ended says
    /// so.
    static bool is_chatter(std::string_view notice) {
        return notice.starts_with("NOTICE:") ||
               notice.starts_with("Could not obtain client encoding");
    }
};

}  // namespace

struct Connection::Session {
    explicit Session(const std::string& words) : connection(words), notices(connection) {
        stay_lost(connection);
    }
    pqxx::connection connection;
    NoticeLog notices;
    std::unique_ptr<Receiver> receiver;  ///< gone before the connection
};

bool Rows::is_null(std::size_t row, int column) const {
    return field_of(result_, row, column).is_null();
}

Text Rows::text(std::size_t row, int column) const {
    const auto field = field_of(result_, row, column);
    return field.is_null() ? Text() : Text(std::string_view(field.c_str(), field.size()));
}

std::int64_t Rows::integer(std::size_t row, int column) const {
    const std::string_view digits = text(row, column).view();
    std::int64_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
}

bool Rows::boolean(std::size_t row, int column) const {
    return text(row, column).view() == "t";
}

std::string Rows::bytes(std::size_t row, int column) const {
    // "\x00ff…"
    const std::string_view hex = text(row, column).view();
    std::string out;
    if (hex.size() < 2) return out;
    out.reserve(hex.size() / 2);
    const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    for (std::size_t i = 2; i + 1 < hex.size(); i += 2)
        out += static_cast<char>(digit(hex[i]) << 4 | digit(hex[i + 1]));
    return out;
}

Connection::Connection(std::unique_ptr<Session> session, Watchdog& watchdog)
    : session_(std::move(session)), watchdog_(watchdog) {}

Connection::~Connection() {
    // The end of a receiver says so to the server and waits for the answer; a frozen one has none.
    if (session_->receiver) ::shutdown(session_->connection.sock(), SHUT_RDWR);
}

Result<std::unique_ptr<Connection>> Connection::open(Options options, Watchdog& watchdog) {
    if (const auto left = watchdog.left()) {
        if (*left < kConnectTimeoutMin) return no_time_left();
        const auto seconds = std::chrono::floor<std::chrono::seconds>(*left);
        options.connect_timeout = std::min(options.connect_timeout, seconds);
        options.is_hurried = true;
    }
    BOOST_OUTCOME_TRY(const auto words, connection_words(options));
    try {
        auto session = std::make_unique<Session>(words);
        return std::unique_ptr<Connection>(new Connection(std::move(session), watchdog));
    } catch (const std::exception& e) {
        return connect_error(e.what());
    }
}

template <class Call>
Result<Rows> Connection::call(const Call& call) {
    if (lost_) return lost_error("it was lost before");
    state_.clear();
    try {
        const Watchdog::Guard guard(watchdog_, session_->connection.sock(), deadline_);
        pqxx::nontransaction work(session_->connection);
        auto result = std::make_shared<const pqxx::result>(call(work));
        Rows rows;
        rows.size_ = result->size();
        rows.changed_ = result->affected_rows();
        rows.result_ = std::move(result);
        return rows;
    } catch (const pqxx::broken_connection& e) {
        lost_ = true;
        state_.clear();
        return lost_error(e.what());
    } catch (const pqxx::sql_error& e) {
        state_ = state_of(e);
        // The server says so and hangs up (57P01 and its kin), or could not say anything any more.
        lost_ = !session_->connection.is_open() || state_.starts_with("57P") || state_.empty();
        return lost_ ? lost_error(e.what()) : error_of(state_, e.what());
    } catch (const std::exception& e) {
        lost_ = true;
        state_.clear();
        return lost_error(e.what());
    }
}

Result<Rows> Connection::run(const std::string& statements) {
    return call([&](pqxx::nontransaction& work) { return work.exec(statements); });
}

Result<Rows> Connection::run(const std::string& statement, const Params& params) {
    return call([&](pqxx::nontransaction& work) {
        const auto& values = params.values();
        return work.exec_params(
            statement,
            pqxx::prepare::make_dynamic_params(
                BinaryValues(values.begin()), BinaryValues(values.end())
            )
        );
    });
}

void Connection::rollback() {
    if (lost_) return;
    const std::string cause = state_;
    if (run("ROLLBACK").has_error()) lost_ = true;
    state_ = cause;
}

Result<void> Connection::listen(const std::string& channel) {
    if (lost_) return lost_error("it was lost before");
    try {
        const Watchdog::Guard guard(watchdog_, session_->connection.sock(), deadline_);
        session_->receiver = std::make_unique<Receiver>(session_->connection, channel);
        return ok();
    } catch (const std::exception& e) {
        lost_ = true;
        return lost_error(e.what());
    }
}

Result<std::vector<std::string>> Connection::await_notifications(
    int wake, std::chrono::milliseconds patience
) {
    if (lost_) return lost_error("it was lost before");
    try {
        session_->connection.get_notifs();
        auto& payloads = session_->receiver->payloads;
        if (payloads.empty()) {
            std::array<pollfd, 2> wait{
                pollfd{session_->connection.sock(), POLLIN, 0}, pollfd{wake, POLLIN, 0}};
            ::poll(wait.data(), wait.size(), static_cast<int>(patience.count()));
            session_->connection.get_notifs();
        }
        if (session_->connection.is_open()) return std::exchange(payloads, {});
    } catch (const std::exception& e) {
        lost_ = true;
        return lost_error(e.what());
    }
    lost_ = true;
    return lost_error("the server closed it");
}

Result<TimeUs> clock_of(Connection& db) {
    BOOST_OUTCOME_TRY(
        const auto rows, db.run("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    );
    return rows.integer(0, 0);
}

Result<void> transact(
    Connection& db, const std::string& begin, const std::function<Result<void>()>& work
) {
    const auto attempt = [&]() -> Result<void> {
        BOOST_OUTCOME_TRYV(db.run(begin));
        BOOST_OUTCOME_TRYV(work());
        BOOST_OUTCOME_TRYV(db.run("COMMIT"));
        return ok();
    };
    auto done = attempt();
    if (done.has_error()) db.rollback();
    return done;
}

Result<void> check_url(const std::string& url) {
    Connection::Options options;
    options.url = url;
    BOOST_OUTCOME_TRYV(connection_words(options));
    return ok();
}

std::string quoted(std::string_view text) {
    // standard_conforming_strings is on in every supported version; E'' would read backslashes.
    std::string out = "'";
    for (const char c : text) {
        if (c == '\'') out += '\'';
        out += c;
    }
    return out + "'";
}

}  // namespace annal::postgres
