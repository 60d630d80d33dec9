// float64 arithmetic for programs built from headers alone. What a dense network needs (lpf/dense.hpp) comes for float32
// and integers; this adds double. lpf/lpf.hpp includes it, and lpf::compiled has it.
#pragma once

#include "lpf/backend/backend.hpp"

#ifndef LPF_COMPILED
namespace lpf::backend::cpu {
inline namespace LPF_ISA {
inline const bool float64_registered =
    register_cpu(KernelGroup::core_float64, LPF_VECTOR_BYTES, fill_float64);
}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
#endif
