#include "runtime/cli/command_line.h"

int main(int argc, char** argv) {
    return annal::run_command_line(argc, argv);
}
