#include "runtime/store/sqlite/directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <optional>

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

/// Whether this process or another one has the file open, too, by asking for a lease of it.
bool is_open_elsewhere(int file) {
    // What would tell of somebody who opens it in this moment: a signal that is ignored by default.
    ::fcntl(file, F_SETSIG, SIGURG);
    if (::fcntl(file, F_SETLEASE, F_WRLCK) != 0) {
        return true;
    }
    ::fcntl(file, F_SETLEASE, F_UNLCK);
    return false;
}

/// Makes a large file shorter, as long as nobody reads it and it is in no copy by links. Commits
/// wait for the file system's journal, and the journal for what it frees: gigabytes at once would
/// be felt.
bool cut_end(const fs::path& path) {
    const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) {
        return false;
    }
    struct stat status {};
    const bool is_ours = ::fstat(file, &status) == 0 && S_ISREG(status.st_mode) &&
                         status.st_nlink == 1 && !is_open_elsewhere(file);
    const bool cut = is_ours && status.st_size > Directory::kFreedAtOnce &&
                     ::ftruncate(file, status.st_size - Directory::kFreedAtOnce) == 0;
    ::close(file);
    return cut;
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

}  // namespace

Result<Directory> Directory::open(const fs::path& root) {
    BOOST_OUTCOME_TRY(auto lock, DirectoryLock::take(root));
    BOOST_OUTCOME_TRY(make_private(root / "segments"));
    BOOST_OUTCOME_TRY(make_private(root / "keys"));
    BOOST_OUTCOME_TRY(sync_folder(root));
    return Directory(root, std::move(lock));
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

bool Directory::free_dropped() const {
    std::error_code error;
    for (const auto& folder : fs::directory_iterator(root_ / "segments", error)) {
        if (!folder.path().filename().string().starts_with(kDropped)) {
            continue;
        }
        fs::path next = folder.path();
        if (const fs::directory_iterator file(folder.path(), error); file != fs::end(file)) {
            next = file->path();
        }
        if (cut_end(next)) {
            return true;
        }
        std::error_code removal;
        fs::remove_all(next, removal);
        if (!removal) {
            return true;
        }
        log::warn("store.drop_left_files", {{"path", next.string()}, {"error", removal.message()}});
    }
    return false;
}

void remove_database(const fs::path& path) {
    std::error_code error;
    for (const char* suffix : {"", "-wal", "-shm"}) {
        fs::remove(path.string() + suffix, error);
    }
}

}  // namespace annal::sqlite
