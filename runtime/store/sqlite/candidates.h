#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/store/filter.h"
#include "runtime/store/sqlite/reader.h"

namespace annal::sqlite {

/// Finds, in one span, the seqs of events that may match a filter, by the index that promises the
/// fewest: postings in memory, an index of the segment, its trigrams, or its texts in memory. Every
/// match is among them, unless it is a tombstone.
///
/// Threads: the reader's. Good while the reader does nothing else but open this segment's files.
class Candidates {
public:
    /// @error Errc::unavailable  The segment can't be read; the detail names its file.
    [[nodiscard]] static Result<Candidates> choose(
        Reader& reader, const Span& span, const Filter& filter, const SeqRange& range
    );

    /// No index helps: look at the rows one by one.
    [[nodiscard]] bool all_rows() const { return kind_ == Kind::rows; }
    /// Whether the candidates of `range` are exactly the matches (but for the time of the event,
    /// which `range` stands for).
    [[nodiscard]] bool exact() const { return exact_; }
    [[nodiscard]] Result<SeqList> next(const SeqRange& range, std::size_t limit);
    /// Number of candidates in `range`.
    [[nodiscard]] Result<std::int64_t> count(const SeqRange& range);

private:
    enum class Kind { rows, column, actions, text, text_log };

    Candidates(Reader& reader, const Span& span) : reader_(&reader), span_(&span) {}
    void choose_text(const std::string& needle);
    [[nodiscard]] Result<void> choose_index(const Filter& filter, const SeqRange& range);
    /// Takes these values for the ones to go by if they are fewer than what was chosen before.
    [[nodiscard]] Result<void> offer(
        Kind kind,
        Column column,
        std::vector<std::string> values,
        const SeqRange& range,
        bool compare
    );
    [[nodiscard]] Result<std::optional<std::vector<std::string>>> expand_actions(
        const Filter& filter
    );
    [[nodiscard]] Result<std::optional<std::vector<std::string>>> actions_with(
        std::string_view prefix
    );
    [[nodiscard]] Result<std::int64_t> estimate(
        Column column, std::string_view value, const SeqRange& range
    );
    [[nodiscard]] Result<SeqList> find(
        Column column, std::string_view value, const SeqRange& range, std::size_t limit
    );
    [[nodiscard]] Result<SeqList> find_text(const SeqRange& range, std::size_t limit);
    [[nodiscard]] SeqList find_in_log(const SeqRange& range, std::size_t limit) const;
    [[nodiscard]] Result<SeqList> read_keys(Query& rows, std::size_t limit);

    Reader* reader_;
    const Span* span_;
    std::shared_ptr<Postings> postings_;
    bool indexed_ = false;
    Kind kind_ = Kind::rows;
    bool exact_ = false;
    std::int64_t fewest_ = 0;
    Column column_ = Column::action;
    std::vector<std::string> values_;  ///< of column_, any of them
    std::string match_;                ///< the search expression
    std::shared_ptr<TextLog> text_log_;
    std::string needle_;
};

/// The needle as an expression of trigrams that all must occur. Empty: it has fewer than three
/// characters.
[[nodiscard]] std::string trigrams_of(std::string_view needle);

}  // namespace annal::sqlite
