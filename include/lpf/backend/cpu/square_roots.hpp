// Square roots of an array. std::sqrt sets errno for negative numbers, which prevents compilers
// from vectorising a loop over it.
#pragma once

#include <cstdint>

#include "lpf/backend/cpu/noise_vectors.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// y[i] = √x[i], correctly rounded; y may be x.
template <class T>
void square_roots(std::int64_t n, const T* x, T* y) {
  std::int64_t i = 0;
#if LPF_VECTOR_BYTES
  constexpr std::int64_t lanes = LPF_VECTOR_BYTES / sizeof(T);
  for (; i + lanes <= n; i += lanes) noise::store(y + i, noise::square_root(noise::load(x + i)));
#endif
  for (; i < n; ++i) y[i] = lpf::detail::square_root(x[i]);
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
