#include "runtime/retention/destination_archive.h"

#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include "runtime/core/crypto.h"
#include "runtime/core/run_on_impl.h"
#include "runtime/core/time_text.h"
#include "runtime/delivery/handover.h"

namespace annal {
namespace asio = boost::asio;
namespace {

/// "20261122T231500.000123Z"
std::string stamp(TimeUs time) {
    std::string text = format_time(time);
    std::erase_if(text, [](char c) { return c == '-' || c == ':'; });
    return text;
}

}  // namespace

Result<void> DestinationArchive::check(const Destinations& destinations, const std::string& name) {
    const SinkOffer* offer = destinations.find(name);
    if (offer == nullptr)
        return Error{
            Errc::unprocessable,
            "archive_to: there is no destination " + name + "; there are " + destinations.list()};
    if (!Handover::can_verify(*offer->component))
        return Error{
            Errc::unprocessable,
            "archive_to: the destination " + name +
                " can't show what it holds, so nothing can be taken away in trust of it; S3 can"};
    const auto whole = destinations.check(*offer, {});
    if (whole) return ok();
    return Error{
        Errc::unprocessable,
        "archive_to: the manifest of the destination " + name +
            " must set all that it needs: " + whole.error().detail};
}

/// May block.
Task<Result<std::shared_ptr<Instance>>> DestinationArchive::make_sink() const {
    BOOST_OUTCOME_CO_TRYV(check(environment_.destinations, name_));
    const SinkOffer& offer = *environment_.destinations.find(name_);
    co_return environment_.destinations.create(offer, "retention", {});
}

template <class Strand>
Task<Result<boost::json::object>> DestinationArchive::deliver(Strand strand, ArchiveRange range) {
    const std::string known_as =
        "retention-" + range.project + "/" + stamp(environment_.host.clock->wall_us());
    Handover handover(
        environment_.host,
        environment_.sink_pool,
        std::move(strand),
        {sink_, range.project, known_as},
        environment_.is_over
    );
    ArchiveReader reader(*environment_.host.store, range, environment_.is_over);
    Sha256 digest;
    std::int64_t events = 0, deliveries = 0;
    for (;;) {
        BOOST_OUTCOME_CO_TRY(EventBatch batch, co_await reader.next());
        if (batch.events.empty()) break;
        auto handed = co_await handover.hand_over(std::move(batch));
        if (!handed)
            co_return Error{handed.error().code, "archive " + name_ + ": " + handed.error().detail};
        const Shipment& shipment = *handed.value();
        digest.update(shipment.payload());
        events += shipment.plan().events;
        ++deliveries;
        reader.go_back_to(shipment.plan().last);
    }
    BOOST_OUTCOME_CO_TRYV(check_count(range, events));
    boost::json::object said;
    said["destination"] = name_;
    said["stream"] = known_as;
    said["deliveries"] = deliveries;
    said["events"] = events;
    said["sha256"] = to_hex(digest.finish());
    co_return said;
}

Task<Result<boost::json::object>> DestinationArchive::keep(ArchiveRange range) {
    if (sink_ == nullptr) {
        auto made = co_await run_on(environment_.sink_pool.get_executor(), make_sink());
        BOOST_OUTCOME_CO_TRY(sink_, std::move(made));
    }
    const SinkCalls::Strand strand = asio::make_strand(*environment_.host.executor);
    auto delivery = deliver(strand, std::move(range));
    co_return co_await run_on(strand, std::move(delivery));
}

}  // namespace annal
