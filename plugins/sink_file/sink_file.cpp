/// A stream of events as lines of canonical JSON at the end of a file.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: file-proj-1}
///     spec:
///       library: {name: sink_file}
///       config: {path: /var/log/annal/proj_1.jsonl}
///       triggers:
///         - {name: all, events: {project: proj_1}}
///
/// The file is its own bookmark: after a crash the stream resumes behind the last complete line, so
/// nothing is lost and nothing is there twice. A batch is on the disk before it counts as
/// delivered, unless `fsync: false`. An erased event is the line
/// {"id","seq","deleted":true}. Several streams may share a file; one that was moved away is made
/// anew.
///
/// `rotate_bytes` and `rotate_every` put the file aside between two batches, as
/// `<path>.<time in UTC>`, and begin a new one; what is put aside is never written to again.
/// Streams that share a file may rotate it too, each by its own settings. The bookmark holds over
/// rotations.
#include <annal/sdk.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "line_file.h"

class FileSink : public annal::Sink {
public:
    static constexpr auto kName = "file";
    static auto config() {
        return std::tuple{
            annal::required("path", &FileSink::path_)
                .range(1, 4096)
                .about("the file to append to; its folder must exist"),
            annal::optional("fsync", &FileSink::fsync_, true)
                .about("wait for the disk before a batch counts as delivered"),
            annal::optional("rotate_bytes", &FileSink::rotate_bytes_, 0)
                .range(0, std::int64_t{1} << 50)
                .about("put the file aside before it grows beyond this; 0: never"),
            annal::optional("rotate_every", &FileSink::rotate_every_, 0)
                .range(0, 24 * 366)
                .about("put the file aside when so many hours (UTC) are over; 0: never"),
            annal::optional("keep_files", &FileSink::keep_files_, 0)
                .range(0, 1'000'000)
                .about("how many files that were put aside are kept; 0: all"),
        };
    }

    annal::Status open() {
        if (annal::Status status = host().require(ANNAL_SERVICE_CODEC); !status.ok()) {
            return status;
        }
        file_ = std::make_unique<sink_file::LineFile>(
            path_, fsync_, sink_file::Rotation{rotate_bytes_, rotate_every_, keep_files_}
        );
        return file_->open();
    }

    annal::Status encode(const annal::Batch& batch, annal::Encoder& out) {
        return out.append_lines(batch);
    }

    annal::Outcome send(const annal::Delivery& delivery) {
        const annal::Status status = file_->append(delivery.payload(), delivery.deadline_us());
        return status.ok() ? annal::delivered() : annal::retry(status.text());
    }

    annal::Status position(std::string_view project, std::int64_t& seq) {
        return file_->last_seq(project, seq);
    }

private:
    std::string path_;
    bool fsync_ = true;
    std::int64_t rotate_bytes_ = 0, rotate_every_ = 0, keep_files_ = 0;
    std::unique_ptr<sink_file::LineFile> file_;
};

ANNAL_PLUGIN("annal.sink-file", "1.0.0", "Annal", "Apache-2.0", FileSink)
