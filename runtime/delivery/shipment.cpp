#include "runtime/delivery/shipment.h"

#include <algorithm>

#include "runtime/plugin/format_document.h"

namespace annal {
namespace {

constexpr std::size_t kPayloadBytesMax = 64U << 20;
constexpr std::size_t kDigestInKey = 16;  // hex digits: enough to tell two plans of one range apart

const annal_sink_v1& table_of(const Instance& sink) {
    return sink.table<annal_sink_v1>();
}

void add(Sha256& hash, std::string_view text) {
    const std::uint64_t size = text.size();
    hash.update({reinterpret_cast<const char*>(&size), sizeof(size)}).update(text);
}

/// Of a sink without encode: what the batch says.
Digest digest_of(const std::vector<Event>& events) {
    Sha256 hash;
    for (const Event& event : events) {
        add(hash, event.id.text());
        hash.update(event.deleted ? "-" : "+");
        for (const Text& text : event.columns) {
            hash.update(text.is_null() ? "0" : "1");
            add(hash, text.view());
        }
    }
    return hash.finish();
}

}  // namespace

Shipment::Shipment(const StreamDefinition& stream)
    : project_(stream.project),
      stream_id_(stream.known_as),
      revision_(stream.revision),
      call_(std::make_shared<Call>(call_options())),
      payload_(kPayloadBytesMax) {}

Call::Options Shipment::call_options() const {
    Call::Options options;
    options.project = project_;
    options.actor_type = "system";
    return options;
}

Result<std::shared_ptr<Shipment>> Shipment::pack(
    const StreamDefinition& stream, const Outlet& outlet, EventBatch events, bool whole
) {
    auto shipment = std::shared_ptr<Shipment>(new Shipment(stream));
    shipment->events_ = std::move(events);
    auto& list = shipment->events_.events;
    for (;;) {
        const auto encoded = shipment->encode(outlet);
        const bool too_large = !encoded && encoded.error().code == Errc::too_large;
        if (!encoded && (!too_large || whole || list.size() == 1)) return encoded.error();
        const std::size_t fits =
            too_large ? list.size() / 2 : shipment->fitting(stream.batch_bytes_max);
        if (!too_large && (whole || fits == list.size())) break;
        list.resize(std::max<std::size_t>(1, fits));
    }
    shipment->make_plan(outlet);
    return shipment;
}

/// How many leading events are within `bytes_max`. A single one goes whatever its size.
std::size_t Shipment::fitting(std::uint64_t bytes_max) const {
    const std::size_t count = events_.events.size();
    if (count == 1 || payload_.view().size() <= bytes_max) return count;
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), bytes_max);
    const auto fits = static_cast<std::size_t>(end - ends_.begin());
    return std::min(count - 1, std::max<std::size_t>(1, fits));
}

Result<void> Shipment::encode(const Outlet& outlet) {
    batch_ = *to_abi(*call_, project_, events_.events);
    payload_.clear();
    if (outlet.format) return encode_by(*outlet.format);
    const Instance& sink = *outlet.sink;
    if (!ANNAL_HAS(&table_of(sink), annal_sink_v1, encode)) return ok();
    ends_.assign(events_.events.size(), 0);
    const annal_writer writer = payload_.writer();
    annal_error error{};
    error.struct_size = sizeof(error);
    error.code = table_of(sink).encode(sink.self(), &batch_, &writer, ends_.data(), &error);
    if (error.code != ANNAL_OK) return to_error(error);
    return ok();
}

/// What stands around the events belongs to the first and to the last of them.
Result<void> Shipment::encode_by(const Instance& format) {
    FormatDocument document(format, payload_);
    BOOST_OUTCOME_TRYV(document.begin({}));
    ends_.clear();
    annal_batch one = batch_;
    one.count = 1;
    for (std::uint32_t i = 0; i < batch_.count; ++i) {
        one.events = ANNAL_AT(annal_event, batch_.events, batch_.stride, i);
        BOOST_OUTCOME_TRYV(document.encode(one));
        ends_.push_back(payload_.view().size());
    }
    BOOST_OUTCOME_TRYV(document.end());
    ends_.back() = payload_.view().size();
    content_type_ = document.content_type();
    file_extension_ = document.extension();
    return ok();
}

void Shipment::make_plan(const Outlet& outlet) {
    const auto& list = events_.events;
    const auto writer = [](const Instance& instance) {
        const annal_module& module = *instance.module().descriptor;
        return std::string(module.id) + " " + module.version;
    };
    plan_.first = list.front().seq;
    plan_.last = list.back().seq;
    plan_.events = static_cast<std::uint32_t>(list.size());
    plan_.encoder =
        writer(outlet.format ? *outlet.format : *outlet.sink) + " r" + std::to_string(revision_);
    plan_.digest = ends_.empty() ? digest_of(list) : sha256(payload_.view());
    idempotency_key_ = stream_id_ + "/" + std::to_string(plan_.first) + "-" +
                       std::to_string(plan_.last) + "/" +
                       to_hex(plan_.digest).substr(0, kDigestInKey);
}

void Shipment::begin(Attempt attempt) {
    const std::string_view bytes = payload_.view();
    annal_delivery& d = delivery_;
    d = annal_delivery{};
    d.struct_size = sizeof(d);
    d.attempt = attempt.number;
    d.batch = &batch_;
    d.payload = {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
    d.ends = ends_.empty() ? nullptr : ends_.data();
    d.idempotency_key = to_abi(std::string_view(idempotency_key_));
    d.deadline_us = attempt.deadline_us;
    d.d = this;
    d.done = &take_report;
    d.stream = to_abi(std::string_view(stream_id_));
    d.fence = attempt.fence;
    d.content_type = to_abi(std::string_view(content_type_));
    d.file_extension = to_abi(std::string_view(file_extension_));
    Call::Options options = call_options();
    options.deadline_us = attempt.deadline_us;
    options.cancelled = std::move(attempt.cancelled);
    attempt_call_ = std::make_shared<Call>(std::move(options));
    d.call = attempt_call_->open();
    const std::lock_guard lock(mutex_);
    reported_ = false;
    self_ = shared_from_this();
    on_report_ = std::move(attempt.reported);
}

void Shipment::send(const Instance& sink) {
    table_of(sink).send(sink.self(), &delivery_);
}

void Shipment::verify(const Instance& sink) {
    table_of(sink).verify(sink.self(), &delivery_);
}

void Shipment::refuse(const std::string& why) {
    annal_error error{};
    error.struct_size = sizeof(error);
    error.code = ANNAL_UNAVAILABLE;
    error.text_len = static_cast<std::uint32_t>(std::min(why.size(), sizeof(error.text)));
    why.copy(error.text, error.text_len);
    take_report(this, ANNAL_RETRY, nullptr, 0, &error);
}

void Shipment::take_report(
    void* d,
    std::uint32_t fallback,
    const annal_verdict* exceptions,
    std::uint32_t count,
    const annal_error* error
) {
    auto* shipment = static_cast<Shipment*>(d);
    std::function<void()> tell;
    std::shared_ptr<Shipment> self;
    std::shared_ptr<Call> call;
    {
        const std::lock_guard lock(shipment->mutex_);
        if (shipment->reported_) return;  // a second report of one attempt changes nothing
        shipment->reported_ = true;
        shipment->report_ =
            Report::of(fallback, exceptions, count, error, shipment->events_.events.size());
        tell = std::move(shipment->on_report_);
        self = std::move(shipment->self_);
        call = shipment->attempt_call_;
    }
    call->complete(nullptr);
    if (tell) tell();
}

bool Shipment::is_reported() const {
    const std::lock_guard lock(mutex_);
    return reported_;
}

Report Shipment::report() const {
    const std::lock_guard lock(mutex_);
    return report_;
}

}  // namespace annal
