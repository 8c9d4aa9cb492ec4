#pragma once

#include <gtest/gtest.h>

#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>

#include "runtime/delivery/stream.h"
#include "tests/support/test_host.h"

namespace annal::stream_test {

using namespace std::chrono_literals;

/// A destination that writes down what reaches it and misbehaves when told to.
struct Destination {
    std::mutex mutex;
    std::vector<std::int64_t> seqs;       // acknowledged, in order of arrival
    std::vector<std::string> payloads;    // of every attempt
    std::vector<std::uint32_t> verdicts;  // for the next attempts; empty: delivered
    std::int64_t held = -1;               // what position says
    std::atomic<annal_status> position_status{ANNAL_OK};
    bool deleted_seen = false;
    bool bad_index = false;
    std::set<std::int64_t> poison;  // a batch with one of these is refused
    bool names_poison = false;      // by name, and the others are taken
    std::set<std::int64_t> again;   // of poison: named as to be tried again
    std::uint32_t poison_verdict = ANNAL_REJECT;
    std::uint32_t retry_after_ms = 0;
    std::vector<std::string> keys, streams;  // of every attempt
    std::vector<std::int64_t> fences;
    std::string reason;  // of refusals
    std::size_t in_send = 0, overlaps = 0;
    const annal_delivery* kept = nullptr;  // a delivery that was not answered
    bool keep_next = false;
};
inline Destination* destination = nullptr;  // the sink's C functions have no other way to it

inline annal_status create(const annal_init*, void** self, annal_error*) {
    *self = destination;
    return ANNAL_OK;
}
inline void destroy(void*) {}

inline annal_status
encode(void*, const annal_batch* batch, const annal_writer* out, std::uint64_t* ends, annal_error*) {
    std::uint64_t end = 0;
    for (std::uint32_t i = 0; i < batch->count; ++i) {
        const annal_event* event = ANNAL_AT(annal_event, batch->events, batch->stride, i);
        const std::string line = std::to_string(event->seq) +
                                 ((event->flags & ANNAL_EVENT_DELETED) ? " deleted" : "") + "\n";
        std::size_t room = 0;
        std::uint8_t* to = out->reserve(out->w, line.size(), &room);
        if (!to) return ANNAL_TOO_LARGE;
        std::copy(line.begin(), line.end(), to);
        out->commit(out->w, line.size());
        ends[i] = end += line.size();
    }
    return ANNAL_OK;
}

inline const annal_event& event_of(const annal_delivery& delivery, std::uint32_t i) {
    return *ANNAL_AT(annal_event, delivery.batch->events, delivery.batch->stride, i);
}

/// Whether the delivery was answered because of a poisonous event in it.
inline bool meets_poison(Destination& to, const annal_delivery& delivery) {
    std::vector<annal_verdict> named;
    for (std::uint32_t i = 0; i < delivery.batch->count; ++i) {
        const std::int64_t seq = event_of(delivery, i).seq;
        if (!to.poison.contains(seq)) continue;
        named.push_back({i, to.poison_verdict, {to.reason.data(), to.reason.size()}});
        if (to.again.contains(seq)) named.back().verdict = ANNAL_RETRY;
    }
    if (named.empty()) return false;
    if (to.names_poison) {
        for (std::uint32_t i = 0; i < delivery.batch->count; ++i)
            if (!to.poison.contains(event_of(delivery, i).seq))
                to.seqs.push_back(event_of(delivery, i).seq);
    }
    --to.in_send;
    annal_error error{};
    error.struct_size = sizeof(error);
    error.retry_after_ms = to.retry_after_ms;
    error.text_len = static_cast<std::uint32_t>(to.reason.copy(error.text, sizeof(error.text)));
    if (to.names_poison) {
        delivery.done(
            delivery.d,
            ANNAL_DELIVERED,
            named.data(),
            static_cast<std::uint32_t>(named.size()),
            to.retry_after_ms > 0 ? &error : nullptr
        );
    } else {
        delivery.done(delivery.d, to.poison_verdict, nullptr, 0, &error);
    }
    return true;
}

inline void send(void* self, const annal_delivery* delivery) {
    auto& to = *static_cast<Destination*>(self);
    std::uint32_t verdict = ANNAL_DELIVERED;
    {
        const std::lock_guard lock(to.mutex);
        if (to.in_send++ > 0) ++to.overlaps;
        to.payloads.emplace_back(
            reinterpret_cast<const char*>(delivery->payload.ptr), delivery->payload.len
        );
        if (to.keep_next) {
            to.keep_next = false;
            to.kept = delivery;
            return;
        }
        to.keys.emplace_back(delivery->idempotency_key.ptr, delivery->idempotency_key.len);
        to.streams.emplace_back(delivery->stream.ptr, delivery->stream.len);
        to.fences.push_back(delivery->fence);
        if (meets_poison(to, *delivery)) return;
        if (!to.verdicts.empty()) {
            verdict = to.verdicts.front();
            to.verdicts.erase(to.verdicts.begin());
        }
        if (to.bad_index) {
            to.bad_index = false;
            --to.in_send;
            const annal_verdict bad{delivery->batch->count, ANNAL_DELIVERED, {}};
            delivery->done(delivery->d, ANNAL_DELIVERED, &bad, 1, nullptr);
            return;
        }
        for (std::uint32_t i = 0; verdict == ANNAL_DELIVERED && i < delivery->batch->count; ++i) {
            const annal_event* event =
                ANNAL_AT(annal_event, delivery->batch->events, delivery->batch->stride, i);
            to.seqs.push_back(event->seq);
            if (event->flags & ANNAL_EVENT_DELETED) to.deleted_seen = true;
        }
        --to.in_send;
    }
    annal_error error{};
    error.struct_size = sizeof(error);
    error.retry_after_ms = to.retry_after_ms;
    delivery->done(delivery->d, verdict, nullptr, 0, verdict == ANNAL_DELIVERED ? nullptr : &error);
}

inline annal_status position(void* self, annal_str, std::int64_t* seq, annal_error*) {
    *seq = static_cast<Destination*>(self)->held;
    return static_cast<Destination*>(self)->position_status;
}

inline const annal_sink_v1 kSink{
    sizeof(annal_sink_v1),
    0,
    create,
    destroy,
    encode,
    send,
    position,
    nullptr,
    nullptr,
    0,
    nullptr};
inline const annal_component kComponent{
    sizeof(annal_component),
    0,
    ANNAL_COMPONENT_SINK,
    "memory",
    R"({"type":"object"})",
    &kSink,
    nullptr};
inline const annal_component* const kComponents[] = {&kComponent};
inline const annal_module kModule{
    sizeof(annal_module),
    ANNAL_ABI_MAJOR,
    ANNAL_ABI_MINOR,
    "test.memory",
    "1",
    "test",
    "Apache-2.0",
    1,
    0,
    kComponents};

struct StreamTest : testing::Test {
    test::TestHost host;
    boost::asio::thread_pool pool{2};
    Module module;
    Destination to;
    std::shared_ptr<Instance> sink, format;
    EventsTrigger trigger;
    std::unique_ptr<Stream> stream;

    ~StreamTest() override { host.threads.stop(); }  // before the pool they post to
    void SetUp() override {
        destination = &to;
        module.descriptor = &kModule;
        trigger.name = "all";
        trigger.project = "p";
        trigger.patterns = {ActionPattern{}};
        trigger.batch_events_max = 10;
        make_sink(10 * kSecondUs);
    }
    void TearDown() override {
        stop();
        sink.reset();
    }

    void make_sink(std::int64_t timeout_us) {
        Manifest manifest;
        manifest.instance = "memory";
        manifest.component = "memory";
        manifest.timeout_us = timeout_us;
        sink = Instance::create(manifest, module, host.environment).value();
    }
    void start(StreamKeeper* keeper = nullptr) {
        start(StreamDefinition::of("memory", "memory", trigger), keeper);
    }
    void start(StreamDefinition definition, StreamKeeper* keeper = nullptr) {
        stream = std::make_unique<Stream>(
            std::move(definition), Outlet{sink, format}, host.environment, pool, keeper
        );
        stream->start();
    }
    void stop() {
        if (!stream) return;
        host.run(stream->stop());
        stream.reset();
    }
    void append(int count, const char* action = "test.happened", std::vector<Seq> erase = {}) {
        AppendUnit unit;
        unit.project = "p";
        for (int i = 0; i < count; ++i) {
            EventDraft draft;
            draft[Column::action] = action;
            draft[Column::actor_type] = "system";
            draft[Column::auth_type] = "system";
            draft[Column::metadata] = "{}";
            unit.events.push_back(draft);
        }
        unit.erase = std::move(erase);
        ASSERT_TRUE(host.run(host.appender.append(std::move(unit))).has_value());
    }
    template <class Condition>
    bool eventually(Condition condition) {
        for (int i = 0; i < 1'000; ++i) {
            {
                const std::lock_guard lock(to.mutex);
                if (condition()) return true;
            }
            std::this_thread::sleep_for(10ms);
        }
        return false;
    }
    static std::vector<std::int64_t> range(std::int64_t first, std::int64_t last) {
        std::vector<std::int64_t> seqs;
        for (std::int64_t seq = first; seq <= last; ++seq) seqs.push_back(seq);
        return seqs;
    }
    /// Whether this is a line of the metrics page.
    bool shows(const std::string& line) {
        return ("\n" + host.metrics.render()).find("\n" + line + "\n") != std::string::npos;
    }
    void answer_kept(std::uint32_t verdict) {
        {
            const std::lock_guard lock(to.mutex);
            --to.in_send;
        }
        to.kept->done(to.kept->d, verdict, nullptr, 0, nullptr);
    }
    bool in_state(const std::string& state) {
        return eventually([&] { return stream->status().state == state; });
    }
    /// What another node would be told.
    Lease ask_as_other(std::chrono::milliseconds ttl = 10min) {
        return host.run(host.store.lease({"p", kSubscription, "other", ttl})).value();
    }
    void release(const std::string& owner) {
        ASSERT_TRUE(host.run(host.store.release_lease("p", kSubscription, owner)).has_value());
    }
    /// As if this node had slept through the end of its lease.
    Lease give_lease_to_other() {
        for (;;) {
            release(host.environment.node);
            const Lease lease = ask_as_other();
            if (lease.mine) return lease;  // else the stream was quicker
        }
    }
    AppendOutcome move_as_other(Seq to_seq, std::int64_t fence) {
        AppendUnit unit;
        unit.project = "p";
        unit.cursors.push_back({kSubscription, to_seq, fence});
        return host.run(host.appender.append(std::move(unit)));
    }
    static constexpr const char* kSubscription = "stream.memory/all.p";
    static constexpr const char* kLabels = "{project=\"p\",stream=\"memory/all\"}";
    Seq committed() { return host.run(host.store.cursor("p", kSubscription)).value(); }
};

}  // namespace annal::stream_test
