// Gather and scatter by index. Additions to one element happen in index order on one
// thread: the same bits in every run.
#pragma once

#include "lpf/backend/cpu/elementwise.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

inline void take(DType type, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t count,
                 const void* x, const std::int64_t* index, void* y) {
  const std::size_t row = static_cast<std::size_t>(inner) * size_of(type);
  const auto* from = static_cast<const std::byte*>(x);
  auto* to = static_cast<std::byte*>(y);
  parallel_for(outer * count, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, inner)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t k = begin; k < end; ++k)
                   std::memcpy(to + static_cast<std::size_t>(k) * row,
                               from + static_cast<std::size_t>(k / count * n + index[k % count]) * row, row);
               });
}

template <class T>
void index_add(DType, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t count,
               const void* y, const std::int64_t* index, void* x) {
  parallel_for(outer, 1, [&](std::int64_t o, std::int64_t end) {
    for (; o < end; ++o)
      for (std::int64_t j = 0; j < count; ++j) {
        const T* from = static_cast<const T*>(y) + (o * count + j) * inner;
        T* to = static_cast<T*>(x) + (o * n + index[j]) * inner;
        for (std::int64_t i = 0; i < inner; ++i) to[i] = wrapping_add(to[i], from[i]);
      }
  });
}

inline void gather(DType type, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t m,
                   const void* x, const std::int64_t* index, void* y) {
  const std::size_t size = size_of(type);
  parallel_for(outer * m * inner, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end; ++k) {
      const auto from = static_cast<std::size_t>((k / (m * inner) * n + index[k]) * inner + k % inner);
      std::memcpy(static_cast<std::byte*>(y) + static_cast<std::size_t>(k) * size,
                  static_cast<const std::byte*>(x) + from * size, size);
    }
  });
}

inline void scatter_add(DType type, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t m,
                        const void* y, const std::int64_t* index, void* x) {
  visit(type, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, BFloat16>) {
      no_kernel(type);
    } else {
      parallel_for(outer, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, m * inner)),
                   [&](std::int64_t o, std::int64_t end) {
                     for (; o < end; ++o)
                       for (std::int64_t k = o * m * inner; k < (o + 1) * m * inner; ++k) {
                         T& to = static_cast<T*>(x)[(o * n + index[k]) * inner + k % inner];
                         to = wrapping_add(to, static_cast<const T*>(y)[k]);
                       }
                   });
    }
  });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
