#pragma once

#include <annal/sdk/component.hpp>

#include <array>
#include <string>

namespace annal::inline sdk_v1::detail {

template <class T>
[[nodiscard]] const annal_component* component() noexcept {
    static_assert(
        requires {
            { T::kName } -> std::convertible_to<const char*>;
        },
        "annal: a component needs `static constexpr auto kName = \"…\"`, the name that manifests "
        "use"
    );
    // Never freed: the host may read it while the process ends.
    static const std::string* const schema = new std::string(config_schema<T>());
    static const annal_component descriptor = [] {
        annal_component made{};
        made.struct_size = sizeof(made);
        made.type = ComponentTraits<T>::kType;
        made.name = T::kName;
        made.config_schema = schema->c_str();
        made.vtable = &ComponentTraits<T>::kTable;
        if constexpr (requires { T::kOpenapi; }) {
            static_assert(
                std::is_convertible_v<decltype(T::kOpenapi), const char*>,
                "annal: kOpenapi is the text of openapi.yaml: `static constexpr const char* "
                "kOpenapi = annal::kOpenapiYaml;`"
            );
            made.openapi = T::kOpenapi;
        }
        return made;
    }();
    return &descriptor;
}

template <class... Ts>
[[nodiscard]] const annal_module* module(
    const char* id, const char* version, const char* vendor, const char* license
) noexcept {
    static_assert(sizeof...(Ts) > 0, "annal: name the module's components after its license");
    static const std::array<const annal_component*, sizeof...(Ts)> components{component<Ts>()...};
    static const annal_module descriptor = [&] {
        annal_module made{};
        made.struct_size = sizeof(made);
        made.abi_major = ANNAL_ABI_MAJOR;
        made.abi_minor = ANNAL_ABI_MINOR;
        made.id = id;
        made.version = version;
        made.vendor = vendor;
        made.license = license;
        made.n_components = static_cast<std::uint32_t>(components.size());
        made.components = components.data();
        return made;
    }();
    return &descriptor;
}

}  // namespace annal::inline sdk_v1::detail

/// Makes the library an Annal plugin. Once, at namespace scope of one source file:
///
///     ANNAL_PLUGIN("com.acme.audit-sink", "1.2.0", "Acme", "Apache-2.0", AcmeSink, AcmeStatus)
#define ANNAL_PLUGIN(id, version, vendor, license, ...)                            \
    extern "C" ANNAL_EXPORT const annal_module* annal_module_v1(void) {            \
        return ::annal::detail::module<__VA_ARGS__>(id, version, vendor, license); \
    }
