// Arithmetic compiled from one definition for CPU and GPU, with the same bits on both.
//
// Compiler defaults would break that: GCC and nvcc contract a * b + c into a fused multiply-add where
// they can, clang within one expression, and libm differs between systems. So bit-exact code calls
// fmadd() for a fused multiply-add, never adds a product otherwise, and uses only +, *, / and the square
// root, which IEEE 754 rounds correctly.
#pragma once

#include <cmath>

#ifdef __CUDACC__
#  define LPF_HD __host__ __device__
#  define LPF_HD_INLINE __host__ __device__ __forceinline__
#else
#  define LPF_HD
#  define LPF_HD_INLINE inline __attribute__((always_inline))
#endif

namespace lpf::detail {

/// a * b + c, rounded once (IEEE 754 fusedMultiplyAdd), in software where the processor lacks it.
LPF_HD_INLINE float fmadd(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}
LPF_HD_INLINE double fmadd(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return __fma_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}

/// c - a * b, rounded once.
LPF_HD_INLINE float fnmadd(float a, float b, float c) { return fmadd(-a, b, c); }
LPF_HD_INLINE double fnmadd(double a, double b, double c) { return fmadd(-a, b, c); }

/// The square root, correctly rounded.
LPF_HD_INLINE float square_root(float x) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(x);
#else
  return std::sqrt(x);
#endif
}
LPF_HD_INLINE double square_root(double x) {
#ifdef __CUDA_ARCH__
  return __dsqrt_rn(x);
#else
  return std::sqrt(x);
#endif
}

/// a / b, correctly rounded.
LPF_HD_INLINE double divide(double a, double b) {
#ifdef __CUDA_ARCH__
  return __ddiv_rn(a, b);
#else
  return a / b;
#endif
}

}  // namespace lpf::detail
