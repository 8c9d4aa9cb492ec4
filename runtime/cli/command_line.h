#pragma once

namespace annal {

/// The program: parses its arguments, does what they say, returns the exit code (0 done, 1 failed,
/// 2 bad arguments or bad configuration).
int run_command_line(int argc, char** argv);

}  // namespace annal
