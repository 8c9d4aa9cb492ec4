#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <optional>
#include <thread>

#include "runtime/cli/commands.h"
#include "runtime/cli/export_file.h"
#include "runtime/cli/node.h"
#include "runtime/cli/progress.h"

namespace annal::cli {

namespace json = boost::json;

namespace {

using std::chrono::milliseconds;

// A page is what an interruption costs at most. The first one is small, so that soon there is a
// position to go on from.
constexpr std::uint32_t kFirstPageRows = 1'000, kPageRows = 10'000;
constexpr auto kFirstPause = milliseconds(250);
constexpr int kTriesMax = 6;

std::string header_or_trailer(const LocalClient::Answer& answer, const char* name) {
    for (const auto* fields : {&answer.headers, &answer.trailers})
        if (auto found = fields->find(name); found != fields->end()) return found->second;
    return {};
}

/// Whether the same page may be had a little later.
bool passes(const Error& error) {
    return error.code == Errc::unavailable || error.code == Errc::busy;
}

/// One export, page by page, into a file or to standard output.
class Export {
public:
    Export(Node& node, const ExportWish& wish, std::optional<ExportFile> file, Progress& progress)
        : node_(node),
          wish_(wish),
          file_(std::move(file)),
          counter_(wish.format),
          progress_(progress) {}

    Result<void> run() {
        begin();
        do {
            BOOST_OUTCOME_TRYV(page_at_last());
            if (file_ && !position_.cursor.empty()) {
                BOOST_OUTCOME_TRYV(file_->keep(position_));
            }
        } while (!position_.cursor.empty());
        BOOST_OUTCOME_TRYV(file_ ? file_->finish() : flush());
        progress_.finish(state());
        return ok();
    }

private:
    void begin() {
        if (file_) position_ = file_->position();
        bytes_ = position_.bytes;
        rows_before_ = position_.rows;
        counter_.set(position_.rows);
        if (position_.cursor.empty() && wish_.query.empty()) position_.total = expected_rows();
    }
    /// Without a filter seqs tell, but for what has been dropped or deleted. 0 when it can't be
    /// found out: the export itself will say why.
    std::uint64_t expected_rows() {
        LocalClient::Call call;
        call.target = "/v1/audit/events?limit=1";
        call.project = wish_.project;
        auto newest = node_.ask(call);
        if (!newest) return 0;
        const json::value* data = newest.value().as_object().if_contains("data");
        if (data == nullptr || !data->is_array() || data->get_array().empty()) return 0;
        boost::system::error_code none;
        const json::value* seq = data->get_array()[0].find_pointer("/seq", none);
        return seq != nullptr && seq->is_int64() ? static_cast<std::uint64_t>(seq->get_int64()) + 1
                                                 : 0;
    }

    /// One page; in a file again and again, while the connection is what fails.
    Result<void> page_at_last() {
        milliseconds pause = kFirstPause;
        for (int tries = 1;; ++tries) {
            const auto done = page();
            if (done) return ok();
            if (!file_ || !passes(done.error()) || tries == kTriesMax) return done;
            if (write_error_) return *write_error_;
            progress_.clear();
            std::cerr << "annal: " << done.error().detail << "; trying again\n";
            std::this_thread::sleep_for(pause);
            pause *= 2;
            BOOST_OUTCOME_TRYV(file_->go_back());
            bytes_ = file_->position().bytes;
            counter_.set(file_->position().rows);
        }
    }

    Result<void> page() {
        const bool first = position_.cursor.empty();
        LocalClient::Call call;
        call.target = "/v1/audit/events." + percent_encode(wish_.format) + wish_.query +
                      (wish_.query.empty() ? "?" : "&") +
                      "limit=" + std::to_string(first ? kFirstPageRows : kPageRows);
        if (!first) call.target += "&cursor=" + position_.cursor;
        call.project = wish_.project;
        header_passed_ = wish_.format != "csv";
        call.on_body = [this, first](std::string_view piece) { return take(piece, first); };
        auto answer = node_.send(call);
        if (write_error_) return *write_error_;
        if (!answer) return answer.error();
        position_.cursor = header_or_trailer(answer.value(), "annal-next-cursor");
        position_.rows = counter_.rows();
        return ok();
    }

    /// A joined CSV has one header row, which is none of the rows that are counted.
    bool take(std::string_view piece, bool first) {
        if (!header_passed_) {
            const std::size_t end = piece.find('\n');
            header_passed_ = end != std::string_view::npos;
            const std::size_t size = header_passed_ ? end + 1 : piece.size();
            if (first && !write(piece.substr(0, size))) return false;
            piece.remove_prefix(size);
        }
        counter_.add(piece);
        if (!write(piece)) return false;
        progress_.show(state());
        return true;
    }

    bool write(std::string_view bytes) {
        bytes_ += bytes.size();
        if (file_) {
            if (auto written = file_->write(bytes); !written) write_error_ = written.error();
        } else if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) {
            write_error_ = cannot_write();
        }
        return !write_error_;
    }
    static Error cannot_write() {
        return {Errc::internal, std::string("can't write the export: ") + std::strerror(errno)};
    }
    static Result<void> flush() {
        if (std::fflush(stdout) != 0) return cannot_write();
        return ok();
    }

    [[nodiscard]] ProgressState state() const {
        ProgressState state;
        state.rows = counter_.rows();
        state.bytes = bytes_;
        state.total = position_.total;
        state.rows_before = rows_before_;
        return state;
    }

    Node& node_;
    const ExportWish wish_;
    std::optional<ExportFile> file_;
    RowCounter counter_;
    Progress& progress_;
    ExportPosition position_;
    std::uint64_t bytes_ = 0, rows_before_ = 0;
    bool header_passed_ = false;
    std::optional<Error> write_error_;
};

Result<std::optional<ExportFile>> open_file(const Arguments& arguments, const ExportWish& wish) {
    using Mode = ExportFile::Mode;
    const bool to_stdout = arguments.output.empty() || arguments.output == "-";
    if (to_stdout && (arguments.resume || arguments.overwrite))
        return Error{Errc::invalid, "--resume and --overwrite need --output FILE"};
    if (to_stdout) return std::optional<ExportFile>();
    const Mode mode = arguments.resume      ? Mode::resume
                      : arguments.overwrite ? Mode::overwrite
                                            : Mode::fresh;
    BOOST_OUTCOME_TRY(ExportFile file, ExportFile::open(arguments.output, wish, mode));
    return std::optional<ExportFile>(std::move(file));
}

/// Says what is left, and what can be done with it.
Error with_remedy(Error error, const std::string& output, const std::string& began_at) {
    const bool kept = std::filesystem::exists(output + ".partial.state");
    if (!kept) return error;
    if (error.code == Errc::invalid && !began_at.empty()) {
        error.detail += "; the position in " + output +
                        ".partial.state is not accepted any more: start anew with --overwrite";
    } else {
        error.detail += "; what is there is kept in " + output +
                        ".partial: the same command with --resume goes on";
    }
    return error;
}

}  // namespace

int export_events(const Arguments& arguments) {
    const auto query = query_of(arguments.filters);
    if (!query) return fail(query.error(), kBadInput);
    const ExportWish wish{arguments.project, arguments.format, query.value()};
    auto file = open_file(arguments, wish);
    if (!file) return fail(file.error(), file.error().code == Errc::invalid ? kBadInput : kFailed);
    const std::string began_at = file.value() ? file.value()->position().cursor : "";
    const bool to_terminal = !file.value() && ::isatty(STDOUT_FILENO) != 0;
    return with_node(arguments, [&](Node& node) -> Result<int> {
        Progress progress(!arguments.no_progress && !to_terminal);
        Export run(node, wish, std::move(file.value()), progress);
        auto done = run.run();
        progress.clear();
        if (!done) return with_remedy(done.error(), arguments.output, began_at);
        return kDone;
    });
}

}  // namespace annal::cli
