#include "runtime/store/sqlite/backup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <vector>

#include "runtime/store/sqlite/control.h"
#include "runtime/store/sqlite/migrations.h"

namespace annal::sqlite {
namespace {

namespace fs = std::filesystem;

// A segment that is sealed between two of the looks below makes them begin anew.
constexpr int kTries = 20;
constexpr const char* kEpoch = "SELECT epoch FROM mutation";

Error failure(const fs::path& path, const char* what) {
    return {
        Errc::unavailable,
        path.string() + " can't be " + what + ": " + std::strerror(errno) +
            "; check the path, its owner and the free space"};
}

Result<void> make_folder(const fs::path& folder) {
    if (::mkdir(folder.c_str(), 0700) != 0) {
        return failure(folder, "made");
    }
    return ok();
}

Result<std::uint64_t> sync_file(const fs::path& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return failure(path, "opened");
    }
    struct stat info {};
    const bool synced = ::fsync(file) == 0 && ::fstat(file, &info) == 0;
    ::close(file);
    if (!synced) {
        return failure(path, "synced");
    }
    return static_cast<std::uint64_t>(info.st_size);
}

/// One file with a snapshot that lasts as long as this does.
struct Pinned {
    fs::path path;
    Connection db;

    static Result<Pinned> take(const fs::path& path) {
        BOOST_OUTCOME_TRY(auto db, Connection::open(path, Connection::Access::read));
        BOOST_OUTCOME_TRY(db.execute("BEGIN"));
        BOOST_OUTCOME_TRY(db.integer("SELECT count(*) FROM sqlite_schema"));
        return Pinned{path, std::move(db)};
    }
};

/// Snapshots that fit together. control.db first, then the keys, then the segments: what the later
/// ones have and the earlier ones lack is in the segments' redo records, unless a segment has given
/// them up meanwhile.
class Moment {
public:
    static Result<std::optional<Moment>> take(const Directory& directory) {
        Moment moment;
        BOOST_OUTCOME_TRY(auto control_file, Pinned::take(directory.control()));
        // A second connection would see another snapshot.
        Control control = Control::over(std::move(control_file.db));
        std::map<SegmentNumber, Control::Closed> known;
        BOOST_OUTCOME_TRY(const auto closed, control.closed_segments());
        for (const auto& segment : closed) {
            known[segment.number] = segment;
        }
        for (const Month month : directory.key_months()) {
            BOOST_OUTCOME_TRY(auto keys, Pinned::take(directory.keys(month)));
            moment.files.push_back(std::move(keys));
        }
        BOOST_OUTCOME_TRY(const auto dropped, control.dropped_through());
        BOOST_OUTCOME_TRY(const auto names, directory.segments());
        for (const auto& name : names) {
            if (dropped && name.month <= *dropped) {
                continue;
            }
            const auto found = known.find(name.number);
            const fs::path path = directory.segment(name.number, name.month);
            if (found != known.end() && found->second.state == SegmentState::indexed) {
                BOOST_OUTCOME_TRY(auto db, Connection::open(path, Connection::Access::read));
                BOOST_OUTCOME_TRY(const auto epoch, db.integer(kEpoch));
                moment.sealed.push_back({path, epoch});
                continue;
            }
            BOOST_OUTCOME_TRY(auto segment, Pinned::take(path));
            BOOST_OUTCOME_TRY(const bool fits, has_redo(segment.db, control, name.number));
            if (!fits) {
                return std::nullopt;
            }
            moment.files.push_back(std::move(segment));
        }
        for (const auto& [number, segment] : known) {
            std::error_code error;
            const fs::path path = directory.segment(number, segment.month);
            if (!fs::exists(path, error)) {
                return damage(path.string() + " is missing; `annal check` says what else is wrong");
            }
        }
        moment.files.push_back({directory.control(), std::move(control.connection())});
        return std::optional<Moment>(std::move(moment));
    }

    std::vector<Pinned> files;
    /// Complete in themselves, but for erasures, which raise the epoch.
    struct Sealed {
        fs::path path;
        std::int64_t epoch = 0;
    };
    std::vector<Sealed> sealed;

private:
    static Result<bool> has_redo(Connection& segment, Control& control, SegmentNumber number) {
        BOOST_OUTCOME_TRY(const auto version, segment.integer("PRAGMA user_version"));
        if (version == kSealedVersion) {
            return false;
        }
        if (version != kSegmentVersion) {
            return true;  // just being made: it is empty
        }
        BOOST_OUTCOME_TRY(
            const auto forgotten,
            segment.integer("SELECT coalesce(max(n), 0) FROM redo WHERE target = 2")
        );
        BOOST_OUTCOME_TRY(const auto applied, control.applied(number));
        return forgotten <= applied;
    }
};

class Backup {
public:
    Backup(const fs::path& source, const fs::path& target, const std::vector<fs::path>& also)
        : source_(source), target_(target), partial_(target.string() + ".partial"), also_(also) {}

    Result<BackupReport> run() {
        const Directory directory = Directory::look(source_);
        std::error_code error;
        if (!fs::exists(directory.control(), error)) {
            return Error{Errc::not_found, source_.string() + " is no data directory"};
        }
        for (const fs::path& path : {target_, partial_}) {
            if (fs::exists(fs::symlink_status(path, error))) {
                return Error{
                    Errc::conflict,
                    path.string() + " is there already; remove it, or choose another name"};
            }
        }
        BOOST_OUTCOME_TRY(make_folder(partial_));
        auto done = copy(directory);
        for (int i = 1; i < kTries && done.has_value() && !done.value(); ++i) {
            for (const auto& entry : fs::directory_iterator(partial_)) {
                fs::remove_all(entry.path(), error);
            }
            done = copy(directory);
        }
        Result<void> finished = done.has_error() ? Result<void>(done.error())
                                : done.value()   ? finish()
                                                 : Result<void>(busy());
        if (finished.has_error()) {
            fs::remove_all(partial_, error);
            return finished.error();
        }
        return report_;
    }

private:
    static Error busy() {
        return {
            Errc::unavailable,
            "events are sealed or erased faster than they can be copied; try again"};
    }

    /// False: something changed that would not fit to the rest.
    Result<bool> copy(const Directory& directory) {
        report_ = {};
        BOOST_OUTCOME_TRY(make_folder(partial_ / "segments"));
        BOOST_OUTCOME_TRY(make_folder(partial_ / "keys"));
        BOOST_OUTCOME_TRY(auto moment, take_moment(directory));
        // The files that are written to come first: their logs can't begin anew until they are
        // read.
        while (!moment.files.empty()) {
            Pinned file = std::move(moment.files.back());
            moment.files.pop_back();
            BOOST_OUTCOME_TRY(copy_database(file.path, file.db));
        }
        for (const auto& segment : moment.sealed) {
            BOOST_OUTCOME_TRY(auto file, Pinned::take(segment.path));
            BOOST_OUTCOME_TRY(const auto epoch, file.db.integer(kEpoch));
            if (epoch != segment.epoch) {
                return false;
            }
            BOOST_OUTCOME_TRY(copy_database(file.path, file.db));
        }
        return true;
    }

    Result<void> finish() {
        for (const fs::path& path : also_) {
            BOOST_OUTCOME_TRY(copy_file(path));
        }
        for (const auto& folder : fs::recursive_directory_iterator(partial_)) {
            if (folder.is_directory()) {
                BOOST_OUTCOME_TRY(sync_folder(folder.path()));
            }
        }
        BOOST_OUTCOME_TRY(sync_folder(partial_));
        if (::rename(partial_.c_str(), target_.c_str()) != 0) {
            return failure(target_, "made");
        }
        return sync_folder(target_.parent_path());
    }

    static Result<Moment> take_moment(const Directory& directory) {
        for (int i = 0; i < kTries; ++i) {
            BOOST_OUTCOME_TRY(auto moment, Moment::take(directory));
            if (moment) {
                return std::move(*moment);
            }
        }
        return busy();
    }

    Result<void> copy_file(const fs::path& from) {
        std::ifstream in(from, std::ios::binary);
        const std::string bytes((std::istreambuf_iterator<char>(in)), {});
        if (!in) {
            return failure(from, "read");
        }
        const fs::path to = partial_ / from.filename();
        const int file = ::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (file < 0) {
            return failure(to, "made");
        }
        const bool written =
            ::write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
        ::close(file);
        if (!written) {
            return failure(to, "written");
        }
        BOOST_OUTCOME_TRYV(sync_file(to));
        return ok();
    }

    Result<void> copy_database(const fs::path& from, Connection& db) {
        const fs::path to = partial_ / from.lexically_relative(source_);
        std::error_code error;
        if (!fs::exists(to.parent_path(), error)) {
            BOOST_OUTCOME_TRY(make_folder(to.parent_path()));
        }
        BOOST_OUTCOME_TRY(db.copy_to(to));
        if (::chmod(to.c_str(), 0600) != 0) {
            return failure(to, "closed to others");
        }
        BOOST_OUTCOME_TRY(const auto bytes, sync_file(to));
        report_.bytes += bytes;
        report_.segments += from.string().find("/segments/") == std::string::npos ? 0 : 1;
        return ok();
    }

    const fs::path source_, target_, partial_;
    const std::vector<fs::path>& also_;
    BackupReport report_;
};

}  // namespace
}  // namespace annal::sqlite

namespace annal {

Result<BackupReport> back_up_sqlite_store(
    const std::filesystem::path& source,
    const std::filesystem::path& target,
    const std::vector<std::filesystem::path>& also
) {
    const auto whole = [](const std::filesystem::path& path) {
        std::filesystem::path full = std::filesystem::absolute(path).lexically_normal();
        return full.has_filename() ? full : full.parent_path();
    };
    return sqlite::Backup(whole(source), whole(target), also).run();
}

}  // namespace annal
