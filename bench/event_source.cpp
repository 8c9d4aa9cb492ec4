#include "bench/event_source.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace annal::bench {
namespace {

struct Kind {
    const char* action;
    const char* target_type;
    const char* description;
};

// By how often they happen.
constexpr std::array kKinds{
    Kind{"session.created", "session", "A user signed in with a password and a second factor"},
    Kind{"auth.login.succeeded", "session", "The identity provider accepted the credentials"},
    Kind{"session.revoked", "session", "A session ended because its user signed out"},
    Kind{"auth.login.failed", "user", "The password did not match"},
    Kind{"api_key.used", "api_key", "A key was used for the first time in an hour"},
    Kind{"document.read", "document", "A document was opened in the browser"},
    Kind{"document.updated", "document", "A document was changed and saved as a new version"},
    Kind{"auth.mfa.succeeded", "session", "A one-time code was accepted as second factor"},
    Kind{"user.updated", "user", "A profile field was changed by its owner"},
    Kind{"organization.member.added", "membership", "A member joined by invitation"},
    Kind{"invoice.paid", "invoice", "The invoice of the current period was settled"},
    Kind{"scim.user.provisioned", "user", "The directory created a user"},
    Kind{"api_key.created", "api_key", "A key was made for a service account"},
    Kind{"organization.member.removed", "membership", "A member was removed by an administrator"},
    Kind{"auth.passkey.registered", "passkey", "A passkey was added to an account"},
    Kind{"sso.connection.updated", "connection", "The certificate of a connection was replaced"},
};

constexpr std::array kAgents{
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 "
    "Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_4) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.4 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:125.0) Gecko/20100101 Firefox/125.0",
    "acme-backend/3.11 (linux; amd64) python-requests/2.31"};

/// Cumulative odds of a Zipf distribution with exponent 1.
std::vector<double> zipf(int ranks) {
    std::vector<double> odds(static_cast<std::size_t>(ranks));
    double sum = 0;
    for (int i = 0; i < ranks; ++i) odds[static_cast<std::size_t>(i)] = sum += 1.0 / (i + 1);
    for (double& odd : odds) odd /= sum;
    return odds;
}

std::size_t draw(const std::vector<double>& odds, std::mt19937_64& random) {
    const double at = std::uniform_real_distribution<double>()(random);
    const auto found = std::lower_bound(odds.begin(), odds.end(), at);
    return std::min(static_cast<std::size_t>(found - odds.begin()), odds.size() - 1);
}

void append_hex(std::string& out, std::uint64_t value) {
    char digits[16];
    const auto end = std::to_chars(digits, digits + sizeof digits, value, 16).ptr;
    out.append(sizeof digits - static_cast<std::size_t>(end - digits), '0');
    out.append(digits, end);
}

void append_number(std::string& out, std::uint64_t value) {
    char digits[20];
    out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void member(std::string& out, std::string_view name, std::string_view value) {
    out += ",\"";
    out += name;
    out += "\":\"";
    out += value;
    out += '"';
}

}  // namespace

std::string EventSource::user(int rank) {
    std::string text = "usr_01hx";
    append_hex(text, static_cast<std::uint64_t>(rank + 1) * 0x9E3779B97F4A7C15);
    return text.substr(0, 20);
}

std::string EventSource::organization(int number) {
    char text[24];
    std::snprintf(text, sizeof text, "org_01hx%08d", number);
    return text;
}

EventSource::EventSource(std::uint64_t seed)
    : random_(seed), user_odds_(zipf(kUsers)), action_odds_(zipf(static_cast<int>(kKinds.size()))) {
    for (int i = 0; i < kUsers; ++i) {
        users_.push_back(user(i));
        emails_.push_back("person." + std::to_string(i) + "@example.com");
    }
    for (int i = 0; i < kOrganizations; ++i) organizations_.push_back(organization(i));
}

const SampleEvent& EventSource::next() {
    const std::size_t user = draw(user_odds_, random_);
    const Kind& kind = kKinds[draw(action_odds_, random_)];
    const std::uint64_t noise = random_();
    event_.action = kind.action;
    event_.actor_id = noise % kRareEvery == 0 ? kRareUser : std::string_view(users_[user]);
    event_.actor_email = emails_[user];
    event_.organization_id = organizations_[user % kOrganizations];
    event_.target_type = kind.target_type;
    target_ = "tgt_";
    append_hex(target_, random_());
    event_.target_id = target_;
    ip_ = "203.0.113.";
    append_number(ip_, user % 254 + 1);
    event_.ip = ip_;
    event_.user_agent = kAgents[user % kAgents.size()];
    event_.description = kind.description;
    metadata_ = R"({"request_id":"req_)";
    append_hex(metadata_, noise);
    metadata_ += R"(","country":"DE","mfa":true,"attempt":)";
    append_number(metadata_, noise % 3 + 1);
    metadata_ += '}';
    event_.metadata = metadata_;
    return event_;
}

void EventSource::append_json(std::string& out) {
    const SampleEvent& e = next();
    out += R"({"action":")";
    out += e.action;
    out += R"(","actor":{"type":"user","id":")";
    out += e.actor_id;
    out += R"(","email":")";
    out += e.actor_email;
    out += "\"}";
    member(out, "user_id", e.actor_id);
    member(out, "organization_id", e.organization_id);
    member(out, "target_type", e.target_type);
    member(out, "target_id", e.target_id);
    member(out, "ip", e.ip);
    member(out, "user_agent", e.user_agent);
    member(out, "description", e.description);
    out += R"(,"metadata":)";
    out += e.metadata;
    out += '}';
}

void EventSource::append_batch(std::string& out, int count) {
    out += R"({"events":[)";
    for (int i = 0; i < count; ++i) {
        if (i > 0) out += ',';
        append_json(out);
    }
    out += "]}";
}

}  // namespace annal::bench
