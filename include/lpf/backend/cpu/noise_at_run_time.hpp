// The noise for AVX2 and FMA in a program compiled for x86-64 without them: functions of a target of their own, which
// simd_noise.hpp calls where the processor has both. The same text, and so the same bits.
#pragma once

#include <algorithm>
#include <type_traits>

#include "lpf/backend/cpu/noise_vectors.hpp"
#include "lpf/backend/cpu/row_range.hpp"
#include "lpf/core/fma.hpp"
#include "lpf/core/philox.hpp"

#if LPF_NOISE_AT_RUN_TIME

#  ifdef __clang__
#    pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#  else
#    pragma GCC push_options
#    pragma GCC target("avx2,fma")
#  endif
#  pragma push_macro("LPF_VECTOR_BYTES")
#  undef LPF_VECTOR_BYTES
#  define LPF_VECTOR_BYTES 32

namespace lpf::backend::cpu {
inline namespace LPF_ISA {
namespace avx2_noise {

namespace formulas {
#  include "lpf/core/gaussian_formulas.inc"
}  // namespace formulas
#  include "lpf/backend/cpu/noise_vectors.inc"

#  include "lpf/backend/cpu/noise_sweep.inc"

}  // namespace avx2_noise
}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu

#  pragma pop_macro("LPF_VECTOR_BYTES")
#  ifdef __clang__
#    pragma clang attribute pop
#  else
#    pragma GCC pop_options
#  endif

#endif
