#include "runtime/store/sqlite/keeper.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "runtime/core/log.h"

namespace annal::sqlite {
namespace {

constexpr std::chrono::seconds kRetry{2};
constexpr std::chrono::milliseconds kBetweenSteps{50};
constexpr std::chrono::seconds kMeasureInterval{15};

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Keeper::Keeper(
    const Directory& directory,
    const Catalog& catalog,
    Writer& writer,
    ReaderPool& readers,
    Metrics& metrics
)
    : directory_(directory),
      catalog_(catalog),
      writer_(writer),
      readers_(readers),
      unindexed_(metrics.define(
          MetricKind::gauge,
          "annal_store_unindexed_segments",
          "Full segments that wait for indexes."
      )),
      index_seconds_(metrics.define(
          MetricKind::histogram, "annal_store_index_seconds", "Time to index a full segment."
      )),
      search_seconds_(metrics.define(
          MetricKind::histogram, "annal_store_search_seconds", "Time to build a search sidecar."
      )),
      sizes_(metrics) {}

void Keeper::start() {
    patient_ = std::thread([this] { run(false); });
    urgent_ = std::thread([this] { run(true); });
}

void Keeper::index(std::shared_ptr<Segment> segment) {
    {
        const std::lock_guard lock(mutex_);
        keep_texts(segment);
        to_index_.push_back(std::move(segment));
        count_unindexed();
    }
    wake_.notify_all();
}

void Keeper::build_search(std::shared_ptr<Segment> segment) {
    {
        const std::lock_guard lock(mutex_);
        to_search_.push_back(std::move(segment));
    }
    wake_.notify_all();
}

void Keeper::erase(ControlChanges::Erasure erasure) {
    {
        const std::lock_guard lock(mutex_);
        erasures_.push_back(erasure);
    }
    wake_.notify_all();
}

void Keeper::remove_dropped() {
    {
        const std::lock_guard lock(mutex_);
        to_remove_ = true;
    }
    wake_.notify_all();
}

void Keeper::purge() {
    {
        const std::lock_guard lock(mutex_);
        to_purge_ = true;
    }
    wake_.notify_all();
}

void Keeper::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopped_at_ = std::chrono::steady_clock::now();
        stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread* thread : {&patient_, &urgent_}) {
        if (thread->joinable()) {
            thread->join();
        }
    }
}

bool Keeper::must_stop(std::chrono::seconds grace) const {
    return stopping_ && std::chrono::steady_clock::now() > stopped_at_.load() + grace;
}

// What hides data first, what speeds up reads next; the newest segment is the one that is searched
// most.
Keeper::Job Keeper::take() {
    if (!erasures_.empty()) {
        return take_erasures();
    }
    if (Job job = take_index()) {
        return job;
    }
    if (to_remove_) {
        to_remove_ = false;
        return [this] { return do_remove(); };
    }
    if (to_purge_) {
        to_purge_ = false;
        return [this] {
            auto done = do_purge();
            if (done.has_error()) {
                purge();
            }
            return done;
        };
    }
    if (!to_search_.empty()) {
        auto segment = std::move(to_search_.back());
        to_search_.pop_back();
        return [this, segment = std::move(segment)] {
            auto done = do_search(segment);
            if (done.has_error() && !segment->dropped && !is_damage(done.error())) {
                build_search(segment);
            }
            return done;
        };
    }
    return nullptr;
}

// Those of one segment share a transaction of its file.
Keeper::Job Keeper::take_erasures() {
    const SegmentNumber segment = erasures_.front().segment;
    std::vector<ControlChanges::Erasure> some;
    while (!erasures_.empty() && erasures_.front().segment == segment &&
           some.size() < kErasuresATime) {
        some.push_back(erasures_.front());
        erasures_.pop_front();
    }
    erasing_ = true;
    return [this, segment, some = std::move(some)] {
        Segment::Keys keys;
        for (const auto& erasure : some) {
            const auto [key, is_new] = keys.try_emplace(erasure.key, erasure.columns);
            const bool whole = key->second == Segment::kWhole || erasure.columns == Segment::kWhole;
            key->second = whole ? Segment::kWhole : key->second | erasure.columns;
        }
        auto done = do_erase(segment, keys);
        const std::lock_guard lock(mutex_);
        erasing_ = false;
        if (done.has_error()) {
            erasures_.insert(erasures_.end(), some.begin(), some.end());
        }
        return done;
    };
}

bool Keeper::is_erasing() {
    const std::lock_guard lock(mutex_);
    return erasing_ || !erasures_.empty() || indexing_ > 0 || !to_index_.empty();
}

Keeper::Job Keeper::take_index() {
    if (to_index_.empty()) {
        return nullptr;
    }
    auto segment = std::move(to_index_.front());
    to_index_.pop_front();
    ++indexing_;
    return [this, segment = std::move(segment)] {
        auto done = do_index(segment);
        const std::lock_guard lock(mutex_);
        --indexing_;
        if (done.has_error() && !segment->dropped && !is_damage(done.error())) {
            to_index_.push_back(segment);
        }
        count_unindexed();
        return done;
    };
}

void Keeper::keep_texts(const std::shared_ptr<Segment>& segment) {
    if (std::find(with_texts_.begin(), with_texts_.end(), segment) != with_texts_.end()) {
        return;
    }
    with_texts_.push_back(segment);
    if (with_texts_.size() > kTextLogsKept) {
        with_texts_.front()->set_text_log(nullptr);
        with_texts_.pop_front();
    }
}

void Keeper::count_unindexed() {
    unindexed_.record(static_cast<double>(to_index_.size() + indexing_));
}

bool Keeper::has_work() const {
    return to_remove_ || to_purge_ || !erasures_.empty() || !to_index_.empty() ||
           !to_search_.empty();
}

/// Until there may be something to do; uses the time to measure.
void Keeper::rest(std::unique_lock<std::mutex>& lock) {
    lock.unlock();
    sizes_.measure(directory_, catalog_);
    lock.lock();
    wake_.wait_for(lock, kMeasureInterval, [&] { return stopping_ || has_work(); });
}

void Keeper::run(bool urgent) {
    if (!urgent) {
        // Not a nice value: the kernel lets a nice thread finish its slice of some milliseconds
        // when a client's thread wakes, an idle one not.
        const sched_param none{};
        (void)::sched_setscheduler(0, SCHED_IDLE, &none);
    }
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        Job job;
        if (!urgent) {
            job = take();
        } else if (to_index_.size() >= kUrgentSegments) {
            job = take_index();
        }
        if (job == nullptr) {
            if (urgent) {
                wake_.wait(lock);
            } else {
                rest(lock);
            }
            continue;
        }
        lock.unlock();
        const auto done = job();
        lock.lock();
        if (done.has_error() && !stopping_) {
            log::warn("store.upkeep_failed", {{"error", done.error().detail}});
            wake_.wait_for(lock, kRetry, [&] { return stopping_.load(); });
        }
    }
}

Result<void> Keeper::do_index(const std::shared_ptr<Segment>& segment) {
    if (segment->dropped) {
        return ok();
    }
    const auto start = std::chrono::steady_clock::now();
    BOOST_OUTCOME_TRY(writer_.call([&](Committer& committer) {
        return committer.settle(segment->number);
    }));
    BOOST_OUTCOME_TRY(seal(*segment));
    BOOST_OUTCOME_TRY(writer_.call([&](Committer& committer) {
        return committer.control().set_state(segment->number, SegmentState::indexed);
    }));
    // In this order: readers look for postings first.
    segment->indexed = true;
    segment->set_postings(nullptr);
    index_seconds_.record(seconds_since(start));
    build_search(segment);
    purge();
    return ok();
}

Result<void> Keeper::seal(Segment& segment) {
    const std::lock_guard one_at_a_time(segment.upkeep);
    BOOST_OUTCOME_TRY(auto file, SegmentFile::open(segment));
    file.connection().interrupt_when([this] { return must_stop(kIndexGrace); });
    BOOST_OUTCOME_TRY(const bool indexed, file.is_indexed());
    if (!indexed) {
        BOOST_OUTCOME_TRY(file.seal());
    }
    BOOST_OUTCOME_TRYV(file.empty_log());
    return ok();
}

Result<void> Keeper::do_search(const std::shared_ptr<Segment>& segment) {
    if (segment->dropped) {
        return ok();
    }
    const auto start = std::chrono::steady_clock::now();
    const std::filesystem::path temporary = segment->search_path.string() + ".tmp";
    BOOST_OUTCOME_TRY(sqlite::build_search(*segment, temporary, [this] {
        return must_stop(kSearchGrace);
    }));
    std::error_code error;
    std::filesystem::rename(temporary, segment->search_path, error);
    if (error) {
        return Error{
            Errc::unavailable,
            segment->search_path.string() + " can't be made: " + error.message()};
    }
    BOOST_OUTCOME_TRY(sync_folder(segment->search_path.parent_path()));
    // In this order: readers look for texts in memory first.
    segment->searchable = true;
    segment->set_text_log(nullptr);
    search_seconds_.record(seconds_since(start));
    return ok();
}

Result<void> Keeper::do_erase(SegmentNumber number, const Segment::Keys& keys) {
    const auto segment = catalog_.segment(number);
    if (segment != nullptr) {
        // The sidecar still knows the trigrams; it is built anew without them.
        const bool searched = remove_search(*segment);
        const auto erased = erase_from_file(*segment, keys);
        if (searched) {
            const std::lock_guard lock(mutex_);
            to_search_.push_back(segment);
        }
        if (erased.has_error()) {
            return erased;
        }
        segment->remove_erasing(keys);
    }
    return writer_.call([&](Committer& committer) {
        return committer.control().erasures_done(number, keys);
    });
}

Result<void> Keeper::erase_from_file(Segment& segment, const Segment::Keys& keys) {
    const std::lock_guard one_at_a_time(segment.upkeep);
    BOOST_OUTCOME_TRY(auto file, SegmentFile::open(segment));
    BOOST_OUTCOME_TRY(file.erase_closed(keys));
    BOOST_OUTCOME_TRY(const bool emptied, file.empty_log());
    if (!emptied) {
        return Error{
            Errc::unavailable,
            segment.path.string() + " is being read, so that erased text is still in its log"};
    }
    return sync_folder(segment.path.parent_path());
}

bool Keeper::remove_search(Segment& segment) {
    const bool searched = segment.searchable.exchange(false);
    std::error_code error;
    std::filesystem::remove(segment.search_path, error);
    readers_.tell_all([number = segment.number](Reader& reader) { reader.close_search(number); });
    return searched;
}

Result<void> Keeper::do_purge() {
    const std::uint64_t version = catalog_.floors_version();
    const auto floors = catalog_.floors();
    for (const auto& segment : catalog_.segments()) {
        if (floors.empty() || stopping_) {
            break;
        }
        // One that is not sealed yet asks for this again when it is.
        if (!segment->indexed || segment->dropped || purged_[segment->number] == version ||
            !segment->damage().empty()) {
            continue;
        }
        BOOST_OUTCOME_TRY(purge_segment(segment, floors));
        if (!stopping_) {
            purged_[segment->number] = version;
        }
    }
    std::erase_if(purged_, [this](const auto& known) {
        return catalog_.segment(known.first) == nullptr;
    });
    return ok();
}

Result<void> Keeper::purge_segment(
    const std::shared_ptr<Segment>& segment, const std::map<std::string, Seq>& floors
) {
    bool searched = false;
    const auto purged = purge_file(*segment, floors, searched);
    if (searched) {
        build_search(segment);
    }
    if (purged.has_error()) {
        return segment->dropped || is_damage(purged.error()) ? ok() : purged;
    }
    return ok();
}

/// @param searched  set when the sidecar that was there is not any more
Result<void> Keeper::purge_file(
    Segment& segment, const std::map<std::string, Seq>& floors, bool& searched
) {
    const std::lock_guard one_at_a_time(segment.upkeep);
    BOOST_OUTCOME_TRY(auto file, SegmentFile::open(segment));
    BOOST_OUTCOME_TRY(const auto projects, file.projects());
    bool any = false;
    for (const auto& [pid, project] : projects) {
        const auto floor = floors.find(project);
        for (std::int64_t more = 1; more > 0 && floor != floors.end() && !stopping_;) {
            BOOST_OUTCOME_TRY(more, file.purge(pid, floor->second));
            if (more > 0 && !std::exchange(any, true)) {
                searched = remove_search(segment);
            }
        }
    }
    if (any && !stopping_) {
        BOOST_OUTCOME_TRY(file.shrink());
    }
    // Also when nothing was found: an attempt before this one may have got so far.
    BOOST_OUTCOME_TRY(const bool emptied, file.empty_log());
    if (!emptied) {
        return Error{
            Errc::unavailable,
            segment.path.string() + " is being read, so that purged text is still in its log"};
    }
    return ok();
}

Result<void> Keeper::do_remove() {
    readers_.tell_all([](Reader& reader) { reader.close_dropped(); });
    // Before the first step, too, so that readers have closed what they had open.
    do {
        std::unique_lock lock(mutex_);
        const auto called = [this] {
            return stopping_ || !erasures_.empty() || !to_index_.empty();
        };
        if (wake_.wait_for(lock, kBetweenSteps, called)) {
            to_remove_ = true;
            break;
        }
    } while (directory_.free_dropped());
    return ok();
}

}  // namespace annal::sqlite
