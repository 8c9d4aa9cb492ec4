#include "runtime/retention/destination_archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <boost/json.hpp>
#include <deque>
#include <map>
#include <mutex>

#include "runtime/core/crypto.h"
#include "tests/support/test_host.h"

namespace annal::test {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::HasSubstr;

/// A destination that keeps what it is sent by its range, and lies when told to.
struct Shelf {
    std::mutex mutex;
    std::map<std::string, std::string> objects;  // by "FIRST-LAST"
    std::deque<std::uint32_t> sends, looks;      // verdicts of the next ones; empty: the truth
    int sent = 0, looked = 0;
    std::string stream;
};
Shelf* shelf = nullptr;  // the sink's C functions have no other way to it

annal_status create(const annal_init*, void** self, annal_error*) {
    *self = shelf;
    return ANNAL_OK;
}
void destroy(void*) {}

annal_status
encode(void*, const annal_batch* batch, const annal_writer* out, std::uint64_t* ends, annal_error*) {
    std::uint64_t end = 0;
    for (std::uint32_t i = 0; i < batch->count; ++i) {
        const annal_event* event = ANNAL_AT(annal_event, batch->events, batch->stride, i);
        const std::string line = std::to_string(event->seq) + "\n";
        std::size_t room = 0;
        std::uint8_t* to = out->reserve(out->w, line.size(), &room);
        if (to == nullptr) return ANNAL_TOO_LARGE;
        std::copy(line.begin(), line.end(), to);
        out->commit(out->w, line.size());
        ends[i] = end += line.size();
    }
    return ANNAL_OK;
}

std::string key_of(const annal_delivery& delivery) {
    const annal_batch& batch = *delivery.batch;
    const auto seq = [&batch](std::uint32_t i) {
        return std::to_string(ANNAL_AT(annal_event, batch.events, batch.stride, i)->seq);
    };
    return seq(0) + "-" + seq(batch.count - 1);
}

/// The next verdict that was asked for, else `truth`.
void answer(const annal_delivery& delivery, std::deque<std::uint32_t>& said, std::uint32_t truth) {
    std::uint32_t verdict = truth;
    if (!said.empty()) {
        verdict = said.front();
        said.pop_front();
    }
    annal_error error{};
    error.struct_size = sizeof(error);
    error.text_len = static_cast<std::uint32_t>(
        std::string_view("the shelf says so").copy(error.text, sizeof(error.text))
    );
    delivery.done(delivery.d, verdict, nullptr, 0, verdict == ANNAL_DELIVERED ? nullptr : &error);
}

void send(void* self, const annal_delivery* delivery) {
    auto& to = *static_cast<Shelf*>(self);
    const std::lock_guard lock(to.mutex);
    ++to.sent;
    to.stream = to_view(delivery->stream);
    if (to.sends.empty() || to.sends.front() == ANNAL_DELIVERED)
        to.objects[key_of(*delivery)] = std::string(
            reinterpret_cast<const char*>(delivery->payload.ptr), delivery->payload.len
        );
    answer(*delivery, to.sends, ANNAL_DELIVERED);
}

void verify(void* self, const annal_delivery* delivery) {
    auto& of = *static_cast<Shelf*>(self);
    const std::lock_guard lock(of.mutex);
    ++of.looked;
    const std::string_view payload(
        reinterpret_cast<const char*>(delivery->payload.ptr), delivery->payload.len
    );
    const bool same = of.objects[key_of(*delivery)] == payload;
    answer(*delivery, of.looks, same ? ANNAL_DELIVERED : ANNAL_PAUSE);
}

constexpr const char* kSchema = R"({"type":"object","properties":{"box":{"type":"string"}},)"
                                R"("required":["box"]})";
const annal_sink_v1 kKeeping{
    sizeof(annal_sink_v1), 0, create, destroy, encode, send, nullptr, nullptr, nullptr, 0, verify};
const annal_sink_v1 kForgetting{
    sizeof(annal_sink_v1), 0, create, destroy, encode, send, nullptr, nullptr, nullptr, 0, nullptr};
const annal_component kKeeper{
    sizeof(annal_component), 0, ANNAL_COMPONENT_SINK, "keeping", kSchema, &kKeeping, nullptr};
const annal_component kForgetter{
    sizeof(annal_component), 0, ANNAL_COMPONENT_SINK, "forgetting", kSchema, &kForgetting, nullptr};
const annal_component* const kComponents[] = {&kKeeper, &kForgetter};
const annal_module kModule{
    sizeof(annal_module),
    ANNAL_ABI_MAJOR,
    ANNAL_ABI_MINOR,
    "test.shelf",
    "1",
    "",
    "",
    2,
    0,
    kComponents};

class DestinationArchiveTest : public testing::Test {
protected:
    DestinationArchiveTest() {
        shelf = &shelf_;
        module_.descriptor = &kModule;
        offer("shelf", "keeping", R"({"box":"a"})");
        offer("hole", "forgetting", R"({"box":"a"})");
        offer("unset", "keeping", "{}");
    }
    ~DestinationArchiveTest() override { host_.threads.stop(); }  // before the pool they post to
    void offer(const char* name, const char* component, const char* config) {
        Manifest manifest;
        manifest.instance = std::string("destination-") + name;
        manifest.component = component;
        manifest.config_json = config;
        manifest.destination.emplace();
        manifest.destination->name = name;
        const auto added = destinations_.add(manifest, module_);
        ASSERT_TRUE(added.has_value()) << added.error().detail;
    }
    void fill(int events, std::vector<Seq> erase = {}) {
        for (int left = events; left > 0; left -= 500) {
            AppendUnit unit;
            unit.project = "p";
            EventDraft draft;
            draft[Column::action] = "test.happened";
            for (int i = 0; i < std::min(left, 500); ++i) unit.events.push_back(draft);
            ASSERT_TRUE(host_.run(host_.appender.append(std::move(unit))).has_value());
        }
        AppendUnit unit;
        unit.project = "p";
        unit.erase = std::move(erase);
        ASSERT_TRUE(host_.run(host_.appender.append(std::move(unit))).has_value());
    }
    Result<json::object> keep(Seq first, Seq last, std::int64_t events) {
        DestinationArchive archive(
            {host_.environment, destinations_, pool_, [this] { return over_.load(); }}, "shelf"
        );
        ArchiveRange range{"p", first, last, events};
        return host_.run(archive.keep(range));
    }
    std::vector<std::string> keys() {
        std::vector<std::string> keys;
        for (const auto& [key, bytes] : shelf_.objects) keys.push_back(key);
        return keys;
    }

    TestHost host_;
    boost::asio::thread_pool pool_{2};
    Module module_;
    Destinations destinations_{host_.environment};
    Shelf shelf_;
    std::atomic<bool> over_{false};
};

TEST_F(DestinationArchiveTest, EachDeliveryIsThereAndReadBack) {
    fill(2'500, {7, 8, 1'200});
    const auto said = keep(5, 2'399, 2'392);
    ASSERT_TRUE(said.has_value()) << said.error().detail;
    EXPECT_THAT(keys(), ElementsAre("1005-2004", "2005-2399", "5-1004"));
    EXPECT_EQ(shelf_.sent, 3);
    EXPECT_EQ(shelf_.looked, 3);
    EXPECT_THAT(shelf_.stream, testing::MatchesRegex("retention-p/[0-9]+T[0-9]+\\.[0-9]+Z"));
    std::string all;
    for (const char* key : {"5-1004", "1005-2004", "2005-2399"}) all += shelf_.objects[key];
    EXPECT_THAT(all, testing::StartsWith("5\n6\n9\n")) << "without what was deleted";
    EXPECT_EQ(said.value().at("destination").as_string(), "shelf");
    EXPECT_EQ(said.value().at("stream").as_string(), shelf_.stream);
    EXPECT_EQ(said.value().at("deliveries").as_int64(), 3);
    EXPECT_EQ(said.value().at("events").as_int64(), 2'392);
    EXPECT_EQ(said.value().at("sha256").as_string(), to_hex(sha256(all)));
}

TEST_F(DestinationArchiveTest, WhatPassesIsTriedAgain) {
    fill(10);
    shelf_.sends = {ANNAL_RETRY};
    shelf_.looks = {ANNAL_RETRY};
    const auto said = keep(0, 9, 10);
    ASSERT_TRUE(said.has_value()) << said.error().detail;
    EXPECT_EQ(shelf_.sent, 2);
    EXPECT_EQ(shelf_.looked, 2);
}

TEST_F(DestinationArchiveTest, WhatIsRefusedOrNotThereIsAnError) {
    fill(10);
    for (const std::uint32_t verdict : {ANNAL_REJECT, ANNAL_PAUSE}) {
        shelf_.sends = {verdict};
        const auto said = keep(0, 9, 10);
        ASSERT_TRUE(said.has_error());
        EXPECT_EQ(said.error().code, Errc::unavailable);
        EXPECT_THAT(said.error().detail, HasSubstr("archive shelf: "));
        EXPECT_THAT(said.error().detail, HasSubstr("the shelf says so"));
    }
    EXPECT_EQ(shelf_.looked, 0);
    shelf_.looks = {ANNAL_PAUSE};
    EXPECT_EQ(keep(0, 9, 10).error().code, Errc::unavailable);
    EXPECT_EQ(shelf_.looked, 1);
}

TEST_F(DestinationArchiveTest, ItCountsAndMissesNothing) {
    fill(10, {3});
    const auto fewer = keep(0, 9, 10);
    ASSERT_TRUE(fewer.has_error());
    EXPECT_EQ(fewer.error().code, Errc::conflict);
    EXPECT_THAT(fewer.error().detail, HasSubstr("the archive has 9 events of project p"));
    const auto beyond = keep(0, 20, 20);
    EXPECT_EQ(beyond.error().code, Errc::conflict);
    EXPECT_THAT(beyond.error().detail, HasSubstr("shorter"));
    ASSERT_TRUE(host_.run(host_.store.raise_floor("p", 5)).has_value());
    const auto gone = keep(2, 9, 8);
    EXPECT_EQ(gone.error().code, Errc::conflict);
    EXPECT_THAT(gone.error().detail, HasSubstr("event 2 of project p is not there any more"));
}

TEST_F(DestinationArchiveTest, WhatSomebodyElseTookAwayMeanwhileIsMissed) {
    fill(3'000);
    ASSERT_TRUE(host_.run(host_.store.raise_floor("p", 1'000)).has_value());
    const auto gone = keep(500, 999, 500);  // full pages lie behind the range
    ASSERT_TRUE(gone.has_error());
    EXPECT_EQ(gone.error().code, Errc::conflict);
    EXPECT_THAT(gone.error().detail, HasSubstr("event 500 of project p is not there any more"));
}

TEST_F(DestinationArchiveTest, ItGivesUpWhenTheNodeStops) {
    fill(10);
    over_ = true;
    EXPECT_EQ(keep(0, 9, 10).error().code, Errc::cancelled);
    EXPECT_EQ(shelf_.sent, 0);
}

TEST_F(DestinationArchiveTest, OnlyWhatCanShowWhatItHoldsCanBeOne) {
    const auto problem = [this](const char* name) {
        const auto checked = DestinationArchive::check(destinations_, name);
        return checked ? std::string() : checked.error().detail;
    };
    EXPECT_EQ(problem("shelf"), "");
    EXPECT_THAT(problem("nowhere"), HasSubstr("no destination nowhere; there are hole, shelf"));
    EXPECT_THAT(problem("hole"), HasSubstr("can't show what it holds"));
    EXPECT_THAT(problem("unset"), HasSubstr("must set all that it needs"));
    EXPECT_THAT(problem("unset"), HasSubstr("box"));
}

}  // namespace
}  // namespace annal::test
