// Arithmetic of the CPU in double.
#pragma once

#include "lpf/backend/cpu/cpu.hpp"
#include "lpf/backend/cpu/gemm_float64.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

inline void fill_float64(Table&) { fill_floating<double>(cpu_float64); }
inline const bool float64_registered =
    register_cpu(KernelGroup::core_float64, LPF_VECTOR_BYTES, fill_float64);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
