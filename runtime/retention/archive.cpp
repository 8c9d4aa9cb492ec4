#include "runtime/retention/archive.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>

#include "runtime/core/crypto.h"
#include "runtime/core/limits.h"
#include "runtime/core/task_impl.h"
#include "runtime/event/event_json.h"
#include "runtime/store/directory_lock.h"

namespace annal {
namespace {

namespace fs = std::filesystem;

Error io_error(const fs::path& path, const char* what) {
    return {
        Errc::unavailable,
        "archive " + path.string() + " can't be " + what + ": " + std::strerror(errno)};
}

/// A file under a temporary name until `finish`.
class NewFile {
public:
    explicit NewFile(fs::path path)
        : path_(std::move(path)),
          temporary_(path_.string() + ".tmp"),
          file_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640)) {}
    ~NewFile() {
        if (file_ >= 0) ::close(file_);
        std::error_code ignored;
        fs::remove(temporary_, ignored);
    }
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;

    Result<void> write(std::string_view bytes) {
        if (file_ < 0) return io_error(path_, "made");
        while (!bytes.empty()) {
            const ssize_t written = ::write(file_, bytes.data(), bytes.size());
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) return io_error(path_, "written");
            bytes.remove_prefix(static_cast<std::size_t>(written));
        }
        return ok();
    }
    /// Durable under its name on return.
    Result<void> finish() {
        if (file_ < 0) return io_error(path_, "made");
        if (::fsync(file_) != 0) return io_error(path_, "written");
        if (::rename(temporary_.c_str(), path_.c_str()) != 0) return io_error(path_, "named");
        return sync_folder(path_.parent_path());
    }

private:
    const fs::path path_, temporary_;
    const int file_;
};

/// As it lies on the disk.
Result<ArchiveFile> read_again(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) return io_error(path, "read");
    ArchiveFile file{path, 0, {}};
    Sha256 digest;
    std::array<char, 1U << 16> buffer{};
    while (in.read(buffer.data(), buffer.size()) || in.gcount() > 0) {
        const std::string_view part(buffer.data(), static_cast<std::size_t>(in.gcount()));
        digest.update(part);
        file.events += std::count(part.begin(), part.end(), '\n');
    }
    if (in.bad()) return io_error(path, "read");
    file.sha256 = to_hex(digest.finish());
    return file;
}

/// Both folders, each durable in the one that holds it.
Result<void> make_folders(const fs::path& folder, const fs::path& own) {
    std::error_code error;
    fs::create_directories(own, error);
    if (error)
        return Error{Errc::unavailable, "archive folder " + own.string() + ": " + error.message()};
    return sync_folder(folder);
}

}  // namespace

Task<Result<ArchiveFile>> write_archive(
    EventStore& store, fs::path folder, std::string project, Seq first, Seq last
) {
    const fs::path own = folder / project;
    const std::string name = std::to_string(first) + "-" + std::to_string(last) + ".jsonl";
    BOOST_OUTCOME_CO_TRYV(make_folders(folder, own));
    ArchiveFile written{own / name, 0, {}};
    NewFile file(written.path);
    Sha256 digest;
    ScanRequest request;
    request.project = project;
    request.newest_first = false;
    request.tombstones = true;
    request.limit = kPageMax;
    request.after = first - 1;
    std::string lines;
    Seq expected = first;
    while (expected <= last) {
        ScanRequest next = request;
        BOOST_OUTCOME_CO_TRY(const ScanPage page, co_await store.scan(std::move(next)));
        lines.clear();
        for (const Event& event : page.batch.events) {
            if (event.seq > last) break;
            if (event.seq != expected++)
                co_return Error{
                    Errc::conflict,
                    "event " + std::to_string(expected - 1) + " of project " + project +
                        " is not there any more"};
            if (event.deleted) continue;
            append_canonical_json(lines, event);
            lines += '\n';
            ++written.events;
        }
        digest.update(lines);
        BOOST_OUTCOME_CO_TRYV(file.write(lines));
        request.after = page.scanned;
        if (page.exhausted && expected <= last)
            co_return Error{
                Errc::conflict, "the log of project " + project + " is shorter than it was"};
    }
    written.sha256 = to_hex(digest.finish());
    BOOST_OUTCOME_CO_TRYV(file.finish());
    BOOST_OUTCOME_CO_TRY(const ArchiveFile found, read_again(written.path));
    if (found.events != written.events || found.sha256 != written.sha256)
        co_return Error{
            Errc::unavailable,
            "archive " + written.path.string() + " does not hold what was written to it"};
    NewFile sum(written.path.string() + ".sha256");
    BOOST_OUTCOME_CO_TRYV(sum.write(written.sha256 + "  " + name + "\n"));
    BOOST_OUTCOME_CO_TRYV(sum.finish());
    co_return written;
}

}  // namespace annal
