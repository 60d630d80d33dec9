// Adam's step over a whole parameter store, in one sweep.
#pragma once

#include "lpf/backend/cpu/elementwise.hpp"
#include "lpf/backend/cpu/typed.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

template <class T>
void adam(DType, std::int64_t n, const AdamStep& o, const void* gradient, void* m, void* v, void* v_max,
          void* theta) {
  const T* g = static_cast<const T*>(gradient);
  T *first = static_cast<T*>(m), *second = static_cast<T*>(v), *largest = static_cast<T*>(v_max),
    *w = static_cast<T*>(theta);
  const T b1 = static_cast<T>(o.beta1), b2 = static_cast<T>(o.beta2), c1 = static_cast<T>(1 - o.beta1),
          c2 = static_cast<T>(1 - o.beta2), epsilon = static_cast<T>(o.epsilon);
  const T step = static_cast<T>(o.step.value), root = static_cast<T>(o.root.value),
          coupled = static_cast<T>(o.weight_decay), shrink = static_cast<T>(o.shrink.value);
  constexpr std::int64_t tile = 1024;
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    T spread[tile];
    for (std::int64_t from = begin; from < end; from += tile) {
      const std::int64_t to = std::min(end, from + tile);
      LPF_SIMD
      for (std::int64_t i = from; i < to; ++i) {
        const T d = coupled == T(0) ? g[i] : g[i] + coupled * w[i];  // 0·∞ would be NaN
        first[i] = b1 * first[i] + c1 * d;
        second[i] = b2 * second[i] + c2 * d * d;
        if (largest) largest[i] = std::max(largest[i], second[i]);
      }
      square_roots(to - from, (largest ? largest : second) + from, spread);
      LPF_SIMD
      for (std::int64_t i = from; i < to; ++i) {
        const T move = step * first[i] / (spread[i - from] * root + epsilon);
        w[i] =
            shrink * w[i] - (first[i] == T(0) ? T(0) : move);  // with ε = 0, 0/0 where all gradients were 0
      }
    }
  });
}

inline void fill_adam(Table& t) {
  cpu_float32.adam = adam<float>;
  cpu_float64.adam = adam<double>;
  t.adam = ByType<&Table::adam>::call;
}
inline const bool adam_registered = register_cpu(KernelGroup::adam, LPF_VECTOR_BYTES, fill_adam);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
