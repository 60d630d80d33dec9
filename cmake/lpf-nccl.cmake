# lpf::nccl: NCCL between the GPUs of several processes, beside lpf::mpi and lpf::cuda. LPF_NCCL_LIBRARY and
# LPF_NCCL_INCLUDE_DIR name another than the system's, for example that of the Python package nvidia-nccl-cu12.
if(NOT LPF_MPI OR NOT LPF_CUDA)
  message(FATAL_ERROR "LPF_NCCL=ON needs LPF_MPI=ON, which starts the processes, and LPF_CUDA=ON")
endif()
find_library(LPF_NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${CUDAToolkit_LIBRARY_DIR})
find_path(LPF_NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
mark_as_advanced(LPF_NCCL_LIBRARY LPF_NCCL_INCLUDE_DIR)
if(NOT LPF_NCCL_LIBRARY OR NOT LPF_NCCL_INCLUDE_DIR)
  message(FATAL_ERROR "LPF_NCCL=ON needs NCCL, and its library or its header nccl.h was not found: install libnccl-dev from "
                      "NVIDIA's repository, or the Python package nvidia-nccl-cu12 (or -cu13), and name its files with "
                      "-DLPF_NCCL_LIBRARY=…/nvidia/nccl/lib/libnccl.so.2 -DLPF_NCCL_INCLUDE_DIR=…/nvidia/nccl/include")
endif()
add_library(lpf_nccl INTERFACE)
add_library(lpf::nccl ALIAS lpf_nccl)
target_compile_definitions(lpf_nccl INTERFACE LPF_NCCL=1)
target_link_libraries(lpf_nccl INTERFACE lpf_mpi lpf_cuda $<BUILD_INTERFACE:${LPF_NCCL_LIBRARY}>)
target_include_directories(lpf_nccl SYSTEM INTERFACE
  $<BUILD_INTERFACE:${LPF_NCCL_INCLUDE_DIR}> $<BUILD_INTERFACE:${CUDAToolkit_INCLUDE_DIRS}>)
