# Nodes of one PostgreSQL database under kill -9.
if(ANNAL_TESTS)
    add_executable(postgres_kill_writer ${CMAKE_SOURCE_DIR}/tests/chaos/postgres_kill_writer.cpp)
    target_link_libraries(postgres_kill_writer PRIVATE annal_postgres)
    annal_test(postgres_kill_test
        SOURCES ${nodes} ${CMAKE_SOURCE_DIR}/tests/chaos/postgres_kill_test.cpp
        LINK store_kill_account annal_postgres annal_postgres_cluster
        LABELS chaos
        TIMEOUT 300)
    add_dependencies(postgres_kill_test postgres_kill_writer)
endif()
