// Brings in the backends: the CPU's code, or, in a program linked with lpf::compiled, its declaration; and,
// in one linked with lpf::cuda, that one's declaration.
#pragma once

#include "lpf/backend/registry.hpp"

#ifdef LPF_COMPILED
namespace lpf::backend::cpu {
bool register_compiled();  // src/compiled.cpp: all families
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
