#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/plugin/address_policy.h"
#include "runtime/plugin/destination.h"
#include "runtime/plugin/http_client.h"

struct curl_slist;

namespace annal {

class TransferLoop;

/// A request that was accepted: waiting, then in a `Transfer`.
struct OutboundJob {
    OutboundRequest request;
    HttpClient::Done done;
    Destination destination;
    AddressPolicy::Port permission = AddressPolicy::Port::named;
    std::chrono::steady_clock::time_point accepted, deadline;
};

/// One request under way in libcurl. Made once and used for one request after the other, so that
/// what is the same for all (verification, callbacks) is set once.
///
/// Threads: that of the loop only. Lifetime: stays where it is, and ends before the loop.
class Transfer {
public:
    Transfer(TransferLoop& loop, const std::string& ca_file);
    ~Transfer();
    Transfer(const Transfer&) = delete;
    Transfer& operator=(const Transfer&) = delete;

    /// The Transfer behind an easy handle.
    [[nodiscard]] static Transfer& of(void* easy);
    [[nodiscard]] bool works() const { return easy_ != nullptr; }
    [[nodiscard]] void* easy() const { return easy_; }
    [[nodiscard]] OutboundJob& job() { return *job_; }

    /// Sets up `job`; the loop does the rest.
    /// @param own     the node's addresses; each socket is judged by them and by `policy`
    /// @param lookup  lines for CURLOPT_RESOLVE; empty where the host is an address
    void begin(
        std::unique_ptr<OutboundJob> job,
        std::shared_ptr<const AddressPolicy> policy,
        std::shared_ptr<const std::vector<Address>> own,
        const std::vector<std::string>& lookup
    );
    /// What `code`, a CURLcode, means for the request. The job stays until `release`.
    [[nodiscard]] Result<OutboundResponse> outcome(int code);
    std::unique_ptr<OutboundJob> release();

private:
    struct Callbacks;

    [[nodiscard]] bool permits(const std::optional<Address>& address, std::uint16_t port);
    void set_always(const std::string& ca_file);
    void set_method();
    void set_headers();
    void take_header(std::string_view line);
    [[nodiscard]] Error error_of(int code) const;

    TransferLoop& loop_;
    void* easy_ = nullptr;
    std::unique_ptr<OutboundJob> job_;
    std::shared_ptr<const AddressPolicy> policy_;
    std::shared_ptr<const std::vector<Address>> own_;
    std::chrono::steady_clock::time_point began_;
    OutboundResponse response_;
    std::size_t header_bytes_ = 0;
    std::string denied_;  ///< why; empty: not denied
    bool headers_too_large_ = false;
    // What libcurl points into.
    std::string header_text_, lookup_text_;
    std::vector<curl_slist> header_nodes_, lookup_nodes_;
    std::array<char, 256> detail_{};  // CURL_ERROR_SIZE
};

}  // namespace annal
