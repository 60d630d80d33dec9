# Compiles for 64-bit Windows with mingw-w64's g++ on another system; programs run alone, and here under wine:
#   cmake -B build/windows --toolchain cmake/mingw-w64.cmake -DCMAKE_BUILD_TYPE=Release
# Of g++ the variant with POSIX threads: std::thread is in no other. Libraries and headers of this system are not found;
# those that LPF needs are downloaded, or name their folders (-DFETCHCONTENT_SOURCE_DIR_LPF_EIGEN3=…).
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix CACHE STRING "C++ compiler")
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres CACHE STRING "Compiler of resources")
set(CMAKE_EXE_LINKER_FLAGS_INIT -static) # no DLLs of the compiler's
find_program(LPF_WINE NAMES wine64 wine DOC "Runs programs of Windows")
mark_as_advanced(LPF_WINE)
if(LPF_WINE)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${LPF_WINE})
endif()
set(CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32 CACHE STRING "Where Windows' libraries are")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
