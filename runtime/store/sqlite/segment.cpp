#include "runtime/store/sqlite/segment.h"

namespace annal::sqlite {

std::shared_ptr<Postings> Segment::postings() const {
    const std::lock_guard lock(mutex_);
    return postings_;
}

void Segment::set_postings(std::shared_ptr<Postings> postings) {
    const std::lock_guard lock(mutex_);
    postings_.swap(postings);
}

std::shared_ptr<TextLog> Segment::text_log() const {
    const std::lock_guard lock(mutex_);
    return text_log_;
}

void Segment::set_text_log(std::shared_ptr<TextLog> log) {
    const std::lock_guard lock(mutex_);
    text_log_.swap(log);
}

std::string Segment::damage() const {
    const std::lock_guard lock(mutex_);
    return damage_;
}

bool Segment::set_damage(std::string what) {
    const std::lock_guard lock(mutex_);
    const bool is_news = damage_.empty();
    damage_ = std::move(what);
    return is_news;
}

std::shared_ptr<const Segment::Keys> Segment::erasing() const {
    const std::lock_guard lock(mutex_);
    return erasing_;
}

void Segment::add_erasing(const Keys& added) {
    const std::lock_guard lock(mutex_);
    auto keys = erasing_ == nullptr ? std::make_shared<Keys>() : std::make_shared<Keys>(*erasing_);
    for (const auto& [key, columns] : added) {
        const auto [found, is_new] = keys->try_emplace(key, columns);
        if (!is_new) {
            const bool whole = columns == kWhole || found->second == kWhole;
            found->second = whole ? kWhole : found->second | columns;
        }
    }
    erasing_ = std::move(keys);
}

void Segment::remove_erasing(const Keys& done) {
    const std::lock_guard lock(mutex_);
    if (erasing_ == nullptr) {
        return;
    }
    auto keys = std::make_shared<Keys>(*erasing_);
    for (const auto& [key, columns] : done) {
        const auto found = keys->find(key);
        if (found != keys->end() && (columns == kWhole || found->second == columns)) {
            keys->erase(found);
        }
    }
    erasing_ = keys->empty() ? nullptr : std::move(keys);
}

}  // namespace annal::sqlite
