#include <algorithm>
#include <string>
#include <vector>

#include "runtime/core/json_text.h"
#include "runtime/core/log.h"
#include "runtime/plugin/call.h"
#include "runtime/plugin/services.h"

namespace annal {
namespace {

constexpr std::uint32_t kFieldsMax = 32;
constexpr std::size_t kKeyBytesMax = 64;
constexpr std::size_t kValueBytesMax = 1024;

log::Level to_level(std::int32_t level) {
    switch (level) {
        case ANNAL_LOG_DEBUG:
            return log::Level::debug;
        case ANNAL_LOG_INFO:
            return log::Level::info;
        case ANNAL_LOG_WARN:
            return log::Level::warn;
        default:
            return log::Level::error;
    }
}

std::string clean(annal_str text, std::size_t size_max) {
    std::string_view kept = to_view(text).substr(0, size_max);
    for (int i = 0; i < 3 && !is_utf8(kept) && !kept.empty(); ++i) kept.remove_suffix(1);
    return is_utf8(kept) ? std::string(kept) : "(not UTF-8)";
}

/// A plugin's key never shadows one of the line's own.
std::string clean_key(annal_str key) {
    std::string name = clean(key, kKeyBytesMax);
    const bool taken = name == "time" || name == "level" || name == "event" || name == "instance";
    return taken ? "plugin_" + name : name;
}

void write(
    annal_ctx* ctx,
    std::int32_t level,
    annal_str event,
    const annal_pair* fields,
    std::uint32_t count
) noexcept {
    const std::uint32_t kept = fields == nullptr ? 0 : std::min(count, kFieldsMax);
    std::vector<std::string> texts;
    texts.reserve(kept * 2U);
    std::vector<log::Field> line{{"instance", ctx->instance}};
    for (std::uint32_t i = 0; i < kept; ++i) {
        texts.push_back(clean_key(fields[i].key));
        texts.push_back(clean(fields[i].value, kValueBytesMax));
        line.emplace_back(texts[texts.size() - 2], texts.back());
    }
    const std::string name = clean(event, kKeyBytesMax * 2);
    log::write(to_level(level), name.empty() ? "plugin.log" : name, line);
}

}  // namespace

const annal_log_v1 kLogService{sizeof(annal_log_v1), 0, &write};

}  // namespace annal
