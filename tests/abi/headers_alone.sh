#!/bin/sh
# headers_alone.sh COMPILER ROOT [HEADER…]: whether each header of sdk/ and runtime/ stands on its own: it has a guard, and
# compiles as the first line of a unit. A header that is the first include of the .cpp beside it is compiled so by the build
# and not again here. Two at a time. Given headers are checked instead of the tree's.
set -u
compiler=$1
root=$2
shift 2
cd "$root" || exit 2
if [ $# -eq 0 ]; then
    all=$(find sdk/include runtime -name '*.h' -o -name '*.hpp' | sort)
    for header in $all; do
        grep -q -e '^#pragma once' -e '^#ifndef ANNAL_' "$header" || { echo "no include guard: $header"; exit 1; }
        source=${header%.*}.cpp
        [ -f "$source" ] && grep -m 1 '^#include' "$source" | grep -q -F "\"$header\"" || set -- "$@" "$header"
    done
fi
export compiler
check='
    case $1 in
        *.hpp|runtime/*|*/runtime/*) languages="c++" ;;
        *) languages="c c++" ;;
    esac
    for language in $languages; do
        case $language in c) options="-std=c11 -pedantic-errors" ;; *) options="-std=c++20 -Wpedantic" ;; esac
        printf "#include \"%s\"\n#include \"%s\"\n" "$1" "$1" |
            "$compiler" -x $language $options -Wall -Wextra -Werror -fsyntax-only -I. -Isdk/include -DBOOST_ASIO_SEPARATE_COMPILATION \
                -DBOOST_ASIO_NO_DEPRECATED -DBOOST_BEAST_SEPARATE_COMPILATION - || { echo "not self-contained as $language: $1"; exit 1; }
    done'
printf '%s\n' "$@" | xargs -P 2 -n 1 sh -c "$check" header || exit 1
echo "$# headers compile alone"
