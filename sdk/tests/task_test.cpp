#include <gtest/gtest.h>
#include <annal/sdk/task.hpp>

#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

using annal::Task;
using annal::detail::Detached;

Detached run(Task<> task, bool& done) {
    co_await task;
    done = true;
}

/// Ends at once, or when `later` is called.
auto operation(int value, std::function<void()>* later) {
    auto start = [value, later](auto& op) {
        auto settle = [&op, value] { op.settle([&] { return value; }); };
        if (later == nullptr) {
            settle();
        } else {
            *later = settle;
        }
    };
    return annal::detail::Operation<int, decltype(start)>(start);
}

Task<int> leaf(std::function<void()>* later) {
    co_return co_await operation(1, later);
}
Task<int> failing(std::function<void()>* later) {
    (void)co_await operation(1, later);  // the value is of no interest, the wait is
    throw std::runtime_error("broken");
}

TEST(Task, StartsWhenItIsAwaited) {
    bool ran = false;
    auto body = [](bool& flag) -> Task<> {
        flag = true;
        co_return;
    };
    Task<> task = body(ran);
    EXPECT_FALSE(ran);
    bool done = false;
    run(std::move(task), done);
    EXPECT_TRUE(ran);
    EXPECT_TRUE(done);
}

Task<> add_many(int count, int& sum) {
    for (int i = 0; i < count; ++i) sum += co_await leaf(nullptr);
}

// Without the rendezvous each step would stay on the stack and this would overflow it.
TEST(Task, WorkThatEndsAtOnceCostsNoStack) {
    int sum = 0;
    bool done = false;
    run(add_many(1'000'000, sum), done);
    EXPECT_TRUE(done);
    EXPECT_EQ(sum, 1'000'000);
}

Task<> add_later(std::function<void()>& later, int& sum) {
    sum += co_await leaf(&later);
    sum += co_await leaf(&later);
}

TEST(Task, GoesOnWhenItsOperationEnds) {
    std::function<void()> later;
    int sum = 0;
    bool done = false;
    run(add_later(later, sum), done);
    EXPECT_EQ(sum, 0);
    std::exchange(later, {})();
    EXPECT_EQ(sum, 1);
    EXPECT_FALSE(done);
    std::exchange(later, {})();
    EXPECT_EQ(sum, 2);
    EXPECT_TRUE(done);
}

Task<> note_failure(std::function<void()>* later, std::string& seen) {
    try {
        (void)co_await failing(later);  // it never returns a value
    } catch (const std::exception& e) {
        seen = e.what();
    }
}

TEST(Task, HandsExceptionsToTheAwaiter) {
    std::string seen;
    bool done = false;
    run(note_failure(nullptr, seen), done);
    EXPECT_EQ(seen, "broken");
    std::function<void()> later;
    seen.clear();
    done = false;
    run(note_failure(&later, seen), done);
    later();
    EXPECT_EQ(seen, "broken");
    EXPECT_TRUE(done);
}

TEST(Task, FreesWhatNeverRan) {
    auto held = std::make_shared<int>(1);
    auto body = [](std::shared_ptr<int> kept) -> Task<> {
        (void)kept;  // only its lifetime matters
        co_return;
    };
    {
        Task<> task = body(held);
        EXPECT_EQ(held.use_count(), 2);
    }
    EXPECT_EQ(held.use_count(), 1);
}

Task<> hop_threads(int count, int& sum, std::promise<void>& end) {
    for (int i = 0; i < count; ++i) {
        auto start = [](auto& op) { std::thread([&op] { op.settle([] { return 1; }); }).detach(); };
        annal::detail::Operation<int, decltype(start)> hop(start);
        sum += co_await hop;
    }
    end.set_value();
}

// The end of the operation races with the coroutine's going to sleep: the sanitizers watch.
TEST(Task, MayBeResumedFromAnyThread) {
    // Not on the stack: the last thread is still on its way out of the coroutine when the test has
    // its answer.
    static int sum = 0;
    static bool done = false;
    static std::promise<void> end;
    run(hop_threads(300, sum, end), done);
    end.get_future().get();
    EXPECT_EQ(sum, 300);
}

}  // namespace
