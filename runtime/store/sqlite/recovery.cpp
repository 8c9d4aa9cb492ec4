#include "runtime/store/sqlite/recovery.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <map>

#include "runtime/core/log.h"

namespace annal::sqlite {
namespace {

/// A database that is missing, is none, or is shorter than it says; empty: none of that.
std::string what_is_wrong(const std::filesystem::path& path) {
    constexpr std::size_t kHeader = 100;
    std::array<unsigned char, kHeader> header{};
    std::ifstream in(path, std::ios::binary);
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    if (!in || error) {
        return path.string() + " is missing or can't be opened; restore it from a backup";
    }
    in.read(reinterpret_cast<char*>(header.data()), header.size());
    if (in.gcount() != kHeader || std::memcmp(header.data(), "SQLite format 3", 16) != 0) {
        return path.string() + " is damaged: it is no database; restore it from a backup";
    }
    const auto log = std::filesystem::file_size(path.string() + "-wal", error);
    if (!error && log > 0) {
        return {};  // what is missing may still be in there
    }
    const auto number = [&](std::size_t at, std::size_t bytes) {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < bytes; ++i) {
            value = value << 8U | header[at + i];
        }
        return value;
    };
    const std::uint64_t page = number(16, 2) == 1 ? 65'536 : number(16, 2);
    if (size < page * number(28, 4)) {
        return path.string() + " is damaged: it was cut short; restore it from a backup";
    }
    return {};
}

class Recovery {
public:
    Recovery(const Directory& directory, Catalog& catalog, Committer& committer)
        : directory_(directory), catalog_(catalog), committer_(committer) {}

    Result<Unfinished> run() {
        BOOST_OUTCOME_TRY(finish_drops());
        BOOST_OUTCOME_TRY(auto names, directory_.segments());
        // First all of control.db, then memory: the redo of a later segment may change what is said
        // about an earlier one.
        BOOST_OUTCOME_TRY(auto known, replay_all(names));
        add_missing(known, names);
        BOOST_OUTCOME_TRY(SegmentNumber last, committer_.control().last_segment());
        BOOST_OUTCOME_TRY(refuse_lost_newest(names, last));
        std::shared_ptr<Segment> open;
        for (const auto& name : names) {
            const auto segment = make_segment(name);
            last = std::max(last, segment->number);
            const auto found = known.find(segment->number);
            if (found != known.end()) {
                BOOST_OUTCOME_TRY(add_closed(segment, found->second));
            } else {
                BOOST_OUTCOME_TRY(add_open(segment));
                open = segment;
            }
        }
        BOOST_OUTCOME_TRY(set_floors());
        BOOST_OUTCOME_TRY(load_erasures());
        BOOST_OUTCOME_TRY(auto floor, committer_.control().floor());
        if (!names.empty()) {
            floor = std::max(floor.value_or(names.back().month), names.back().month);
        }
        BOOST_OUTCOME_TRY(committer_.resume(open, last, floor));
        return std::move(unfinished_);
    }

private:
    // A drop is decided by control.db; the folder may still be there.
    Result<void> finish_drops() {
        BOOST_OUTCOME_TRY(const auto dropped, committer_.control().dropped_through());
        BOOST_OUTCOME_TRY(const auto names, directory_.segments());
        for (const auto& name : names) {
            if (dropped && name.month <= *dropped) {
                BOOST_OUTCOME_TRY(directory_.drop_month(name.month));
            }
        }
        return ok();
    }

    using Known = std::map<SegmentNumber, Control::Closed>;

    Result<Known> closed_segments() {
        BOOST_OUTCOME_TRY(const auto closed, committer_.control().closed_segments());
        Known known;
        for (const auto& segment : closed) {
            known[segment.number] = segment;
        }
        return known;
    }

    // Segments that control.db does not know, or whose redo it may lack. The closed ones are known
    // afterwards.
    Result<Known> replay_all(const std::vector<Directory::SegmentName>& names) {
        BOOST_OUTCOME_TRY(const auto known, closed_segments());
        for (const auto& name : names) {
            const auto found = known.find(name.number);
            if (found != known.end() && found->second.state != SegmentState::closed) {
                continue;
            }
            const auto segment = make_segment(name);
            BOOST_OUTCOME_TRY(auto file, SegmentFile::open(*segment));
            if (found == known.end()) {
                BOOST_OUTCOME_TRY(refuse_lost_control(*segment, file));
            }
            if (found == known.end() && name.number != names.back().number) {
                BOOST_OUTCOME_TRY(close_late(*segment, file));
                closed_late_.push_back(segment);
            }
            BOOST_OUTCOME_TRY(committer_.replay(file, *segment));
        }
        for (const auto& segment : closed_late_) {
            BOOST_OUTCOME_TRY(recount_tombstones(*segment));
        }
        return closed_segments();
    }

    // Without it the log would go on with seqs that were given away before.
    Result<void> refuse_lost_newest(
        const std::vector<Directory::SegmentName>& names, SegmentNumber last
    ) {
        BOOST_OUTCOME_TRY(const auto newest, committer_.control().newest());
        const bool there = std::any_of(names.begin(), names.end(), [&](const auto& name) {
            return newest && name.number == newest->number;
        });
        if (!newest || there || newest->number <= last) {
            return ok();
        }
        return damage(
            directory_.segment(newest->number, newest->month).string() +
            " is missing: it held the newest events. Restore it, or the whole data directory from "
            "a "
            "backup"
        );
    }

    // What a segment says about control.db is forgotten only once control.db has it for certain.
    Result<void> refuse_lost_control(const Segment& segment, SegmentFile& file) {
        BOOST_OUTCOME_TRY(const bool sealed, file.is_indexed());
        BOOST_OUTCOME_TRY(const auto forgotten, file.forgotten_redo());
        BOOST_OUTCOME_TRY(const auto applied, committer_.control().applied(segment.number));
        if (!sealed && forgotten <= applied) {
            return ok();
        }
        return damage(
            directory_.control().string() +
            " is missing, older than the segments, or another's: "
            "it does not know what " +
            segment.path.string() +
            " once told it, and keys, settings and cursors can't be made again from there. Restore "
            "control.db and the segments from one backup"
        );
    }

    // The keeper may have erased in the file already what the redo of later segments has just told
    // control.db, so what was counted first counts such an event twice.
    Result<void> recount_tombstones(const Segment& segment) {
        BOOST_OUTCOME_TRY(auto file, SegmentFile::open(segment));
        BOOST_OUTCOME_TRY(auto spans, file.spans(true));
        BOOST_OUTCOME_TRY(const auto erasures, committer_.control().erasures());
        for (const auto& erasure : erasures) {
            if (erasure.segment != segment.number || erasure.columns != Segment::kWhole) {
                continue;
            }
            BOOST_OUTCOME_TRY(const bool live, file.is_live(erasure.key));
            for (auto& [project, span] : spans) {
                span.tombstones += live && span.pid == pid_of(erasure.key) ? 1 : 0;
            }
        }
        return committer_.control().record_closed(segment, spans);
    }

    // A closed segment whose file is gone stays in the catalog, so that reads say what is missing.
    static void add_missing(
        const std::map<SegmentNumber, Control::Closed>& known,
        std::vector<Directory::SegmentName>& names
    ) {
        for (const auto& [number, segment] : known) {
            const bool there =
                std::any_of(names.begin(), names.end(), [&, n = number](const auto& name) {
                    return name.number == n;
                });
            if (!there) {
                names.push_back({number, segment.month});
            }
        }
        std::sort(names.begin(), names.end(), [](const auto& a, const auto& b) {
            return a.number < b.number;
        });
    }

    [[nodiscard]] std::shared_ptr<Segment> make_segment(const Directory::SegmentName& name) const {
        return std::make_shared<Segment>(
            name.number,
            name.month,
            directory_.segment(name.number, name.month),
            directory_.search(name.number, name.month)
        );
    }

    Result<void> add_closed(
        const std::shared_ptr<Segment>& segment, const Control::Closed& closed
    ) {
        segment->events = closed.events;
        if (closed.state == SegmentState::indexed) {
            std::error_code error;
            segment->indexed = true;
            note_damage(*segment);
            segment->searchable = std::filesystem::exists(segment->search_path, error);
            if (!segment->searchable) {
                unfinished_.to_search.push_back(segment);
            }
        } else {
            unfinished_.to_index.push_back(segment);
        }
        catalog_.add_segment(segment);
        BOOST_OUTCOME_TRY(auto spans, committer_.control().spans(segment->number));
        for (auto& [project, span] : spans) {
            span.segment = segment;
            catalog_.add_span(project, std::move(span), false);
        }
        return ok();
    }

    // What can be told without reading it.
    static void note_damage(Segment& segment) {
        std::string wrong = what_is_wrong(segment.path);
        if (wrong.empty()) {
            return;
        }
        log::error(
            "store.segment_unreadable", {{"segment", segment.path.string()}, {"error", wrong}}
        );
        segment.set_damage(std::move(wrong));
    }

    // Its successor is there, but the crash came before control.db knew.
    Result<void> close_late(Segment& segment, SegmentFile& file) {
        BOOST_OUTCOME_TRY(const auto spans, file.spans(true));
        for (const auto& [project, span] : spans) {
            segment.events += span.last_seq - span.first_seq + 1;
        }
        return committer_.control().record_closed(segment, spans);
    }

    Result<void> add_open(const std::shared_ptr<Segment>& segment) {
        BOOST_OUTCOME_TRY(auto file, SegmentFile::open(*segment));
        auto postings = std::make_shared<Postings>();
        auto texts = std::make_shared<TextLog>();
        BOOST_OUTCOME_TRY(file.load(*postings, *texts));
        BOOST_OUTCOME_TRY(auto spans, file.spans(false));
        catalog_.add_segment(segment);
        for (auto& [project, span] : spans) {
            span.segment = segment;
            span.tombstones = static_cast<std::int64_t>(
                postings->tombstones(span.pid, span.first_seq, span.last_seq).size()
            );
            segment->events += span.last_seq - span.first_seq + 1;
            catalog_.add_span(project, std::move(span), true);
        }
        segment->set_postings(std::move(postings));
        segment->set_text_log(std::move(texts));
        return ok();
    }

    Result<void> set_floors() {
        BOOST_OUTCOME_TRY(const auto floors, committer_.control().floors());
        for (const auto& floor : floors) {
            catalog_.set_floor(floor.project, floor.first_seq, floor.head);
        }
        return ok();
    }

    Result<void> load_erasures() {
        BOOST_OUTCOME_TRY(unfinished_.erasures, committer_.control().erasures());
        for (const auto& erasure : unfinished_.erasures) {
            if (const auto segment = catalog_.segment(erasure.segment)) {
                segment->add_erasing({{erasure.key, erasure.columns}});
            }
        }
        return ok();
    }

    const Directory& directory_;
    Catalog& catalog_;
    Committer& committer_;
    std::vector<std::shared_ptr<Segment>> closed_late_;
    Unfinished unfinished_;
};

}  // namespace

Result<Unfinished> recover(const Directory& directory, Catalog& catalog, Committer& committer) {
    return Recovery(directory, catalog, committer).run();
}

}  // namespace annal::sqlite
