#pragma once

#include <annal/sdk/buffer.hpp>
#include <annal/sdk/json.hpp>

namespace authpi {

/// Writes `event` as this API shows it. Every key is there: null where nothing is set, `metadata`
/// at least {}. Metadata, and what is taken from it, goes out byte for byte.
void write_event(annal::JsonWriter<annal::Buffer>& json, const annal_event& event);

}  // namespace authpi
