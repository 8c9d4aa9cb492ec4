#pragma once

#include <functional>
#include <memory>
#include <string>

#include "runtime/delivery/sink_calls.h"
#include "runtime/plugin/instance.h"

namespace annal {

/// Hands events to one sink outside of any stream, and has the destination show that it holds them.
///
/// An attempt that fails for a while is repeated, four times at most, with growing pauses.
/// Threads: its coroutines run on `strand`, one at a time. Lifetime: until the last has ended.
class Handover {
public:
    struct Addressee {
        std::shared_ptr<Instance> sink;
        std::string project;
        std::string known_as;  ///< to the destination, where a stream would have its id
    };
    /// @param is_over  asked between attempts and during them: whether to give up
    Handover(
        HostEnvironment& host,
        boost::asio::thread_pool& sink_pool,
        SinkCalls::Strand strand,
        Addressee to,
        std::function<bool()> is_over
    );

    /// Whether such a sink can show what it holds: it has bytes of its own, and reads them back.
    [[nodiscard]] static bool can_verify(const annal_component& sink);
    /// As many of the leading `events`, at least one, as make a delivery: the destination has taken
    /// them and, read back, they are the same.
    /// @error Errc::unavailable  It has not, for all attempts, or what it holds is something else.
    /// @error Errc::cancelled    `is_over`.
    [[nodiscard]] Task<Result<std::shared_ptr<const Shipment>>> hand_over(EventBatch events);

private:
    using Step = void (SinkCalls::*)(std::shared_ptr<Shipment>, std::function<bool()>);
    [[nodiscard]] Task<Result<void>> insist(std::shared_ptr<Shipment> shipment, Step step);
    [[nodiscard]] Task<Report> attempt(
        std::shared_ptr<Shipment> shipment, std::uint32_t number, Step step
    );
    [[nodiscard]] Task<void> pause(std::chrono::milliseconds time);

    HostEnvironment& host_;
    const SinkCalls::Strand strand_;
    SinkCalls calls_;
    StreamDefinition definition_;
    const std::function<bool()> is_over_;
};

}  // namespace annal
