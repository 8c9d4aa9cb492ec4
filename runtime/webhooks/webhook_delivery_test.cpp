#include "runtime/webhooks/webhook_delivery.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace annal {
namespace {

using Status = WebhookDelivery::Status;
constexpr const char* kEndpoint = "web_0f1e2d";

TEST(DeliveryId, IsReadAsItIsWritten) {
    for (const Seq seq : {Seq{0}, Seq{7}, Seq{INT64_MAX}}) {
        const DeliveryId id{kEndpoint, seq};
        const auto read = DeliveryId::parse(id.text());
        ASSERT_TRUE(read) << id.text();
        EXPECT_EQ(read->endpoint, kEndpoint);
        EXPECT_EQ(read->seq, seq);
    }
    EXPECT_EQ((DeliveryId{kEndpoint, 42}.text()), "del_0f1e2d-42");
}

TEST(DeliveryId, RefusesWhatItWouldNotWrite) {
    for (const char* text :
         {"",
          "del_",
          "del_-",
          "del_-1",
          "del_abc",
          "del_abc-",
          "del_abc-x",
          "del_abc-1x",
          "del_abc-01",
          "del_abc-+1",
          "del_abc- 1",
          "del_abc-9223372036854775808",
          "del_a/c-1",
          "web_abc-1",
          " del_abc-1",
          "abc-1"})
        EXPECT_FALSE(DeliveryId::parse(text)) << text;
    // The last dash counts, so a negative seq is one of another endpoint.
    const auto odd = DeliveryId::parse("del_abc--1");
    ASSERT_TRUE(odd);
    EXPECT_EQ(odd->endpoint, "web_abc-");
    EXPECT_EQ(odd->seq, 1);
}

TEST(DeliveryKey, SortsBySeqAndBeginsWithItsEndpoint) {
    std::vector<std::string> keys;
    for (const Seq seq : {0LL, 9LL, 10LL, 15LL, 16LL, 255LL, 256LL, 1LL << 40, 1LL << 62})
        keys.push_back(delivery_key({kEndpoint, seq}));
    EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
    EXPECT_EQ(std::adjacent_find(keys.begin(), keys.end()), keys.end());
    for (const std::string& key : keys) EXPECT_TRUE(key.starts_with(rows_of(kEndpoint))) << key;
    EXPECT_FALSE(keys[0].starts_with(rows_of("web_0f1e2")));
}

TEST(DeliveryKey, LeadsItsAttemptsInOrder) {
    const DeliveryId id{kEndpoint, 3};
    std::vector<std::string> keys;
    for (const std::int64_t number : {1, 2, 9, 10, 13, 26}) keys.push_back(attempt_key(id, number));
    EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
    for (const std::string& key : keys) {
        EXPECT_TRUE(key.starts_with(delivery_key(id) + "/")) << key;
        EXPECT_FALSE(key.starts_with(delivery_key({kEndpoint, 30}))) << key;
    }
}

TEST(QueuePlace, IsReadAsItIsWritten) {
    for (const QueuePlace place :
         {QueuePlace{0, 0}, QueuePlace{0, 12}, QueuePlace{1'700'000'000'000'000, 1LL << 50}}) {
        const auto read = QueuePlace::of_key(place.key(kEndpoint));
        ASSERT_TRUE(read) << place.key(kEndpoint);
        EXPECT_EQ(read->due, place.due);
        EXPECT_EQ(read->seq, place.seq);
    }
}

TEST(QueuePlace, RefusesWhatIsNoKey) {
    for (const char* key :
         {"",
          "web_a",
          "web_a/1",
          "web_a//",
          "web_a/1/",
          "web_a//1",
          "web_a/x/1",
          "web_a/1/x",
          "web_a/-1/1",
          "web_a/1/-1",
          "web_a/1/2/3"})
        EXPECT_FALSE(QueuePlace::of_key(key)) << key;
}

TEST(QueuePlace, SortsTheFreshBySeqAndBehindThemTheOthersByTime) {
    const TimeUs now = 1'700'000'000'000'000;
    const std::vector<QueuePlace> places{
        {0, 1}, {0, 16}, {0, 1LL << 40}, {1, 9}, {now, 2}, {now, 7}, {now + 1, 1}};
    std::vector<std::string> keys;
    for (const QueuePlace& place : places) keys.push_back(place.key(kEndpoint));
    EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
    for (std::size_t i = 0; i < places.size(); ++i) {
        const bool fresh = places[i].due == 0;
        EXPECT_EQ(keys[i].starts_with(fresh_rows_of(kEndpoint)), fresh) << keys[i];
        EXPECT_EQ(keys[i] > behind_fresh_rows_of(kEndpoint), !fresh) << keys[i];
        EXPECT_TRUE(keys[i].starts_with(rows_of(kEndpoint))) << keys[i];
    }
}

TEST(DeliveryStatus, HasAWordEach) {
    for (const Status status : {Status::pending, Status::delivered, Status::failed})
        EXPECT_EQ(delivery_status_of(word(status)), status);
    for (const char* other : {"", "Pending", "lost"}) EXPECT_FALSE(delivery_status_of(other));
}

WebhookAttempt refused_attempt() {
    WebhookAttempt attempt;
    attempt.number = 14;
    attempt.at = 1'700'000'000'000'000;
    attempt.status = 503;
    attempt.latency_us = 1'234;
    attempt.error = "the endpoint answered \"503\"";
    attempt.answer = "später, \n\x01";
    return attempt;
}

TEST(WebhookAttempt, RoundTripsThroughItsRow) {
    const WebhookAttempt attempt = refused_attempt();
    const auto read = WebhookAttempt::from_text(attempt.to_text());
    ASSERT_TRUE(read);
    EXPECT_EQ(read->number, attempt.number);
    EXPECT_EQ(read->at, attempt.at);
    EXPECT_EQ(read->status, attempt.status);
    EXPECT_EQ(read->latency_us, attempt.latency_us);
    EXPECT_EQ(read->error, attempt.error);
    EXPECT_EQ(read->answer, attempt.answer);
    EXPECT_FALSE(read->succeeded());
    for (const char* damaged : {"", "{", "[]", "null"})
        EXPECT_FALSE(WebhookAttempt::from_text(damaged)) << damaged;
}

TEST(WebhookDelivery, RoundTripsThroughItsRowButForTheAnswer) {
    WebhookDelivery delivery;
    delivery.id = {kEndpoint, 77};
    delivery.event_id = "evt_1";
    delivery.attempts = 14;
    delivery.tries = 1;
    delivery.replays = 2;
    delivery.next_at = 1'700'000'000'000'001;
    delivery.reason = "gone";
    delivery.last = refused_attempt();
    const KvRow row{"p", delivery_key(delivery.id), delivery.to_text()};
    const auto read = WebhookDelivery::from_row(row, Status::pending);
    ASSERT_TRUE(read);
    const WebhookDelivery& found = read.value();
    EXPECT_EQ(found.id.endpoint, kEndpoint);
    EXPECT_EQ(found.id.seq, 77);
    EXPECT_EQ(found.status, Status::pending);
    EXPECT_EQ(found.event_id, "evt_1");
    EXPECT_EQ(found.attempts, 14);
    EXPECT_EQ(found.tries, 1);
    EXPECT_EQ(found.replays, 2);
    EXPECT_EQ(found.next_at, delivery.next_at);
    EXPECT_EQ(found.ended_at, kNoTime);
    EXPECT_EQ(found.reason, "gone");
    ASSERT_TRUE(found.last);
    EXPECT_EQ(found.last->error, delivery.last->error);
    EXPECT_EQ(found.last->answer, "");
}

TEST(WebhookDelivery, SaysWhichRowIsDamaged) {
    const std::string key = delivery_key({kEndpoint, 1}), value = WebhookDelivery().to_text();
    ASSERT_TRUE(WebhookDelivery::from_row({"p", key, value}, Status::failed));
    const std::vector<KvRow> damaged{
        {"p", key, ""},
        {"p", key, "{\"attempts\":"},
        {"p", key, "[]"},
        {"p", "no-slash", value},
        {"p", std::string(kEndpoint) + "/", value},
        {"p", std::string(kEndpoint) + "/xyz", value}};
    for (const KvRow& row : damaged) {
        const auto read = WebhookDelivery::from_row(row, Status::failed);
        ASSERT_FALSE(read) << row.key << " " << row.value;
        EXPECT_EQ(read.error().code, Errc::internal);
        EXPECT_NE(read.error().detail.find(row.key), std::string::npos);
    }
}

}  // namespace
}  // namespace annal
