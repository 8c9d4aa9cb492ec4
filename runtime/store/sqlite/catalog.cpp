#include "runtime/store/sqlite/catalog.h"

#include <algorithm>
#include <mutex>

namespace annal::sqlite {

const Span* LogView::span_of(Seq seq) const {
    if (seq < first_seq || seq > head.seq) {
        return nullptr;
    }
    for (std::size_t i = spans(); i-- > 0;) {
        if (seq >= span(i).first_seq) {
            return &span(i);
        }
    }
    return nullptr;
}

LogView Catalog::view_of(const Log& log) {
    return {log.first_seq, log.head, log.closed, log.open};
}

std::optional<LogView> Catalog::view(const std::string& project) const {
    const std::shared_lock lock(mutex_);
    const auto found = logs_.find(project);
    if (found == logs_.end()) {
        return std::nullopt;
    }
    return view_of(found->second);
}

std::vector<std::shared_ptr<Segment>> Catalog::segments() const {
    std::vector<std::shared_ptr<Segment>> all;
    const std::shared_lock lock(mutex_);
    for (const auto& [number, segment] : segments_) {
        all.push_back(segment);
    }
    return all;
}

std::shared_ptr<Segment> Catalog::segment(SegmentNumber number) const {
    const std::shared_lock lock(mutex_);
    const auto found = segments_.find(number);
    return found == segments_.end() ? nullptr : found->second;
}

void Catalog::add_segment(std::shared_ptr<Segment> segment) {
    const std::unique_lock lock(mutex_);
    segments_[segment->number] = std::move(segment);
}

void Catalog::add_span(const std::string& project, Span span, bool open) {
    const std::unique_lock lock(mutex_);
    Log& log = logs_[project];
    log.head = {span.last_seq, span.last_at, span.digest};
    if (log.closed->empty() && !log.open) {
        log.first_seq = std::max(log.first_seq, span.first_seq);
    }
    if (open) {
        log.open = std::move(span);
        return;
    }
    push(log, std::move(span));
}

void Catalog::push(Log& log, Span span) {
    // Nobody else can take a reference while the lock is held, so a lone one may be changed in
    // place.
    if (log.closed.use_count() == 1) {
        const_cast<std::vector<Span>&>(*log.closed).push_back(std::move(span));
        return;
    }
    auto closed = std::make_shared<std::vector<Span>>(*log.closed);
    closed->push_back(std::move(span));
    log.closed = std::move(closed);
}

void Catalog::grow(
    const std::string& project,
    const std::shared_ptr<Segment>& segment,
    ProjectNumber pid,
    Seq first,
    TimeUs first_at,
    const LogHead& head
) {
    const std::unique_lock lock(mutex_);
    Log& log = logs_[project];
    if (!log.open) {
        log.open = Span{segment, pid, first, kNoSeq, first_at, 0, {}, 0};
    }
    log.open->last_seq = head.seq;
    log.open->last_at = head.at;
    log.open->digest = head.digest;
    log.head = head;
}

void Catalog::add_tombstone(const std::string& project, Seq seq) {
    const std::unique_lock lock(mutex_);
    const auto found = logs_.find(project);
    if (found == logs_.end()) {
        return;
    }
    Log& log = found->second;
    if (log.open && seq >= log.open->first_seq) {
        ++log.open->tombstones;
        return;
    }
    auto closed = std::make_shared<std::vector<Span>>(*log.closed);
    for (Span& span : *closed) {
        if (seq >= span.first_seq && seq <= span.last_seq) {
            ++span.tombstones;
        }
    }
    log.closed = std::move(closed);
}

std::vector<std::pair<std::string, Span>> Catalog::open_spans() const {
    std::vector<std::pair<std::string, Span>> spans;
    const std::shared_lock lock(mutex_);
    for (const auto& [project, log] : logs_) {
        if (log.open) {
            spans.emplace_back(project, *log.open);
        }
    }
    return spans;
}

void Catalog::close_open() {
    const std::unique_lock lock(mutex_);
    for (auto& [project, log] : logs_) {
        if (log.open) {
            push(log, std::move(*log.open));
            log.open.reset();
        }
    }
}

void Catalog::set_floor(const std::string& project, Seq first_seq, const LogHead& head) {
    const std::unique_lock lock(mutex_);
    Log& log = logs_[project];
    log.first_seq = std::max(log.first_seq, first_seq);
    ++floors_version_;
    if (head.seq > log.head.seq) {
        log.head = head;
    }
    const auto below = [&](const Span& span) { return span.last_seq < log.first_seq; };
    if (std::any_of(log.closed->begin(), log.closed->end(), below)) {
        auto kept = std::make_shared<std::vector<Span>>(*log.closed);
        std::erase_if(*kept, below);
        log.closed = std::move(kept);
    }
}

std::uint64_t Catalog::floors_version() const {
    const std::shared_lock lock(mutex_);
    return floors_version_;
}

std::map<std::string, Seq> Catalog::floors() const {
    std::map<std::string, Seq> floors;
    const std::shared_lock lock(mutex_);
    for (const auto& [project, log] : logs_) {
        if (log.first_seq > 0) {
            floors[project] = log.first_seq;
        }
    }
    return floors;
}

std::vector<std::pair<std::string, LogView>> Catalog::without(Month month) const {
    std::vector<std::pair<std::string, LogView>> touched;
    const std::shared_lock lock(mutex_);
    for (const auto& [project, log] : logs_) {
        LogView view = view_of(log);
        auto kept = std::make_shared<std::vector<Span>>();
        for (const Span& span : *log.closed) {
            if (span.segment->month == month) {
                view.first_seq = std::max(view.first_seq, span.last_seq + 1);
            } else {
                kept->push_back(span);
            }
        }
        if (kept->size() != log.closed->size()) {
            view.closed = std::move(kept);
            touched.emplace_back(project, std::move(view));
        }
    }
    return touched;
}

void Catalog::drop(Month month) {
    auto touched = without(month);
    const std::unique_lock lock(mutex_);
    for (auto& [project, view] : touched) {
        Log& log = logs_[project];
        log.first_seq = view.first_seq;
        log.closed = std::move(view.closed);
    }
    std::erase_if(segments_, [&](const auto& entry) {
        if (entry.second->month != month) {
            return false;
        }
        entry.second->dropped = true;
        return true;
    });
}

}  // namespace annal::sqlite
