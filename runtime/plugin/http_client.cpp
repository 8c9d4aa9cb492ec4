#include "runtime/plugin/http_client.h"

#include <curl/curl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

namespace annal {
namespace {

using Steady = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

constexpr std::size_t kHeaderBytesMax = 64U << 10;
constexpr std::size_t kResponseBytesMax = 64U << 10;
constexpr std::size_t kUrlBytesMax = 8U << 10;
constexpr std::size_t kRequestHeadersMax = 64;
constexpr std::uint32_t kTimeoutMsMax = 60'000;
constexpr std::int64_t kConnectTimeoutMs = 5'000;
constexpr std::uint32_t kRetryAfterMs = 1'000;
constexpr auto kOwnAddressesAge = std::chrono::seconds(30);

struct UrlDeleter {
    void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, UrlDeleter>;
struct ListDeleter {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using List = std::unique_ptr<curl_slist, ListDeleter>;
struct EasyDeleter {
    void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
using Easy = std::unique_ptr<CURL, EasyDeleter>;

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](char c) { return lower(c); });
    return out;
}

bool is_token(std::string_view text) {
    constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
    return !text.empty() && text.size() <= 128 &&
           std::all_of(text.begin(), text.end(), [&](char c) {
               return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                      kMarks.find(c) != std::string_view::npos;
           });
}

bool is_header_value(std::string_view text) {
    return text.size() <= 8192 && std::all_of(text.begin(), text.end(), [](char c) {
               const auto byte = static_cast<unsigned char>(c);
               return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
           });
}

std::string part(CURLU* url, CURLUPart which, unsigned flags = 0) {
    char* text = nullptr;
    if (curl_url_get(url, which, &text, flags) != CURLUE_OK) return {};
    std::string out(text);
    curl_free(text);
    return out;
}

/// Read by the same parser that connects, so that what is checked is what is used.
Result<Url> parse_url(const std::string& text) {
    const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
        return static_cast<unsigned char>(c) > 0x20 && c != 0x7f;
    });
    Url url(curl_url());
    const bool parsed =
        plain && !text.empty() && text.size() <= kUrlBytesMax && url &&
        curl_url_set(url.get(), CURLUPART_URL, text.c_str(), CURLU_DISALLOW_USER) == CURLUE_OK;
    if (!parsed)
        return Error{Errc::invalid, "not an absolute URL without user and password", "url", 0};
    const std::string scheme = part(url.get(), CURLUPART_SCHEME);
    if (scheme != "http" && scheme != "https") {
        return Error{Errc::invalid, "the URL's scheme must be http or https", "url", 0};
    }
    if (!part(url.get(), CURLUPART_ZONEID).empty()) {
        return Error{Errc::invalid, "an address with a zone can't be reached", "url", 0};
    }
    return url;
}

std::string host_and_port(CURLU* url) {
    return lower(part(url, CURLUPART_HOST)) + ":" + part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

Result<void> check_headers(const OutboundRequest& request) {
    // What frames the message, names the host or asks for an encoding is this client's business.
    static constexpr std::string_view kOwn[] = {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "accept-encoding",
        "expect",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
    };
    if (request.headers.size() > kRequestHeadersMax) {
        return Error{Errc::invalid, "more than 64 request headers", "headers", 0};
    }
    for (const auto& [name, value] : request.headers) {
        if (!is_token(name) || !is_header_value(value)) {
            return Error{
                Errc::invalid,
                "a header name or value has characters that can't be sent",
                "headers",
                0};
        }
        if (std::find(std::begin(kOwn), std::end(kOwn), lower(name)) != std::end(kOwn)) {
            return Error{
                Errc::invalid, "the header " + name + " is set by the host itself", "headers", 0};
        }
    }
    return ok();
}

/// @param entry  "host:port", "*:port" for any host, or "*:*"
bool permits(const std::string& entry, const std::string& place) {
    if (!entry.starts_with("*:")) return lower(entry) == place;
    return entry == "*:*" || place.ends_with(entry.substr(1));
}

/// What can be known without a connection. Returns the parsed URL.
Result<Url> check_request(const OutboundRequest& request, const AddressPolicy& policy) {
    const std::string method = lower(request.method);
    if (!is_token(request.method) || method == "connect" || method == "trace") {
        return Error{Errc::invalid, "not a request method that can be sent", "method", 0};
    }
    if (request.timeout_ms < 1 || request.timeout_ms > kTimeoutMsMax) {
        return Error{Errc::invalid, "timeout_ms must be 1 to 60000", "timeout_ms", 0};
    }
    BOOST_OUTCOME_TRY(check_headers(request));
    BOOST_OUTCOME_TRY(Url url, parse_url(request.url));
    const std::string place = host_and_port(url.get());
    const bool allowed =
        std::any_of(request.allowed.begin(), request.allowed.end(), [&](const std::string& entry) {
            return permits(entry, place);
        });
    if (!allowed) {
        return Error{Errc::denied, "the manifest's permissions.http does not list " + place, {}, 0};
    }
    if (const auto address = Address::parse(part(url.get(), CURLUPART_HOST))) {
        if (auto why = policy.deny(*address)) return Error{Errc::denied, *why, {}, 0};
    }
    return url;
}

/// One request under way: what libcurl's callbacks see.
struct Transfer {
    const AddressPolicy& policy;
    const std::vector<Address>& own;
    const std::atomic<bool>& stopping;
    const OutboundRequest& request;
    OutboundResponse response;
    std::size_t header_bytes = 0;
    std::string denied;  ///< why; empty: not denied
    bool headers_too_large = false;
    bool cancelled = false;

    bool permits(const std::optional<Address>& address) {
        // One forbidden answer of the resolver condemns the host: trying the next would let it
        // pick.
        if (!denied.empty()) return false;
        if (!address) {
            denied = "not an internet address";
        } else if (auto why = policy.deny(*address, own)) {
            denied = std::move(*why);
        }
        return denied.empty();
    }
};

curl_socket_t on_open_socket(void* data, curlsocktype, curl_sockaddr* address) noexcept {
    auto& transfer = *static_cast<Transfer*>(data);
    if (!transfer.permits(Address::of(address->addr))) return CURL_SOCKET_BAD;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/// Also called for connections that were kept from an earlier request.
int on_ready(void* data, char* primary_ip, char*, int, int) noexcept {
    auto& transfer = *static_cast<Transfer*>(data);
    return transfer.permits(Address::parse(primary_ip)) ? CURL_PREREQFUNC_OK
                                                        : CURL_PREREQFUNC_ABORT;
}

void take_header(Transfer& transfer, std::string_view line) {
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
    if (line.starts_with("HTTP/")) return transfer.response.headers.clear();  // behind a 1xx
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t'))
        value.remove_prefix(1);
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
    transfer.response.headers.emplace_back(lower(line.substr(0, colon)), std::string(value));
}

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) noexcept {
    auto& transfer = *static_cast<Transfer*>(user);
    transfer.header_bytes += size * count;
    if (transfer.header_bytes > kHeaderBytesMax) {
        transfer.headers_too_large = true;
        return 0;
    }
    take_header(transfer, {data, size * count});
    return size * count;
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) noexcept {
    auto& transfer = *static_cast<Transfer*>(user);
    const std::size_t bytes = size * count;
    const std::size_t size_max = std::min(transfer.request.response_bytes_max, kResponseBytesMax);
    const std::size_t kept = std::min(bytes, size_max - transfer.response.body.size());
    transfer.response.body.append(data, kept);
    transfer.response.truncated = kept < bytes;
    return kept < bytes ? 0 : bytes;
}

int on_progress(void* data, curl_off_t, curl_off_t, curl_off_t, curl_off_t) noexcept {
    auto& transfer = *static_cast<Transfer*>(data);
    transfer.cancelled = transfer.request.cancelled && transfer.request.cancelled();
    return transfer.cancelled || transfer.stopping ? 1 : 0;
}

Error to_error(
    CURLcode code, const Transfer& transfer, const std::string& place, const char* detail
) {
    if (!transfer.denied.empty()) return {Errc::denied, place + ": " + transfer.denied, {}, 0};
    if (transfer.cancelled) return {Errc::cancelled, "the call was given up", {}, 0};
    if (transfer.stopping) return {Errc::unavailable, "the node is stopping", {}, kRetryAfterMs};
    if (transfer.headers_too_large) {
        return {
            Errc::unavailable, place + ": the answer's header block is longer than 64 KiB", {}, 0};
    }
    if (code == CURLE_URL_MALFORMAT)
        return {Errc::invalid, "not a URL that can be reached", "url", 0};
    const std::string what = *detail != '\0' ? detail : curl_easy_strerror(code);
    if (code == CURLE_OPERATION_TIMEDOUT) return {Errc::timeout, place + ": " + what, {}, 0};
    return {Errc::unavailable, place + ": " + what, {}, 0};
}

List header_list(const OutboundRequest& request) {
    List list;
    const auto add = [&](const std::string& line) {
        list.reset(curl_slist_append(list.release(), line.c_str()));
    };
    for (const auto& [name, value] : request.headers)
        add(value.empty() ? name + ";" : name + ": " + value);
    add("Accept-Encoding: identity");
    add("Expect:");
    return list;
}

void set_method(CURL* easy, const OutboundRequest& request) {
    const bool carries_body =
        request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
    if (request.method == "HEAD") {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (carries_body || !request.body.empty()) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.empty() ? "" : request.body.data());
        curl_easy_setopt(
            easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size())
        );
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    } else {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    }
}

void set_safety(CURL* easy, Transfer& transfer, const std::string& ca_file) {
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");  // also against http_proxy in the environment
    curl_easy_setopt(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    if (!ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file.c_str());
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, &on_open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, &on_ready);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, &transfer);
}

void set_callbacks(CURL* easy, Transfer& transfer) {
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, &on_progress);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, &transfer);
}

Result<OutboundResponse> perform(
    CURL* easy, CURLU* url, Transfer& transfer, const std::string& ca_file, std::int64_t timeout_ms
) {
    char detail[CURL_ERROR_SIZE] = {};
    curl_easy_reset(easy);  // keeps the connections
    const List headers = header_list(transfer.request);
    curl_easy_setopt(easy, CURLOPT_CURLU, url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "annal");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout_ms));
    curl_easy_setopt(
        easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::min(timeout_ms, kConnectTimeoutMs))
    );
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, detail);
    set_method(easy, transfer.request);
    set_safety(easy, transfer, ca_file);
    set_callbacks(easy, transfer);
    const CURLcode code = curl_easy_perform(easy);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, nullptr);

    const bool cut = code == CURLE_WRITE_ERROR && transfer.response.truncated;
    if (code != CURLE_OK && !cut) return to_error(code, transfer, host_and_port(url), detail);
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    transfer.response.status = static_cast<int>(status);
    return std::move(transfer.response);
}

}  // namespace

struct HttpClient::State {
    struct Job {
        OutboundRequest request;
        Done done;
        Url url;
        Steady::time_point deadline;
    };

    State(AddressPolicy p, Options o) : policy(std::move(p)), options(std::move(o)) {}

    void work();
    Result<OutboundResponse> run(CURL* easy, Job& job);
    std::vector<Address> addresses();

    const AddressPolicy policy;
    const Options options;
    std::atomic<bool> stopping{false};
    std::mutex mutex;
    std::condition_variable ready;
    std::deque<Job> queue;
    std::mutex own_mutex;
    std::vector<Address> own;
    std::optional<Steady::time_point> own_read_at;
    std::vector<std::thread> threads;
};

std::vector<Address> HttpClient::State::addresses() {
    const std::lock_guard lock(own_mutex);
    if (!own_read_at || Steady::now() - *own_read_at > kOwnAddressesAge) {
        own = own_addresses();
        own_read_at = Steady::now();
    }
    return own;
}

Result<OutboundResponse> HttpClient::State::run(CURL* easy, Job& job) {
    if (stopping) return Error{Errc::unavailable, "the node is stopping", {}, kRetryAfterMs};
    const auto left =
        std::chrono::duration_cast<Milliseconds>(job.deadline - Steady::now()).count();
    if (left <= 0) {
        return Error{
            Errc::unavailable,
            "waited for a worker until the deadline; nothing was sent",
            {},
            kRetryAfterMs};
    }
    const std::vector<Address> own_now = addresses();
    Transfer transfer{policy, own_now, stopping, job.request, {}, 0, {}, false, false};
    return perform(easy, job.url.get(), transfer, options.ca_file, left);
}

void HttpClient::State::work() {
    const Easy easy(curl_easy_init());
    while (true) {
        std::unique_lock lock(mutex);
        ready.wait(lock, [this] { return stopping || !queue.empty(); });
        if (queue.empty()) return;
        Job job = std::move(queue.front());
        queue.pop_front();
        lock.unlock();
        auto outcome = easy ? run(easy.get(), job)
                            : Error{Errc::unavailable, "libcurl has no memory", {}, kRetryAfterMs};
        job.done(std::move(outcome));
    }
}

HttpClient::HttpClient(AddressPolicy policy, Options options)
    : state_(std::make_unique<State>(std::move(policy), std::move(options))) {
    static const CURLcode initialized = curl_global_init(CURL_GLOBAL_DEFAULT);
    (void)initialized;  // a failure shows as an easy handle that can't be made
    for (unsigned i = 0; i < state_->options.threads; ++i) {
        state_->threads.emplace_back([state = state_.get()] { state->work(); });
    }
}

HttpClient::~HttpClient() {
    {
        const std::lock_guard lock(state_->mutex);
        state_->stopping = true;
    }
    state_->ready.notify_all();
    for (std::thread& thread : state_->threads) thread.join();
}

void HttpClient::send(OutboundRequest request, Done done) {
    auto url = check_request(request, state_->policy);
    if (!url) return done(std::move(url).error());
    const auto deadline = Steady::now() + Milliseconds(request.timeout_ms);
    bool queued = false;
    {
        const std::lock_guard lock(state_->mutex);
        queued = !state_->stopping && state_->queue.size() < state_->options.queue_max;
        if (queued) {
            state_->queue.push_back(
                {std::move(request), std::move(done), std::move(url).value(), deadline}
            );
        }
    }
    if (queued) return state_->ready.notify_one();
    done(Error{
        Errc::unavailable,
        "too many outbound requests are waiting; nothing was sent",
        {},
        kRetryAfterMs});
}

}  // namespace annal
