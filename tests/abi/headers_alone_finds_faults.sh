#!/bin/sh
# The check of headers_alone.sh itself: it takes a good header and refuses three bad ones.
compiler=$1
root=$2
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/runtime"
printf '#pragma once\n#include <string>\ninline std::string f() { return {}; }\n' > "$folder/runtime/good.h"
printf '#pragma once\ninline std::string f() { return {}; }\n' > "$folder/runtime/lacks_include.h"
printf 'struct Twice {};\n' > "$folder/runtime/lacks_guard.h"
printf 'int f(int x = 3);\n' > "$folder/not_c.h"
"$root/tests/abi/headers_alone.sh" "$compiler" "$root" "$folder/runtime/good.h" || { echo "a good header was refused"; exit 1; }
for bad in runtime/lacks_include.h runtime/lacks_guard.h not_c.h; do
    if "$root/tests/abi/headers_alone.sh" "$compiler" "$root" "$folder/$bad" > /dev/null 2>&1; then
        echo "$bad was taken"
        exit 1
    fi
done
