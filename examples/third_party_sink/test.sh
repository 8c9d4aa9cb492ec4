#!/bin/sh
# Installs the SDK of a build tree into a temporary prefix, builds this example against it out of tree, and checks that the
# plugin exports one function. The built plugin is left in OUTPUT, when one is given.
#
#   test.sh BUILD_DIR [OUTPUT]
set -eu

build=${1:?"usage: test.sh BUILD_DIR [OUTPUT]"}
output=${2:-}
source=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --component sdk --prefix "$work/prefix" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
# The example leaves the tree, so that nothing but the installed SDK can be found.
cp -r "$source" "$work/example"
{
    cmake -S "$work/example" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release &&
        cmake --build "$work/build"
} >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

plugin=$work/build/plugins/acme_sink.so
symbols=$(nm -D --defined-only "$plugin" | awk '{print $3}')
if [ "$symbols" != annal_module_v1 ]; then
    echo "expected annal_module_v1 and nothing else to be exported, found: $symbols" >&2
    exit 1
fi

# Another major version must not be taken for this one.
mkdir "$work/future"
printf 'cmake_minimum_required(VERSION 3.20)\nproject(future LANGUAGES CXX)\nfind_package(annal-sdk 2 REQUIRED)\n' \
    >"$work/future/CMakeLists.txt"
if cmake -S "$work/future" -B "$work/future/build" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/log" 2>&1; then
    echo "find_package(annal-sdk 2) accepted an SDK of major version 1" >&2
    exit 1
fi

if [ -n "$output" ]; then
    mkdir -p "$output"
    cp "$plugin" "$output/"
fi
echo "acme_sink.so: built against the installed SDK, exports annal_module_v1 only"
