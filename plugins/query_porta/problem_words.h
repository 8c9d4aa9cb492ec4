#pragma once

#include <annal/sdk/buffer.hpp>
#include <annal/sdk/http.hpp>

#include <cstdint>
#include <string_view>

namespace porta {

/// What Porta calls an HTTP status of 400 and more: "NotFound". One that has no name of its own
/// goes by its class, BadRequest or InternalServerError.
[[nodiscard]] std::string_view error_word(std::uint32_t status);

/// Appends `problem` in Porta's form: `{"error":"NotFound","message":"…","statusCode":404}`.
/// @return Its content type.
std::string_view append_problem(annal::Buffer& out, const annal_problem& problem);

}  // namespace porta
