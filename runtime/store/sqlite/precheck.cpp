#include "runtime/store/sqlite/precheck.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>

#include "runtime/store/sqlite/migrations.h"

namespace annal {
namespace fs = std::filesystem;
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kMagic = "SQLite format 3\0"sv;
constexpr std::size_t kVersionAt = 60;  // of user_version, big-endian, in a database's header
constexpr std::size_t kHeaderBytes = 100;

class Precheck {
public:
    explicit Precheck(fs::path root) : root_(std::move(root)) {}

    std::vector<std::string> errors() && {
        check_root();
        if (!found_.empty()) return std::move(found_);
        check_database(root_ / "control.db", sqlite::kControlVersion);
        check_folder(root_ / "keys", sqlite::kKeysVersion, ".db");
        std::error_code none;
        for (const auto& month : fs::directory_iterator(root_ / "segments", none)) {
            check_folder(month.path(), sqlite::kSealedVersion, ".db");
            check_folder(month.path(), sqlite::kSearchVersion, ".search");
        }
        return std::move(found_);
    }

private:
    void report(const fs::path& path, const std::string& what) {
        found_.push_back(path.string() + " " + what);
    }

    /// The directory, or where it would be made.
    void check_root() {
        fs::path place = fs::absolute(root_).lexically_normal();
        struct stat info {};
        while (::stat(place.c_str(), &info) != 0) {
            if (errno != ENOENT || place == place.root_path()) {
                return report(root_, std::string("can't be made: ") + std::strerror(errno));
            }
            place = place.has_filename() ? place.parent_path() : place.parent_path().parent_path();
        }
        if (!S_ISDIR(info.st_mode)) {
            return report(root_, "can't be used: " + place.string() + " is no directory");
        }
        if (::faccessat(AT_FDCWD, place.c_str(), W_OK | X_OK, AT_EACCESS) != 0) {
            report(root_, "can't be written: " + place.string() + ": " + std::strerror(errno));
        }
    }

    void check_folder(const fs::path& folder, int newest, std::string_view extension) {
        std::error_code none;
        for (const auto& file : fs::directory_iterator(folder, none)) {
            if (file.path().extension() == extension) check_database(file.path(), newest);
        }
    }

    void check_database(const fs::path& file, int newest) {
        std::error_code absent;
        if (fs::file_size(file, absent) == 0 || absent) return;
        std::array<char, kHeaderBytes> header{};
        std::ifstream in(file, std::ios::binary);
        if (!in) return report(file, std::string("can't be read: ") + std::strerror(errno));
        in.read(header.data(), header.size());
        if (!in || std::string_view(header.data(), kMagic.size()) != kMagic) {
            return report(file, "is no database: it is damaged, or not Annal's");
        }
        std::uint32_t version = 0;
        for (std::size_t i = 0; i < 4; ++i) {
            version = version << 8U | static_cast<std::uint8_t>(header[kVersionAt + i]);
        }
        if (version <= static_cast<std::uint32_t>(newest)) return;
        report(
            file,
            "has schema version " + std::to_string(version) + ", this program knows " +
                std::to_string(newest) + "; start a newer annal"
        );
    }

    fs::path root_;
    std::vector<std::string> found_;
};

}  // namespace

std::vector<std::string> precheck_sqlite_store(const fs::path& directory) {
    return Precheck(directory).errors();
}

}  // namespace annal
