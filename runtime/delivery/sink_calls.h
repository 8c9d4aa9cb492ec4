#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <memory>

#include "runtime/core/clock.h"
#include "runtime/core/task.h"
#include "runtime/delivery/shipment.h"

namespace annal {

/// The functions of one sink instance, called from a coroutine: those that may block run on the
/// sink threads, those that report later are awaited. The coroutine goes on where it was.
class SinkCalls {
public:
    using Strand = boost::asio::strand<boost::asio::any_io_executor>;

    SinkCalls(Outlet outlet, boost::asio::thread_pool& pool, Strand strand);

    [[nodiscard]] const Instance& sink() const { return *outlet_.sink; }
    [[nodiscard]] const annal_sink_v1& table() const { return sink().table<annal_sink_v1>(); }

    [[nodiscard]] Task<Result<std::shared_ptr<Shipment>>> pack(
        const StreamDefinition& stream, EventBatch events, bool whole
    );
    /// What the destination holds of the stream; kNoSeq where it can't tell.
    /// @error Errc::timeout  It did not say within the manifest's timeout.
    [[nodiscard]] Task<Result<Seq>> position(const StreamDefinition& stream, const Clock& clock);
    /// Whether the destination says for a whole project what it holds, whatever the stream is
    /// called.
    [[nodiscard]] bool knows_projects_only() const;
    /// Whether it would take a delivery.
    /// @error Errc::unsupported  The sink has no probe. @error Errc::timeout  As for `position`.
    [[nodiscard]] Task<Result<void>> probe(std::string project, const Clock& clock);
    /// Hands a begun shipment to the sink, if `still` says so when its turn has come.
    void send(std::shared_ptr<Shipment> shipment, std::function<bool()> still);
    /// Likewise, for the sink to read back what was delivered.
    void verify(std::shared_ptr<Shipment> shipment, std::function<bool()> still);

private:
    void begin(
        std::shared_ptr<Shipment> shipment,
        std::function<bool()> still,
        void (Shipment::*step)(const Instance&)
    );

    const Outlet outlet_;
    boost::asio::thread_pool::executor_type pool_;
    const Strand strand_;
};

}  // namespace annal
