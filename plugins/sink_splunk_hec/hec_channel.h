#pragma once

#include <annal/sdk.hpp>

#include <map>
#include <string>

namespace sink_splunk_hec {

/// The channel that acknowledgements are counted on, and the cookies that lead back to the indexer
/// which has it.
///
/// An indexer knows only what came to itself: behind a balancer the question whether a delivery is
/// indexed must reach the indexer that took it. A cookie that changes while one asks says that
/// another one answers; what was sent on the old channel is not to be had from it. Threads: one at
/// a time.
class HecChannel {
public:
    HecChannel() { renew(); }

    /// A GUID, new with each process and after `renew`.
    [[nodiscard]] const std::string& id() const { return id_; }
    /// "a=1; b=2", or empty.
    [[nodiscard]] std::string cookies() const;
    /// Keeps what the answer sets. True: a cookie that was there before has another value now.
    bool keep_cookies(const annal::ClientResponse& answer);
    void renew();

private:
    std::string id_;
    std::map<std::string, std::string> cookies_;
};

}  // namespace sink_splunk_hec
