#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "runtime/core/task_impl.h"
#include "runtime/http/server.h"
#include "tests/support/http_client.h"
#include "tests/support/io_threads.h"

namespace annal::http::test {

using annal::test::HttpClient;
using annal::test::HttpResponse;
using std::chrono::milliseconds;

/// A handler made of a function; its problems carry a mark.
class FunctionHandler final : public Handler {
public:
    using Function = std::function<Task<void>(std::shared_ptr<Exchange>)>;
    FunctionHandler(Function function, std::string mark)
        : function_(std::move(function)), mark_(std::move(mark)) {}
    Task<void> handle(std::shared_ptr<Exchange> exchange) override {
        return function_(std::move(exchange));
    }
    Document render(const Problem& problem) const override {
        if (mark_.empty()) return problem_json(problem);
        return {
            "text/x-" + mark_,
            mark_ + " " + std::to_string(problem.status) + " " + problem.code + ": " +
                problem.detail};
    }

private:
    Function function_;
    std::string mark_;
};

class FakeAuthenticator final : public Authenticator {
public:
    Task<Result<Principal>> authenticate(const Request& request) override {
        const std::string_view given = request.header("authorization").value_or("");
        if (given == "Bearer throws") throw std::runtime_error("the store is on fire");
        if (given == "Bearer reader") co_return Principal{"apikey_1", "acme", {"audit:read"}};
        if (given == "Bearer admin") co_return Principal{"apikey_2", "acme", {"admin"}};
        co_return Error{Errc::unauthenticated, "no such key"};
    }
};

class Folder {
public:
    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "annal-http-XXXXXX").string();
        if (!::mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
        path_ = name;
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    [[nodiscard]] std::filesystem::path operator/(const char* name) const { return path_ / name; }

private:
    std::filesystem::path path_;
};

inline Task<void> sleep_for(milliseconds time) {
    boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, time);
    boost::system::error_code ignored;
    co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
}

/// Waits for what another thread brings about.
template <class Condition>
[[nodiscard]] bool eventually(Condition condition, milliseconds timeout = milliseconds(10'000)) {
    const auto end = std::chrono::steady_clock::now() + timeout;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(milliseconds(2));
    }
    return true;
}

/// Hands each piece of a request's body to `take`. False when the body broke off; the answer is
/// given then.
template <class Take>
Task<bool> read_body(std::shared_ptr<Exchange> x, Take take) {
    for (;;) {
        const auto chunk = co_await x->read();
        if (!chunk) {
            Problem problem = problem_of(chunk.error());
            (void)co_await x->fail(std::move(problem));
            co_return false;
        }
        if (chunk.value().empty()) co_return true;
        take(chunk.value());
    }
}

class ServerTest : public testing::Test {
protected:
    using Function = FunctionHandler::Function;

    void add(
        std::vector<std::string> methods,
        std::string pattern,
        Function function,
        std::string scope = "",
        std::string mark = ""
    ) {
        Route route;
        route.methods = std::move(methods);
        route.trigger = pattern;
        route.pattern = std::move(pattern);
        route.scope = std::move(scope);
        route.owner = "test";
        route.handler = std::make_shared<FunctionHandler>(std::move(function), std::move(mark));
        const auto added = router_.add(std::move(route));
        ASSERT_TRUE(added) << added.error().detail;
    }

    /// Routes that most tests want: /echo answers with the body, /hello with "hello".
    void add_usual() {
        add({"GET", "POST"}, "/hello", [](std::shared_ptr<Exchange> x) -> Task<void> {
            (void)co_await respond(*x, 200, "text/plain", "hello");
        });
        add({"POST"}, "/echo", [](std::shared_ptr<Exchange> x) -> Task<void> {
            std::string body;
            auto append = [&body](std::string_view piece) { body += piece; };
            const bool whole = co_await read_body(x, std::move(append));
            if (!whole) co_return;
            (void)co_await respond(*x, 200, "text/plain", std::move(body));
        });
    }

    void start(ServerOptions options = {"127.0.0.1:0", {}}) {
        server_ = std::make_unique<Server>(
            router_, authenticator_, *time_, limits_, metrics_, io_.executor()
        );
        const auto bound = server_->start(options);
        ASSERT_TRUE(bound) << bound.error().detail;
        address_ = bound.value();
    }

    void stop() {
        if (!server_) return;
        io_.run(server_->stop());
        server_.reset();
    }

    void TearDown() override { stop(); }

    HttpClient client() { return HttpClient(address_); }

    /// A value of the metrics page; 0 when the line is not there.
    double metric(const std::string& line_start) const {
        const std::string page = metrics_.render();
        const std::size_t at = page.find("\n" + line_start + " ");
        if (at == std::string::npos) return 0;
        return std::stod(page.substr(at + line_start.size() + 2));
    }

    Limits limits_;
    Router router_;
    FakeAuthenticator authenticator_;
    SystemClock clock_;
    ManualClock manual_{1'780'000'000 * kSecondUs};
    const Clock* time_ = &clock_;  ///< the server's
    Metrics metrics_;
    std::unique_ptr<Server> server_;
    std::string address_;
    annal::test::IoThreads io_{2};  // last: its threads end before what they use
};

}  // namespace annal::http::test
