#include "runtime/control/api_keys.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/fake_store.h"
#include "tests/support/io_threads.h"

namespace annal::control {
namespace {

constexpr TimeUs kStart = 1'780'000'000 * kSecondUs;

struct ApiKeysTest : testing::Test {
    ManualClock clock{kStart};
    Metrics metrics;
    Limits limits;
    test::FakeStore store{clock};
    test::IoThreads threads;
    Appender appender{store, clock, limits, metrics, threads.executor()};
    Noticeboard board{store, clock, Noticeboard::Nodes::one, threads.executor()};
    ApiKeys keys{store, appender, clock, board};

    ApiKeys::Created create(TimeUs expires_at = kNoTime) {
        std::vector<std::string> scopes{"audit:read"};
        Actor actor{"api_key", "apikey_maker"};
        return threads.run(keys.create("p", "reader", scopes, expires_at, actor)).value();
    }
    Result<http::Principal> authenticate(http::Pairs headers, ApiKeys* by = nullptr) {
        http::Request request;
        request.headers = std::move(headers);
        return threads.run((by ? *by : keys).authenticate(request));
    }
    std::vector<Event> events(EventBatch& batch) {
        ScanRequest request;
        request.project = "p";
        request.newest_first = false;
        ScanPage page = threads.run(store.scan(request)).value();
        batch = std::move(page.batch);
        return batch.events;
    }
};

TEST_F(ApiKeysTest, AcceptEveryCredentialForm) {
    const auto made = create();
    for (const http::Pairs& headers : std::vector<http::Pairs>{
             {{"authorization", "Bearer " + made.secret}},
             {{"authorization", "bearer  " + made.secret}},
             {{"x-api-key", made.secret}},
             {{"x-api-key", made.secret}, {"authorization", "Bearer " + made.secret}}}) {
        auto principal = authenticate(headers);
        ASSERT_TRUE(principal.has_value()) << principal.error().detail;
        EXPECT_EQ(principal.value().key_id, made.key.id);
        EXPECT_EQ(principal.value().project, "p");
        EXPECT_TRUE(principal.value().may("audit:read"));
        EXPECT_FALSE(principal.value().may("audit:write"));
    }
}

TEST_F(ApiKeysTest, AcceptBasicOnlyWithTheRightId) {
    // base64("apikey_x:" …) can't be written down for a random secret, so the secret is fixed.
    std::vector<std::string> scopes{"admin"};
    Actor actor{"system", "local"};
    auto made = threads
                    .run(keys.create(
                        "p", "basic", scopes, kNoTime, actor, "sk_live_fixed_for_this_test_only"
                    ))
                    .value();
    const std::string credentials = made.key.id + ":" + made.secret;
    static const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    auto base64 = [](const std::string& in) {
        std::string out;
        std::uint32_t bits = 0, held = 0;
        for (unsigned char c : in) {
            bits = bits << 8U | c;
            for (held += 8; held >= 6; held -= 6) out += digits[bits >> (held - 6) & 63U];
        }
        if (held) out += digits[bits << (6 - held) & 63U];
        while (out.size() % 4) out += '=';
        return out;
    };
    EXPECT_TRUE(authenticate({{"authorization", "Basic " + base64(credentials)}}).has_value());
    EXPECT_FALSE(authenticate({{"authorization", "Basic " + base64("apikey_other:" + made.secret)}}
    ).has_value());
    EXPECT_FALSE(authenticate({{"authorization", "Basic " + base64(made.secret)}}).has_value());
    EXPECT_FALSE(authenticate({{"authorization", "Basic !!"}}).has_value());
}

TEST_F(ApiKeysTest, RefuseWhatIsMissingUnknownOrContradictory) {
    const auto made = create();
    for (const http::Pairs& headers : std::vector<http::Pairs>{
             {},
             {{"authorization", "Bearer sk_live_unknown"}},
             {{"authorization", made.secret}},
             {{"authorization", "Digest x"}},
             {{"x-api-key", ""}},
             {{"x-api-key", "sk_live_other"}, {"authorization", "Bearer " + made.secret}}}) {
        auto principal = authenticate(headers);
        ASSERT_FALSE(principal.has_value());
        EXPECT_EQ(principal.error().code, Errc::unauthenticated);
        EXPECT_EQ(principal.error().detail.find(made.secret), std::string::npos);
    }
}

TEST_F(ApiKeysTest, EndAtTheirExpiry) {
    const auto made = create(kStart + 10 * kSecondUs);
    EXPECT_TRUE(authenticate({{"x-api-key", made.secret}}).has_value());
    clock.advance(10 * kSecondUs);
    auto expired = authenticate({{"x-api-key", made.secret}});
    ASSERT_FALSE(expired.has_value());
    EXPECT_NE(expired.error().detail.find("expired"), std::string::npos);
}

TEST_F(ApiKeysTest, AreRecordedInTheProjectsLogWithoutTheSecret) {
    const auto made = create();
    Actor actor{"api_key", "apikey_revoker"};
    ASSERT_TRUE(threads.run(keys.revoke("p", made.key.id, actor)).has_value());
    ASSERT_TRUE(threads.run(keys.revoke("p", made.key.id, actor)).has_value())
        << "revoking twice is no error";
    EventBatch batch;
    const auto log = events(batch);
    ASSERT_EQ(log.size(), 2U) << "the second revocation changed nothing";
    EXPECT_EQ(log[0][Column::action].view(), "api_key.created");
    EXPECT_EQ(log[0][Column::actor_id].view(), "apikey_maker");
    EXPECT_EQ(log[0][Column::target_type].view(), "api_key");
    EXPECT_EQ(log[0][Column::target_id].view(), made.key.id);
    EXPECT_EQ(log[1][Column::action].view(), "api_key.revoked");
    EXPECT_EQ(log[1][Column::actor_id].view(), "apikey_revoker");
    for (const Event& event : log)
        EXPECT_EQ(event[Column::metadata].view().find(made.secret), std::string_view::npos);
    EXPECT_EQ(authenticate({{"x-api-key", made.secret}}).error().code, Errc::unauthenticated);
}

TEST_F(ApiKeysTest, AreNotUsableWhenTheirCreationWasNotStored) {
    store.fail_appends(Error{Errc::unavailable, "disk full"}, 1);
    std::vector<std::string> scopes{"audit:read"};
    Actor actor{"system", "local"};
    auto failed =
        threads.run(keys.create("p", "x", scopes, kNoTime, actor, "sk_live_never_stored_anywhere"));
    ASSERT_FALSE(failed.has_value());
    EXPECT_FALSE(authenticate({{"x-api-key", "sk_live_never_stored_anywhere"}}).has_value());
}

TEST_F(ApiKeysTest, SurviveARestartWithRevocationAndUsage) {
    const auto kept = create();
    const auto revoked = create();
    Actor actor{"system", "local"};
    ASSERT_TRUE(threads.run(keys.revoke("p", revoked.key.id, actor)).has_value());
    ASSERT_TRUE(authenticate({{"x-api-key", kept.secret}}).has_value());
    threads.run(keys.flush_usage());
    ApiKeys next(store, appender, clock, board);
    ASSERT_TRUE(threads.run(next.load()).has_value());
    EXPECT_TRUE(authenticate({{"x-api-key", kept.secret}}, &next).has_value());
    EXPECT_FALSE(authenticate({{"x-api-key", revoked.secret}}, &next).has_value());
    const auto listed = threads.run(next.list("p")).value();
    for (const ApiKey& key : listed)
        EXPECT_EQ(key.last_used_at, key.id == kept.key.id ? kStart : kNoTime);
    EXPECT_TRUE(threads.run(next.list("other")).value().empty());
}

TEST_F(ApiKeysTest, UsageThatCouldNotBeSavedIsSavedLater) {
    const auto one = create(), another = create();
    ASSERT_TRUE(authenticate({{"x-api-key", one.secret}}).has_value());
    ASSERT_TRUE(authenticate({{"x-api-key", another.secret}}).has_value());
    store.fail_appends(Error{Errc::unavailable, "disk full"}, 2);
    testing::internal::CaptureStderr();
    threads.run(keys.flush_usage());
    const std::string logged = testing::internal::GetCapturedStderr();
    EXPECT_NE(logged.find(R"("keys":2,"error":"disk full")"), std::string::npos) << logged;
    EXPECT_EQ(std::count(logged.begin(), logged.end(), '\n'), 1) << logged;
    threads.run(keys.flush_usage());
    ApiKeys next(store, appender, clock, board);
    ASSERT_TRUE(threads.run(next.load()).has_value());
    const auto listed = threads.run(next.list("p")).value();
    ASSERT_EQ(listed.size(), 2U);
    for (const ApiKey& key : listed) EXPECT_EQ(key.last_used_at, kStart);
}

TEST_F(ApiKeysTest, WantKnownScopesAndAName) {
    Actor actor{"system", "local"};
    std::vector<std::string> none, unknown{"audit:read", "root"}, fine{"audit:read"};
    EXPECT_EQ(threads.run(keys.create("p", "x", none, kNoTime, actor)).error().pointer, "/scopes");
    EXPECT_EQ(
        threads.run(keys.create("p", "x", unknown, kNoTime, actor)).error().pointer, "/scopes/1"
    );
    EXPECT_EQ(threads.run(keys.create("p", "", fine, kNoTime, actor)).error().pointer, "/name");
}

/// A node among others on one store.
struct ApiKeyNode {
    ApiKeyNode(EventStore& store, Appender& appender, const Clock& clock, test::IoThreads& t)
        : threads(t),
          board(store, clock, Noticeboard::Nodes::many, t.executor()),
          keys(store, appender, clock, board) {
        board.add_reader([this](std::string project) { return keys.reload(std::move(project)); });
        EXPECT_TRUE(threads.run(board.begin()).has_value());
        EXPECT_TRUE(threads.run(keys.load()).has_value());
    }
    Result<ApiKeys::Created> create(std::string secret = {}) {
        std::vector<std::string> scopes{"audit:read"};
        Actor actor{"system", "local"};
        return threads.run(keys.create("p", "reader", scopes, kNoTime, actor, std::move(secret)));
    }
    Result<http::Principal> authenticate(const std::string& secret) {
        http::Request request;
        request.headers = {{"x-api-key", secret}};
        return threads.run(keys.authenticate(request));
    }
    test::IoThreads& threads;
    Noticeboard board;
    ApiKeys keys;
};

struct ApiKeysOfNodesTest : testing::Test {
    ManualClock clock{kStart};
    Metrics metrics;
    Limits limits;
    test::FakeStore store{clock};
    test::IoThreads threads;
    Appender appender{store, clock, limits, metrics, threads.executor()};
    ApiKeyNode a{store, appender, clock, threads}, b{store, appender, clock, threads};
    Actor actor{"system", "local"};
};

TEST_F(ApiKeysOfNodesTest, AKeyMadeOnOneWorksOnAnotherAtOnce) {
    const auto made = a.create().value();
    EXPECT_EQ(b.authenticate(made.secret).value().key_id, made.key.id);
    EXPECT_EQ(threads.run(b.keys.list("p")).value().size(), 1U);
}

TEST_F(ApiKeysOfNodesTest, AKeyRevokedOnOneIsRefusedByAnotherWithinASecond) {
    const auto made = a.create().value();
    ASSERT_TRUE(b.authenticate(made.secret).has_value());
    ASSERT_TRUE(threads.run(a.keys.revoke("p", made.key.id, actor)).has_value());
    EXPECT_FALSE(a.authenticate(made.secret).has_value());
    EXPECT_TRUE(b.authenticate(made.secret).has_value()) << "nothing has told it yet";
    clock.advance(kSecondUs + 1'000);
    EXPECT_EQ(b.authenticate(made.secret).error().code, Errc::unauthenticated);
}

TEST_F(ApiKeysOfNodesTest, NobodyGetsInWhileItIsUnknownWhoIsRevoked) {
    const auto made = a.create().value();
    ASSERT_TRUE(b.authenticate(made.secret).has_value());
    clock.advance(kSecondUs + 1'000);
    store.fail_reads({Errc::unavailable, "gone"});
    EXPECT_EQ(b.authenticate(made.secret).error().code, Errc::unavailable);
    EXPECT_TRUE(b.authenticate(made.secret).has_value());
}

TEST_F(ApiKeysOfNodesTest, WhatOneHasRevokedAnOlderReadDoesNotBringBack) {
    const auto made = a.create().value();
    ASSERT_TRUE(b.authenticate(made.secret).has_value());
    store.hop = true;
    auto reload = threads.start(b.keys.reload("p"));
    ASSERT_TRUE(threads.run(b.keys.revoke("p", made.key.id, actor)).has_value());
    ASSERT_TRUE(reload.get().has_value());
    EXPECT_FALSE(b.authenticate(made.secret).has_value());
}

TEST_F(ApiKeysOfNodesTest, OneRevokesWhatAnotherHasJustMade) {
    const auto made = a.create().value();
    EXPECT_TRUE(threads.run(b.keys.revoke("p", made.key.id, actor)).has_value());
    EXPECT_FALSE(b.authenticate(made.secret).has_value());
}

TEST_F(ApiKeysOfNodesTest, AGivenSecretIsOneKey) {
    const std::string secret = "sk_live_given_to_all_nodes_00";
    const auto made = a.create(secret).value();
    EXPECT_EQ(b.create(secret).error().code, Errc::conflict);
    EXPECT_EQ(b.authenticate(secret).value().key_id, made.key.id);
}

TEST_F(ApiKeysOfNodesTest, TheLastUseOfAnyOfThemIsKept) {
    const auto made = a.create().value();
    ASSERT_TRUE(a.authenticate(made.secret).has_value());
    clock.advance(100 * kSecondUs);
    ASSERT_TRUE(b.authenticate(made.secret).has_value());
    threads.run(b.keys.flush_usage());
    threads.run(a.keys.flush_usage());  // saw it earlier
    for (ApiKeyNode* node : {&a, &b})
        EXPECT_EQ(
            threads.run(node->keys.list("p")).value().front().last_used_at, kStart + 100 * kSecondUs
        );
}

}  // namespace
}  // namespace annal::control
