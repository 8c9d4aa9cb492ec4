#include "runtime/store/sqlite/committed.h"

namespace annal::sqlite {

LogHead Committed::head(const std::string& project) {
    const auto log = catalog_.view(project);
    return log ? log->head : LogHead{};
}

Result<std::optional<KeyRecord>> Committed::key(const KeyName& name) {
    return keys_.find(name, now_);
}

Result<std::optional<std::string>> Committed::kv(const KvName& name) {
    const auto& [space, project, key] = name;
    return control_.kv(space, project, key);
}

Result<bool> Committed::is_live(const std::string& project, Seq seq) {
    const auto log = catalog_.view(project);
    const Span* const span = log ? log->span_of(seq) : nullptr;
    if (span == nullptr) {
        return false;
    }
    const std::int64_t key = row_key(span->pid, seq);
    const auto erasing = span->segment->erasing();
    if (Segment::is_whole(erasing.get(), key)) {
        return false;
    }
    return has_content_(span->segment, key);
}

}  // namespace annal::sqlite
