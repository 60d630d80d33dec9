// e^x of many numbers. For float a polynomial of our own, which compilers vectorise: the C library's is called number by
// number without -ffast-math.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "lpf/backend/cpu/isa.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// e^x for x ≤ 88, to 2 ulp; 0 where it would be subnormal, NaN for NaN. x = n·log 2 + r; the polynomial of e^r is Cephes'
/// expf (Moshier).
inline float exponential(float x) {
  constexpr float lowest = -87.3365402f,
                  magic = 12582912.0f;  // adding 1.5·2^23 rounds to the nearest integer
  const float limited = x < lowest ? lowest : x, shifted = limited * 1.44269504f + magic, n = shifted - magic;
  const float r = (limited - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float y = p * (r * r) + r + 1.0f;
  const auto power = (std::bit_cast<std::uint32_t>(shifted) + 127u)
                     << 23;  // the low bits of `shifted` are those of n
  return x < lowest ? 0.0f : y * std::bit_cast<float>(power);
}

/// y[i] = factor·e^(x[i] − shift), for x[i] ≤ shift or little more. y may be x.
inline void exponentials(std::int64_t n, const float* x, float shift, float factor, float* y) {
  LPF_SIMD
  for (std::int64_t i = 0; i < n; ++i) y[i] = factor * exponential(x[i] - shift);
}
inline void exponentials(std::int64_t n, const double* x, double shift, double factor, double* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = factor * std::exp(x[i] - shift);
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
