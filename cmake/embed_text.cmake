# Writes OUTPUT, a C++ source that defines `annal::NAME` as the text of the file INPUT.
# Run as: cmake -DINPUT=… -DOUTPUT=… -DNAME=… -P embed_text.cmake
file(READ ${INPUT} text)
# Literals of 8 KiB: some compilers limit the length of one, and adjacent ones are joined. The cut must
# not fall into a multi-byte character, so it is made at a line.
string(LENGTH "${text}" left)
set(literals "")
while(left GREATER 0)
    if(left GREATER 8192)
        string(SUBSTRING "${text}" 0 8192 piece)
        string(FIND "${piece}" "\n" cut REVERSE)
        math(EXPR cut "${cut} + 1")
        if(cut EQUAL 0)
            message(FATAL_ERROR "${INPUT}: a line of more than 8 KiB")
        endif()
    else()
        set(cut ${left})
    endif()
    string(SUBSTRING "${text}" 0 ${cut} piece)
    string(SUBSTRING "${text}" ${cut} -1 text)
    string(LENGTH "${text}" left)
    string(APPEND literals "    R\"annal~(${piece})annal~\"\n")
endwhile()
file(WRITE ${OUTPUT} "#include <string_view>\n\nnamespace annal {\n
extern const std::string_view ${NAME};\nconst std::string_view ${NAME} =\n${literals}    ;\n
}  // namespace annal\n")
