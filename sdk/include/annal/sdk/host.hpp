#pragma once

#include <annal/sdk/buffer.hpp>
#include <annal/sdk/status.hpp>

#include <array>
#include <chrono>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace annal::inline sdk_v1 {

/// One key and value of a log line or of a response's headers. Borrowed.
using Pair = std::pair<std::string_view, std::string_view>;

/// A time as canonical text, without memory of its own on the heap.
struct TimeText {
    std::array<char, 28> chars{};
    std::size_t size = 0;
    operator std::string_view() const { return {chars.data(), size}; }  // NOLINT: it is a text
};

/// A counter, gauge or histogram. Without the metrics service it records nothing. [any-thread]
class Metric {
public:
    Metric() = default;
    Metric(const annal_metrics_v1* service, annal_metric* metric)
        : service_(service), metric_(metric) {}
    /// Counter: adds. Gauge: sets. Histogram: observes.
    void record(double value = 1) const {
        if (metric_ != nullptr) {
            service_->record(metric_, value);
        }
    }

private:
    const annal_metrics_v1* service_ = nullptr;
    annal_metric* metric_ = nullptr;
};

/// The host as one instance sees it. Services that the manifest does not permit, or that the host
/// is too old for, are NULL; the functions here then do nothing or say so, they never crash.
///
/// Lifetime: from before `open()` until the instance is destroyed. Threads: any, but `define_*`
/// within `open()` only.
class Host {
public:
    Host() = default;
    explicit Host(const annal_init& init)
        : raw_(init.host),
          instance_(view(init.instance)),
          log_(find<annal_log_v1>(ANNAL_SERVICE_LOG)),
          metrics_(find<annal_metrics_v1>(ANNAL_SERVICE_METRICS)),
          clock_(find<annal_clock_v1>(ANNAL_SERVICE_CLOCK)),
          codec_(find<annal_codec_v1>(ANNAL_SERVICE_CODEC)),
          store_(find<annal_store_v1>(ANNAL_SERVICE_STORE)),
          bus_(find<annal_bus_v1>(ANNAL_SERVICE_BUS)),
          kv_(find<annal_kv_v1>(ANNAL_SERVICE_KV)),
          http_client_(find<annal_http_client_v1>(ANNAL_SERVICE_HTTP_CLIENT)),
          secrets_(find<annal_secrets_v1>(ANNAL_SERVICE_SECRETS)),
          config_(find<annal_config_v1>(ANNAL_SERVICE_CONFIG)),
          export_(find<annal_export_v1>(ANNAL_SERVICE_EXPORT)),
          retention_(find<annal_retention_v1>(ANNAL_SERVICE_RETENTION)) {}

    [[nodiscard]] const std::string& instance() const { return instance_; }
    [[nodiscard]] const annal_host* raw() const { return raw_; }
    [[nodiscard]] annal_ctx* context() const { return raw_->ctx; }

    /// The table of any service, or nullptr.
    template <class V>
    [[nodiscard]] const V* find(const char* id) const {
        return raw_ != nullptr && ANNAL_HAS(raw_, annal_host, service)
                   ? static_cast<const V*>(raw_->service(raw_->ctx, id))
                   : nullptr;
    }
    [[nodiscard]] const annal_codec_v1* codec() const { return codec_; }
    [[nodiscard]] const annal_store_v1* store() const { return store_; }
    [[nodiscard]] const annal_bus_v1* bus() const { return bus_; }
    [[nodiscard]] const annal_kv_v1* kv() const { return kv_; }
    [[nodiscard]] const annal_http_client_v1* http_client() const { return http_client_; }
    [[nodiscard]] const annal_secrets_v1* secrets() const { return secrets_; }
    [[nodiscard]] const annal_config_v1* config() const { return config_; }
    [[nodiscard]] const annal_export_v1* exports() const { return export_; }
    [[nodiscard]] const annal_retention_v1* retention() const { return retention_; }

    /// For `open()`: fails, naming the remedy, when the host does not hand `service` to this
    /// instance.
    Status require(const char* service) const {
        return find<void>(service) != nullptr ? Status() : missing(service);
    }
    [[nodiscard]] static Status missing(const char* service) {
        return {
            ANNAL_UNAVAILABLE,
            "the service " + std::string(service) +
                " is not available to this instance: grant it under spec.permissions, or run a "
                "host that has it"};
    }

    void debug(std::string_view event, std::initializer_list<Pair> fields = {}) const {
        log(ANNAL_LOG_DEBUG, event, fields);
    }
    void info(std::string_view event, std::initializer_list<Pair> fields = {}) const {
        log(ANNAL_LOG_INFO, event, fields);
    }
    void warn(std::string_view event, std::initializer_list<Pair> fields = {}) const {
        log(ANNAL_LOG_WARN, event, fields);
    }
    void error(std::string_view event, std::initializer_list<Pair> fields = {}) const {
        log(ANNAL_LOG_ERROR, event, fields);
    }
    /// One line with a constant event name and at most 16 flat keys; no payloads, no secrets.
    void log(std::int32_t level, std::string_view event, std::initializer_list<Pair> fields) const {
        if (log_ == nullptr) {
            return;
        }
        std::array<annal_pair, 16> pairs{};
        std::uint32_t count = 0;
        for (const auto& [key, value] : fields) {
            if (count < pairs.size()) {
                pairs[count++] = annal_pair{to_str(key), to_str(value)};
            }
        }
        log_->write(context(), level, to_str(event), pairs.data(), count);
    }

    [[nodiscard]] Metric define_counter(std::string_view name, std::string_view help) const {
        return define(ANNAL_METRIC_COUNTER, name, help);
    }
    [[nodiscard]] Metric define_gauge(std::string_view name, std::string_view help) const {
        return define(ANNAL_METRIC_GAUGE, name, help);
    }
    [[nodiscard]] Metric define_histogram(std::string_view name, std::string_view help) const {
        return define(ANNAL_METRIC_HISTOGRAM, name, help);
    }

    /// The host's clocks; the system's own without the service.
    [[nodiscard]] std::int64_t wall_us() const {
        return clock_ != nullptr ? clock_->wall_us(context())
                                 : system_us<std::chrono::system_clock>();
    }
    [[nodiscard]] std::int64_t monotonic_us() const {
        return clock_ != nullptr ? clock_->monotonic_us(context())
                                 : system_us<std::chrono::steady_clock>();
    }

    /// Writes the canonical JSON of `event`, one line without newline.
    Status render(const annal_event& event, const annal_writer& out) const {
        if (codec_ == nullptr) {
            return missing(ANNAL_SERVICE_CODEC);
        }
        const annal_status code = codec_->render(context(), &event, ANNAL_RENDER_CANONICAL, &out);
        return code == ANNAL_OK ? Status() : Status(code, "the event could not be rendered");
    }
    /// "2026-05-14T18:42:13.001000Z"; empty without the codec service.
    [[nodiscard]] TimeText format_time(std::int64_t time_us) const {
        TimeText text;
        if (codec_ != nullptr) {
            codec_->format_time(context(), time_us, text.chars.data());
            text.size = text.chars.size() - 1;
        }
        return text;
    }
    /// False when `text` is not ISO 8601 with a zone.
    [[nodiscard]] bool parse_time(std::string_view text, std::int64_t& out_us) const {
        return codec_ != nullptr &&
               codec_->parse_time(context(), to_str(text), &out_us) == ANNAL_OK;
    }

private:
    [[nodiscard]] Metric define(std::int32_t kind, std::string_view name, std::string_view help)
        const {
        return metrics_ == nullptr
                   ? Metric()
                   : Metric(
                         metrics_, metrics_->define(context(), kind, to_str(name), to_str(help))
                     );
    }
    template <class C>
    [[nodiscard]] static std::int64_t system_us() {
        return std::chrono::duration_cast<std::chrono::microseconds>(C::now().time_since_epoch())
            .count();
    }

    const annal_host* raw_ = nullptr;
    std::string instance_;
    const annal_log_v1* log_ = nullptr;
    const annal_metrics_v1* metrics_ = nullptr;
    const annal_clock_v1* clock_ = nullptr;
    const annal_codec_v1* codec_ = nullptr;
    const annal_store_v1* store_ = nullptr;
    const annal_bus_v1* bus_ = nullptr;
    const annal_kv_v1* kv_ = nullptr;
    const annal_http_client_v1* http_client_ = nullptr;
    const annal_secrets_v1* secrets_ = nullptr;
    const annal_config_v1* config_ = nullptr;
    const annal_export_v1* export_ = nullptr;
    const annal_retention_v1* retention_ = nullptr;
};

/// What every component inherits: who it is and its host. Its functions may be called once `open()`
/// runs, not before.
class Component {
public:
    Component(const Component&) = delete;
    Component& operator=(const Component&) = delete;
    /// Called once after the configuration is in the members; a failure refuses the instance with
    /// its text. Hide it with your own.
    Status open() { return {}; }

protected:
    Component() = default;
    ~Component() = default;
    [[nodiscard]] const Host& host() const { return host_; }

private:
    friend struct ComponentAccess;
    Host host_;
};

/// The SDK's own way to the parts of a component that its author does not see.
struct ComponentAccess {
    static void bind(Component& component, const annal_init& init) { component.host_ = Host(init); }
    [[nodiscard]] static const Host& host(const Component& component) { return component.host_; }
};

}  // namespace annal::inline sdk_v1
