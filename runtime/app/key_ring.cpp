#include "runtime/app/key_ring.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "runtime/core/crypto.h"

namespace annal {
namespace {

constexpr std::size_t kKeyBytes = 32, kIdBytesMax = 32;

std::string derived(const std::string& key, std::string_view purpose) {
    const Digest digest = hmac_sha256(key, purpose);
    return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

Error failed(const char* what, const std::filesystem::path& file) {
    return Error{
        Errc::unavailable,
        std::string("can't ") + what + " the key ring " + file.string() + ": " +
            std::strerror(errno)};
}

bool write_durably(const std::filesystem::path& file, const std::string& text) {
    const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    const bool written =
        ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
        ::fsync(fd) == 0;
    const int error = errno;
    ::close(fd);
    errno = error;
    return written;
}

bool sync_folder(const std::filesystem::path& folder) {
    const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    const bool synced = ::fsync(fd) == 0;
    ::close(fd);
    return synced;
}

/// The ring appears under its name only when it is whole, and stays there whatever happens: what is
/// sealed with it could never be opened with another one.
Result<void> make(const std::filesystem::path& file) {
    const std::filesystem::path partial = file.string() + ".partial";
    const auto folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
    const bool made = write_durably(partial, KeyRing::new_line()) &&
                      ::rename(partial.c_str(), file.c_str()) == 0 && sync_folder(folder);
    if (!made) return failed("make", file);
    return ok();
}

}  // namespace

Result<KeyRing> KeyRing::open(const std::filesystem::path& file, bool create) {
    struct stat info {};
    if (::stat(file.c_str(), &info) != 0) {
        if (errno != ENOENT) return failed("read", file);
        if (!create) return Error{Errc::not_found, "there is no key ring at " + file.string()};
        BOOST_OUTCOME_TRYV(make(file));
    } else if ((info.st_mode & 077) != 0) {
        return Error{
            Errc::denied,
            "the key ring " + file.string() +
                " can be read by others than its owner: chmod 600 it"};
    }
    std::ifstream in(file);
    std::string line;
    KeyRing ring;
    for (int number = 1; std::getline(in, line); ++number) {
        if (line.empty() || line.front() == '#') continue;
        const std::string where = file.string() + ":" + std::to_string(number) + ": ";
        const std::size_t colon = line.find(':');
        const auto key =
            colon == std::string::npos ? std::nullopt : from_hex(line.substr(colon + 1));
        const bool named = colon > 0 && line.find('.') == std::string::npos;
        if (!key || key->size() != kKeyBytes || !named)
            return Error{Errc::invalid, where + "a key ring line is `kid:` and 64 hex digits"};
        const std::string id = line.substr(0, colon);
        // What is sealed names its key by the id alone.
        for (const Key& other : ring.keys_)
            if (other.id == id)
                return Error{Errc::invalid, where + "another key of the ring is called " + id};
        ring.keys_.push_back({id, *key});
    }
    if (ring.keys_.empty())
        return Error{Errc::invalid, "the key ring " + file.string() + " holds no key"};
    return ring;
}

std::string KeyRing::new_line(std::string_view id) {
    std::array<std::uint8_t, kKeyBytes> key{};
    random_bytes(key);
    return std::string(id) + ":" + to_hex(key) + "\n";
}

bool KeyRing::is_id(std::string_view id) {
    constexpr std::string_view kLetters =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    return !id.empty() && id.size() <= kIdBytesMax &&
           id.find_first_not_of(kLetters) == std::string_view::npos;
}

SecretBox KeyRing::secret_box() const {
    // A key of its own for each use, so that no two ever meet.
    std::vector<SecretBox::MasterKey> sealing;
    for (const Key& key : keys_) sealing.push_back({key.id, derived(key.bytes, "secrets")});
    return SecretBox(std::move(sealing));
}

std::vector<std::string> KeyRing::fingerprints() const {
    std::vector<std::string> all;
    for (const Key& key : keys_)
        all.push_back(to_hex(hmac_sha256(key.bytes, "fingerprint of the ring")).substr(0, 32));
    return all;
}

std::vector<std::string> KeyRing::ids() const {
    std::vector<std::string> all;
    for (const Key& key : keys_) all.push_back(key.id);
    return all;
}

std::string KeyRing::derive(std::string_view purpose) const {
    return derived(keys_.front().bytes, purpose);
}

std::vector<std::string> KeyRing::derive_all(std::string_view purpose) const {
    std::vector<std::string> all;
    for (const Key& key : keys_) all.push_back(derived(key.bytes, purpose));
    return all;
}

}  // namespace annal
