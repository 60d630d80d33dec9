# What LPF's own programs are built with, and a user's are not.
add_library(lpf_own INTERFACE)
if(NOT MSVC)
  target_compile_options(lpf_own INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wconversion;-Wshadow>"
    "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${LPF_WERROR}>>:-Werror>")
endif()

# lpf_programs(LIBRARY…): each <name>.cpp of this folder is a program <name>.
function(lpf_programs)
  file(GLOB sources CONFIGURE_DEPENDS *.cpp)
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM name)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE lpf::compiled lpf::native lpf::io lpf_own ${ARGN})
    if(TARGET lpf::mpi)
      target_link_libraries(${name} PRIVATE lpf::mpi)
    endif()
    if(TARGET lpf::cuda)
      target_link_libraries(${name} PRIVATE lpf::cuda)
    endif()
  endforeach()
endfunction()
