#include "runtime/plugin/transfer.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "runtime/plugin/transfer_loop.h"

namespace annal {
namespace {

using Steady = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

constexpr std::size_t kHeaderBytesMax = 64U << 10;
constexpr std::size_t kResponseBytesMax = 64U << 10;
constexpr std::int64_t kConnectTimeoutMs = 5'000;
// Kept connections follow changes of names, certificates and balancers after a while.
constexpr long kUnusedSecondsMax = 55, kConnectionSecondsMax = 300, kCaSeconds = 3'600;

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    });
    return out;
}

/// What only a person can mend: another try ends the same way.
bool is_about_certificates(int code) {
    switch (code) {
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_ISSUER_ERROR:
        case CURLE_SSL_CRL_BADFILE:
        case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
        case CURLE_SSL_INVALIDCERTSTATUS:
            return true;
        default:
            return false;
    }
}

/// `lines` as a list whose text and nodes lie in `text` and `nodes`.
template <class Lines>
curl_slist* to_list(const Lines& lines, std::string& text, std::vector<curl_slist>& nodes) {
    text.clear();
    nodes.clear();
    std::vector<std::size_t> begins;
    begins.reserve(lines.size());
    for (const auto& line : lines) {
        begins.push_back(text.size());
        text += line;
        text += '\0';
    }
    for (const std::size_t begin : begins) nodes.push_back({text.data() + begin, nullptr});
    for (std::size_t i = 1; i < nodes.size(); ++i) nodes[i - 1].next = &nodes[i];
    return nodes.empty() ? nullptr : nodes.data();
}

template <class T>
void set(CURL* easy, CURLoption option, T value) {
    curl_easy_setopt(easy, option, value);
}

}  // namespace

struct Transfer::Callbacks {
    static curl_socket_t on_open_socket(void* user, curlsocktype, curl_sockaddr* address) noexcept {
        auto& self = *static_cast<Transfer*>(user);
        // Both families have the port at the same place.
        const auto port = ntohs(reinterpret_cast<const sockaddr_in&>(address->addr).sin_port);
        if (!self.permits(Address::of(address->addr), port)) return CURL_SOCKET_BAD;
        const int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
        if (fd >= 0) self.loop_.forget(fd);
        return fd;
    }

    /// The connection may outlast the transfer, so this knows the loop only.
    static int on_close_socket(void* user, curl_socket_t socket) noexcept {
        static_cast<TransferLoop*>(user)->forget(socket);
        return close(socket);
    }

    /// Also called for connections that were kept from an earlier request.
    static int on_ready(void* user, char* ip, char*, int port, int) noexcept {
        const bool good = static_cast<Transfer*>(user)->permits(
            Address::parse(ip), static_cast<std::uint16_t>(port)
        );
        return good ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
    }

    static std::size_t on_header(
        char* data, std::size_t size, std::size_t count, void* user
    ) noexcept {
        auto& self = *static_cast<Transfer*>(user);
        self.header_bytes_ += size * count;
        if (self.header_bytes_ > kHeaderBytesMax) {
            self.headers_too_large_ = true;
            return 0;
        }
        self.take_header({data, size * count});
        return size * count;
    }

    static std::size_t on_body(
        char* data, std::size_t size, std::size_t count, void* user
    ) noexcept {
        auto& self = *static_cast<Transfer*>(user);
        const std::size_t bytes = size * count;
        const std::size_t bytes_max =
            std::min(self.job_->request.response_bytes_max, kResponseBytesMax);
        const std::size_t kept = std::min(bytes, bytes_max - self.response_.body.size());
        self.response_.body.append(data, kept);
        self.response_.truncated = kept < bytes;
        return kept < bytes ? 0 : bytes;
    }
};

Transfer::Transfer(TransferLoop& loop, const std::string& ca_file) : loop_(loop) {
    static_assert(CURL_ERROR_SIZE <= sizeof(detail_));
    easy_ = curl_easy_init();
    if (easy_ != nullptr) set_always(ca_file);
}

Transfer::~Transfer() {
    if (easy_ != nullptr) curl_easy_cleanup(easy_);
}

Transfer& Transfer::of(void* easy) {
    char* self = nullptr;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &self);
    return *reinterpret_cast<Transfer*>(self);
}

void Transfer::set_always(const std::string& ca_file) {
    set(easy_, CURLOPT_PRIVATE, this);
    set(easy_, CURLOPT_ERRORBUFFER, detail_.data());
    set(easy_, CURLOPT_USERAGENT, "annal");
    set(easy_, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(easy_, CURLOPT_NOSIGNAL, 1L);
    set(easy_, CURLOPT_NOPROGRESS, 1L);
    set(easy_, CURLOPT_MAXAGE_CONN, kUnusedSecondsMax);
    set(easy_, CURLOPT_MAXLIFETIME_CONN, kConnectionSecondsMax);
    // The client resolves; what it gives to libcurl is removed by it, too. Otherwise libcurl
    // looks through all that it knows at the end of each request.
    set(easy_, CURLOPT_DNS_CACHE_TIMEOUT, -1L);
    // Should libcurl ever resolve by itself, its thread is not waited for.
    set(easy_, CURLOPT_QUICK_EXIT, 1L);

    set(easy_, CURLOPT_PROTOCOLS_STR, "http,https");
    set(easy_, CURLOPT_FOLLOWLOCATION, 0L);
    set(easy_, CURLOPT_PROXY, "");  // also against http_proxy in the environment
    set(easy_, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
    set(easy_, CURLOPT_SSL_VERIFYPEER, 1L);
    set(easy_, CURLOPT_SSL_VERIFYHOST, 2L);
    set(easy_, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    // libcurl keeps parsed certificates for the next connection only where they come from one
    // file: without that each handshake would read some hundred of them.
    set(easy_, CURLOPT_CA_CACHE_TIMEOUT, kCaSeconds);
    char* bundle = nullptr;
    curl_easy_getinfo(easy_, CURLINFO_CAINFO, &bundle);
    if (!ca_file.empty()) set(easy_, CURLOPT_CAINFO, ca_file.c_str());
    const char* source = !ca_file.empty() ? ca_file.c_str() : bundle;
    if (source != nullptr && access(source, R_OK) == 0)
        set(easy_, CURLOPT_CAPATH, static_cast<char*>(nullptr));

    set(easy_, CURLOPT_OPENSOCKETFUNCTION, &Callbacks::on_open_socket);
    set(easy_, CURLOPT_OPENSOCKETDATA, this);
    set(easy_, CURLOPT_CLOSESOCKETFUNCTION, &Callbacks::on_close_socket);
    set(easy_, CURLOPT_CLOSESOCKETDATA, &loop_);
    set(easy_, CURLOPT_PREREQFUNCTION, &Callbacks::on_ready);
    set(easy_, CURLOPT_PREREQDATA, this);
    set(easy_, CURLOPT_HEADERFUNCTION, &Callbacks::on_header);
    set(easy_, CURLOPT_HEADERDATA, this);
    set(easy_, CURLOPT_WRITEFUNCTION, &Callbacks::on_body);
    set(easy_, CURLOPT_WRITEDATA, this);
}

void Transfer::set_method() {
    const OutboundRequest& request = job_->request;
    const bool carries_body =
        request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
    if (request.method == "HEAD") {
        set(easy_, CURLOPT_CUSTOMREQUEST, static_cast<char*>(nullptr));
        set(easy_, CURLOPT_NOBODY, 1L);
        return;
    }
    set(easy_, CURLOPT_HTTPGET, 1L);  // also undoes NOBODY and POST of the request before
    if (carries_body || !request.body.empty()) {
        set(easy_, CURLOPT_POST, 1L);
        set(easy_, CURLOPT_POSTFIELDS, request.body.empty() ? "" : request.body.data());
        set(easy_, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    }
    set(easy_, CURLOPT_CUSTOMREQUEST, request.method.c_str());
}

void Transfer::set_headers() {
    std::vector<std::string> lines;
    lines.reserve(job_->request.headers.size() + 2);
    for (const auto& [name, value] : job_->request.headers)
        lines.push_back(value.empty() ? name + ";" : name + ": " + value);
    lines.emplace_back("Accept-Encoding: identity");
    lines.emplace_back("Expect:");
    set(easy_, CURLOPT_HTTPHEADER, to_list(lines, header_text_, header_nodes_));
}

void Transfer::begin(
    std::unique_ptr<OutboundJob> job,
    std::shared_ptr<const AddressPolicy> policy,
    std::shared_ptr<const std::vector<Address>> own,
    const std::vector<std::string>& lookup
) {
    job_ = std::move(job);
    policy_ = std::move(policy);
    own_ = std::move(own);
    began_ = Steady::now();
    response_ = {};
    header_bytes_ = 0;
    headers_too_large_ = false;
    denied_.clear();
    detail_[0] = '\0';
    const std::int64_t left_ms =
        std::max(std::chrono::ceil<Milliseconds>(job_->deadline - began_).count(), 1L);
    set(easy_, CURLOPT_CURLU, job_->destination.url.get());
    set(easy_, CURLOPT_TIMEOUT_MS, static_cast<long>(left_ms));
    set(easy_, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::min(left_ms, kConnectTimeoutMs)));
    set(easy_, CURLOPT_RESOLVE, to_list(lookup, lookup_text_, lookup_nodes_));
    set_headers();
    set_method();
}

bool Transfer::permits(const std::optional<Address>& address, std::uint16_t port) {
    // One forbidden answer of the resolver condemns the host: trying the next would let it pick.
    if (!denied_.empty()) return false;
    if (!address) {
        denied_ = "not an internet address";
    } else if (auto why = policy_->deny(*address, port, job_->permission, *own_)) {
        denied_ = std::move(*why);
    }
    return denied_.empty();
}

void Transfer::take_header(std::string_view line) {
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
    if (line.starts_with("HTTP/")) return response_.headers.clear();  // behind a 1xx
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    std::string_view value = line.substr(colon + 1);
    const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
    while (!value.empty() && is_blank(value.front())) value.remove_prefix(1);
    while (!value.empty() && is_blank(value.back())) value.remove_suffix(1);
    response_.headers.emplace_back(lower(line.substr(0, colon)), std::string(value));
}

Error Transfer::error_of(int code) const {
    const std::string& place = job_->destination.place;
    if (!denied_.empty()) return {Errc::denied, place + ": " + denied_, {}, 0};
    if (headers_too_large_) {
        return {
            Errc::unavailable, place + ": the answer's header block is longer than 64 KiB", {}, 0};
    }
    if (code == CURLE_URL_MALFORMAT)
        return {Errc::invalid, "not a URL that can be reached", "url", 0};
    const std::string what =
        detail_[0] != '\0' ? detail_.data() : curl_easy_strerror(static_cast<CURLcode>(code));
    if (is_about_certificates(code)) return {Errc::denied, place + ": TLS: " + what, {}, 0};
    if (code == CURLE_OPERATION_TIMEDOUT) return {Errc::timeout, place + ": " + what, {}, 0};
    return {Errc::unavailable, place + ": " + what, {}, 0};
}

Result<OutboundResponse> Transfer::outcome(int code) {
    const bool cut = code == CURLE_WRITE_ERROR && response_.truncated;
    if (code != CURLE_OK && !cut) return error_of(code);
    long status = 0;
    curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
    response_.status = static_cast<int>(status);
    response_.latency =
        std::chrono::duration_cast<std::chrono::microseconds>(Steady::now() - began_);
    return std::move(response_);
}

std::unique_ptr<OutboundJob> Transfer::release() {
    policy_.reset();
    own_.reset();
    return std::move(job_);
}

}  // namespace annal
