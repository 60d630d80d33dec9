# lpf::native and lpf::io depend on the computer, so they are made where they are used: by LPF's own build, and by
# lpf-config.cmake where LPF is installed.

# Sets `result` to the -march for this processor. That is native where the compiler knows the processor. GCC 12 does
# not know newer ones and can then leave out what they have (AVX2 code on a machine with AVX-512), so what native gives
# is held against what the system reports.
# On 64-bit ARM, where flags name the processor (-mcpu), that is native where the compiler knows it (Neoverse and its
# like), and otherwise, as with older compilers on a Mac, Apple's first.
function(lpf_detect_march result)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    foreach(cpu native apple-m1)
      execute_process(COMMAND ${CMAKE_CXX_COMPILER} -mcpu=${cpu} -E -x c++ /dev/null
                      OUTPUT_QUIET ERROR_QUIET RESULT_VARIABLE failed)
      if(NOT failed AND (cpu STREQUAL "native" OR APPLE))
        set(${result} ${cpu} PARENT_SCOPE)
        return()
      endif()
    endforeach()
    set(${result} "" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -march=native -dM -E -x c++ /dev/null
                  OUTPUT_VARIABLE macros ERROR_QUIET RESULT_VARIABLE failed)
  set(march native)
  if(failed)
    set(march "")
  endif()
  set(v3 avx avx2 bmi1 bmi2 f16c fma abm movbe)
  set(v4 ${v3} avx512f avx512bw avx512cd avx512dq avx512vl)
  set(v3_macros AVX2 BMI2 F16C FMA)
  set(v4_macros ${v3_macros} AVX512F AVX512BW AVX512CD AVX512DQ AVX512VL)
  set(has "")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$" AND EXISTS /proc/cpuinfo)
    file(STRINGS /proc/cpuinfo has REGEX "^flags" LIMIT_COUNT 1)
    string(REGEX MATCHALL "[a-z0-9_]+" has "${has}")
  endif()
  foreach(level v3 v4)
    set(lacking ${${level}})
    list(REMOVE_ITEM lacking ${has} "")
    foreach(macro IN LISTS ${level}_macros)
      if(NOT lacking AND NOT macros MATCHES "__${macro}__ 1")
        set(march x86-64-${level})
      endif()
    endforeach()
  endforeach()
  set(${result} "${march}" PARENT_SCOPE)
endfunction()

# Makes `target` lpf::native: lpf::lpf and the flags for this processor.
function(lpf_make_native target)
  set(LPF_MARCH auto CACHE STRING
      "Processor of lpf::native: auto, a name such as x86-64-v3, neoverse-n1 or apple-m1, or empty for none")
  set(march "${LPF_MARCH}")
  if(march STREQUAL "auto")
    set(march "")
    if(NOT MSVC AND NOT CMAKE_CROSSCOMPILING)
      lpf_detect_march(march)
    endif()
  endif()
  target_link_libraries(${target} INTERFACE lpf::lpf)
  # GCC's AVX crashes on Windows unless the assembler replaces what needs aligned memory (backend/cpu/isa.hpp).
  if(march AND WIN32 AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    include(CheckCXXCompilerFlag)
    check_cxx_compiler_flag(-Wa,-muse-unaligned-vector-move LPF_HAS_UNALIGNED_MOVES)
    if(LPF_HAS_UNALIGNED_MOVES)
      target_compile_options(${target} INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wa,-muse-unaligned-vector-move>")
      target_compile_definitions(${target} INTERFACE LPF_UNALIGNED_MOVES=1)
    else()
      message(STATUS "LPF: no flags of this processor: GCC's AVX needs GNU binutils 2.38 or newer on Windows")
      set(march "")
    endif()
  endif()
  if(march)
    # GCC 12 finds uninitialised values in its own AVX-512 headers, wherever Eigen uses them.
    set(gcc12 "$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>")
    set(option -march)
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$" AND NOT march MATCHES "^armv")
      set(option -mcpu)
    endif()
    target_compile_options(${target} INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${option}=${march}>"
      "$<$<AND:$<COMPILE_LANGUAGE:CXX>,${gcc12}>:-Wno-uninitialized;-Wno-maybe-uninitialized>")
  endif()
  set(lpf_march "${march}" PARENT_SCOPE)  # for LPF's own build to report
endfunction()

# Makes `target` lpf::io: lpf::lpf, nlohmann-json, and those of the optional libraries that have been found.
function(lpf_make_io target)
  target_link_libraries(${target} INTERFACE lpf::lpf nlohmann_json::nlohmann_json)
  if(TARGET ZLIB::ZLIB)
    target_link_libraries(${target} INTERFACE ZLIB::ZLIB)
    target_compile_definitions(${target} INTERFACE LPF_HAS_ZLIB=1)
  endif()
  if(TARGET LibLZMA::LibLZMA)
    target_link_libraries(${target} INTERFACE LibLZMA::LibLZMA)
    target_compile_definitions(${target} INTERFACE LPF_HAS_LZMA=1)
  endif()
  find_path(LPF_STB_INCLUDE_DIR stb_image_write.h PATH_SUFFIXES stb DOC "stb_image.h and stb_image_write.h, optional")
  mark_as_advanced(LPF_STB_INCLUDE_DIR)
  if(LPF_STB_INCLUDE_DIR)
    target_include_directories(${target} SYSTEM INTERFACE ${LPF_STB_INCLUDE_DIR})
    target_compile_definitions(${target} INTERFACE LPF_HAS_STB=1)
  endif()
endfunction()

# Makes `target` what lpf::text adds to lpf::io: sentencepiece. Sets `found` to whether it is installed; if not, there is no
# target.
function(lpf_make_text target found)
  find_path(LPF_SENTENCEPIECE_INCLUDE_DIR sentencepiece_processor.h DOC "sentencepiece_processor.h, optional")
  find_library(LPF_SENTENCEPIECE_LIBRARY sentencepiece DOC "sentencepiece, optional")
  find_library(LPF_SENTENCEPIECE_TRAIN_LIBRARY sentencepiece_train DOC "sentencepiece's trainer, optional")
  mark_as_advanced(LPF_SENTENCEPIECE_INCLUDE_DIR LPF_SENTENCEPIECE_LIBRARY LPF_SENTENCEPIECE_TRAIN_LIBRARY)
  set(${found} OFF PARENT_SCOPE)
  if(LPF_SENTENCEPIECE_INCLUDE_DIR AND LPF_SENTENCEPIECE_LIBRARY AND LPF_SENTENCEPIECE_TRAIN_LIBRARY)
    add_library(${target} INTERFACE IMPORTED GLOBAL)
    target_include_directories(${target} SYSTEM INTERFACE ${LPF_SENTENCEPIECE_INCLUDE_DIR})
    target_link_libraries(${target} INTERFACE lpf::io ${LPF_SENTENCEPIECE_TRAIN_LIBRARY} ${LPF_SENTENCEPIECE_LIBRARY})
    target_compile_definitions(${target} INTERFACE LPF_HAS_SENTENCEPIECE=1)
    set(${found} ON PARENT_SCOPE)
  endif()
endfunction()

# A build without optimisation is some 35 times slower, and CMake's default has none.
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES AND NOT CMAKE_CXX_FLAGS MATCHES "(^| )-O[1-9sgz]|-Ofast")
  message(WARNING "LPF: CMAKE_BUILD_TYPE is empty, so programs are compiled without optimisation, some 35 times slower. "
    "Configure with -DCMAKE_BUILD_TYPE=Release.")
endif()
