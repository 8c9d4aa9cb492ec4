#pragma once

#include <annal/sdk/config.hpp>
#include <annal/sdk/host.hpp>

#include <concepts>
#include <memory>
#include <type_traits>

namespace annal::inline sdk_v1::detail {

/// Type and table of a component; each kind of component specializes it for the classes derived
/// from its base.
template <class T>
struct ComponentTraits {
    static_assert(
        sizeof(T) == 0,
        "annal: a component derives publicly from annal::Sink, annal::Format, annal::HttpHandler "
        "or annal::Job"
    );
};

/// `create` of every component type: configuration into the members, then `open()`.
template <class T>
annal_status create(const annal_init* init, void** self, annal_error* error) noexcept {
    static_assert(
        std::is_default_constructible_v<T>, "annal: a component must be default-constructible"
    );
    static_assert(
        requires(T & t) {
            { t.open() } -> std::same_as<Status>;
        },
        "annal: open() must be public, take nothing and return annal::Status"
    );
    return guarded(error, [&]() -> Status {
        if (init == nullptr || init->host == nullptr || self == nullptr) {
            return {ANNAL_INVALID, "create was called without a host"};
        }
        auto object = std::make_unique<T>();
        ComponentAccess::bind(*object, *init);
        Status status = read_config(*object, view(init->config_json));
        if (status.ok()) {
            status = object->open();
        }
        if (status.ok()) {
            *self = object.release();
        }
        return status;
    });
}

template <class T>
void destroy(void* self) noexcept {
    delete static_cast<T*>(self);
}

}  // namespace annal::inline sdk_v1::detail
