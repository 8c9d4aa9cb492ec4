# Flags and functions that every target of the project shares.

add_library(annal_flags INTERFACE)
target_include_directories(annal_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(annal_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC 12 reports these inside coroutine frames and Boost's headers where nothing is wrong.
    target_compile_options(annal_flags INTERFACE -Wno-maybe-uninitialized -Wno-mismatched-new-delete -Wno-stringop-overflow
        -Wno-array-bounds -Wno-restrict -Wno-dangling-pointer)
    if(ANNAL_SANITIZE MATCHES "thread")
        # ThreadSanitizer does not know Asio's fences; what they order its mutexes order too.
        target_compile_options(annal_flags INTERFACE -Wno-tsan)
    endif()
endif()
if(ANNAL_SANITIZE)
    add_compile_options(-fsanitize=${ANNAL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${ANNAL_SANITIZE})
endif()

# annal_library(name SOURCES … LINK … PRIVATE_LINK …): one folder of runtime/. Files named *_test.cpp stay out of it.
function(annal_library name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC annal_flags ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK})
endfunction()

# Everything that `ctest -L threads` runs: the tests that are worth running under ThreadSanitizer too.
add_custom_target(thread_tests)

# annal_test(name SOURCES … LINK … [LABELS …] [TIMEOUT s]): one GoogleTest program, one ctest entry. The label `threads` is for
# tests in which threads meet; THREADS_FILTER, a --gtest_filter, leaves out those of its tests that only take time there.
function(annal_test name)
    if(NOT ANNAL_TESTS)
        return()
    endif()
    cmake_parse_arguments(ARG "" "TIMEOUT;THREADS_FILTER" "SOURCES;LINK;LABELS" ${ARGN})
    if(NOT ARG_SOURCES)
        return()
    endif()
    if(NOT ARG_THREADS_FILTER)
        set(ARG_THREADS_FILTER "*")
    endif()
    if(NOT ARG_TIMEOUT)
        set(ARG_TIMEOUT 120)
    endif()
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gtest GTest::gmock GTest::gtest_main)
    # Only where they are used, so that checkouts in different folders can share the other objects through ccache.
    foreach(source ${ARG_SOURCES})
        file(STRINGS ${source} uses REGEX "ANNAL_(SOURCE|BINARY)_DIR" LIMIT_COUNT 1)
        if(uses)
            set_property(SOURCE ${source} APPEND PROPERTY COMPILE_DEFINITIONS
                ANNAL_SOURCE_DIR="${CMAKE_SOURCE_DIR}" ANNAL_BINARY_DIR="${CMAKE_BINARY_DIR}")
        endif()
    endforeach()
    if("threads" IN_LIST ARG_LABELS)
        add_dependencies(thread_tests ${name})
    endif()
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
    if(ANNAL_SANITIZE MATCHES "thread")
        set_tests_properties(${name} PROPERTIES ENVIRONMENT
            "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/cmake/tsan.supp;GTEST_FILTER=${ARG_THREADS_FILTER}")
    endif()
endfunction()

find_program(ANNAL_PYTEST_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)

# A plugin's tests against a receiver, with a real server: annal_receiver_test(sink_x) runs receiver_test.py beside it, which
# may import what lies in tests/e2e and tests/receivers and use the fixtures of tests/e2e/conftest.py.
function(annal_receiver_test plugin)
    if(NOT ANNAL_TESTS)
        return()
    endif()
    add_test(NAME ${plugin}_receiver COMMAND ${ANNAL_PYTEST_PYTHON} -m pytest -q -p no:cacheprovider --tb=short -p conftest
             --rootdir=${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/receiver_test.py)
    set_tests_properties(${plugin}_receiver PROPERTIES TIMEOUT 300 LABELS receivers ENVIRONMENT
        "ANNAL_BUILD_DIR=${CMAKE_BINARY_DIR};ASAN_OPTIONS=detect_leaks=1:abort_on_error=0;PYTHONDONTWRITEBYTECODE=1;PYTHONPATH=${CMAKE_SOURCE_DIR}/tests/e2e:${CMAKE_SOURCE_DIR}/tests/receivers")
endfunction()
