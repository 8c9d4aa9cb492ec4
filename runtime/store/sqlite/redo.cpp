#include "runtime/store/sqlite/redo.h"

#include <charconv>

#include "runtime/store/byte_codec.h"

namespace annal::sqlite {
namespace {

enum class Tag : std::int64_t { put = 1, erase_key = 2, cursor = 3, erasure = 4 };

}  // namespace

std::string ControlChanges::encode() const {
    std::string bytes;
    ByteWriter out(bytes);
    for (const KvOp& op : kv) {
        const bool put = op.kind == KvOp::Kind::put;
        out.number(static_cast<std::int64_t>(put ? Tag::put : Tag::erase_key));
        out.text(op.space);
        out.text(op.project);
        out.text(op.key);
        if (put) {
            out.text(op.value);
        }
    }
    for (const CursorMove& move : cursors) {
        out.number(static_cast<std::int64_t>(Tag::cursor));
        out.text(move.subscription);
        out.number(move.to);
    }
    for (const Erasure& erasure : erasures) {
        out.number(static_cast<std::int64_t>(Tag::erasure));
        out.number(erasure.segment);
        out.number(erasure.key);
    }
    return bytes;
}

Result<ControlChanges> ControlChanges::decode(std::string_view bytes) {
    ControlChanges changes;
    ByteReader in(bytes);
    while (in.good() && !in.at_end()) {
        const auto tag = static_cast<Tag>(in.number());
        if (tag == Tag::put || tag == Tag::erase_key) {
            KvOp op;
            op.kind = tag == Tag::put ? KvOp::Kind::put : KvOp::Kind::erase;
            op.space = in.text();
            op.project = in.text();
            op.key = in.text();
            op.value = tag == Tag::put ? in.text() : std::string_view();
            changes.kv.push_back(std::move(op));
        } else if (tag == Tag::cursor) {
            CursorMove move;
            move.subscription = in.text();
            move.to = in.number();
            changes.cursors.push_back(std::move(move));
        } else if (tag == Tag::erasure) {
            Erasure erasure;
            erasure.segment = in.number();
            erasure.key = in.number();
            changes.erasures.push_back(erasure);
        } else {
            return Error{Errc::internal, "a redo record has an unknown tag"};
        }
    }
    if (!in.good()) {
        return Error{Errc::internal, "a redo record is cut short"};
    }
    return changes;
}

KvOp scrub_row(const ControlChanges::Erasure& erasure) {
    return {
        KvOp::Kind::put,
        kScrubSpace,
        "",
        std::to_string(erasure.segment) + "/" + std::to_string(erasure.key),
        std::to_string(erasure.columns)};
}

Result<ControlChanges::Erasure> erasure_of(std::string_view key, std::string_view value) {
    ControlChanges::Erasure erasure;
    const auto read = [](std::string_view text, auto& number) {
        const auto end = std::from_chars(text.data(), text.data() + text.size(), number);
        return end.ec == std::errc() && end.ptr == text.data() + text.size();
    };
    const std::size_t slash = key.find('/');
    if (slash == std::string_view::npos || !read(key.substr(0, slash), erasure.segment) ||
        !read(key.substr(slash + 1), erasure.key) || !read(value, erasure.columns)) {
        return Error{Errc::internal, "a row of what has to be erased is damaged"};
    }
    return erasure;
}

}  // namespace annal::sqlite
