# The embedded store under kill -9.
if(ANNAL_TESTS)
    add_executable(store_kill_writer ${CMAKE_SOURCE_DIR}/tests/chaos/store_kill_writer.cpp)
    target_link_libraries(store_kill_writer PRIVATE annal_sqlite)
    add_library(store_kill_account STATIC ${CMAKE_SOURCE_DIR}/tests/chaos/store_kill_account.cpp)
    target_link_libraries(store_kill_account PUBLIC annal_sqlite)
    annal_test(store_kill_test
        SOURCES ${CMAKE_SOURCE_DIR}/tests/chaos/store_kill_test.cpp
        LINK store_kill_account
        LABELS chaos
        TIMEOUT 600)
    add_dependencies(store_kill_test store_kill_writer)
endif()
