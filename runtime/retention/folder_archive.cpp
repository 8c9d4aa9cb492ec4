#include "runtime/retention/folder_archive.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/thread_pool.hpp>
#include <cstring>
#include <fstream>

#include "runtime/core/crypto.h"
#include "runtime/core/run_on_impl.h"
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

struct Content {
    std::int64_t events = 0;
    std::string sha256;
    friend bool operator==(const Content&, const Content&) = default;
};

/// As it lies on the disk.
Result<Content> read_again(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) return io_error(path, "read");
    Content file;
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

Task<Result<boost::json::object>> FolderArchive::keep(ArchiveRange range) {
    auto writing = write(std::move(range));
    co_return co_await run_on(sink_pool_.get_executor(), std::move(writing));
}

Task<Result<boost::json::object>> FolderArchive::write(ArchiveRange range) {
    const fs::path own = folder_ / range.project;
    const std::string name =
        std::to_string(range.first) + "-" + std::to_string(range.last) + ".jsonl";
    const fs::path path = own / name;
    BOOST_OUTCOME_CO_TRYV(make_folders(folder_, own));
    NewFile file(path);
    ArchiveReader reader(store_, range, is_over_);
    Content written;
    Sha256 digest;
    std::string lines;
    for (;;) {
        BOOST_OUTCOME_CO_TRY(const EventBatch batch, co_await reader.next());
        if (batch.events.empty()) break;
        lines.clear();
        for (const Event& event : batch.events) {
            append_canonical_json(lines, event);
            lines += '\n';
        }
        written.events += static_cast<std::int64_t>(batch.events.size());
        digest.update(lines);
        BOOST_OUTCOME_CO_TRYV(file.write(lines));
    }
    BOOST_OUTCOME_CO_TRYV(check_count(range, written.events));
    written.sha256 = to_hex(digest.finish());
    BOOST_OUTCOME_CO_TRYV(file.finish());
    BOOST_OUTCOME_CO_TRY(const Content found, read_again(path));
    if (found != written)
        co_return Error{
            Errc::unavailable,
            "archive " + path.string() + " does not hold what was written to it"};
    NewFile sum(path.string() + ".sha256");
    BOOST_OUTCOME_CO_TRYV(sum.write(written.sha256 + "  " + name + "\n"));
    BOOST_OUTCOME_CO_TRYV(sum.finish());
    boost::json::object said;
    said["file"] = path.string();
    said["events"] = written.events;
    said["sha256"] = written.sha256;
    co_return said;
}

}  // namespace annal
