// float64 arithmetic for header-only programs. A dense network (lpf/dense.hpp) brings float32 and integers;
// this header adds double. lpf/lpf.hpp includes it, and lpf::compiled contains it.
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
