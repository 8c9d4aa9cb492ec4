#include "runtime/store/sqlite/candidates.h"

#include <algorithm>
#include <functional>

namespace annal::sqlite {
namespace {

constexpr std::int64_t kEstimateMax = 1'000;
constexpr std::size_t kActionArmsMax = 256;
constexpr std::size_t kTrigramsMax = 12;
// A value that every so-manieth event has is found as fast by looking at the rows.
constexpr std::int64_t kDenseEvery = 4;

struct ColumnSql {
    std::string estimate, count, newest, oldest;
};

ColumnSql make_sql(Column column) {
    const std::string index = "events INDEXED BY events_" + std::string(name(column));
    const std::string where =
        " WHERE " + std::string(name(column)) + " = ?1 AND key BETWEEN ?2 AND ?3";
    return {
        "SELECT count(*) FROM (SELECT 1 FROM " + index + where + " LIMIT ?4)",
        "SELECT count(*) FROM " + index + where,
        "SELECT key FROM " + index + where + " ORDER BY key DESC LIMIT ?4",
        "SELECT key FROM " + index + where + " ORDER BY key LIMIT ?4"};
}

const ColumnSql& sql_of(Column column) {
    static const auto all = [] {
        std::array<ColumnSql, kIndexedColumns> sql;
        for (std::size_t c = 0; c < kIndexedColumns; ++c) {
            sql[c] = make_sql(static_cast<Column>(c));
        }
        return sql;
    }();
    return all[static_cast<std::size_t>(column)];
}

constexpr const char* kNextAction =
    "SELECT action FROM events INDEXED BY events_action WHERE action > ? ORDER BY action LIMIT 1";
constexpr const char* kHasAction =
    "SELECT 1 FROM events INDEXED BY events_action WHERE action = ? LIMIT 1";
constexpr const char* kSearchNewest =
    "SELECT rowid FROM search WHERE search MATCH ?1 AND rowid BETWEEN ?2 AND ?3 "
    "ORDER BY rowid DESC LIMIT ?4";
constexpr const char* kSearchOldest =
    "SELECT rowid FROM search WHERE search MATCH ?1 AND rowid BETWEEN ?2 AND ?3 "
    "ORDER BY rowid LIMIT ?4";

std::vector<std::string_view> characters(std::string_view text) {
    std::vector<std::string_view> all;
    for (std::size_t i = 0; i < text.size();) {
        std::size_t size = 1;
        while (i + size < text.size() && (static_cast<unsigned char>(text[i + size]) & 0xC0) == 0x80
        ) {
            ++size;
        }
        all.push_back(text.substr(i, size));
        i += size;
    }
    return all;
}

bool lists_any(const Filter& filter) {
    return std::any_of(filter.actions.begin(), filter.actions.end(), [](const auto& pattern) {
        return pattern.kind == ActionPattern::Kind::any;
    });
}

bool selects_actions(const Filter& filter) {
    return (!filter.actions.empty() && !lists_any(filter)) || filter.action_prefix;
}

/// Parts of a filter that an index can find.
std::size_t indexed_terms(const Filter& filter) {
    const auto set = std::count_if(
        filter.equals.begin(),
        filter.equals.begin() + kIndexedColumns,
        [](const auto& value) { return value.has_value(); }
    );
    return static_cast<std::size_t>(set) + (selects_actions(filter) ? 1 : 0);
}

/// Parts that only the event itself can answer; created_at is a range of seqs.
bool has_other_terms(const Filter& filter) {
    return filter.occurred_from || filter.occurred_before || filter.text ||
           std::any_of(
               filter.equals.begin() + kIndexedColumns,
               filter.equals.end(),
               [](const auto& value) { return value.has_value(); }
           );
}

}  // namespace

std::string trigrams_of(std::string_view needle) {
    const auto chars = characters(needle);
    if (chars.size() < 3) {
        return {};
    }
    const std::size_t last = chars.size() - 3;
    // Every third trigram and the last cover the needle; of a long one the first dozen will do.
    std::vector<std::size_t> starts;
    for (std::size_t i = 0; i < last && starts.size() < kTrigramsMax; i += 3) {
        starts.push_back(i);
    }
    starts.push_back(last);
    std::string expression;
    for (const std::size_t start : starts) {
        expression += expression.empty() ? "\"" : " AND \"";
        for (std::size_t i = start; i < start + 3; ++i) {
            expression += chars[i] == "\"" ? std::string_view("\"\"") : chars[i];
        }
        expression += '"';
    }
    return expression;
}

Result<Candidates> Candidates::choose(
    Reader& reader, const Span& span, const Filter& filter, const SeqRange& range
) {
    Candidates chosen(reader, span);
    // In this order: a segment gives up its postings only once its indexes are there.
    chosen.postings_ = span.segment->postings();
    chosen.indexed_ = chosen.postings_ == nullptr && span.segment->indexed;
    if (chosen.postings_ != nullptr || chosen.indexed_) {
        BOOST_OUTCOME_TRY(chosen.choose_index(filter, range));
    }
    if (filter.text && (chosen.kind_ == Kind::rows || chosen.fewest_ > kEstimateMax)) {
        chosen.choose_text(*filter.text);
    }
    return chosen;
}

void Candidates::choose_text(const std::string& needle) {
    // In this order: a segment gives up its texts only once its sidecar is there, or for good.
    text_log_ = span_->segment->text_log();
    if (text_log_ != nullptr) {
        kind_ = Kind::text_log;
        needle_ = needle;
        return;
    }
    match_ = span_->segment->searchable ? trigrams_of(needle) : std::string();
    if (!match_.empty()) {
        kind_ = Kind::text;
    }
}

Result<void> Candidates::choose_index(const Filter& filter, const SeqRange& range) {
    const std::size_t terms = indexed_terms(filter);
    // One term needs no comparison, and on disk an estimate costs as much as the first page.
    const bool compare = terms > 1 || filter.text || postings_ != nullptr;
    for (std::size_t c = 0; c < kIndexedColumns; ++c) {
        if (filter.equals[c]) {
            BOOST_OUTCOME_TRY(
                offer(Kind::column, static_cast<Column>(c), {*filter.equals[c]}, range, compare)
            );
        }
    }
    if (selects_actions(filter) && (kind_ == Kind::rows || fewest_ > 0)) {
        BOOST_OUTCOME_TRY(auto actions, expand_actions(filter));
        if (actions) {
            BOOST_OUTCOME_TRY(
                offer(Kind::actions, Column::action, std::move(*actions), range, compare)
            );
        }
    }
    exact_ = kind_ != Kind::rows && terms == 1 && !has_other_terms(filter);
    // The rows of an unsealed segment are near: for a dense value the way through memory is not
    // worth it.
    if (postings_ != nullptr && !exact_ &&
        fewest_ * kDenseEvery > span_->last_seq - span_->first_seq + 1) {
        kind_ = Kind::rows;
    }
    return ok();
}

Result<void> Candidates::offer(
    Kind kind, Column column, std::vector<std::string> values, const SeqRange& range, bool compare
) {
    std::int64_t found = 0;
    if (compare) {
        for (const std::string& value : values) {
            BOOST_OUTCOME_TRY(const auto some, estimate(column, value, range));
            found += some;
        }
    }
    if (kind_ == Kind::rows || found < fewest_) {
        kind_ = kind;
        column_ = column;
        values_ = std::move(values);
        fewest_ = found;
    }
    return ok();
}

Result<std::int64_t> Candidates::estimate(
    Column column, std::string_view value, const SeqRange& range
) {
    if (postings_ != nullptr) {
        return static_cast<std::int64_t>(postings_->estimate(span_->pid, column, value));
    }
    BOOST_OUTCOME_TRY(auto* db, reader_->events(span_->segment));
    BOOST_OUTCOME_TRY(auto rows, db->query(sql_of(column).estimate));
    rows.bind_all(
        value, row_key(span_->pid, range.first), row_key(span_->pid, range.last), kEstimateMax + 1
    );
    BOOST_OUTCOME_TRY(rows.next());
    return rows.integer(0);
}

Result<std::optional<std::vector<std::string>>> Candidates::actions_with(std::string_view prefix) {
    if (postings_ != nullptr) {
        return postings_->actions(span_->pid, prefix, kActionArmsMax);
    }
    std::vector<std::string> names;
    BOOST_OUTCOME_TRY(auto* db, reader_->events(span_->segment));
    BOOST_OUTCOME_TRY(auto self, db->query(kHasAction));
    self.bind_all(prefix);
    BOOST_OUTCOME_TRY(const bool is_one, self.next());
    if (is_one) {
        names.emplace_back(prefix);
    }
    std::string last(prefix);
    while (names.size() <= kActionArmsMax) {
        BOOST_OUTCOME_TRY(auto rows, db->query(kNextAction));
        rows.bind_all(std::string_view(last));
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row || !rows.text(0).view().starts_with(prefix)) {
            return std::optional(std::move(names));
        }
        names.emplace_back(rows.text(0).view());
        last = names.back();
    }
    return std::optional<std::vector<std::string>>();
}

// The actions of this span that both the patterns and the prefix allow. nullopt: there are too
// many.
Result<std::optional<std::vector<std::string>>> Candidates::expand_actions(const Filter& filter) {
    using Names = std::optional<std::vector<std::string>>;
    std::vector<std::string> names;
    if (filter.actions.empty() || lists_any(filter)) {
        return actions_with(*filter.action_prefix);
    }
    for (const ActionPattern& pattern : filter.actions) {
        if (pattern.kind == ActionPattern::Kind::exact) {
            names.push_back(pattern.text);
            continue;
        }
        BOOST_OUTCOME_TRY(auto some, actions_with(pattern.text));
        if (!some) {
            return Names();
        }
        names.insert(names.end(), some->begin(), some->end());
    }
    if (filter.action_prefix) {
        std::erase_if(names, [&](const std::string& action) {
            return !action.starts_with(*filter.action_prefix);
        });
    }
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return names.size() > kActionArmsMax ? Names() : Names(std::move(names));
}

Result<SeqList> Candidates::next(const SeqRange& range, std::size_t limit) {
    if (kind_ == Kind::text) {
        return find_text(range, limit);
    }
    if (kind_ == Kind::text_log) {
        return find_in_log(range, limit);
    }
    if (values_.size() == 1) {
        return find(column_, values_.front(), range, limit);
    }
    SeqList merged;
    for (const std::string& value : values_) {
        BOOST_OUTCOME_TRY(auto arm, find(column_, value, range, limit));
        merged.complete = merged.complete && arm.complete;
        merged.seqs.insert(merged.seqs.end(), arm.seqs.begin(), arm.seqs.end());
    }
    if (range.newest_first) {
        std::sort(merged.seqs.begin(), merged.seqs.end(), std::greater<>());
    } else {
        std::sort(merged.seqs.begin(), merged.seqs.end());
    }
    if (merged.seqs.size() > limit) {
        merged.seqs.resize(limit);
        merged.complete = false;
    }
    return merged;
}

Result<SeqList> Candidates::find(
    Column column, std::string_view value, const SeqRange& range, std::size_t limit
) {
    if (postings_ != nullptr) {
        return postings_->find(span_->pid, column, value, range, limit);
    }
    BOOST_OUTCOME_TRY(auto* db, reader_->events(span_->segment));
    const ColumnSql& sql = sql_of(column);
    BOOST_OUTCOME_TRY(auto rows, db->query(range.newest_first ? sql.newest : sql.oldest));
    rows.bind_all(
        value,
        row_key(span_->pid, range.first),
        row_key(span_->pid, range.last),
        static_cast<std::int64_t>(limit) + 1
    );
    return read_keys(rows, limit);
}

Result<SeqList> Candidates::find_text(const SeqRange& range, std::size_t limit) {
    BOOST_OUTCOME_TRY(auto* db, reader_->search(span_->segment));
    BOOST_OUTCOME_TRY(auto rows, db->query(range.newest_first ? kSearchNewest : kSearchOldest));
    rows.bind_all(
        std::string_view(match_),
        row_key(span_->pid, range.first),
        row_key(span_->pid, range.last),
        static_cast<std::int64_t>(limit) + 1
    );
    return read_keys(rows, limit);
}

SeqList Candidates::find_in_log(const SeqRange& range, std::size_t limit) const {
    if (auto found = text_log_->find(span_->pid, needle_, range, limit)) {
        return std::move(*found);
    }
    // It has given up since it was chosen: any event may match.
    SeqList all;
    for (Seq i = 0; i <= range.last - range.first; ++i) {
        if (all.seqs.size() == limit) {
            all.complete = false;
            break;
        }
        all.seqs.push_back(range.newest_first ? range.last - i : range.first + i);
    }
    return all;
}

Result<SeqList> Candidates::read_keys(Query& rows, std::size_t limit) {
    SeqList list;
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            return list;
        }
        if (list.seqs.size() == limit) {
            list.complete = false;
            return list;
        }
        list.seqs.push_back(seq_of(rows.integer(0)));
    }
}

Result<std::int64_t> Candidates::count(const SeqRange& range) {
    std::int64_t total = 0;
    if (postings_ != nullptr) {
        for (const std::string& value : values_) {
            total += static_cast<std::int64_t>(
                postings_->find(span_->pid, column_, value, range, SIZE_MAX).seqs.size()
            );
        }
        return total;
    }
    for (const std::string& value : values_) {
        BOOST_OUTCOME_TRY(auto* db, reader_->events(span_->segment));
        BOOST_OUTCOME_TRY(auto rows, db->query(sql_of(column_).count));
        rows.bind_all(
            std::string_view(value),
            row_key(span_->pid, range.first),
            row_key(span_->pid, range.last)
        );
        BOOST_OUTCOME_TRY(rows.next());
        total += rows.integer(0);
    }
    return total;
}

}  // namespace annal::sqlite
