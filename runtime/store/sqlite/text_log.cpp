#include "runtime/store/sqlite/text_log.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "runtime/store/searched_text.h"

namespace annal::sqlite {
namespace {

// No text holds it, so no needle is found across two texts.
constexpr char kSeparator = '\0';
// In place of what was erased. A needle that holds it is checked like any other.
constexpr char kBlank = '\x01';

}  // namespace

void TextLog::add(std::span<const Postings::Entry> entries) {
    const std::unique_lock lock(mutex_);
    for (const Postings::Entry& entry : entries) {
        if (given_up_) {
            return;
        }
        add_line(entry);
    }
}

void TextLog::add_line(const Postings::Entry& entry) {
    if (chunks_.empty() || chunks_.back()->text.size() >= kChunkBytes) {
        chunks_.push_back(std::make_shared<Chunk>());
        chunks_.back()->text.reserve(kChunkBytes + kChunkBytes / 8);
    }
    Chunk& chunk = *chunks_.back();
    const std::size_t before = chunk.text.size();
    for (const Column column : kSearchedColumns) {
        append_ascii_lower(chunk.text, entry.columns[static_cast<std::size_t>(column)].view());
        chunk.text += kSeparator;
    }
    chunk.lines.push_back({entry.key, static_cast<std::uint32_t>(chunk.text.size())});
    chunk.lowest_key = std::min(chunk.lowest_key, entry.key);
    chunk.highest_key = std::max(chunk.highest_key, entry.key);
    bytes_ += chunk.text.size() - before;
    if (bytes_ > kBytesMax) {
        given_up_ = true;
        chunks_.clear();
    }
}

// In a copy: whoever searches the chunk does so without a lock.
void TextLog::scrub(const std::map<std::int64_t, std::uint32_t>& columns_of_keys) {
    const std::unique_lock lock(mutex_);
    for (std::shared_ptr<Chunk>& chunk : chunks_) {
        std::shared_ptr<Chunk> copy;
        std::size_t begin = 0;
        for (const Line& line : chunk->lines) {
            const auto found = columns_of_keys.find(line.key);
            if (found != columns_of_keys.end()) {
                if (copy == nullptr) {
                    copy = std::make_shared<Chunk>(*chunk);
                }
                blank(*copy, begin, found->second);
            }
            begin = line.end;
        }
        if (copy != nullptr) {
            chunk = std::move(copy);
        }
    }
}

void TextLog::blank(Chunk& chunk, std::size_t begin, std::uint32_t columns) {
    for (const Column column : kSearchedColumns) {
        const std::size_t end = chunk.text.find(kSeparator, begin);
        if ((columns & Scrub::bit(column)) != 0) {
            std::fill(
                chunk.text.begin() + static_cast<std::ptrdiff_t>(begin),
                chunk.text.begin() + static_cast<std::ptrdiff_t>(end),
                kBlank
            );
        }
        begin = end + 1;
    }
}

void TextLog::search(
    const Chunk& chunk,
    std::string_view needle,
    std::int64_t first_key,
    std::int64_t last_key,
    std::vector<Seq>& found
) {
    const char* const begin = chunk.text.data();
    const char* const end = begin + chunk.text.size();
    const char* at = begin;
    while (at < end) {
        const auto* hit = static_cast<const char*>(
            ::memmem(at, static_cast<std::size_t>(end - at), needle.data(), needle.size())
        );
        if (hit == nullptr) {
            return;
        }
        const auto line = std::upper_bound(
            chunk.lines.begin(),
            chunk.lines.end(),
            hit - begin,
            [](std::ptrdiff_t offset, const Line& l) { return offset < std::ptrdiff_t{l.end}; }
        );
        if (line->key >= first_key && line->key <= last_key) {
            found.push_back(seq_of(line->key));
        }
        at = begin + line->end;
    }
}

std::optional<SeqList> TextLog::find(
    ProjectNumber pid, std::string_view needle, SeqRange range, std::size_t limit
) const {
    std::string lowered;
    append_ascii_lower(lowered, needle);
    const std::int64_t first_key = row_key(pid, range.first), last_key = row_key(pid, range.last);

    std::shared_lock lock(mutex_);
    if (given_up_) {
        return std::nullopt;
    }
    const std::vector<std::shared_ptr<Chunk>> chunks = chunks_;
    std::vector<Seq> newest;
    if (!chunks.empty()) {
        search(*chunks.back(), lowered, first_key, last_key, newest);
    }
    lock.unlock();

    SeqList list;
    const auto take = [&](std::vector<Seq>& found) {
        if (range.newest_first) {
            std::reverse(found.begin(), found.end());
        }
        list.seqs.insert(list.seqs.end(), found.begin(), found.end());
        found.clear();
    };
    std::vector<Seq> found;
    for (std::size_t i = 0; i < chunks.size() && list.seqs.size() <= limit; ++i) {
        const std::size_t which = range.newest_first ? chunks.size() - 1 - i : i;
        const Chunk& chunk = *chunks[which];
        if (which + 1 == chunks.size()) {
            take(newest);
        } else if (chunk.lowest_key <= last_key && chunk.highest_key >= first_key) {
            search(chunk, lowered, first_key, last_key, found);
            take(found);
        }
    }
    if (list.seqs.size() > limit) {
        list.seqs.resize(limit);
        list.complete = false;
    }
    return list;
}

}  // namespace annal::sqlite
