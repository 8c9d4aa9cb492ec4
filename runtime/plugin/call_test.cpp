#include "runtime/plugin/call.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "tests/support/test_host.h"

namespace annal {
namespace {

using test::TestCall;

TEST(Call, HandsOutAlignedMemoryUpToItsLimit) {
    TestCall call("p", 1U << 20);
    for (const std::size_t align : {1U, 8U, 64U, 4096U}) {
        void* room = call.call->allocate(100, align);
        ASSERT_NE(room, nullptr) << align;
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(room) % align, 0U);
        std::memset(room, 1, 100);
    }
    EXPECT_NE(call.call->allocate(0, 1), nullptr);
    EXPECT_EQ(call.call->allocate(8, 3), nullptr) << "not a power of two";
    EXPECT_EQ(call.call->allocate(8, 0), nullptr);
    EXPECT_EQ(call.call->allocate(8, 8192), nullptr);
    EXPECT_EQ(call.call->allocate(1U << 20, 1), nullptr);
    EXPECT_EQ(call.call->allocate(SIZE_MAX, 4096), nullptr);
}

TEST(Call, LivesUntilItIsCompleted) {
    std::weak_ptr<Call> weak;
    annal_call* handle = nullptr;
    {
        auto call = std::make_shared<Call>(Call::Options{});
        weak = call;
        handle = call->open();
    }
    ASSERT_FALSE(weak.expired());
    EXPECT_EQ(Call::share(handle), weak.lock());
    Call::complete(handle, nullptr);
    EXPECT_TRUE(weak.expired());
    EXPECT_EQ(Call::share(handle), nullptr);
}

TEST(Call, KeepsObjectsAliveUntilItEnds) {
    auto object = std::make_shared<int>(1);
    const std::weak_ptr<int> weak = object;
    auto call = std::make_shared<Call>(Call::Options{});
    annal_call* handle = call->open();
    call->keep(std::move(object));
    call.reset();
    EXPECT_FALSE(weak.expired());
    Call::complete(handle, nullptr);
    EXPECT_TRUE(weak.expired());
}

TEST(Call, IsCompletedOnceHoweverOftenThePluginSaysSo) {
    int completions = 0;
    Call::Options options;
    options.owner = Call::owner_of("sloppy-plugin");
    options.on_complete = [&](const annal_error* error) {
        ++completions;
        EXPECT_EQ(error->code, ANNAL_BUSY);
    };
    annal_call* handle = std::make_shared<Call>(std::move(options))->open();
    const annal_error error = to_abi(Error{Errc::busy, "later", {}, 0});
    Call::complete(handle, &error);
    testing::internal::CaptureStderr();
    Call::complete(handle, nullptr);  // the call's memory is gone by now
    Call::complete(handle, nullptr);
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_EQ(completions, 1);
    EXPECT_NE(log.find("plugin.call_completed_twice"), std::string::npos) << log;
    EXPECT_NE(log.find("sloppy-plugin"), std::string::npos) << log;
}

TEST(Call, IsCompletedOnceByManyThreads) {
    for (int round = 0; round < 200; ++round) {
        std::atomic<int> completions{0};
        Call::Options options;
        options.on_complete = [&](const annal_error*) { ++completions; };
        annal_call* handle = std::make_shared<Call>(std::move(options))->open();
        testing::internal::CaptureStderr();
        std::thread other([&] { Call::complete(handle, nullptr); });
        Call::complete(handle, nullptr);
        other.join();
        (void)testing::internal::GetCapturedStderr();
        EXPECT_EQ(completions, 1);
    }
}

TEST(Call, ADeadHandleNeverMeetsAnotherCall) {
    annal_call* dead = std::make_shared<Call>(Call::Options{})->open();
    Call::complete(dead, nullptr);
    for (int i = 0; i < 100; ++i) {
        const TestCall other;
        EXPECT_NE(other.handle, dead);
        EXPECT_EQ(Call::share(dead), nullptr);
    }
    EXPECT_EQ(Call::share(nullptr), nullptr);
}

TEST(Call, IsCancelledByItsReasonsItsDeadlineAndItsEnd) {
    TestCall call;
    EXPECT_FALSE(call.call->cancelled());
    call.cancel();
    EXPECT_TRUE(call.call->cancelled());

    Call::Options late;
    late.deadline_us = 0;
    EXPECT_TRUE(std::make_shared<Call>(late)->cancelled());

    const auto ended = std::make_shared<Call>(Call::Options{});
    Call::complete(ended->open(), nullptr);
    EXPECT_TRUE(ended->cancelled());
}

TEST(Call, DropsTheOldestParsedEventsBeyondItsBound) {
    const TestCall call;
    std::vector<annal_event> first(10), second(10);
    const auto memory = std::make_shared<int>(1);
    call.call->keep_parsed(first.data(), sizeof(annal_event), 10, Call::kParsedBytesMax, memory);
    EXPECT_EQ(call.call->parsed_memory(first.data(), sizeof(annal_event), 10), memory);
    EXPECT_EQ(call.call->parsed_memory(first.data() + 3, sizeof(annal_event), 7), memory);
    EXPECT_EQ(call.call->parsed_memory(first.data() + 3, sizeof(annal_event), 8), nullptr)
        << "beyond the end";
    EXPECT_EQ(call.call->parsed_memory(first.data(), sizeof(annal_event) * 2, 2), nullptr)
        << "another stride";
    call.call->keep_parsed(second.data(), sizeof(annal_event), 10, 1, memory);
    EXPECT_EQ(call.call->parsed_memory(first.data(), sizeof(annal_event), 10), nullptr);
    EXPECT_EQ(call.call->parsed_memory(second.data(), sizeof(annal_event), 10), memory);
}

TEST(AbiError, CrossesBothWays) {
    const annal_error out = to_abi(Error{Errc::conflict, "was used before", "/key", 1500});
    EXPECT_EQ(out.code, ANNAL_CONFLICT);
    EXPECT_EQ(out.retry_after_ms, 1500U);
    EXPECT_EQ(std::string(out.text, out.text_len), "/key: was used before");
    const Error back = to_error(out);
    EXPECT_EQ(back.code, Errc::conflict);
    EXPECT_EQ(back.detail, "/key: was used before");
    EXPECT_EQ(back.retry_after_ms, 1500U);
}

TEST(AbiError, IsCutBetweenCharacters) {
    std::string text(495, 'x');
    text += "é and more";
    const annal_error out = to_abi(Error{Errc::internal, text, {}, 0});
    EXPECT_EQ(out.text_len, 495U);
}

TEST(AbiError, OfAPluginIsNeverTrusted) {
    annal_error wild{};
    wild.code = 4711;
    wild.text_len = UINT32_MAX;
    std::memset(wild.text, 0xff, sizeof(wild.text));
    const Error error = to_error(wild);
    EXPECT_EQ(error.code, Errc::internal);
    EXPECT_EQ(error.detail, "the plugin's message is not UTF-8");
    wild.code = ANNAL_OK;
    wild.text_len = 496;
    std::memset(wild.text, 'y', 495);
    wild.text[495] = '\xc3';  // the first half of a character
    EXPECT_EQ(to_error(wild).code, Errc::internal) << "a failure can't be OK";
    EXPECT_EQ(to_error(wild).detail, std::string(495, 'y'));
}

TEST(AbiEvent, KeepsEveryColumnAndTheDifferenceOfNullAndEmpty) {
    EventDraft draft;
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < kColumns; ++i) texts.push_back("value " + std::to_string(i));
    for (std::size_t i = 0; i < kColumns; ++i) draft.columns[i] = texts[i];
    draft[Column::user_id] = Text();
    draft[Column::description] = "";
    Event event;
    event.columns = draft.columns;
    event.seq = 7;
    event.created_at = 8;
    event.occurred_at = 9;
    event.project_id = "proj_a";
    const std::string id = event.id.text();
    const annal_event out = to_abi(event, id);
    EXPECT_EQ(out.seq, 7);
    EXPECT_EQ(out.created_at_us, 8);
    EXPECT_EQ(out.occurred_at_us, 9);
    EXPECT_EQ(to_view(out.id), id);
    EXPECT_EQ(to_view(out.action), texts[static_cast<std::size_t>(Column::action)]);
    EXPECT_EQ(to_view(out.metadata), texts[static_cast<std::size_t>(Column::metadata)]);
    EXPECT_EQ(out.user_id.ptr, nullptr);
    EXPECT_NE(out.description.ptr, nullptr);
    EXPECT_EQ(out.description.len, 0U);
    EXPECT_EQ(to_draft(out).columns, draft.columns);
    EXPECT_EQ(to_draft(out).occurred_at, 9);
}

TEST(AbiBatch, LiesInTheArenaOrIsRefused) {
    std::vector<Event> events(3);
    events[1].deleted = true;
    const TestCall call;
    const annal_batch* batch = to_abi(*call.call, "proj_a", events);
    ASSERT_NE(batch, nullptr);
    EXPECT_EQ(batch->count, 3U);
    EXPECT_EQ(to_view(batch->project_id), "proj_a");
    EXPECT_EQ(ANNAL_AT(annal_event, batch->events, batch->stride, 1)->flags, ANNAL_EVENT_DELETED);
    const TestCall small("p", 128);
    EXPECT_EQ(to_abi(*small.call, "proj_a", events), nullptr);
}

TEST(WriteBuffer, GrowsUpToItsLimit) {
    WriteBuffer buffer(10'000);
    const annal_writer writer = buffer.writer();
    std::string expected;
    for (int i = 0; i < 10; ++i) {
        std::size_t cap = 0;
        std::uint8_t* room = writer.reserve(writer.w, 1000, &cap);
        ASSERT_NE(room, nullptr);
        ASSERT_GE(cap, 1000U);
        std::memset(room, 'a' + i, 1000);
        writer.commit(writer.w, 1000);
        expected.append(1000, static_cast<char>('a' + i));
    }
    std::size_t cap = 0;
    EXPECT_EQ(writer.reserve(writer.w, 1, &cap), nullptr);
    EXPECT_EQ(buffer.view(), expected);
    buffer.clear();
    EXPECT_NE(writer.reserve(writer.w, 10'000, &cap), nullptr);
}

TEST(WriteBufferDeathTest, EndsTheProcessWhenItsMemoryWasOverrun) {
    WriteBuffer buffer(100);
    const annal_writer writer = buffer.writer();
    std::size_t cap = 0;
    ASSERT_NE(writer.reserve(writer.w, 10, &cap), nullptr);
    EXPECT_EXIT(
        writer.commit(writer.w, cap + 1), testing::ExitedWithCode(70), "plugin.writer_overrun"
    );
}

}  // namespace
}  // namespace annal
