/// A stream of events as objects in an S3 bucket, one for each batch, each exactly once.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: archive}
///     spec:
///       library: {name: sink_s3}
///       config:
///         bucket: acme-audit
///         region: eu-central-1
///         access_key_id: {secretRef: aws/id}
///         secret_access_key: {secretRef: aws/key}
///       triggers:
///         - {name: all, events: {project: proj_1}}
///       permissions: {http: ["acme-audit.s3.eu-central-1.amazonaws.com:443"]}
///
/// An object holds a line of canonical JSON for each event, or a document of the stream's own
/// format, gzipped. Its key is
/// `{prefix}/{stream}/dt=YYYY-MM-DD/{first}-{last}.ndjson.gz`: the day (UTC) on which its first
/// event was recorded, and the first and the last seq in 20 digits, so that keys sort as the log
/// does.
///
/// The key is the batch's identity. It is written under `If-None-Match: *`; where it exists
/// already, an earlier attempt got through though its answer did not: the object's metadata names
/// the digest of its uncompressed content, and if that is this batch's, the batch is delivered. Any
/// other object at this key stops the stream. A store that has no conditional writes (501) gets
/// plain ones of the same bytes.
///
/// The keys' policy needs s3:PutObject and s3:GetObject, for that one look at an object's metadata,
/// and for an archive, whose objects are read back; s3:ListBucket only for the probe.
#include <annal/sdk.hpp>
#include <annal/sdk/digest.hpp>
#include <annal/sdk/gzip.hpp>

#include <array>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bucket.h"
#include "s3_error.h"
#include "sigv4.h"

namespace {

/// One batch as it is stored.
struct Object {
    std::string key, bytes;
    std::string content_sha256;  // hexadecimal, of the content before its compression
};

struct SignedRequest {
    std::string url;
    std::vector<std::pair<std::string, std::string>>
        headers;  // without host, the client's business
};

std::string twenty_digits(std::int64_t number) {
    std::array<char, 24> text{};
    const int size =
        std::snprintf(text.data(), text.size(), "%020lld", static_cast<long long>(number));
    return {text.data(), static_cast<std::size_t>(size)};
}

annal::Status misconfigured(const std::string& problem) {
    return {ANNAL_UNPROCESSABLE, "configuration: " + problem};
}

}  // namespace

class S3Sink : public annal::Sink {
public:
    static constexpr auto kName = "s3";
    static constexpr bool kTakesFormats = true;
    static auto config() {
        return std::tuple{
            annal::required("bucket", &S3Sink::bucket_name_).range(3, 63),
            annal::optional("region", &S3Sink::region_, "us-east-1")
                .range(1, 64)
                .about("the bucket's; requests are signed for it"),
            annal::optional("prefix", &S3Sink::prefix_, "")
                .range(0, 512)
                .about("what keys begin with, without slashes at its ends"),
            annal::optional("endpoint", &S3Sink::endpoint_, "")
                .range(0, 1024)
                .about("of a store that is not AWS: https://host:port"),
            annal::optional("addressing", &S3Sink::addressing_, "auto")
                .one_of({"auto", "path", "virtual"})
                .about("path, virtual, or auto: path with an endpoint or a dotted bucket"),
            annal::required("access_key_id", &S3Sink::access_key_id_).range(1, 256),
            annal::secret("secret_access_key", &S3Sink::secret_access_key_).range(1, 1024),
            annal::optional_secret("session_token", &S3Sink::session_token_)
                .range(1, 8192)
                .about("of temporary credentials; when they expire the stream pauses"),
            annal::optional("expected_bucket_owner", &S3Sink::owner_, "")
                .range(0, 64)
                .about("an account; S3 then refuses to write into anybody else's bucket"),
        };
    }

    annal::Status open() {
        sink_s3::Addressing addressing = sink_s3::Addressing::automatic;
        if (addressing_ == "path") {
            addressing = sink_s3::Addressing::path;
        } else if (addressing_ == "virtual") {
            addressing = sink_s3::Addressing::virtual_host;
        }
        std::string problem;
        bucket_ = sink_s3::locate(bucket_name_, region_, endpoint_, addressing, problem);
        if (problem.empty() && !prefix_.empty()) {
            problem = sink_s3::key_problem(prefix_);
            problem = problem.empty() ? "" : "/prefix: " + problem;
        }
        if (!problem.empty()) {
            return misconfigured(problem);
        }
        annal::Status status = host().require(ANNAL_SERVICE_CODEC);
        return status.ok() ? host().require(ANNAL_SERVICE_HTTP_CLIENT) : status;
    }

    annal::Status encode(const annal::Batch& batch, annal::Encoder& out) {
        return out.append_lines(batch);
    }

    annal::Task<annal::Outcome> send(const annal::Call& call, const annal::Delivery& delivery) {
        const Object object = object_of(delivery);
        if (const std::string problem = sink_s3::key_problem(object.key); !problem.empty()) {
            co_return annal::pause("the key " + object.key + " can't be used: " + problem);
        }
        annal::ClientResponse answer = co_await put(call, delivery, object, conditional_);
        if (answer.ok() && answer.http_status == 501 && conditional_) {
            answer = co_await put(call, delivery, object, false);
            if (answer.ok() && answer.http_status / 100 == 2) {
                conditional_ = false;
                host().warn("s3.no_conditional_writes", {{"bucket", bucket_name_}});
            }
        }
        if (answer.ok() && answer.http_status == 412) {
            annal::Outcome outcome = co_await compare(call, delivery, object);
            co_return outcome;
        }
        co_return sink_s3::judge_put(answer, host().wall_us());
    }

    annal::Task<annal::Outcome> verify(const annal::Call& call, const annal::Delivery& delivery) {
        const Object object = object_of(delivery);
        // Another release of zlib packs otherwise, but never into so much more.
        const std::size_t most = delivery.payload().size() + kPieceBytes;
        std::string there;
        for (std::uint64_t whole = 1; there.size() < whole;) {
            const annal::ClientResponse answer =
                co_await get_piece(call, delivery, object.key, there.size());
            if (!answer.ok()) {
                co_return annal::judge(answer, host().wall_us());
            }
            if (answer.http_status == 404) {
                co_return annal::retry("the object " + object.key + " is not there");
            }
            if (answer.http_status / 100 != 2) {
                co_return sink_s3::judge_put(answer, host().wall_us());
            }
            whole = sink_s3::whole_size(answer);
            const auto size = annal::header_of(answer, "content-length");
            const bool is_all = size == std::to_string(answer.body.size());
            if (answer.http_status == 200 && answer.body.size() == kPieceBytes && !is_all) {
                co_return annal::pause("the store gives no ranges of objects, so none can be read");
            }
            if (answer.body.empty() || whole > most || there.size() + answer.body.size() > whole) {
                break;
            }
            there += answer.body;
        }
        if (annal::gunzip(there, delivery.payload().size()) == delivery.payload()) {
            co_return annal::delivered();
        }
        co_return annal::pause(
            "ALARM: the object " + object.key + " does not hold what was written to it"
        );
    }

    annal::Task<annal::Status> probe(const annal::Call& call) {
        const std::string path = bucket_.base_path.empty() ? "/" : bucket_.base_path;
        const SignedRequest what = sign("HEAD", path, {}, {});
        const annal::ClientRequest request = to_client(what, "HEAD");
        const annal::ClientResponse answer = co_await call.fetch(request);
        if (!answer.ok()) {
            co_return answer.status;
        }
        if (answer.http_status / 100 == 2) {
            co_return annal::Status();
        }
        const bool passes = answer.http_status == 429 || answer.http_status >= 500;
        std::string text = sink_s3::explain(answer) + " to HEAD of the bucket " + bucket_name_;
        if (answer.http_status == 403) {
            text +=
                ": the keys are wrong, or may not s3:ListBucket; with a policy of s3:PutObject "
                "alone nothing can be found out without leaving an object";
        }
        co_return annal::Status(passes ? ANNAL_UNAVAILABLE : ANNAL_DENIED, std::move(text));
    }

private:
    static constexpr auto kDigestHeader = "x-amz-meta-annal-sha256";
    static constexpr std::size_t kPieceBytes = 64U << 10;  // as much as the host keeps of an answer

    static std::string extension_of(const annal::Delivery& delivery) {
        const std::string_view extension = delivery.file_extension();
        return std::string(extension.empty() ? "ndjson" : extension);
    }

    [[nodiscard]] Object object_of(const annal::Delivery& delivery) const {
        Object out;
        out.key = prefix_.empty() ? "" : prefix_ + "/";
        out.key += delivery.stream();
        out.key += "/dt=" + sink_s3::day_of(delivery.batch()[0].created_at_us) + "/" +
                   twenty_digits(delivery.first_seq()) + "-" + twenty_digits(delivery.last_seq()) +
                   "." + extension_of(delivery) + ".gz";
        out.bytes = annal::gzip(delivery.payload());
        out.content_sha256 = annal::to_hex(annal::view(annal::sha256(delivery.payload())));
        return out;
    }

    /// Signed for this attempt: S3 takes a signature for 15 minutes.
    [[nodiscard]] SignedRequest sign(
        std::string_view method,
        const std::string& path,
        std::string_view body,
        std::map<std::string, std::string> headers
    ) const {
        headers["host"] = bucket_.host;
        headers["x-amz-date"] = sink_s3::amz_date(host().wall_us());
        headers["x-amz-content-sha256"] = annal::to_hex(annal::view(annal::sha256(body)));
        if (!session_token_.empty()) {
            headers["x-amz-security-token"] = session_token_;
        }
        if (!owner_.empty()) {
            headers["x-amz-expected-bucket-owner"] = owner_;
        }
        const sink_s3::SignedParts parts{std::string(method), path, {}, std::move(headers)};
        const sink_s3::Credentials keys{access_key_id_, secret_access_key_, session_token_};
        SignedRequest out;
        out.url = bucket_.origin + path;
        out.headers.emplace_back("Authorization", sink_s3::authorize(parts, keys, region_));
        for (const auto& [name, value] : parts.headers) {
            if (name != "host") {
                out.headers.emplace_back(name, value);
            }
        }
        return out;
    }
    /// Borrows `what`.
    [[nodiscard]] static annal::ClientRequest to_client(
        const SignedRequest& what, std::string_view method
    ) {
        annal::ClientRequest request(method, what.url);
        for (const auto& [name, value] : what.headers) {
            request.header(name, value);
        }
        return request;
    }

    annal::Task<annal::ClientResponse> put(
        const annal::Call& call,
        const annal::Delivery& delivery,
        const Object& object,
        bool conditional
    ) {
        std::map<std::string, std::string> headers;
        headers["content-type"] = "application/gzip";
        headers["x-amz-checksum-sha256"] =
            annal::to_base64(annal::view(annal::sha256(object.bytes)));
        headers[kDigestHeader] = object.content_sha256;
        if (conditional) {
            headers["if-none-match"] = "*";
        }
        const SignedRequest what =
            sign("PUT", bucket_.path_of(object.key), object.bytes, std::move(headers));
        annal::ClientRequest request = to_client(what, "PUT");
        request.body(object.bytes).timeout_ms(delivery.timeout_ms(host()));
        annal::ClientResponse answer = co_await call.fetch(request);
        co_return answer;
    }

    annal::Task<annal::ClientResponse> get_piece(
        const annal::Call& call,
        const annal::Delivery& delivery,
        const std::string& key,
        std::size_t from
    ) {
        std::map<std::string, std::string> headers;
        headers["range"] =
            "bytes=" + std::to_string(from) + "-" + std::to_string(from + kPieceBytes - 1);
        const SignedRequest what = sign("GET", bucket_.path_of(key), {}, std::move(headers));
        annal::ClientRequest request = to_client(what, "GET");
        request.timeout_ms(delivery.timeout_ms(host()));
        annal::ClientResponse answer = co_await call.fetch(request);
        co_return answer;
    }

    /// There is an object at the key: is it this batch?
    annal::Task<annal::Outcome> compare(
        const annal::Call& call, const annal::Delivery& delivery, const Object& object
    ) {
        const SignedRequest what = sign("HEAD", bucket_.path_of(object.key), {}, {});
        annal::ClientRequest request = to_client(what, "HEAD");
        request.timeout_ms(delivery.timeout_ms(host()));
        const annal::ClientResponse answer = co_await call.fetch(request);
        if (!answer.ok()) {
            co_return annal::judge(answer, host().wall_us());
        }
        if (answer.http_status == 404) {
            co_return annal::retry("the object " + object.key + " was removed under our hands");
        }
        if (answer.http_status / 100 != 2) {
            annal::Outcome outcome = sink_s3::judge_put(answer, host().wall_us());
            if (outcome.verdict() == ANNAL_PAUSE) {
                outcome = annal::pause(
                    "an object " + object.key +
                    " exists, and whether it is this batch can't be seen (grant s3:GetObject): " +
                    sink_s3::explain(answer)
                );
            }
            co_return outcome;
        }
        const auto there = annal::header_of(answer, kDigestHeader);
        if (there == object.content_sha256) {
            co_return annal::delivered();
        }
        co_return annal::pause(
            "ALARM: the object " + object.key + " exists with other content (" +
            (there ? "the digest of its lines is " + std::string(there->substr(0, 64))
                   : "it does not come from this sink") +
            ", this batch's is " + object.content_sha256 +
            "). Nothing was overwritten; find out who wrote it, then move it away or give the "
            "sink another prefix"
        );
    }

    std::string bucket_name_, region_, prefix_, endpoint_, addressing_;
    std::string access_key_id_, secret_access_key_, session_token_, owner_;
    sink_s3::Bucket bucket_;
    bool conditional_ = true;  // until a store says that it can't
};

ANNAL_PLUGIN("annal.sink-s3", "1.0.0", "Annal", "Apache-2.0", S3Sink)
