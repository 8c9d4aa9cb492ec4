#pragma once

#include <atomic>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/plugin/instance.h"
#include "runtime/store/event_store.h"

namespace annal::http {

class Signal;

/// A run of one project's events in ascending order, and the messages that tell a client of them.
/// Immutable; shared by whoever sends it. Thread-safe.
class TailPage {
public:
    /// @param after, to  what the page covers: (after, to]
    TailPage(Seq after, Seq to, EventBatch batch);
    [[nodiscard]] Seq after() const { return after_; }
    [[nodiscard]] Seq to() const { return to_; }
    [[nodiscard]] const std::vector<Event>& events() const { return batch_.events; }
    /// About what it takes in memory, messages included.
    [[nodiscard]] std::size_t bytes() const;
    /// `id`, `event` and `data` of event `i`, ended by an empty line. The page's messages are
    /// rendered when the first of them is asked for.
    [[nodiscard]] std::string_view message(std::size_t i) const;

private:
    void render() const;

    const Seq after_, to_;
    const EventBatch batch_;
    mutable std::once_flag rendered_;
    mutable std::string text_;
    mutable std::vector<std::size_t> ends_;
};

/// How many rows the next page of a tail may have, so that it takes about kPageBytes.
class TailPageSize {
public:
    [[nodiscard]] std::uint32_t rows() const { return rows_; }
    void learn(const EventBatch& batch);

private:
    static constexpr std::size_t kPageBytes = 256U << 10;
    static constexpr std::uint32_t kRowsMin = 4, kRowsFirst = 16;
    std::uint32_t rows_ = kRowsFirst;
};

/// The one scan that all tails of a project share: it follows the log from where it was when the
/// feed began, and keeps the newest pages, within Limits::tail_buffer_bytes_max, for tails that are
/// not far behind.
///
/// Threads: any. Lifetime: held by its tails and by `run`.
class TailFeed {
public:
    TailFeed(HostEnvironment& environment, std::string project, Metric& scans);
    ~TailFeed();

    /// Follows the log until `stop`. Once.
    [[nodiscard]] Task<void> run(std::shared_ptr<TailFeed> self);
    void stop();
    /// Looks whether there is more, whatever it was told.
    void wake();

    /// Whoever listens is woken when there are new pages.
    void listen(std::shared_ptr<Signal> listener);
    void leave(const std::shared_ptr<Signal>& listener);

    enum class Next {
        page,    ///< the page that begins at or before the position, and goes beyond it
        none,    ///< nothing is there yet
        behind,  ///< what comes next is kept no more: it must be read from the store
    };
    [[nodiscard]] Next next(Seq position, std::shared_ptr<const TailPage>& page) const;
    /// The newest seq that the feed has come to; kNoSeq before it has begun.
    [[nodiscard]] Seq end() const;

private:
    Task<void> begin();
    Task<bool> scan_on();
    Task<void> pause(const Error& why);
    void publish(std::shared_ptr<const TailPage> page);

    HostEnvironment& environment_;
    const std::string project_;
    Metric& scans_;
    const std::shared_ptr<Signal> signal_;
    std::atomic<bool> stopped_{false};
    bool failing_ = false;
    TailPageSize page_size_;

    mutable std::mutex mutex_;  // guards what follows
    bool begun_ = false;
    Seq from_ = kNoSeq, to_ = kNoSeq;  ///< what the kept pages cover: (from, to]
    std::deque<std::shared_ptr<const TailPage>> pages_;
    std::size_t bytes_ = 0;
    std::list<std::shared_ptr<Signal>> listeners_;
};

}  // namespace annal::http
