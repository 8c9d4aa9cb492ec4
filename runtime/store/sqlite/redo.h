#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/store/event_store.h"
#include "runtime/store/sqlite/directory.h"

namespace annal::sqlite {

/// What a commit does to control.db, as stored in the segment that the commit went to.
struct ControlChanges {
    struct Erasure {
        SegmentNumber segment = 0;
        std::int64_t key = 0;
    };
    std::vector<KvOp> kv;             ///< put and erase only
    std::vector<CursorMove> cursors;  ///< checked, by `cursor_row`; their fences are not kept
    std::vector<Erasure> erasures;    ///< in closed segments

    [[nodiscard]] bool empty() const { return kv.empty() && cursors.empty() && erasures.empty(); }
    [[nodiscard]] std::string encode() const;
    /// @error Errc::internal  Not made by `encode`.
    [[nodiscard]] static Result<ControlChanges> decode(std::string_view bytes);
};

/// Little-endian numbers and sized text, one after the other.
class ByteWriter {
public:
    explicit ByteWriter(std::string& out) : out_(out) {}
    void number(std::int64_t value);
    void text(std::string_view text);
    void raw(std::string_view bytes) { out_ += bytes; }

private:
    std::string& out_;
};

class ByteReader {
public:
    explicit ByteReader(std::string_view bytes) : left_(bytes) {}
    [[nodiscard]] bool at_end() const { return left_.empty(); }
    /// False from the first read beyond the end on; what is read then is zeros.
    [[nodiscard]] bool good() const { return good_; }
    std::int64_t number();
    std::string_view text();
    std::string_view raw(std::size_t size);

private:
    std::string_view left_;
    bool good_ = true;
};

}  // namespace annal::sqlite
