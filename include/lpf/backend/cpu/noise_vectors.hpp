// The vector types of simd_noise.hpp: reals F32 and F64, their unsigned counterparts U32 and U64,
// and the functions that core/gaussian.hpp needs for them, bit-identical to the scalar functions of
// the same names in lpf::detail.
//
// Products may be added only by fmadd and fnmadd: the compiler would contract them otherwise.
#pragma once

#include <bit>
#include <cstdint>

#include "lpf/backend/cpu/isa.hpp"
#include "lpf/core/gaussian.hpp"

#if defined(__aarch64__)
#  include <arm_neon.h>
#elif LPF_VECTOR_BYTES == 64 || (defined(__clang__) && (LPF_VECTOR_BYTES || LPF_NOISE_AT_RUN_TIME))
#  include <immintrin.h>
#endif

#define LPF_INLINE inline __attribute__((always_inline))

namespace lpf::backend::cpu {
inline namespace LPF_ISA {
namespace noise {

namespace formulas = lpf::detail;
#if LPF_VECTOR_BYTES
#  include "lpf/backend/cpu/noise_vectors.inc"
#else  // scalars

using F32 = float;
using F64 = double;
using U32 = std::uint32_t;
using U64 = std::uint64_t;
using lpf::detail::fmadd;

template <class T>
LPF_INLINE T load(const T* p) {
  return *p;
}
template <class T>
LPF_INLINE void store(T* p, T a) {
  *p = a;
}
template <class T>
LPF_INLINE void interleave(T a, T b, T c, T d, T (&out)[4]) {
  out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

#endif

}  // namespace noise
}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
