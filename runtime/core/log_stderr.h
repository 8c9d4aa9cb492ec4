#pragma once

namespace annal::log {

/// From now on what libraries write to the C stream `stderr` is logged in its place, a line each,
/// as `runtime.library_message`, so that standard error carries nothing else than the log. Once in
/// a process, for as long as it lives.
void take_stderr();

}  // namespace annal::log
