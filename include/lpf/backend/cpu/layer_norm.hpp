// Layer normalisation: each row by its own mean and variance. Sums over rows as in norm.hpp.
#pragma once

#include "lpf/backend/cpu/norm.hpp"
#include "lpf/backend/registry.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

inline void layer_norm(DType type, std::int64_t rows, std::int64_t n, double epsilon, const void* x,
                       const void* weight, const void* bias, void* y, void* mean, void* rest, void* rstd) {
  visit_floating("layer_norm", type, [&](auto zero) {
    using T = decltype(zero);
    const T *scale = static_cast<const T*>(weight), *shift = static_cast<const T*>(bias);
    parallel_for(
        rows, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, n)),
        [&](std::int64_t row, std::int64_t end) {
          for (; row < end; ++row) {
            const T* from = static_cast<const T*>(x) + row * n;
            T* to = static_cast<T*>(y) + row * n;
            const auto count = static_cast<double>(n);
            // Counted from the first number, so that a large mean costs no digits.
            const double first = n > 0 ? static_cast<double>(from[0]) : 0;
            const double m =
                sum_tree<double>(
                    n, [from, first](std::int64_t i) { return static_cast<double>(from[i]) - first; }) /
                count;
            const double squares = sum_tree<double>(n, [from, first, m](std::int64_t i) {
              const double d = static_cast<double>(from[i]) - first - m;
              return d * d;
            });
            const T centre = static_cast<T>(first + m),
                    r = static_cast<T>(1 / std::sqrt(squares / count + epsilon));
            const T left = static_cast<T>(first - static_cast<double>(centre) + m), of_rest = T(0) - left * r;
            static_cast<T*>(mean)[row] = centre;
            static_cast<T*>(rest)[row] = left;
            static_cast<T*>(rstd)[row] = r;
            LPF_SIMD
            for (std::int64_t i = 0; i < n; ++i) to[i] = (from[i] - centre) * r + of_rest;
            // loops of their own: as a choice inside one loop, a masked load at null takes microseconds
            if (scale) {
              LPF_SIMD
              for (std::int64_t i = 0; i < n; ++i) to[i] *= scale[i];
            }
            if (shift) {
              LPF_SIMD
              for (std::int64_t i = 0; i < n; ++i) to[i] += shift[i];
            }
          }
        });
  });
}

/// With x̂ = (x − mean − rest)·rstd and g = dy·weight: dx = rstd·(g − mean(g) − x̂·mean(g·x̂)) over each row,
/// and dweight = Σ dy·x̂, dbias = Σ dy over the rows. Any of the three results may be null.
inline void layer_norm_backward(DType type, std::int64_t rows, std::int64_t n, const void* x, const void* dy,
                                const void* mean, const void* rest, const void* rstd, const void* weight,
                                void* dx, void* dweight, void* dbias) {
  visit_floating("layer_norm", type, [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t all[] = {0, rows};
    const std::vector<RowBlock> blocks = row_blocks(1, all, n);
    const auto per_block = static_cast<std::size_t>(2 * n);
    std::vector<double> partial(blocks.size() * per_block);  // of each block Σ dy·x̂, and Σ dy
    const T* scale = static_cast<const T*>(weight);
    for_each_block(blocks, n, [&](std::size_t k) {
      double *to_weight = partial.data() + k * per_block, *to_bias = to_weight + n;
      std::vector<T> scratch(scale ? static_cast<std::size_t>(n) : 0);
      for (std::int64_t row = blocks[k].begin; row < blocks[k].end; ++row) {
        const T *from = static_cast<const T*>(x) + row * n, *own = static_cast<const T*>(dy) + row * n;
        const T m = static_cast<const T*>(mean)[row], r = static_cast<const T*>(rstd)[row],
                of_rest = T(0) - static_cast<const T*>(rest)[row] * r;
        const T* g = own;
        if (scale) {
          T* product = scratch.data();
          LPF_SIMD
          for (std::int64_t i = 0; i < n; ++i) product[i] = own[i] * scale[i];
          g = product;
        }
        const auto count = static_cast<double>(n);
        const T offset = static_cast<T>(
            sum_tree<double>(n, [g](std::int64_t i) { return static_cast<double>(g[i]); }) / count);
        const T slope = static_cast<T>(
            sum_tree<double>(
                n,
                [=](std::int64_t i) { return static_cast<double>(g[i] * ((from[i] - m) * r + of_rest)); }) /
            count);
        if (dx) {
          T* to = static_cast<T*>(dx) + row * n;
          LPF_SIMD
          for (std::int64_t i = 0; i < n; ++i)
            to[i] = r * (g[i] - offset - ((from[i] - m) * r + of_rest) * slope);
        }
        LPF_SIMD
        for (std::int64_t i = 0; i < n; ++i) {
          to_weight[i] += static_cast<double>(own[i] * ((from[i] - m) * r + of_rest));
          to_bias[i] += static_cast<double>(own[i]);
        }
      }
    });
    for (std::int64_t i = 0; i < n; ++i) {
      double sum_weight = 0, sum_bias = 0;
      for (std::size_t k = 0; k < blocks.size(); ++k) {
        sum_weight += partial[k * per_block + static_cast<std::size_t>(i)];
        sum_bias += partial[k * per_block + static_cast<std::size_t>(n + i)];
      }
      if (dweight) static_cast<T*>(dweight)[i] = static_cast<T>(sum_weight);
      if (dbias) static_cast<T*>(dbias)[i] = static_cast<T>(sum_bias);
    }
  });
}

inline void fill_layer_normalization(Table& t) {
  t.layer_norm = layer_norm;
  t.layer_norm_backward = layer_norm_backward;
}
inline const bool layer_normalization_registered =
    register_cpu(KernelGroup::layer_normalization, LPF_VECTOR_BYTES, fill_layer_normalization);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
