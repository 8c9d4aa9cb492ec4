#include "runtime/core/secret_box.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <array>
#include <memory>
#include <optional>

#include "runtime/core/crypto.h"
#include "runtime/core/fatal.h"

namespace annal {
namespace {

constexpr std::string_view kVersion = "v1";
constexpr std::size_t kKeyBytes = 32, kNonceBytes = 12, kTagBytes = 16;

struct ContextDeleter {
    void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, ContextDeleter>;

const unsigned char* bytes_of(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* bytes_of(std::string& text) {
    return reinterpret_cast<unsigned char*>(text.data());
}

void require(bool done) {
    if (!done) fatal("crypto.failed", "AES-256-GCM");
}

/// nonce | ciphertext | tag
std::string encrypt(std::string_view key, std::string_view plain, std::string_view bound_to) {
    std::array<std::uint8_t, kNonceBytes> nonce{};
    random_bytes(nonce);
    const Context context(EVP_CIPHER_CTX_new());
    std::string out(reinterpret_cast<const char*>(nonce.data()), nonce.size());
    out.resize(kNonceBytes + plain.size() + kTagBytes);
    unsigned char* text = bytes_of(out) + kNonceBytes;
    int size = 0;
    EVP_CIPHER_CTX* c = context.get();
    require(
        c != nullptr &&
        EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), nullptr, bytes_of(key), nonce.data()) == 1 &&
        EVP_EncryptUpdate(
            c, nullptr, &size, bytes_of(bound_to), static_cast<int>(bound_to.size())
        ) == 1 &&
        EVP_EncryptUpdate(c, text, &size, bytes_of(plain), static_cast<int>(plain.size())) == 1 &&
        EVP_EncryptFinal_ex(c, text + size, &size) == 1 &&
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, kTagBytes, text + plain.size()) == 1
    );
    return out;
}

std::optional<std::string> decrypt(
    std::string_view key, std::string_view sealed, std::string_view bound_to
) {
    if (sealed.size() < kNonceBytes + kTagBytes) return std::nullopt;
    const std::string_view text =
        sealed.substr(kNonceBytes, sealed.size() - kNonceBytes - kTagBytes);
    std::string tag(sealed.substr(sealed.size() - kTagBytes));
    std::string plain(text.size(), '\0');
    const Context context(EVP_CIPHER_CTX_new());
    int size = 0;
    EVP_CIPHER_CTX* c = context.get();
    require(
        c != nullptr &&
        EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), nullptr, bytes_of(key), bytes_of(sealed)) == 1 &&
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, kTagBytes, bytes_of(tag)) == 1 &&
        EVP_DecryptUpdate(
            c, nullptr, &size, bytes_of(bound_to), static_cast<int>(bound_to.size())
        ) == 1
    );
    const bool right = EVP_DecryptUpdate(
                           c, bytes_of(plain), &size, bytes_of(text), static_cast<int>(text.size())
                       ) == 1 &&
                       EVP_DecryptFinal_ex(c, bytes_of(plain) + size, &size) == 1;
    if (!right) return std::nullopt;
    return plain;
}

/// What a secret belongs to. Neither projects nor objects have line breaks in their ids.
std::string binding(std::string_view project, std::string_view object, std::string_view key) {
    return std::string(project) + "\n" + std::string(object) + "\n" + std::string(key);
}

struct Sealed {
    std::string_view key_id;
    std::string wrapped, text;
};

/// "v1.<master key>.<wrapped key>.<secret>", the last two in base64url.
std::optional<Sealed> take_apart(std::string_view sealed) {
    std::array<std::string_view, 4> parts;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const auto dot = i + 1 < parts.size() ? sealed.find('.') : sealed.size();
        if (dot == std::string_view::npos) return std::nullopt;
        parts[i] = sealed.substr(0, dot);
        sealed.remove_prefix(std::min(sealed.size(), dot + 1));
    }
    auto wrapped = from_base64url(parts[2]), text = from_base64url(parts[3]);
    if (parts[0] != kVersion || !wrapped || !text) return std::nullopt;
    return Sealed{parts[1], std::move(*wrapped), std::move(*text)};
}

}  // namespace

SecretBox::SecretBox(std::vector<MasterKey> keys) : keys_(std::move(keys)) {
    if (keys_.empty()) fatal("crypto.failed", "a secret box needs a key");
}

const SecretBox::MasterKey* SecretBox::find(std::string_view id) const {
    for (const MasterKey& key : keys_)
        if (key.id == id) return &key;
    return nullptr;
}

std::string SecretBox::seal(
    std::string_view project, std::string_view object, std::string_view plain
) const {
    const MasterKey& master = keys_.front();
    std::array<std::uint8_t, kKeyBytes> fresh{};
    random_bytes(fresh);
    const std::string_view key(reinterpret_cast<const char*>(fresh.data()), fresh.size());
    const std::string bound_to = binding(project, object, master.id);
    std::string out = std::string(kVersion) + "." + master.id + "." +
                      to_base64url(encrypt(master.bytes, key, bound_to)) + "." +
                      to_base64url(encrypt(key, plain, bound_to));
    OPENSSL_cleanse(fresh.data(), fresh.size());
    return out;
}

Result<std::string> SecretBox::open(
    std::string_view project, std::string_view object, std::string_view sealed
) const {
    const Error damaged{
        Errc::internal, "a stored secret of " + std::string(object) + " is damaged or misplaced"};
    const auto parts = take_apart(sealed);
    if (!parts) return damaged;
    const MasterKey* master = find(parts->key_id);
    if (master == nullptr)
        return Error{
            Errc::unavailable,
            "a secret of " + std::string(object) + " is sealed under the master key " +
                std::string(parts->key_id) + ", which is not in this node's key ring"};
    const std::string bound_to = binding(project, object, parts->key_id);
    auto key = decrypt(master->bytes, parts->wrapped, bound_to);
    if (!key || key->size() != kKeyBytes) return damaged;
    auto plain = decrypt(*key, parts->text, bound_to);
    OPENSSL_cleanse(key->data(), key->size());
    if (!plain) return damaged;
    return std::move(*plain);
}

bool SecretBox::is_current(std::string_view sealed) const {
    const auto parts = take_apart(sealed);
    return parts && parts->key_id == keys_.front().id;
}

}  // namespace annal
