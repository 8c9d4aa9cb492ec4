#pragma once

#include <annal/sdk/call.hpp>
#include <annal/sdk/component.hpp>

#include <cstdint>
#include <string_view>

namespace annal::inline sdk_v1 {

/// Why a job runs now.
class JobRun {
public:
    JobRun(std::string_view trigger, std::int64_t scheduled_us)
        : trigger_(trigger), scheduled_us_(scheduled_us) {}
    /// The manifest's schedule trigger; borrowed until the first co_await.
    [[nodiscard]] std::string_view trigger() const { return trigger_; }
    [[nodiscard]] std::int64_t scheduled_us() const { return scheduled_us_; }

private:
    std::string_view trigger_;
    std::int64_t scheduled_us_;
};

/// Work on a schedule. An author's class has:
///
///     static constexpr auto kName = "sweep";
///     static auto config();  annal::Status open();                            optional
///     annal::Task<annal::Status> run(const annal::Call&, annal::JobRun);
///
/// An exception is a failed run. Threads: never concurrently with itself.
class Job : public Component {};

namespace detail {

template <class T>
struct JobThunks {
    static_assert(
        requires(T & t, const Call& c, JobRun r) {
            { t.run(c, r) } -> std::same_as<Task<Status>>;
        },
        "annal: a job needs a public `annal::Task<annal::Status> run(const annal::Call&, "
        "annal::JobRun)`"
    );

    static void run(
        void* self, annal_call* call, annal_str trigger, std::int64_t scheduled_us
    ) noexcept {
        T& job = *static_cast<T*>(self);
        const Host& host = ComponentAccess::host(job);
        try {
            start(job, host, call, JobRun(view(trigger), scheduled_us));
        } catch (...) {
            const annal_error error = Status(ANNAL_INTERNAL, {}).to_error();
            host.raw()->complete(call, &error);
        }
    }
    static constexpr annal_job_v1 make() {
        annal_job_v1 table{};
        table.struct_size = sizeof(table);
        table.create = create<T>;
        table.destroy = destroy<T>;
        table.run = run;
        return table;
    }

private:
    static Detached start(T& job, const Host& host, annal_call* raw_call, JobRun run) {
        annal_error error = Status(ANNAL_INTERNAL, {}).to_error();
        bool fine = false;
        {
            const Call call(host, raw_call);
            try {
                const Status status = co_await job.run(call, run);
                fine = status.ok();
                if (!fine) {
                    error = status.to_error();
                }
            } catch (...) {
                describe_exception(error);
            }
        }
        host.raw()->complete(raw_call, fine ? nullptr : &error);
    }
    static void describe_exception(annal_error& error) noexcept {
        (void)guarded(&error, []() -> Status { throw; });  // the code is ANNAL_INTERNAL in any case
    }
};

template <class T>
requires std::derived_from<T, Job>
struct ComponentTraits<T> {
    static constexpr const char* kType = ANNAL_COMPONENT_JOB;
    static constexpr annal_job_v1 kTable = JobThunks<T>::make();
};

}  // namespace detail
}  // namespace annal::inline sdk_v1
