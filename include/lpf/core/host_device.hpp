// Arithmetic compiled from one definition for CPU and GPU, with the same bits on both.
//
// Compiler defaults would break that: GCC and nvcc contract a * b + c into a fused multiply-add where
// they can, clang within one expression, and libm differs between systems. So bit-exact code calls
// fmadd() for a fused multiply-add, never adds a product otherwise, and uses only +, *, / and the square
// root, which IEEE 754 rounds correctly.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "lpf/core/fma.hpp"

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
#elif LPF_FMA_AT_RUN_TIME
  return fused(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}
LPF_HD_INLINE double fmadd(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return __fma_rn(a, b, c);
#elif LPF_FMA_AT_RUN_TIME
  return fused(a, b, c);
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

/// a + b, a − b, a·b. Integers wrap, as unsigned ones do; in C++ the overflow of signed ones is undefined.
template <class T>
LPF_HD_INLINE constexpr T wrapping_add(T a, T b) {
  if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
  } else {
    return static_cast<T>(a + b);
  }
}
template <class T>
LPF_HD_INLINE constexpr T wrapping_subtract(T a, T b) {
  if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(a) - static_cast<Unsigned>(b));
  } else {
    return static_cast<T>(a - b);
  }
}
template <class T>
LPF_HD_INLINE constexpr T wrapping_multiply(T a, T b) {
  if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(a) * static_cast<Unsigned>(b));
  } else {
    return static_cast<T>(a * b);
  }
}

/// v without its fraction as an integer of at most 64 bits: the nearest one that the type has, 0 for NaN. In
/// C++ the conversion of a number that the type does not have is undefined.
template <class T>
LPF_HD_INLINE constexpr T saturated(double v) {
  constexpr auto low = static_cast<double>(std::numeric_limits<T>::min());
  constexpr auto high =
      static_cast<double>(std::numeric_limits<T>::max());  // 2⁶³ for int64, which it does not have
  constexpr double last = sizeof(T) < 8 ? high : 0x1.fffffffffffffp62;
  const double above = v > low ? v : low, inside = above < last ? above : last;
  T nearest = static_cast<T>(inside);
  if constexpr (sizeof(T) == 8) nearest = v >= high ? std::numeric_limits<T>::max() : nearest;
  return v == v ? nearest : T(0);
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
