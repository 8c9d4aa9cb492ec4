#include "runtime/delivery/settlement.h"

#include "runtime/plugin/call.h"

namespace annal {
namespace {

Verdict to_verdict(std::uint32_t verdict) {
    switch (verdict) {
        case ANNAL_DELIVERED:
            return Verdict::delivered;
        case ANNAL_REJECT:
            return Verdict::reject;
        case ANNAL_PAUSE:
            return Verdict::pause;
        default:
            return Verdict::retry;
    }
}

Settlement::Next next_after(Verdict verdict) {
    switch (verdict) {
        case Verdict::delivered:
            return Settlement::Next::go_on;
        case Verdict::reject:
            return Settlement::Next::bisect;
        case Verdict::pause:
            return Settlement::Next::fail;
        case Verdict::retry:
            break;
    }
    return Settlement::Next::retry;
}

bool is_final(Verdict verdict) {
    return verdict == Verdict::delivered || verdict == Verdict::reject;
}

/// Looks verdicts up by index. An event is refused by name when it is an exception, or alone.
class Reader {
public:
    Reader(const Report& report, std::size_t events) : report_(report), alone_(events == 1) {}

    [[nodiscard]] const Report::Exception* named(std::size_t index) const {
        const auto found = report_.exceptions.find(index);
        return found == report_.exceptions.end() ? nullptr : &found->second;
    }
    [[nodiscard]] Verdict verdict(std::size_t index) const {
        const auto* exception = named(index);
        return exception != nullptr ? exception->verdict : report_.fallback;
    }
    [[nodiscard]] bool is_settled(std::size_t index) const {
        const Verdict v = verdict(index);
        return v == Verdict::delivered ||
               (v == Verdict::reject && (alone_ || named(index) != nullptr));
    }
    [[nodiscard]] const std::string& why(std::size_t index) const {
        const auto* exception = named(index);
        return exception != nullptr && !exception->detail.empty() ? exception->detail
                                                                  : report_.detail;
    }

private:
    const Report& report_;
    const bool alone_;
};

}  // namespace

const char* word(Verdict verdict) {
    switch (verdict) {
        case Verdict::delivered:
            return "delivered";
        case Verdict::reject:
            return "reject";
        case Verdict::pause:
            return "pause";
        case Verdict::retry:
            break;
    }
    return "retry";
}

Report Report::of(
    std::uint32_t fallback,
    const annal_verdict* exceptions,
    std::uint32_t count,
    const annal_error* error,
    std::size_t events
) {
    Report report;
    report.fallback = to_verdict(fallback);
    if (error != nullptr) {
        const Error given = to_error(*error);
        report.detail = given.detail;
        report.retry_after_ms = given.retry_after_ms;
    }
    for (std::uint32_t i = 0; i < count; ++i) {
        if (exceptions[i].index >= events)
            return retry("the sink reported an event that is not in the batch");
        Exception exception;
        exception.verdict = to_verdict(exceptions[i].verdict);
        exception.detail = std::string(to_view(exceptions[i].detail).substr(0, 1'024));
        report.exceptions[exceptions[i].index] = std::move(exception);
    }
    return report;
}

Report Report::retry(std::string why) {
    Report report;
    report.detail = std::move(why);
    return report;
}

Settlement settle(const Report& report, std::size_t events) {
    const Reader reader(report, events);
    Settlement out;
    while (out.settled < events && reader.is_settled(out.settled)) {
        if (reader.verdict(out.settled) == Verdict::reject)
            out.rejected.push_back({out.settled, reader.why(out.settled)});
        ++out.settled;
    }
    if (out.settled == events) return out;
    out.next = next_after(reader.verdict(out.settled));
    out.why = reader.why(out.settled);
    out.retry_after_ms = report.retry_after_ms;
    for (std::size_t i = out.settled + 1; i < events; ++i) {
        const bool known = is_final(reader.verdict(i)) && reader.is_settled(i);
        if (known) out.foretold[i] = {reader.verdict(i), reader.why(i)};
    }
    return out;
}

}  // namespace annal
