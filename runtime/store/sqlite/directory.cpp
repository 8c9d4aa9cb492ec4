#include "runtime/store/sqlite/directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include "runtime/core/fatal.h"
#include "runtime/core/log.h"
#include "runtime/core/time_text.h"

namespace annal::sqlite {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kDropped = "dropped-";

Error failure(const fs::path& path, std::string_view what, int error) {
    return {
        Errc::unavailable,
        path.string() + " can't be " + std::string(what) + ": " + std::strerror(error) +
            "; check the path, its owner and the free space"};
}

/// Makes a folder and those above it, and their names durable: also of one that is there, which a
/// start before this one may have made without getting that far.
Result<void> make_durable(const fs::path& folder) {
    const fs::path parent = folder.has_parent_path() ? folder.parent_path() : ".";
    std::error_code error;
    const bool is_new = !fs::exists(folder, error);
    if (is_new && folder.has_parent_path() && !fs::exists(parent, error)) {
        BOOST_OUTCOME_TRY(make_durable(parent));
    }
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
        return failure(folder, "made", errno);
    }
    // A folder above the data directory may be closed to this user; then somebody else has made
    // what is in it.
    const bool readable = ::access(parent.c_str(), R_OK) == 0;
    return is_new || readable ? sync_folder(parent) : ok();
}

Result<void> make_private(const fs::path& folder) {
    std::error_code error;
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
        return failure(folder, "made", errno);
    }
    if (!fs::is_directory(folder, error)) {
        return failure(folder, "used as a directory", ENOTDIR);
    }
    return ok();
}

template <class Number>
std::optional<Number> parse(std::string_view text) {
    Number value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return value;
}

std::optional<Month> parse_month(std::string_view text) {
    if (text.size() != 7 || text[4] != '-') {
        return std::nullopt;
    }
    const auto year = parse<std::int32_t>(text.substr(0, 4));
    const auto month = parse<std::int32_t>(text.substr(5));
    if (!year || !month || *month < 1 || *month > 12) {
        return std::nullopt;
    }
    return Month{*year * 12 + *month - 1};
}

std::string numbered(SegmentNumber number) {
    std::string digits = std::to_string(number);
    return std::string(digits.size() < 8 ? 8 - digits.size() : 0, '0') + digits;
}

std::string holder_of(int lock) {
    char text[32] = {};
    const ssize_t size = ::pread(lock, text, sizeof text - 1, 0);
    std::string pid(text, size > 0 ? static_cast<std::size_t>(size) : 0);
    pid.erase(std::find(pid.begin(), pid.end(), '\n'), pid.end());
    return pid.empty() ? "unknown" : pid;
}

}  // namespace

Result<Directory> Directory::open(const fs::path& root) {
    BOOST_OUTCOME_TRY(make_durable(fs::absolute(root).lexically_normal()));
    BOOST_OUTCOME_TRY(make_private(root));
    const fs::path lock_path = root / "lock";
    const int lock = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0) {
        return failure(lock_path, "opened", errno);
    }
    Directory directory(root, lock);
    if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
        return Error{
            Errc::conflict,
            root.string() + " is in use by the process with pid " + holder_of(lock) +
                "; stop it, or choose another data directory"};
    }
    const std::string pid = std::to_string(::getpid()) + "\n";
    if (::ftruncate(lock, 0) != 0 ||
        ::pwrite(lock, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
        return failure(lock_path, "written", errno);
    }
    BOOST_OUTCOME_TRY(make_private(root / "segments"));
    BOOST_OUTCOME_TRY(make_private(root / "keys"));
    BOOST_OUTCOME_TRY(sync_folder(root));
    return directory;
}

Directory::Directory(Directory&& other) noexcept
    : root_(std::move(other.root_)), lock_(std::exchange(other.lock_, -1)) {}

Directory::~Directory() {
    if (lock_ >= 0) {
        ::close(lock_);
    }
}

fs::path Directory::keys(Month month) const {
    return root_ / "keys" / (format_month(month) + ".db");
}

fs::path Directory::month(Month month) const {
    return root_ / "segments" / format_month(month);
}

fs::path Directory::segment(SegmentNumber number, Month in) const {
    return month(in) / (numbered(number) + ".db");
}

fs::path Directory::search(SegmentNumber number, Month in) const {
    return month(in) / (numbered(number) + ".search");
}

Result<std::vector<Directory::SegmentName>> Directory::segments() const {
    std::vector<SegmentName> names;
    std::error_code error;
    for (const auto& folder : fs::directory_iterator(root_ / "segments", error)) {
        const auto in = parse_month(folder.path().filename().string());
        if (!in) {
            continue;
        }
        for (const auto& file : fs::directory_iterator(folder.path(), error)) {
            const auto number = parse<SegmentNumber>(file.path().stem().string());
            if (number && file.path().extension() == ".db") {
                names.push_back({*number, *in});
            }
        }
        if (error) {
            return failure(folder.path(), "listed", error.value());
        }
    }
    if (error) {
        return failure(root_ / "segments", "listed", error.value());
    }
    std::sort(names.begin(), names.end(), [](const auto& a, const auto& b) {
        return a.number < b.number;
    });
    return names;
}

std::vector<Month> Directory::key_months() const {
    std::vector<Month> months;
    std::error_code error;
    for (const auto& file : fs::directory_iterator(root_ / "keys", error)) {
        const auto in = parse_month(file.path().stem().string());
        if (in && file.path().extension() == ".db") {
            months.push_back(*in);
        }
    }
    return months;
}

Result<void> Directory::make_month(Month in) const {
    BOOST_OUTCOME_TRY(make_private(month(in)));
    return sync_folder(root_ / "segments");
}

Result<void> Directory::drop_month(Month in) const {
    const fs::path to = root_ / "segments" / (std::string(kDropped) + format_month(in));
    std::error_code error;
    if (!fs::exists(month(in), error)) {
        return ok();
    }
    fs::remove_all(to, error);
    if (::rename(month(in).c_str(), to.c_str()) != 0) {
        return failure(month(in), "renamed", errno);
    }
    return sync_folder(root_ / "segments");
}

void Directory::remove_dropped() const {
    std::error_code error;
    for (const auto& folder : fs::directory_iterator(root_ / "segments", error)) {
        if (!folder.path().filename().string().starts_with(kDropped)) {
            continue;
        }
        std::error_code removal;
        fs::remove_all(folder.path(), removal);
        if (removal) {
            log::warn(
                "store.drop_left_files",
                {{"path", folder.path().string()}, {"error", removal.message()}}
            );
        }
    }
}

Result<void> sync_folder(const fs::path& folder) {
    const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) {
        return failure(folder, "opened", errno);
    }
    if (::fsync(file) != 0) {
        fatal("store.fsync_failed", folder.string() + ": " + std::strerror(errno));
    }
    ::close(file);
    return ok();
}

void remove_database(const fs::path& path) {
    std::error_code error;
    for (const char* suffix : {"", "-wal", "-shm"}) {
        fs::remove(path.string() + suffix, error);
    }
}

}  // namespace annal::sqlite
