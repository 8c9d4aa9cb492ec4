#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/clock.h"
#include "runtime/core/event_id.h"

namespace annal {

/// One column of text: null, or borrowed UTF-8. Null differs from empty.
class Text {
public:
    constexpr Text() = default;
    constexpr Text(std::string_view text)
        : data_(text.data() ? text.data() : ""), size_(text.size()) {}
    constexpr Text(const char* text) : Text(std::string_view(text)) {}
    Text(const std::string& text) : Text(std::string_view(text)) {}
    [[nodiscard]] constexpr bool is_null() const { return data_ == nullptr; }
    [[nodiscard]] constexpr std::string_view view() const { return {data_ ? data_ : "", size_}; }
    [[nodiscard]] constexpr std::size_t size() const { return size_; }
    /// Null equals null only.
    friend constexpr bool operator==(const Text& a, const Text& b) {
        return a.is_null() == b.is_null() && a.view() == b.view();
    }

private:
    const char* data_ = nullptr;
    std::size_t size_ = 0;
};

/// The text columns of an event, in the order of its canonical bytes. Never reorder; add at the end
/// only.
enum class Column : std::uint8_t {
    external_id,
    action,
    actor_type,
    actor_id,
    actor_email,
    auth_type,
    user_id,
    organization_id,
    client_id,
    issuer_id,
    agent_id,
    target_type,
    target_id,
    ip,
    user_agent,
    description,
    metadata,
};
inline constexpr std::size_t kColumns = 17;
/// The column's name in SQL and JSON: "actor_type".
[[nodiscard]] std::string_view name(Column column);
/// Longest value in bytes that the column takes.
[[nodiscard]] std::size_t size_max(Column column);

/// What a caller says about an event, validated; what the server adds comes with the append.
/// Borrowed.
struct EventDraft {
    std::array<Text, kColumns> columns{};
    TimeUs occurred_at = kNoTime;
    Text idempotency_key;

    [[nodiscard]] const Text& operator[](Column c) const {
        return columns[static_cast<std::size_t>(c)];
    }
    [[nodiscard]] Text& operator[](Column c) { return columns[static_cast<std::size_t>(c)]; }
    /// Bytes it counts against a queue's limit.
    [[nodiscard]] std::size_t weight() const;
};

/// One stored event. Text is borrowed from the `EventBatch` that holds it.
struct Event {
    EventId id;
    Seq seq = kNoSeq;
    TimeUs created_at = kNoTime;
    TimeUs occurred_at = kNoTime;  ///< kNoTime when not claimed; readers fall back to created_at
    std::string_view project_id;
    std::array<Text, kColumns> columns{};
    bool deleted = false;  ///< a tombstone: every column is null
    bool erased = false;   ///< personal data is gone from it, and its salt; the rest is as it was

    [[nodiscard]] const Text& operator[](Column c) const {
        return columns[static_cast<std::size_t>(c)];
    }
    [[nodiscard]] Text& operator[](Column c) { return columns[static_cast<std::size_t>(c)]; }
};

/// Bump allocator for the text of a batch. Not thread-safe; move-only: a moved-from arena is empty
/// and usable.
class Arena {
public:
    Arena() = default;
    Arena(Arena&& other) noexcept;
    Arena& operator=(Arena&& other) noexcept;

    [[nodiscard]] void* allocate(std::size_t size, std::size_t align);
    [[nodiscard]] std::string_view copy(std::string_view text);
    [[nodiscard]] Text copy(const Text& text) {
        return text.is_null() ? Text() : Text(copy(text.view()));
    }
    [[nodiscard]] std::size_t bytes() const { return bytes_; }

private:
    void* allocate_block(std::size_t size);

    std::vector<std::unique_ptr<std::byte[]>> blocks_;
    std::byte* next_ = nullptr;
    std::size_t room_ = 0;
    std::size_t bytes_ = 0;
};

/// Events together with the memory of their text. Move-only.
struct EventBatch {
    std::vector<Event> events;
    Arena arena;
};

}  // namespace annal
