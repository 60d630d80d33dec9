# lpf::cuda: the kernels, compiled once, so that a user's program needs no nvcc.
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "LPF_CUDA=ON needs nvcc, and none was found: put the CUDA toolkit's bin folder on PATH or name "
                      "the compiler with -DCMAKE_CUDA_COMPILER=…; without a GPU, configure with LPF_CUDA=OFF")
endif()

# This computer's GPU where it has one; otherwise machine code for all from Turing to Hopper, and PTX for newer ones.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  execute_process(COMMAND nvidia-smi -L OUTPUT_VARIABLE gpus ERROR_QUIET RESULT_VARIABLE no_gpu)
  if(NOT no_gpu AND gpus MATCHES "GPU 0")
    set(CMAKE_CUDA_ARCHITECTURES native)
  else()
    set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90)
  endif()
  set(CMAKE_CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}" CACHE STRING "GPUs to build for")
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
message(STATUS "LPF: CUDA ${CUDAToolkit_VERSION}, for ${CMAKE_CUDA_ARCHITECTURES}")

file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.cu)
add_library(lpf_cuda STATIC ${kernels})
add_library(lpf::cuda ALIAS lpf_cuda)
# CMake 3.25 has no cuda_std_20. Relaxed constexpr: std::bit_cast and its like may be called in kernels.
target_compile_options(lpf_cuda PRIVATE
  "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;--extended-lambda;--expt-relaxed-constexpr;-Xcompiler=-Wall,-Wextra>"
  # GCC 12 takes "[" + std::string for a copy onto itself.
  "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<CXX_COMPILER_ID:GNU>>:-Xcompiler=-Wno-restrict>"
  "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${LPF_WERROR}>>:-Werror=all-warnings;-Xcompiler=-Werror>")
target_compile_definitions(lpf_cuda INTERFACE LPF_CUDA=1)
target_link_libraries(lpf_cuda PUBLIC lpf_headers PRIVATE $<BUILD_INTERFACE:CUDA::cudart_static>
                                                          $<BUILD_INTERFACE:CUDA::cublas>)
include(${CMAKE_CURRENT_LIST_DIR}/lpf-cudnn.cmake)
if(TARGET lpf_cudnn)
  target_link_libraries(lpf_cuda PRIVATE $<BUILD_INTERFACE:lpf_cudnn>)
else()
  message(STATUS "LPF: no cuDNN found: convolutions on CUDA are products of unfolded windows, which is slower")
endif()
set_target_properties(lpf_cuda PROPERTIES POSITION_INDEPENDENT_CODE ON)

# A user's program, which is compiled without nvcc; .ci/run builds and runs it.
if(top_level)
  add_executable(consumer_gpu EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/tests/consumer/gpu.cpp)
  target_link_libraries(consumer_gpu PRIVATE lpf::lpf lpf::cuda)
endif()
