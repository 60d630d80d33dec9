// The noise for AVX2 and FMA in a program compiled for x86-64 without them: functions of a target of their own, which
// simd_noise.hpp calls where the processor has both. The same text, and so the same bits.
#pragma once

#include <algorithm>
#include <type_traits>

#include "lpf/backend/cpu/isa.hpp"
#include "lpf/backend/cpu/noise_vectors.hpp"
#include "lpf/backend/cpu/row_range.hpp"
#include "lpf/core/fma.hpp"
#include "lpf/core/philox.hpp"

#if LPF_NOISE_AT_RUN_TIME

#  ifdef __clang__
#    pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#  else
#    pragma GCC push_options
#    if LPF_NARROW_STACK
#      pragma GCC target("avx2,fma,prefer-vector-width=128")
#    else
#      pragma GCC target("avx2,fma")
#    endif
#  endif
#  pragma push_macro("LPF_VECTOR_BYTES")
#  undef LPF_VECTOR_BYTES
#  if LPF_NARROW_STACK
#    define LPF_VECTOR_BYTES 16
#  else
#    define LPF_VECTOR_BYTES 32
#  endif

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
