#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "annal/abi.h"
#include "runtime/core/result.h"
#include "runtime/delivery/batch_plan.h"
#include "runtime/delivery/settlement.h"
#include "runtime/delivery/stream_definition.h"
#include "runtime/plugin/call.h"
#include "runtime/plugin/instance.h"

namespace annal {

/// Where a stream's batches go, and who writes them.
struct Outlet {
    std::shared_ptr<Instance> sink;
    std::shared_ptr<Instance> format;  ///< null: the sink itself
};

/// One batch, encoded, and its attempts. Shared with the sink until that reports.
///
/// Threads: `pack` and `send` where the sink may block; the rest from any, one attempt at a time.
class Shipment : public std::enable_shared_from_this<Shipment> {
public:
    /// As many of the leading `events` as fit into the stream's limit of encoded bytes, and into
    /// the sink's own. Those that do not are not in it.
    /// @param whole  all or none: a batch that is made again
    /// @error Errc::too_large  The first event alone, or the whole, is more than the sink takes.
    /// and whatever else the sink's encode, or the format, reports.
    [[nodiscard]] static Result<std::shared_ptr<Shipment>> pack(
        const StreamDefinition& stream, const Outlet& outlet, EventBatch events, bool whole
    );

    [[nodiscard]] const std::vector<Event>& events() const { return events_.events; }
    [[nodiscard]] const BatchPlan& plan() const { return plan_; }
    [[nodiscard]] std::string_view payload() const { return payload_.view(); }

    struct Attempt {
        std::uint32_t number = 1;
        std::int64_t fence = 0;
        std::int64_t deadline_us = 0;  ///< monotonic
        std::function<bool()> cancelled;
        std::function<void()> reported;  ///< called once, on any thread
    };
    /// Makes the attempt ready; `send`, `verify` or `refuse` follows.
    void begin(Attempt attempt);
    /// Hands it to the sink, which may block, or report later.
    void send(const Instance& sink);
    /// In its place, of a sink that can: has it read back what an earlier attempt delivered.
    void verify(const Instance& sink);
    /// Ends the attempt without the sink: a retry.
    void refuse(const std::string& why);
    [[nodiscard]] bool is_reported() const;
    /// Of the attempt that was reported.
    [[nodiscard]] Report report() const;

private:
    explicit Shipment(const StreamDefinition& stream);
    [[nodiscard]] Call::Options call_options() const;
    [[nodiscard]] Result<void> encode(const Outlet& outlet);
    [[nodiscard]] Result<void> encode_by(const Instance& format);
    [[nodiscard]] std::size_t fitting(std::uint64_t bytes_max) const;
    void make_plan(const Outlet& outlet);
    static void take_report(
        void* d,
        std::uint32_t fallback,
        const annal_verdict* exceptions,
        std::uint32_t count,
        const annal_error* error
    );

    const std::string project_, stream_id_;
    const std::int64_t revision_;
    EventBatch events_;  // before what points into it
    std::shared_ptr<Call> call_;
    annal_batch batch_{};
    WriteBuffer payload_;
    std::vector<std::uint64_t> ends_;
    BatchPlan plan_;
    std::string idempotency_key_;
    std::string content_type_, file_extension_;  ///< of a format's document

    annal_delivery delivery_{};
    std::shared_ptr<Call> attempt_call_;
    mutable std::mutex mutex_;  // guards what follows
    bool reported_ = true;
    Report report_;
    std::function<void()> on_report_;
    std::shared_ptr<Shipment> self_;  // while the sink holds the delivery
};

}  // namespace annal
