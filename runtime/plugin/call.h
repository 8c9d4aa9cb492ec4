#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "annal/abi.h"
#include "runtime/core/result.h"
#include "runtime/event/event.h"

namespace annal {

/// One call into a plugin that is in flight: what `annal_call*` points at. It lives until the plugin completes it.
///
/// Threads: `allocate`, `cancelled` and `complete` from any thread.
class Call : public std::enable_shared_from_this<Call> {
public:
    struct Options {
        std::string project;     ///< whose data the call may touch
        std::string actor_type;  ///< who acts, for events that services record: "api_key", "system"
        std::string actor_id;
        std::uint64_t arena_bytes_max = 64ULL << 20;
        std::int64_t deadline_us = INT64_MAX;  ///< monotonic
        std::function<bool()> cancelled;       ///< more reasons to stop; may be empty
        std::function<void(const annal_error*)> on_complete;  ///< called exactly once; null error: success
    };
    explicit Call(Options options) : options_(std::move(options)) {}

    /// The handle for the plugin. Keeps the call alive until `complete`.
    [[nodiscard]] annal_call* open();
    [[nodiscard]] static Call& of(annal_call* handle);
    [[nodiscard]] static std::shared_ptr<Call> share(annal_call* handle);

    [[nodiscard]] void* allocate(std::size_t size, std::size_t align);
    /// Keeps `object` alive as long as the call: batches that borrowed pages point into.
    void keep(std::shared_ptr<const void> object);
    [[nodiscard]] annal_str copy(std::string_view text);
    [[nodiscard]] bool cancelled() const;
    /// A second completion of one call is a defect of the plugin: logged, otherwise ignored.
    void complete(const annal_error* error);
    [[nodiscard]] const Options& options() const { return options_; }

private:
    Options options_;
    std::mutex mutex_;
    Arena arena_;
    std::vector<std::shared_ptr<const void>> kept_;
    std::shared_ptr<Call> self_;
    std::atomic<bool> completed_{false};
};

// Between the host's types and the contract's.
[[nodiscard]] inline annal_str to_abi(std::string_view text) { return {text.data() ? text.data() : "", text.size()}; }
[[nodiscard]] inline annal_str to_abi(const Text& text) { return text.is_null() ? annal_str{nullptr, 0} : to_abi(text.view()); }
[[nodiscard]] inline Text to_text(annal_str s) { return s.ptr ? Text(std::string_view(s.ptr, s.len)) : Text(); }
[[nodiscard]] inline std::string_view to_view(annal_str s) { return {s.ptr ? s.ptr : "", s.ptr ? s.len : 0}; }
[[nodiscard]] annal_error to_abi(const Error& error);
[[nodiscard]] Error to_error(const annal_error& error);
/// `id_text` is 30 bytes that live as long as the result.
[[nodiscard]] annal_event to_abi(const Event& event, std::string_view id_text);
/// Events of `batch` as the contract's array, in the arena of `call`.
[[nodiscard]] const annal_batch* to_abi(Call& call, std::string_view project, const std::vector<Event>& events);
[[nodiscard]] EventDraft to_draft(const annal_event& event);

/// A growing buffer behind an `annal_writer`.
class WriteBuffer {
public:
    explicit WriteBuffer(std::size_t bytes_max) : bytes_max_(bytes_max) {}
    [[nodiscard]] annal_writer writer();
    [[nodiscard]] std::string_view view() const { return {data_.data(), size_}; }
    void clear() { size_ = 0; }

private:
    std::string data_;
    std::size_t size_ = 0;
    std::size_t bytes_max_;
};

}  // namespace annal
