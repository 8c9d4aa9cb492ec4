// Receives Annal's webhooks with Boost.Beast and OpenSSL: receiver PORT (0: any free one).
//
// ANNAL_WEBHOOK_SECRET holds the endpoint's secret, or two with a space between while one replaces
// the other.
//
//     g++ -std=c++20 -I../../sdk/webhooks/cpp receiver.cpp -lboost_json -lcrypto -pthread
#include <annal_webhook.hpp>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

constexpr std::size_t kBodyBytesMax = 1U << 20U;
constexpr std::size_t kSeenMax = 100'000;
constexpr std::chrono::seconds kRequestTimeout{10};
constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);

/// The action of an event. From the body: Authio-Event says the same, but no signature covers it.
std::optional<std::string> action_of(const std::string& body) {
    boost::system::error_code error;
    const boost::json::value event = boost::json::parse(body, error);
    if (error || !event.is_object()) return std::nullopt;
    const auto* action = event.get_object().if_contains("action");
    if (action == nullptr || !action->is_string()) return std::nullopt;
    return std::string(action->get_string());
}

/// Handles each delivery once.
class Receiver {
public:
    explicit Receiver(std::vector<std::string> secrets) : secrets_(std::move(secrets)) {}

    /// Why the request is refused; empty if it is taken.
    std::string receive(const Request& request) {
        annal::webhook::Headers headers;
        for (const auto& field : request) {
            headers.emplace_back(
                std::string_view(field.name_string()), std::string_view(field.value())
            );
        }
        const auto verdict = annal::webhook::verify(request.body(), headers, secrets_);
        if (!verdict) return verdict.message;
        if (verdict.id.empty()) {
            return "no webhook-id was signed, so a repetition could not be told from a new "
                   "delivery";
        }
        if (seen_.count(verdict.id) != 0) return "";
        const auto action = action_of(request.body());
        if (!action) return "the body is no event";
        std::cout << *action << std::endl;
        remember(verdict.id);
        return "";
    }

private:
    void remember(const std::string& id) {
        seen_.insert(id);
        order_.push_back(id);
        if (order_.size() <= kSeenMax) return;
        seen_.erase(order_.front());
        order_.pop_front();
    }

    std::vector<std::string> secrets_;
    // In a real receiver a table with a unique key, written in the transaction of what the event
    // changes: a delivery is repeated for days, also after a restart.
    std::unordered_set<std::string> seen_;
    std::deque<std::string> order_;
};

Response refusal(http::status status, const std::string& why) {
    Response out(status, 11);
    out.set(http::field::content_type, "text/plain");
    out.body() = why + "\n";
    return out;
}

Response answer_to(const Request& request, Receiver& receiver) {
    if (request.method() != http::verb::post) {
        return refusal(http::status::method_not_allowed, "only POST is taken");
    }
    const std::string why = receiver.receive(request);
    return why.empty() ? Response(http::status::no_content, 11)
                       : refusal(http::status::bad_request, why);
}

asio::awaitable<void> serve(beast::tcp_stream stream, Receiver& receiver) {
    beast::flat_buffer buffer;
    for (bool open = true; open;) {
        http::request_parser<http::string_body> parser;
        parser.body_limit(kBodyBytesMax);
        stream.expires_after(kRequestTimeout);
        const auto [failure, read] = co_await http::async_read(stream, buffer, parser, kNoThrow);
        const bool too_large = failure == http::error::body_limit;
        if (failure && !too_large) co_return;
        Response response = too_large
                                ? refusal(http::status::payload_too_large, "the body is too large")
                                : answer_to(parser.get(), receiver);
        open = !too_large && parser.get().keep_alive();
        response.keep_alive(open);
        if (response.result() != http::status::no_content) response.prepare_payload();
        const auto [lost, written] = co_await http::async_write(stream, response, kNoThrow);
        if (lost) co_return;
    }
}

asio::awaitable<void> accept(asio::ip::tcp::acceptor& acceptor, Receiver& receiver) {
    for (;;) {
        auto [failure, socket] = co_await acceptor.async_accept(kNoThrow);
        if (failure) continue;
        asio::co_spawn(
            acceptor.get_executor(),
            serve(beast::tcp_stream(std::move(socket)), receiver),
            asio::detached
        );
    }
}

std::vector<std::string> secrets() {
    const char* given = std::getenv("ANNAL_WEBHOOK_SECRET");
    std::istringstream words(given == nullptr ? "" : given);
    std::vector<std::string> out;
    for (std::string word; words >> word;) out.push_back(word);
    return out;
}

std::optional<std::uint16_t> port(std::string_view text) {
    std::uint16_t out = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return out;
}

}  // namespace

int main(int argc, char** argv) {
    const auto wanted = argc == 2 ? port(argv[1]) : std::nullopt;
    Receiver receiver(secrets());
    if (!wanted || secrets().empty()) {
        std::cerr << "usage: ANNAL_WEBHOOK_SECRET=whsec_… receiver PORT\n";
        return 1;
    }
    try {
        asio::io_context io(1);
        asio::ip::tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), *wanted});
        std::cout << "listening on 127.0.0.1:" << acceptor.local_endpoint().port() << std::endl;
        asio::signal_set signals(io, SIGINT, SIGTERM);
        signals.async_wait([&io](auto, int) { io.stop(); });
        asio::co_spawn(io, accept(acceptor, receiver), asio::detached);
        io.run();
    } catch (const std::exception& error) {
        std::cerr << "receiver: " << error.what() << "\n";
        return 1;
    }
}
