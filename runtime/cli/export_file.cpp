#include "runtime/cli/export_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

namespace annal::cli {

namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

constexpr std::int64_t kStateVersion = 1;

Error failed(const char* what, const fs::path& path) {
    return {
        Errc::unavailable,
        std::string("can't ") + what + " " + path.string() + ": " + std::strerror(errno)};
}

Error damaged(const fs::path& state) {
    return {
        Errc::unavailable,
        state.string() + " is damaged, so the export can't go on: start anew with --overwrite"};
}

std::string shown(const ExportWish& wish) {
    return "project " + wish.project + ", format " + wish.format +
           (wish.query.empty() ? ", no filter" : ", filter " + wish.query.substr(1));
}

std::string text_of(const json::object& object, const char* name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string().c_str()) : "";
}

std::uint64_t number_of(const json::object& object, const char* name) {
    const json::value* value = object.if_contains(name);
    if (value == nullptr) return 0;
    boost::system::error_code not_a_number;
    return value->to_number<std::uint64_t>(not_a_number);
}

}  // namespace

void ExportFile::Close::operator()(const int* fd) const {
    ::close(*fd);
    delete fd;
}

fs::path ExportFile::partial() const {
    return path_.string() + ".partial";
}

fs::path ExportFile::state() const {
    return path_.string() + ".partial.state";
}

Result<ExportFile> ExportFile::open(const fs::path& path, const ExportWish& wish, Mode mode) {
    ExportFile file(path, wish);
    BOOST_OUTCOME_TRYV(file.take());
    bool there = false;
    if (mode != Mode::overwrite) {
        BOOST_OUTCOME_TRY(there, file.read_state());
    }
    if (there && mode == Mode::fresh) {
        return Error{
            Errc::invalid,
            file.partial().string() + " has " + std::to_string(file.position_.rows) +
                " rows of an interrupted export (" + shown(file.wish_) +
                "): go on with --resume, or start anew with --overwrite"};
    }
    if (there && file.wish_ != wish) {
        return Error{
            Errc::invalid,
            file.partial().string() + " is of another export (" + shown(file.wish_) + ", not " +
                shown(wish) + "): repeat that one, or start anew with --overwrite"};
    }
    file.wish_ = wish;
    if (!there) ::unlink(file.state().c_str());
    BOOST_OUTCOME_TRYV(file.go_back());
    return file;
}

Result<void> ExportFile::take() {
    const int fd = ::open(partial().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return failed("write", partial());
    fd_.reset(new int(fd));
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return ok();
    return Error{Errc::conflict, "another export is writing " + partial().string()};
}

/// Whether there is something to go on with; then wish and position are its own.
Result<bool> ExportFile::read_state() {
    std::ifstream in(state(), std::ios::binary);
    if (!in) return false;
    std::stringstream text;
    text << in.rdbuf();
    boost::system::error_code error;
    const json::value value = json::parse(text.str(), error);
    if (error || !value.is_object()) return damaged(state());
    const json::object& object = value.get_object();
    if (number_of(object, "version") != kStateVersion) return damaged(state());
    wish_ = {text_of(object, "project"), text_of(object, "format"), text_of(object, "query")};
    position_.cursor = text_of(object, "cursor");
    position_.bytes = number_of(object, "bytes");
    position_.rows = number_of(object, "rows");
    position_.total = number_of(object, "total");
    struct stat status {};
    if (::fstat(*fd_, &status) != 0) return failed("read", partial());
    const auto size = static_cast<std::uint64_t>(status.st_size);
    // The file was finished between its new name and the end of the state, or moved away.
    if (size == 0) {
        position_ = {};
        return false;
    }
    if (position_.cursor.empty()) return damaged(state());
    if (size >= position_.bytes) return true;
    return Error{
        Errc::unavailable,
        partial().string() +
            " is shorter than when the export was interrupted: start anew with "
            "--overwrite"};
}

Result<void> ExportFile::write(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(*fd_, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return failed("write", partial());
        bytes.remove_prefix(static_cast<std::size_t>(written));
        written_ += static_cast<std::uint64_t>(written);
    }
    return ok();
}

Result<void> ExportFile::write_state() const {
    const json::object object{
        {"version", kStateVersion},
        {"project", wish_.project},
        {"format", wish_.format},
        {"query", wish_.query},
        {"cursor", position_.cursor},
        {"bytes", position_.bytes},
        {"rows", position_.rows},
        {"total", position_.total}};
    const fs::path fresh = state().string() + ".new";
    {
        std::ofstream out(fresh, std::ios::binary | std::ios::trunc);
        out << json::serialize(object) << "\n";
        if (!out.flush()) return failed("write", fresh);
    }
    if (::rename(fresh.c_str(), state().c_str()) != 0) return failed("write", state());
    return ok();
}

Result<void> ExportFile::keep(ExportPosition position) {
    // The state must never know of more than what is there.
    if (::fdatasync(*fd_) != 0) return failed("write", partial());
    position_ = std::move(position);
    position_.bytes = written_;
    return write_state();
}

Result<void> ExportFile::go_back() {
    const auto length = static_cast<off_t>(position_.bytes);
    if (::ftruncate(*fd_, length) != 0 || ::lseek(*fd_, length, SEEK_SET) != length) {
        return failed("write", partial());
    }
    written_ = position_.bytes;
    return ok();
}

Result<void> ExportFile::finish() {
    if (::fsync(*fd_) != 0) return failed("write", partial());
    if (::rename(partial().c_str(), path_.c_str()) != 0) return failed("rename", partial());
    ::unlink(state().c_str());
    return ok();
}

}  // namespace annal::cli
