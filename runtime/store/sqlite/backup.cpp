#include "runtime/store/sqlite/backup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "runtime/store/sqlite/control.h"
#include "runtime/store/sqlite/migrations.h"

namespace annal::sqlite {
namespace {

namespace fs = std::filesystem;

// A segment that is settled and sealed between two of the looks below makes them begin anew.
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

Result<void> sync_file(const fs::path& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return failure(path, "opened");
    }
    const bool synced = ::fsync(file) == 0;
    ::close(file);
    return synced ? ok() : Result<void>(failure(path, "synced"));
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

/// Sealed segments that were copied, with the epoch they had: erasures, which raise it, are all
/// that changes them.
using Copies = std::map<fs::path, std::int64_t>;

/// Snapshots that fit together. control.db first, then the keys, then the segments: what the later
/// ones have and the earlier ones lack is in the segments' redo records, unless a segment has given
/// them up meanwhile.
class Moment {
public:
    /// Nothing when such a segment was met.
    static Result<std::optional<Moment>> take(const Directory& directory, const Copies& copies) {
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
            const auto state = found == known.end() ? SegmentState::closed : found->second.state;
            const fs::path path = directory.segment(name.number, name.month);
            BOOST_OUTCOME_TRY(auto segment, Pinned::take(path));
            if (state == SegmentState::indexed) {
                const auto copy = copies.find(path);
                BOOST_OUTCOME_TRY(const auto epoch, segment.db.integer(kEpoch));
                if (copy != copies.end() && copy->second == epoch) {
                    moment.copied.insert(path);
                    continue;
                }
            } else {
                BOOST_OUTCOME_TRY(
                    const bool fits, has_redo(segment.db, control, name.number, state)
                );
                if (!fits) {
                    return std::nullopt;
                }
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
    /// Their copies are as they are now.
    std::set<fs::path> copied;

private:
    /// Whether the segment still has what control.db and the keys lack, which is nothing once it is
    /// settled.
    static Result<bool> has_redo(
        Connection& segment, Control& control, SegmentNumber number, SegmentState state
    ) {
        BOOST_OUTCOME_TRY(const auto version, segment.integer("PRAGMA user_version"));
        if (version == kSealedVersion) {
            return state == SegmentState::settled;
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
        Result<void> finished = copy(directory);
        if (finished.has_value()) {
            finished = finish();
        }
        if (finished.has_error()) {
            fs::remove_all(partial_, error);
            return finished.error();
        }
        return report_;
    }

private:
    Result<void> copy(const Directory& directory) {
        BOOST_OUTCOME_TRY(make_folder(partial_ / "segments"));
        BOOST_OUTCOME_TRY(make_folder(partial_ / "keys"));
        // Most of the bytes, while nothing is held. What changes meanwhile is copied again.
        BOOST_OUTCOME_TRY(const Copies copies, copy_sealed(directory));
        BOOST_OUTCOME_TRY(auto moment, take_moment(directory, copies));
        for (const auto& [path, epoch] : copies) {
            if (!moment.copied.contains(path)) {
                BOOST_OUTCOME_TRY(remove_copy(path));
            }
        }
        // The files that are written to come first: their logs can't begin anew until they are
        // read.
        while (!moment.files.empty()) {
            Pinned file = std::move(moment.files.back());
            moment.files.pop_back();
            BOOST_OUTCOME_TRY(copy_database(file.path, file.db));
        }
        return ok();
    }

    Result<Copies> copy_sealed(const Directory& directory) {
        BOOST_OUTCOME_TRY(auto db, Connection::open(directory.control(), Connection::Access::read));
        Control control = Control::over(std::move(db));
        BOOST_OUTCOME_TRY(const auto closed, control.closed_segments());
        Copies copies;
        for (const auto& segment : closed) {
            const fs::path path = directory.segment(segment.number, segment.month);
            std::error_code error;
            if (segment.state != SegmentState::indexed || !fs::exists(path, error)) {
                continue;  // the moment says what is missing and what was dropped
            }
            BOOST_OUTCOME_TRY(auto file, Pinned::take(path));
            BOOST_OUTCOME_TRY(copies[path], file.db.integer(kEpoch));
            BOOST_OUTCOME_TRY(copy_database(path, file.db));
        }
        return copies;
    }

    Result<void> finish() {
        for (const fs::path& path : also_) {
            BOOST_OUTCOME_TRY(copy_file(path));
        }
        BOOST_OUTCOME_TRY(
            write_file(copy_of(Directory::look(source_).copy_mark()), "made by annal backup\n")
        );
        const std::string segments = (partial_ / "segments/").string();
        for (const auto& entry : fs::recursive_directory_iterator(partial_)) {
            if (entry.is_directory()) {
                BOOST_OUTCOME_TRY(sync_folder(entry.path()));
            } else if (entry.path().extension() == ".db") {
                report_.bytes += entry.file_size();
                report_.segments += entry.path().string().starts_with(segments) ? 1 : 0;
            }
        }
        BOOST_OUTCOME_TRY(sync_folder(partial_));
        if (::rename(partial_.c_str(), target_.c_str()) != 0) {
            return failure(target_, "made");
        }
        return sync_folder(target_.parent_path());
    }

    static Result<Moment> take_moment(const Directory& directory, const Copies& copies) {
        for (int i = 0; i < kTries; ++i) {
            BOOST_OUTCOME_TRY(auto moment, Moment::take(directory, copies));
            if (moment) {
                return std::move(*moment);
            }
        }
        return Error{
            Errc::unavailable, "segments are sealed faster than they can be looked at; try again"};
    }

    [[nodiscard]] fs::path copy_of(const fs::path& path) const {
        return partial_ / path.lexically_relative(source_);
    }

    Result<void> remove_copy(const fs::path& path) {
        if (::unlink(copy_of(path).c_str()) != 0) {
            return failure(copy_of(path), "removed");
        }
        return ok();
    }

    Result<void> copy_file(const fs::path& from) {
        std::ifstream in(from, std::ios::binary);
        const std::string bytes((std::istreambuf_iterator<char>(in)), {});
        if (!in) {
            return failure(from, "read");
        }
        return write_file(partial_ / from.filename(), bytes);
    }

    static Result<void> write_file(const fs::path& to, const std::string& bytes) {
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
        return sync_file(to);
    }

    Result<void> copy_database(const fs::path& from, Connection& db) {
        const fs::path to = copy_of(from);
        std::error_code error;
        if (!fs::exists(to.parent_path(), error)) {
            BOOST_OUTCOME_TRY(make_folder(to.parent_path()));
        }
        BOOST_OUTCOME_TRY(db.copy_to(to));
        if (::chmod(to.c_str(), 0600) != 0) {
            return failure(to, "closed to others");
        }
        return sync_file(to);
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
