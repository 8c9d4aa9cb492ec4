#include "key_pair.h"

#include <gtest/gtest.h>

#include <annal/sdk/digest.hpp>
#include <annal/sdk/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

// Beside the openssl program, which knows nothing of us.

namespace {

namespace fs = std::filesystem;
using sink_snowflake::KeyPair;

class KeyPairTest : public testing::Test {
protected:
    void SetUp() override {
        std::string name = testing::TempDir() + "annal_key_pair_XXXXXX";
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        folder_ = name;
        run("openssl genrsa 2048 2>/dev/null | openssl pkcs8 -topk8 -nocrypt -out key.pem");
        run("openssl pkey -in key.pem -pubout -out public.pem");
    }
    void TearDown() override { fs::remove_all(folder_); }
    std::string run(const std::string& command) const {
        const std::string line = "cd " + folder_.string() + " && " + command;
        const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(line.c_str(), "r"), ::pclose);
        std::string out;
        std::array<char, 512> piece{};
        while (std::fgets(piece.data(), piece.size(), pipe.get()) != nullptr) out += piece.data();
        while (!out.empty() && out.back() == '\n') out.pop_back();
        return out;
    }
    void write(const std::string& name, const std::string& bytes) const {
        std::ofstream(folder_ / name, std::ios::binary) << bytes;
    }
    std::string read(const std::string& name) const {
        std::ifstream in(folder_ / name, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    static std::string from_base64url(std::string text) {
        EXPECT_EQ(text.find_first_of("+/="), std::string::npos);
        std::replace(text.begin(), text.end(), '-', '+');
        std::replace(text.begin(), text.end(), '_', '/');
        text.append((4 - text.size() % 4) % 4, '=');
        return annal::from_base64(text).value_or("not base64");
    }

    fs::path folder_;
};

TEST_F(KeyPairTest, MakesTokensThatOpensslVerifies) {
    KeyPair keys;
    ASSERT_TRUE(keys.read(read("key.pem")).ok());
    const std::string token = keys.token("myorg-acct.eu-central-1.aws", "Ann", 1'700'000'000);
    const std::size_t first = token.find('.'), second = token.rfind('.');
    ASSERT_LT(first, second);
    write("text", token.substr(0, second));
    write("signature", from_base64url(token.substr(second + 1)));
    const std::string verify =
        "openssl dgst -sha256 -verify public.pem -signature signature text 2>&1";
    EXPECT_EQ(run(verify), "Verified OK");
    write("text", token.substr(0, second) + "x");
    EXPECT_EQ(run(verify).find("Verified OK"), std::string::npos);

    EXPECT_EQ(from_base64url(token.substr(0, first)), R"({"alg":"RS256","typ":"JWT"})");
    annal::Json payload;
    annal::Json::Failure failure;
    const std::string text = from_base64url(token.substr(first + 1, second - first - 1));
    ASSERT_TRUE(annal::Json::parse(text, payload, failure));
    const std::string digest =
        run("openssl pkey -pubin -in public.pem -outform DER | openssl dgst -sha256 -binary | "
            "openssl base64");
    EXPECT_EQ(payload.find("iss")->string(), "MYORG-ACCT.ANN.SHA256:" + digest);
    EXPECT_EQ(payload.find("sub")->string(), "MYORG-ACCT.ANN");
    EXPECT_EQ(payload.find("iat")->integer(), 1'700'000'000);
    EXPECT_EQ(payload.find("exp")->integer(), 1'700'000'000 + 3'540);
}

TEST_F(KeyPairTest, RefusesWhatIsNoSuchKey) {
    KeyPair keys;
    run("openssl genrsa 1024 > short.pem 2>/dev/null");
    run("openssl ecparam -name prime256v1 -genkey -noout -out ec.pem");
    run("openssl pkcs8 -topk8 -in key.pem -passout pass:secret -out locked.pem");
    for (const char* name : {"short.pem", "ec.pem", "locked.pem", "public.pem", "absent"})
        EXPECT_EQ(keys.read(read(name)).code(), ANNAL_UNPROCESSABLE) << name;
    run("openssl pkey -in key.pem -traditional -out pkcs1.pem");
    EXPECT_TRUE(keys.read(read("pkcs1.pem")).ok());
}

}  // namespace
