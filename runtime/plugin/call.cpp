#include "runtime/plugin/call.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <unordered_map>

#include "runtime/core/clock.h"
#include "runtime/core/fatal.h"
#include "runtime/core/json_text.h"
#include "runtime/core/log.h"

namespace annal {
namespace {

constexpr std::size_t kAlignMax = 4096;
constexpr int kOwnerShift = 48;

/// The calls in flight, by handle. A handle is the owner's number above a serial number.
class Registry {
public:
    static Registry& instance() {
        // Never destroyed: a plugin's thread may complete a call while the process ends.
        static auto& registry = *new Registry;
        return registry;
    }

    annal_call* add(std::shared_ptr<Call> call, std::uint16_t owner) {
        const std::uint64_t id =
            (std::uint64_t{owner} << kOwnerShift) | next_.fetch_add(1, std::memory_order_relaxed);
        Shard& shard = shard_of(id);
        const std::lock_guard lock(shard.mutex);
        shard.calls.emplace(id, std::move(call));
        return reinterpret_cast<annal_call*>(id);
    }

    std::shared_ptr<Call> find(annal_call* handle) {
        const auto id = reinterpret_cast<std::uint64_t>(handle);
        Shard& shard = shard_of(id);
        const std::lock_guard lock(shard.mutex);
        const auto found = shard.calls.find(id);
        return found == shard.calls.end() ? nullptr : found->second;
    }

    std::shared_ptr<Call> take(annal_call* handle) {
        const auto id = reinterpret_cast<std::uint64_t>(handle);
        Shard& shard = shard_of(id);
        const std::lock_guard lock(shard.mutex);
        const auto found = shard.calls.find(id);
        if (found == shard.calls.end()) return nullptr;
        auto call = std::move(found->second);
        shard.calls.erase(found);
        return call;
    }

    std::uint16_t owner_of(const std::string& instance) {
        const std::lock_guard lock(owners_mutex_);
        const auto found = std::find(owners_.begin(), owners_.end(), instance);
        if (found != owners_.end()) {
            return static_cast<std::uint16_t>(found - owners_.begin() + 1);
        }
        if (owners_.size() >= UINT16_MAX - 1U) return 0;
        owners_.push_back(instance);
        return static_cast<std::uint16_t>(owners_.size());
    }

    std::string owner_name(annal_call* handle) {
        const std::size_t owner = reinterpret_cast<std::uint64_t>(handle) >> kOwnerShift;
        const std::lock_guard lock(owners_mutex_);
        return owner == 0 || owner > owners_.size() ? "unknown" : owners_[owner - 1];
    }

private:
    struct alignas(64) Shard {
        std::mutex mutex;
        std::unordered_map<std::uint64_t, std::shared_ptr<Call>> calls;
    };
    Shard& shard_of(std::uint64_t id) { return shards_[id % shards_.size()]; }

    std::array<Shard, 16> shards_;
    std::atomic<std::uint64_t> next_{1};
    std::mutex owners_mutex_;
    std::vector<std::string> owners_;
};

void log_double_completion(annal_call* handle) {
    log::error(
        "plugin.call_completed_twice",
        {{"instance", Registry::instance().owner_name(handle)},
         {"detail",
          "the plugin completed a call that it had completed before; the second completion is "
          "ignored, its author should complete every call exactly once"}}
    );
}

/// The longest prefix of at most `size_max` bytes that does not cut a UTF-8 sequence.
std::string_view cut_utf8(std::string_view text, std::size_t size_max) {
    if (text.size() <= size_max) return text;
    std::size_t end = size_max;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
    return text.substr(0, end);
}

const SystemClock& system_clock() {
    static const SystemClock clock;
    return clock;
}

}  // namespace

std::uint16_t Call::owner_of(const std::string& instance) {
    return Registry::instance().owner_of(instance);
}

annal_call* Call::open() {
    annal_call* handle = Registry::instance().add(shared_from_this(), options_.owner);
    handle_.store(handle, std::memory_order_release);
    return handle;
}

Call& Call::of(annal_call* handle) {
    const auto call = share(handle);
    if (!call) fatal("plugin.call_unknown", "a handle of no call in flight was used by the host");
    return *call;
}

std::shared_ptr<Call> Call::share(annal_call* handle) {
    return Registry::instance().find(handle);
}

void Call::complete(annal_call* handle, const annal_error* error) {
    const auto call = Registry::instance().take(handle);
    if (!call) return log_double_completion(handle);
    call->complete(error);
}

void* Call::allocate(std::size_t size, std::size_t align) {
    if (!std::has_single_bit(align) || align > kAlignMax) return nullptr;
    const std::lock_guard lock(mutex_);
    const std::size_t room = options_.arena_bytes_max -
                             std::min<std::uint64_t>(arena_.bytes(), options_.arena_bytes_max);
    if (size > room || align > room - size) return nullptr;
    // The arena aligns for the fundamental types; what asks for more is placed within a larger
    // piece.
    if (align <= alignof(std::max_align_t))
        return arena_.allocate(std::max<std::size_t>(size, 1), align);
    const auto start = reinterpret_cast<std::uintptr_t>(arena_.allocate(size + align, 1));
    return reinterpret_cast<void*>((start + align - 1) & ~(align - 1));
}

void Call::keep(std::shared_ptr<const void> object) {
    const std::lock_guard lock(mutex_);
    kept_.push_back(std::move(object));
}

annal_str Call::copy(std::string_view text) {
    auto* room = static_cast<char*>(allocate(text.size(), 1));
    if (room == nullptr) return {nullptr, 0};
    if (!text.empty()) std::memcpy(room, text.data(), text.size());
    return {room, text.size()};
}

void Call::keep_parsed(
    const annal_event* first,
    std::uint32_t stride,
    std::uint32_t count,
    std::size_t bytes,
    std::shared_ptr<const void> memory
) {
    std::deque<Parsed> dropped;  // destroyed without the lock
    const std::lock_guard lock(mutex_);
    parsed_.push_back({first, stride, count, bytes, std::move(memory)});
    parsed_bytes_ += bytes;
    while (parsed_bytes_ > kParsedBytesMax && parsed_.size() > 1) {
        parsed_bytes_ -= parsed_.front().bytes;
        dropped.push_back(std::move(parsed_.front()));
        parsed_.pop_front();
    }
}

std::shared_ptr<const void> Call::parsed_memory(
    const annal_event* first, std::uint32_t stride, std::uint32_t count
) {
    const auto begin = reinterpret_cast<std::uintptr_t>(first);
    const std::lock_guard lock(mutex_);
    for (const Parsed& parsed : parsed_) {
        const auto base = reinterpret_cast<std::uintptr_t>(parsed.first);
        if (stride != parsed.stride || begin < base || (begin - base) % stride != 0) continue;
        if ((begin - base) / stride + count <= parsed.count) return parsed.memory;
    }
    return nullptr;
}

void Call::set_report(std::string json) {
    const std::lock_guard lock(mutex_);
    report_ = std::move(json);
}

std::string Call::report() const {
    const std::lock_guard lock(mutex_);
    return report_;
}

bool Call::cancelled() const {
    if (completed_.load(std::memory_order_acquire)) return true;
    if (options_.deadline_us != INT64_MAX &&
        system_clock().monotonic_us() >= options_.deadline_us) {
        return true;
    }
    return options_.cancelled && options_.cancelled();
}

void Call::complete(const annal_error* error) {
    annal_call* handle = handle_.load(std::memory_order_acquire);
    if (completed_.exchange(true, std::memory_order_acq_rel)) return log_double_completion(handle);
    const auto self = Registry::instance().take(handle);  // may be the last reference
    if (options_.on_complete) options_.on_complete(error);
}

annal_error to_abi(const Error& error) {
    annal_error out{};
    out.struct_size = sizeof(out);
    out.code = static_cast<annal_status>(error.code);
    out.retry_after_ms = error.retry_after_ms;
    std::string text = error.pointer.empty() ? error.detail : error.pointer + ": " + error.detail;
    const std::string_view kept = cut_utf8(text, sizeof(out.text));
    std::memcpy(out.text, kept.data(), kept.size());
    out.text_len = static_cast<std::uint32_t>(kept.size());
    return out;
}

Error to_error(const annal_error& error) {
    Error out;
    const bool known = error.code >= ANNAL_INVALID && error.code <= ANNAL_INTERNAL;
    out.code = known ? static_cast<Errc>(error.code) : Errc::internal;
    out.retry_after_ms = error.retry_after_ms;
    std::string_view text(error.text, std::min<std::size_t>(error.text_len, sizeof(error.text)));
    // A message that was cut at the buffer's end may end in the middle of a character.
    for (int i = 0; i < 3 && !is_utf8(text) && !text.empty(); ++i) text.remove_suffix(1);
    out.detail = is_utf8(text) ? std::string(text) : "the plugin's message is not UTF-8";
    return out;
}

annal_event to_abi(const Event& event, std::string_view id_text) {
    annal_event out{};
    out.seq = event.seq;
    out.created_at_us = event.created_at;
    out.occurred_at_us = event.occurred_at;
    out.flags = event.deleted  ? std::uint32_t{ANNAL_EVENT_DELETED}
                : event.erased ? std::uint32_t{ANNAL_EVENT_ERASED}
                               : 0U;
    out.id = to_abi(id_text);
    out.project_id = to_abi(event.project_id);
    // Same order as Column, which is never reordered.
    annal_str* const columns[kColumns] = {
        &out.external_id,
        &out.action,
        &out.actor_type,
        &out.actor_id,
        &out.actor_email,
        &out.auth_type,
        &out.user_id,
        &out.organization_id,
        &out.client_id,
        &out.issuer_id,
        &out.agent_id,
        &out.target_type,
        &out.target_id,
        &out.ip,
        &out.user_agent,
        &out.description,
        &out.metadata,
    };
    for (std::size_t i = 0; i < kColumns; ++i) *columns[i] = to_abi(event.columns[i]);
    return out;
}

const annal_batch* to_abi(Call& call, std::string_view project, const std::vector<Event>& events) {
    auto* batch =
        static_cast<annal_batch*>(call.allocate(sizeof(annal_batch), alignof(annal_batch)));
    auto* rows = static_cast<annal_event*>(
        call.allocate(sizeof(annal_event) * events.size(), alignof(annal_event))
    );
    const annal_str project_text = call.copy(project);
    if (batch == nullptr || rows == nullptr || project_text.ptr == nullptr) return nullptr;
    for (std::size_t i = 0; i < events.size(); ++i) {
        const annal_str id = call.copy(events[i].id.text());
        if (id.ptr == nullptr) return nullptr;
        rows[i] = to_abi(events[i], to_view(id));
    }
    *batch = {
        sizeof(annal_batch),
        static_cast<std::uint32_t>(events.size()),
        sizeof(annal_event),
        0,
        rows,
        project_text};
    return batch;
}

EventDraft to_draft(const annal_event& event) {
    EventDraft draft;
    const annal_str columns[kColumns] = {
        event.external_id,
        event.action,
        event.actor_type,
        event.actor_id,
        event.actor_email,
        event.auth_type,
        event.user_id,
        event.organization_id,
        event.client_id,
        event.issuer_id,
        event.agent_id,
        event.target_type,
        event.target_id,
        event.ip,
        event.user_agent,
        event.description,
        event.metadata,
    };
    for (std::size_t i = 0; i < kColumns; ++i) draft.columns[i] = to_text(columns[i]);
    draft.occurred_at = event.occurred_at_us;
    draft.idempotency_key = to_text(event.idempotency_key);
    return draft;
}

BatchView::BatchView(std::string_view project, std::size_t count_max) : project_(project) {
    rows_.reserve(count_max);
    ids_.reserve(count_max);
}

void BatchView::add(const Event& event) {
    // Ids are longer than the small-string buffer, so their text stays where it is when the list
    // grows.
    ids_.push_back(event.id.text());
    rows_.push_back(to_abi(event, ids_.back()));
}

const annal_batch* BatchView::get() {
    batch_ = {
        sizeof(annal_batch),
        static_cast<std::uint32_t>(rows_.size()),
        sizeof(annal_event),
        0,
        rows_.data(),
        to_abi(std::string_view(project_)),
    };
    return &batch_;
}

void BatchView::clear() {
    rows_.clear();
    ids_.clear();
}

annal_writer WriteBuffer::writer() {
    return {sizeof(annal_writer), 0, this, &reserve, &commit};
}

std::uint8_t* WriteBuffer::reserve(void* self, std::size_t min, std::size_t* cap) {
    auto& buffer = *static_cast<WriteBuffer*>(self);
    if (min > buffer.bytes_max_ - buffer.size_) return nullptr;
    if (buffer.data_.size() - buffer.size_ < std::max<std::size_t>(min, 1)) {
        const std::size_t wanted =
            std::max<std::size_t>({buffer.size_ + min, buffer.data_.size() * 2, 4096});
        buffer.data_.resize(std::min(wanted, buffer.bytes_max_));
    }
    *cap = buffer.data_.size() - buffer.size_;
    return reinterpret_cast<std::uint8_t*>(buffer.data_.data()) + buffer.size_;
}

void WriteBuffer::commit(void* self, std::size_t n) {
    auto& buffer = *static_cast<WriteBuffer*>(self);
    const std::size_t room = buffer.data_.size() - buffer.size_;
    if (n > room) {
        // The plugin has written behind the end of what it was given: memory can't be trusted any
        // more.
        fatal("plugin.writer_overrun", "a plugin committed more bytes than it had reserved");
    }
    buffer.size_ += n;
}

}  // namespace annal
