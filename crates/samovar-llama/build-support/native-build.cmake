# Included by CMake after each project() of llama.cpp's build (CMAKE_PROJECT_INCLUDE, set in
# .cargo/config.toml). By then the compiler is known.
#
# GCC before 11.5, 12.4, 13.3 and 14.1 miscompiles AMX (PR114098): stores to the tile configuration are
# dropped, because the intrinsic claims to read eight of its 64 bytes. Debian 12 ships 12.2. The header
# repairs the intrinsic where it is broken and does nothing anywhere else.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT SAMOVAR_AMX_REPAIRED)
  set(SAMOVAR_AMX_REPAIRED TRUE)
  string(APPEND CMAKE_CXX_FLAGS " -include \"${CMAKE_CURRENT_LIST_DIR}/amx-repair.h\"")
  string(APPEND CMAKE_C_FLAGS " -include \"${CMAKE_CURRENT_LIST_DIR}/amx-repair.h\"")
endif()

# What nothing of ours links is not compiled: the binding always asks for llama.cpp's `common` (its command lines, chat
# parsers, downloads), and the HTTP library comes whatever is asked for. Its target is known by the end of the top folder.
if(PROJECT_NAME STREQUAL "llama.cpp" AND NOT SAMOVAR_TRIMMED)
  set(SAMOVAR_TRIMMED TRUE)
  set(LLAMA_BUILD_COMMON OFF CACHE BOOL "nothing of ours links it" FORCE)
  function(samovar_trim)
    if(TARGET cpp-httplib)
      set_target_properties(cpp-httplib PROPERTIES EXCLUDE_FROM_ALL TRUE)
    endif()
  endfunction()
  cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL samovar_trim)
endif()
