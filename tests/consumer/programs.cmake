# A user's settings, and program(NAME LIBRARY...): a user's program of two files that both include LPF.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
add_compile_options(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
enable_testing()

function(program name)
  add_executable(${name} ../first.cpp ../second.cpp)
  target_link_libraries(${name} PRIVATE ${ARGN})
  add_test(NAME ${name} COMMAND ${name})
endfunction()
