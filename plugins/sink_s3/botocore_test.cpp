#include <gtest/gtest.h>

#include <annal/sdk/digest.hpp>
#include <annal/sdk/json.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "sigv4.h"

// Signatures beside those of AWS's own botocore, which botocore_signatures.py asks.

namespace {

std::string random_text(std::mt19937& random, std::size_t size_max, std::string_view letters) {
    std::string out;
    for (std::size_t left = random() % size_max + 1; left > 0; --left)
        out += letters[random() % letters.size()];
    return out;
}

constexpr std::string_view kLetters = "abcXYZ019-._~";
constexpr std::string_view kOdd = "ab/ +=&%$,;:@!*'()[]?#\"<>~._-Z";
const std::array<std::string, 4> kWords{"\xc3\xbc", "\xe2\x82\xac", "\xf0\x9f\x94\x91", "%2F"};

std::string odd_text(std::mt19937& random) {
    return random_text(random, 20, kOdd) + kWords[random() % kWords.size()] +
           random_text(random, 5, kOdd);
}

struct Case {
    sink_s3::SignedParts parts;
    sink_s3::Credentials keys;
    std::string key, region;
};

Case make_case(std::mt19937& random) {
    Case out;
    out.key = odd_text(random);
    out.region = random_text(random, 12, "abc-1");
    out.keys = {random_text(random, 20, kLetters), random_text(random, 40, kOdd), ""};
    if (random() % 2 == 0) out.keys.session_token = random_text(random, 60, "abcABC019+/=");
    const std::array<const char*, 4> methods{"GET", "PUT", "HEAD", "DELETE"};
    out.parts.method = methods[random() % methods.size()];
    out.parts.path = "/" + sink_s3::uri_encode(out.key, true);
    for (std::size_t left = random() % 4; left > 0; --left) {
        const std::string name = std::to_string(left) + odd_text(random);
        out.parts.query.emplace_back(name, random() % 3 == 0 ? "" : odd_text(random));
    }
    auto& headers = out.parts.headers;
    headers["host"] = random_text(random, 10, "abc019") + ".example";
    if (random() % 2 == 0) headers["host"] += ":9000";
    headers["x-amz-date"] = sink_s3::amz_date(static_cast<std::int64_t>(random()) * 1'000'000);
    headers["x-amz-content-sha256"] =
        annal::to_hex(annal::view(annal::sha256(random_text(random, 50, kOdd))));
    for (std::size_t left = random() % 4; left > 0; --left)
        headers["x-amz-meta-" + random_text(random, 8, "abc-019")] =
            random_text(random, 30, "a b  c=/\"");
    if (!out.keys.session_token.empty()) headers["x-amz-security-token"] = out.keys.session_token;
    return out;
}

std::string to_json(const Case& one) {
    std::string text;
    annal::StringOut out(text);
    annal::JsonWriter json(out);
    json.begin_object()
        .member("method", one.parts.method)
        .member("key", one.key)
        .member("region", one.region)
        .member("id", one.keys.access_key_id)
        .member("secret", one.keys.secret_access_key)
        .member("token", one.keys.session_token);
    json.key("query").begin_array();
    for (const auto& [name, value] : one.parts.query)
        json.begin_array().value(name).value(value).end_array();
    json.end_array().key("headers").begin_object();
    for (const auto& [name, value] : one.parts.headers) json.member(name, value);
    json.end_object().end_object();
    return text;
}

TEST(Botocore, SignsAsWeDo) {
    const std::string python = ANNAL_SOURCE_DIR "/build/receivers/bin/python";
    ASSERT_EQ(::system((python + " -c 'import botocore'").c_str()), 0)
        << "tests/install.sh tests/receivers/requirements.txt build/receivers puts botocore there";
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    std::vector<Case> cases;
    std::string name = testing::TempDir() + "annal_botocore_XXXXXX";
    const int fd = ::mkstemp(name.data());
    ASSERT_GE(fd, 0);
    {
        std::ofstream file(name);
        for (int i = 0; i < 200; ++i)
            file << to_json(cases.emplace_back(make_case(random))) << '\n';
    }
    const std::string command =
        python + " " ANNAL_SOURCE_DIR "/plugins/sink_s3/botocore_signatures.py <" + name;
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
    std::array<char, 4096> line{};
    for (const Case& one : cases) {
        ASSERT_NE(std::fgets(line.data(), line.size(), pipe.get()), nullptr);
        const std::string theirs(line.data());
        const std::string ours = sink_s3::authorize(one.parts, one.keys, one.region);
        ASSERT_EQ(theirs, ours.substr(ours.find("Signature=")) + "\n") << to_json(one);
    }
    EXPECT_EQ(std::fgets(line.data(), line.size(), pipe.get()), nullptr);
    ::remove(name.c_str());
}

}  // namespace
