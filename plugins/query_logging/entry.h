#pragma once

#include <annal/sdk.hpp>

namespace logging {

using Json = annal::JsonWriter<annal::Buffer>;

/// Appends `event` as this product's object: every key is there, null where nothing is set; the
/// metadata byte for byte as it was received, `{}` without any.
void append_entry(Json& json, const annal::Host& host, const annal_event& event);

}  // namespace logging
