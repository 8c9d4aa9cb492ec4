#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "runtime/core/metrics.h"
#include "runtime/store/sqlite/reader.h"
#include "runtime/store/sqlite/segment_file.h"
#include "runtime/store/sqlite/size_metrics.h"
#include "runtime/store/sqlite/writer.h"

namespace annal::sqlite {

/// Keeps house: seals segments that are closed, erases in them, builds their search sidecars, frees
/// what was dropped. All of it starts again after a crash; what fails is tried again later.
///
/// A thread of the lowest priority does it all, so that a busy node spends its processors on
/// appends and reads. Sealing alone must not fall behind for ever, for each waiting segment holds
/// its postings in memory: from `kUrgentSegments` on a second thread of usual priority seals, too.
class Keeper {
public:
    Keeper(
        const Directory& directory,
        const Catalog& catalog,
        Writer& writer,
        ReaderPool& readers,
        Metrics& metrics
    );
    ~Keeper() { stop(); }

    void start();
    void index(std::shared_ptr<Segment> segment);
    void build_search(std::shared_ptr<Segment> segment);
    void erase(ControlChanges::Erasure erasure);
    void remove_dropped();
    /// Looks for content below the floors of the logs and takes it away.
    void purge();
    /// Closed segments still hold what was erased, or redo records that may.
    [[nodiscard]] bool is_erasing();
    /// Lets the work in hand finish, for at most a few seconds; what is cut off starts again with
    /// the store.
    void stop();

private:
    static constexpr std::chrono::seconds kIndexGrace{5}, kSearchGrace{1};
    static constexpr std::size_t kUrgentSegments = 4;
    static constexpr std::size_t kTextLogsKept = 2;
    static constexpr std::size_t kErasuresATime = 1'000;
    using Job = std::function<Result<void>()>;

    void run(bool urgent);
    [[nodiscard]] Job take();
    [[nodiscard]] Job take_index();
    [[nodiscard]] Job take_erasures();
    void count_unindexed();
    /// Of the closed segments the newest keep their texts in memory until they have a sidecar.
    void keep_texts(const std::shared_ptr<Segment>& segment);
    [[nodiscard]] bool has_work() const;
    void rest(std::unique_lock<std::mutex>& lock);
    [[nodiscard]] bool must_stop(std::chrono::seconds grace) const;
    Result<void> do_index(const std::shared_ptr<Segment>& segment);
    Result<void> do_search(const std::shared_ptr<Segment>& segment);
    Result<void> do_erase(SegmentNumber number, const Segment::Keys& keys);
    Result<void> seal(Segment& segment);
    static Result<void> erase_from_file(Segment& segment, const Segment::Keys& keys);
    Result<void> do_remove();
    Result<void> do_purge();
    Result<void> purge_segment(
        const std::shared_ptr<Segment>& segment, const std::map<std::string, Seq>& floors
    );
    Result<void> purge_file(
        Segment& segment, const std::map<std::string, Seq>& floors, bool& searched
    );
    /// Until the sidecar is built anew nothing is found by what it knew.
    bool remove_search(Segment& segment);

    const Directory& directory_;
    const Catalog& catalog_;
    Writer& writer_;
    ReaderPool& readers_;
    Metric& unindexed_;
    Metric& index_seconds_;
    Metric& search_seconds_;
    SizeMetrics sizes_;

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<ControlChanges::Erasure> erasures_;
    std::deque<std::shared_ptr<Segment>> to_index_, to_search_;
    bool to_remove_ = false, to_purge_ = false, erasing_ = false;
    std::atomic<bool> stopping_{false};
    std::atomic<std::chrono::steady_clock::time_point> stopped_at_{};
    std::deque<std::shared_ptr<Segment>> with_texts_;
    /// Up to which version of the floors; the patient thread's.
    std::map<SegmentNumber, std::uint64_t> purged_;
    std::size_t indexing_ = 0;
    std::thread patient_, urgent_;
};

}  // namespace annal::sqlite
