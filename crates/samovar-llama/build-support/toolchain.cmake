# Chooses the compilers of llama.cpp's build (CMAKE_TOOLCHAIN_FILE, set in .cargo/config.toml).
#
# Clang when it is there and works, else whatever CMake would take. Clang 14 against GCC 12, both -O3, on
# an AVX2 CPU with a 1.1B model in Q4_K_M: mapped layout equal; packed layout +34 % prefill, +31 % decode
# of four sequences. CC or CXX in the environment overrule this.
if(DEFINED ENV{HOST} AND DEFINED ENV{TARGET} AND NOT "$ENV{HOST}" STREQUAL "$ENV{TARGET}")
  message(FATAL_ERROR
    "Building for $ENV{TARGET} on $ENV{HOST} needs a toolchain file of your own: "
    "set CMAKE_TOOLCHAIN_FILE to it. This one only chooses among the compilers of this machine.")
endif()
if(NOT CMAKE_HOST_SYSTEM_NAME STREQUAL "Linux" OR DEFINED ENV{CC} OR DEFINED ENV{CXX})
  return()
endif()
# This file is read several times in a build, also for CMake's own small checks: ask once.
if(NOT DEFINED ENV{SAMOVAR_CLANG_WORKS})
  find_program(SAMOVAR_CLANG clang)
  find_program(SAMOVAR_CLANGXX clang++)
  set(ENV{SAMOVAR_CLANG_WORKS} FALSE)
  if(SAMOVAR_CLANG AND SAMOVAR_CLANGXX)
    # Clang may be there without a C++ library that it finds, or too old for llama.cpp.
    execute_process(
      COMMAND ${SAMOVAR_CLANGXX} -std=c++17 -x c++ -fsyntax-only -include regex -include thread -include filesystem /dev/null
      RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
    execute_process(COMMAND ${SAMOVAR_CLANGXX} -dumpversion OUTPUT_VARIABLE version ERROR_QUIET)
    if(result EQUAL 0 AND version VERSION_GREATER_EQUAL 14)
      set(ENV{SAMOVAR_CLANG_WORKS} TRUE)
      set(ENV{SAMOVAR_CLANG} ${SAMOVAR_CLANG})
      set(ENV{SAMOVAR_CLANGXX} ${SAMOVAR_CLANGXX})
    endif()
  endif()
endif()
if("$ENV{SAMOVAR_CLANG_WORKS}")
  set(CMAKE_C_COMPILER "$ENV{SAMOVAR_CLANG}")
  set(CMAKE_CXX_COMPILER "$ENV{SAMOVAR_CLANGXX}")
endif()
