#pragma once

#include <boost/outcome/basic_result.hpp>
#include <boost/outcome/policy/terminate.hpp>
#include <boost/outcome/try.hpp>
#include <cstdint>
#include <string>

namespace annal {

/// What kind of thing went wrong. The values are those of `annal_status`, so an error crosses the
/// plugin boundary as it is; `http_status` is the one table that maps them to HTTP.
enum class Errc : std::int32_t {
    invalid = 1,          ///< malformed input                                        400
    unprocessable = 2,    ///< well-formed, but against a rule                        422
    unauthenticated = 3,  ///< no or bad credentials                                  401
    denied = 4,           ///< known, but not allowed                                 403
    not_found = 5,        ///< no such object in this project                         404
    conflict = 6,         ///< idempotency key or precondition broken                 409
    too_large = 7,        ///< a documented limit is exceeded                         413
    unsupported = 8,      ///< media type, encoding or feature                        415
    busy = 9,             ///< this project's share is used up; nothing was done      429
    unavailable = 10,     ///< the node can't now; nothing was done                   503
    timeout = 11,         ///< deadline passed; the outcome is unknown                503
    cancelled = 12,       ///< the client or the host gave up                         none
    internal = 13,        ///< a defect                                               500
};

/// An expected failure: what kind, a sentence for people, and what a machine may want besides.
struct Error {
    Errc code = Errc::internal;
    std::string detail;                ///< what is wrong, where, and what to do; no secrets
    std::string pointer = {};          ///< JSON pointer or field name, when one is to blame
    std::uint32_t retry_after_ms = 0;  ///< 0: not stated
};

[[nodiscard]] int http_status(Errc code) noexcept;
/// A stable word for logs and problem documents: "not_found".
[[nodiscard]] const char* name(Errc code) noexcept;

/// A value or an `Error`. `BOOST_OUTCOME_TRY` propagates it, `BOOST_OUTCOME_CO_TRY` inside
/// coroutines. Reading the wrong side is a programmer's error and ends the process.
template <class T>
using Result = BOOST_OUTCOME_V2_NAMESPACE::
    basic_result<T, Error, BOOST_OUTCOME_V2_NAMESPACE::policy::terminate>;

[[nodiscard]] inline auto ok() {
    return BOOST_OUTCOME_V2_NAMESPACE::success();
}

}  // namespace annal
