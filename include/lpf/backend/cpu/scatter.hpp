// Scatter by index. Elements are written in index order by one thread.
#pragma once

#include "lpf/backend/cpu/convert.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

template <class Bits>
void scatter_bits(std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t m, const void* y,
                  const std::int64_t* index, void* x) {
  parallel_for(outer, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, m * inner)),
               [&](std::int64_t o, std::int64_t end) {
                 for (; o < end; ++o)
                   for (std::int64_t j = o * m; j < (o + 1) * m; ++j)
                     for (std::int64_t i = 0; i < inner; ++i) {
                       const std::int64_t k = j * inner + i;
                       static_cast<Bits*>(x)[(o * n + index[k]) * inner + i] = static_cast<const Bits*>(y)[k];
                     }
               });
}

inline void scatter(DType type, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t m,
                    const void* y, const std::int64_t* index, void* x) {
  switch (size_of(type)) {
    case 1: return scatter_bits<std::uint8_t>(outer, n, inner, m, y, index, x);
    case 2: return scatter_bits<std::uint16_t>(outer, n, inner, m, y, index, x);
    case 4: return scatter_bits<std::uint32_t>(outer, n, inner, m, y, index, x);
    default: return scatter_bits<std::uint64_t>(outer, n, inner, m, y, index, x);
  }
}

inline void fill_scatter(Table& t) { t.scatter = scatter; }
inline const bool scatter_registered = register_cpu(KernelGroup::scatter, LPF_VECTOR_BYTES, fill_scatter);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
