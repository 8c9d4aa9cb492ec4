#pragma once

#include <functional>
#include <memory>

#include "runtime/delivery/destinations.h"
#include "runtime/retention/archive.h"

namespace boost::asio {
class thread_pool;
}

namespace annal {

/// Deliveries to a destination, which reads each of them back: to S3, objects. To the destination a
/// range of a project is a stream with the name "retention-PROJECT/TIME", the time when it was
/// begun: one that did not come to its end begins again under another, since what it holds may have
/// been deleted or erased meanwhile. Which one counts is in the record.
class DestinationArchive final : public Archive {
public:
    struct Environment {
        HostEnvironment& host;
        const Destinations& destinations;
        boost::asio::thread_pool& sink_pool;
        std::function<bool()> is_over;  ///< gives up
    };
    /// @error Errc::unprocessable  No such destination, its sink can't verify, or its manifest
    /// leaves something of its configuration to streams.
    [[nodiscard]] static Result<void> check(
        const Destinations& destinations, const std::string& name
    );
    DestinationArchive(Environment environment, std::string name)
        : environment_(std::move(environment)), name_(std::move(name)) {}

    [[nodiscard]] Task<Result<boost::json::object>> keep(ArchiveRange range) override;

private:
    [[nodiscard]] Task<Result<std::shared_ptr<Instance>>> make_sink() const;
    /// On a strand.
    template <class Strand>
    [[nodiscard]] Task<Result<boost::json::object>> deliver(Strand strand, ArchiveRange range);

    const Environment environment_;
    const std::string name_;
    std::shared_ptr<Instance> sink_;  ///< made with the first range
};

}  // namespace annal
