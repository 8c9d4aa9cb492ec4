#pragma once

#include <annal/sdk/buffer.hpp>
#include <annal/sdk/host.hpp>
#include <annal/sdk/json.hpp>

namespace porta {

using Json = annal::JsonWriter<annal::Buffer>;

/// Appends `event` as this product's object: every key is there, null where nothing is set; the
/// metadata byte for byte, `{}` without any; the time cut to milliseconds.
/// @error ANNAL_INTERNAL  Its id has no UUID form.
[[nodiscard]] annal::Status append_event(
    Json& json, const annal::Host& host, const annal_event& event
);

/// "2025-04-21T00:00:00.000Z"
[[nodiscard]] std::string to_milliseconds(const annal::Host& host, std::int64_t at_us);

}  // namespace porta
