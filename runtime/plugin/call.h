#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "annal/abi.h"
#include "runtime/core/result.h"
#include "runtime/event/event.h"

namespace annal {

/// One call into a plugin that is in flight: what `annal_call*` stands for. It lives until the
/// plugin completes it.
///
/// The handle is a number that is never used twice, not an address: a plugin that goes on using one
/// after its completion meets a dead handle, never another call's memory.
///
/// Threads: `allocate`, `keep`, `cancelled` and `complete` from any thread.
class Call : public std::enable_shared_from_this<Call> {
public:
    struct Options {
        std::string project;     ///< whose data the call may touch
        std::string actor_type;  ///< who acts, for events that services record: "api_key", "system"
        std::string actor_id;
        std::uint16_t owner = 0;  ///< `owner_of` the instance, to name it when it misuses the call
        std::uint64_t arena_bytes_max = 64ULL << 20;
        std::int64_t deadline_us = INT64_MAX;  ///< monotonic
        std::function<bool()> cancelled;       ///< more reasons to stop; may be empty
        std::function<void(const annal_error*)>
            on_complete;  ///< called exactly once; null error: success
    };
    explicit Call(Options options) : options_(std::move(options)) {}

    /// A small number for an instance's name; the same name gives the same number. Takes a lock:
    /// ask once, not per call.
    [[nodiscard]] static std::uint16_t owner_of(const std::string& instance);

    /// The handle for the plugin. Keeps the call alive until `complete`.
    [[nodiscard]] annal_call* open();
    /// The call behind a handle that is known to be in flight; ends the process when it is not.
    [[nodiscard]] static Call& of(annal_call* handle);
    /// The call behind a handle that a plugin gave; null when it is none, or completed.
    [[nodiscard]] static std::shared_ptr<Call> share(annal_call* handle);
    /// What `annal_host::complete` does: ends the call, or logs that it had ended before.
    static void complete(annal_call* handle, const annal_error* error);

    /// Null when the arena's limit would be exceeded or `align` is not a power of two up to 4096.
    [[nodiscard]] void* allocate(std::size_t size, std::size_t align);
    /// Keeps `object` alive as long as the call: batches that borrowed pages point into.
    void keep(std::shared_ptr<const void> object);
    /// Into the arena. A null text when its limit is reached.
    [[nodiscard]] annal_str copy(std::string_view text);

    /// Validated events that the codec handed out, `count` from `first`, `stride` bytes apart;
    /// `memory` is all they need. Of what one call accumulates, only the newest kParsedBytesMax
    /// stay: a body without end is appended chunk by chunk.
    void keep_parsed(
        const annal_event* first,
        std::uint32_t stride,
        std::uint32_t count,
        std::size_t bytes,
        std::shared_ptr<const void> memory
    );
    /// The memory behind an array of events that lies wholly within one that the codec handed out:
    /// it needs no second check. Null otherwise.
    [[nodiscard]] std::shared_ptr<const void> parsed_memory(
        const annal_event* first, std::uint32_t stride, std::uint32_t count
    );
    static constexpr std::size_t kParsedBytesMax = 32U << 20;

    [[nodiscard]] bool cancelled() const;
    /// What a job's run has to show, for whoever waits for its completion. At most kReportBytesMax.
    void set_report(std::string json);
    [[nodiscard]] std::string report() const;
    static constexpr std::size_t kReportBytesMax = 1U << 20;

    /// A second completion of one call is a defect of the plugin: logged, otherwise ignored.
    void complete(const annal_error* error);
    [[nodiscard]] const Options& options() const { return options_; }

private:
    struct Parsed {
        const annal_event* first;
        std::uint32_t stride, count;
        std::size_t bytes;
        std::shared_ptr<const void> memory;
    };

    Options options_;
    mutable std::mutex mutex_;
    Arena arena_;
    std::vector<std::shared_ptr<const void>> kept_;
    std::deque<Parsed> parsed_;
    std::string report_;
    std::size_t parsed_bytes_ = 0;
    std::atomic<annal_call*> handle_{nullptr};
    std::atomic<bool> completed_{false};
};

// Between the host's types and the contract's.
[[nodiscard]] inline annal_str to_abi(std::string_view text) {
    return {text.data() ? text.data() : "", text.size()};
}
[[nodiscard]] inline annal_str to_abi(const Text& text) {
    return text.is_null() ? annal_str{nullptr, 0} : to_abi(text.view());
}
[[nodiscard]] inline Text to_text(annal_str s) {
    return s.ptr ? Text(std::string_view(s.ptr, s.len)) : Text();
}
[[nodiscard]] inline std::string_view to_view(annal_str s) {
    return {s.ptr ? s.ptr : "", s.ptr ? s.len : 0};
}
[[nodiscard]] annal_error to_abi(const Error& error);
/// Never trusts the plugin: unknown codes are internal, lengths are clamped, text that is not UTF-8
/// is dropped.
[[nodiscard]] Error to_error(const annal_error& error);
/// `id_text` is 30 bytes that live as long as the result.
[[nodiscard]] annal_event to_abi(const Event& event, std::string_view id_text);
/// `events` as the contract's array, in the arena of `call`; null when its limit is reached. Text
/// stays where it is.
[[nodiscard]] const annal_batch* to_abi(
    Call& call, std::string_view project, const std::vector<Event>& events
);
[[nodiscard]] EventDraft to_draft(const annal_event& event);

/// Events as the contract's array, for the time of a callback. Text stays where it is.
class BatchView {
public:
    /// At most `count_max` events will be added.
    BatchView(std::string_view project, std::size_t count_max);
    void add(const Event& event);
    /// Valid until the view ends or is added to.
    [[nodiscard]] const annal_batch* get();
    [[nodiscard]] std::size_t size() const { return rows_.size(); }
    void clear();

private:
    std::string project_;
    std::vector<annal_event> rows_;
    std::vector<std::string> ids_;
    annal_batch batch_{};
};

/// A growing buffer behind an `annal_writer`.
class WriteBuffer {
public:
    explicit WriteBuffer(std::size_t bytes_max) : bytes_max_(bytes_max) {}
    WriteBuffer(const WriteBuffer&) = delete;
    WriteBuffer& operator=(const WriteBuffer&) = delete;
    /// Valid as long as the buffer stays where it is.
    [[nodiscard]] annal_writer writer();
    [[nodiscard]] std::string_view view() const { return {data_.data(), size_}; }
    void clear() { size_ = 0; }

private:
    static std::uint8_t* reserve(void* self, std::size_t min, std::size_t* cap);
    static void commit(void* self, std::size_t n);

    std::string data_;
    std::size_t size_ = 0;
    std::size_t bytes_max_;
};

}  // namespace annal
