# annal_embed_openapi(file): for the targets that this folder makes from here on, <openapi_yaml.hpp> with the text of `file` as
# `annal::kOpenapiYaml`, which a component gives as its `kOpenapi`. A change of `file` is seen by the next build.
function(annal_embed_openapi file)
    set(header ${CMAKE_CURRENT_BINARY_DIR}/openapi/openapi_yaml.hpp)
    file(READ ${file} text)
    string(CONCAT now "#pragma once\n\nnamespace annal {\n\n// The text of openapi.yaml.\n"
        "inline constexpr char kOpenapiYaml[] = R\"annal~(${text})annal~\";\n\n}  // namespace annal\n")
    set(before "")
    if(EXISTS ${header})
        file(READ ${header} before)
    endif()
    if(NOT before STREQUAL now)
        file(WRITE ${header} "${now}")
    endif()
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    include_directories(${CMAKE_CURRENT_BINARY_DIR}/openapi)
endfunction()

# annal_add_plugin(name SOURCES … [LINK …]): the library <name>.so that a manifest calls `library: {name: <name>}`.
#
# It exports annal_module_v1 and nothing else, and lands in <build>/plugins. Installing it is the caller's business.
# An openapi.yaml beside the CMakeLists.txt becomes the header <openapi_yaml.hpp>: see annal_embed_openapi.
function(annal_add_plugin name)
    cmake_parse_arguments(PARSE_ARGV 1 ARG "" "" "SOURCES;LINK")
    if(NOT ARG_SOURCES)
        message(FATAL_ERROR "annal_add_plugin(${name}): name its SOURCES")
    endif()
    if(ARG_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "annal_add_plugin(${name}): unknown arguments ${ARG_UNPARSED_ARGUMENTS}")
    endif()
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/openapi.yaml)
        annal_embed_openapi(${CMAKE_CURRENT_SOURCE_DIR}/openapi.yaml)
    endif()
    set(exports ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/plugin_exports.map)
    add_library(${name} MODULE ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE annal::sdk ${ARG_LINK})
    set_target_properties(${name} PROPERTIES
        PREFIX "" SUFFIX ".so"
        CXX_EXTENSIONS OFF
        CXX_VISIBILITY_PRESET hidden C_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
        POSITION_INDEPENDENT_CODE ON
        LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/plugins
        LINK_DEPENDS ${exports})
    # Unique symbols would be shared with every other plugin of the process.
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fno-gnu-unique>)
    target_link_options(${name} PRIVATE LINKER:--version-script=${exports})
endfunction()
