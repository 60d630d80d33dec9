// Registers the backends: the CPU's kernels (only declared in a program linked with lpf::compiled) and, in a
// program linked with lpf::cuda, the CUDA backend.
#pragma once

#include "lpf/backend/registry.hpp"

#ifdef LPF_COMPILED
namespace lpf::backend::cpu {
bool register_compiled();  // src/compiled.cpp: all kernel groups
inline const bool compiled_registered = register_compiled();
}  // namespace lpf::backend::cpu
#else
#  include "lpf/backend/cpu/cpu.hpp"
#endif

#ifdef LPF_CUDA
namespace lpf::backend::cuda {
bool register_backend();  // kernels/device.cu
inline const bool backend_registered = register_backend();
}  // namespace lpf::backend::cuda
#endif
