// Scatter by index. Elements are written in index order by one thread.
#pragma once

#include <cstring>

#include "lpf/backend/cpu/convert.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

inline void scatter(DType type, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t m,
                    const void* y, const std::int64_t* index, void* x) {
  const std::size_t size = size_of(type);
  parallel_for(outer, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, m * inner)),
               [&](std::int64_t o, std::int64_t end) {
                 for (; o < end; ++o)
                   for (std::int64_t k = o * m * inner; k < (o + 1) * m * inner; ++k) {
                     const auto to = static_cast<std::size_t>((o * n + index[k]) * inner + k % inner);
                     std::memcpy(static_cast<std::byte*>(x) + to * size,
                                 static_cast<const std::byte*>(y) + static_cast<std::size_t>(k) * size, size);
                   }
               });
}

inline void fill_scatter(Table& t) { t.scatter = scatter; }
inline const bool scatter_registered = register_cpu(KernelGroup::scatter, LPF_VECTOR_BYTES, fill_scatter);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
