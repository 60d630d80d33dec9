// Reductions of [outer, n, inner] over the middle axis. Long sums are cut into blocks of fixed length whose
// partial sums are added in order: the same tree for any number of threads.
#pragma once

#include <iterator>
#include <limits>
#include <vector>

#include "lpf/backend/cpu/elementwise.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

inline constexpr std::int64_t sum_block = 2048;

/// Sum of f(0) … f(n − 1) for at most sum_block terms, in sixteen lanes that are then added pairwise.
template <class T, class F>
T sum_lanes(std::int64_t n, F f) {
  constexpr std::int64_t lanes = 16;
  T lane[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    LPF_SIMD
    for (std::int64_t l = 0; l < lanes; ++l) lane[l] += f(i + l);
  }
  for (std::int64_t l = 0; i < n; ++i, ++l) lane[l] += f(i);
  for (std::int64_t half = lanes / 2; half > 0; half /= 2)
    for (std::int64_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

/// Sum of f(i) over [0, n): blocks of fixed length, then the blocks' sums in the same way.
template <class T, class F>
T sum_blocks(std::int64_t n, const F& f) {
  if (n <= sum_block) return sum_lanes<T>(n, f);
  std::vector<T> partial(static_cast<std::size_t>((n + sum_block - 1) / sum_block));
  parallel_for(std::ssize(partial), 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t from = b * sum_block;
      partial[static_cast<std::size_t>(b)] =
          sum_lanes<T>(std::min(sum_block, n - from), [&](std::int64_t i) { return f(from + i); });
    }
  });
  while (partial.size() > 1) {
    const std::vector<T> level = std::move(partial);
    partial.assign((level.size() + sum_block - 1) / sum_block, T(0));
    for (std::size_t b = 0; b < partial.size(); ++b) {
      const T* from = level.data() + b * sum_block;
      partial[b] = sum_lanes<T>(
          std::min<std::int64_t>(sum_block, std::ssize(level) - static_cast<std::int64_t>(b) * sum_block),
          [from](std::int64_t i) { return from[i]; });
    }
  }
  return partial[0];
}

/// y[i] = Σ_j x[j, i] over `rows` rows of `inner` neighbours.
template <class T>
void sum_rows(std::int64_t rows, std::int64_t inner, const T* x, T* y) {
  constexpr std::int64_t block = 256;  // rows
  const auto add = [&](std::int64_t from, std::int64_t to, T* out) {
    std::fill(out, out + inner, T(0));
    for (std::int64_t j = from; j < to; ++j) {
      const T* row = x + j * inner;
      LPF_SIMD
      for (std::int64_t i = 0; i < inner; ++i) out[i] += row[i];
    }
  };
  if (inner == 0) return;
  if (rows <= block) return add(0, rows, y);
  const std::int64_t blocks = (rows + block - 1) / block;
  std::vector<T> partial(static_cast<std::size_t>(blocks * inner));
  parallel_for(blocks, std::max<std::int64_t>(1, elementwise_grain / (block * inner)),
               [&](std::int64_t b, std::int64_t end) {
                 for (; b < end; ++b)
                   add(b * block, std::min(rows, (b + 1) * block), partial.data() + b * inner);
               });
  sum_rows(blocks, inner, partial.data(), y);
}

template <class T>
void reduce_sum(std::int64_t outer, std::int64_t n, std::int64_t inner, const T* x, T* y) {
  if (outer == 1) {
    if (inner == 1) {
      y[0] = sum_blocks<T>(n, [x](std::int64_t i) { return x[i]; });
    } else {
      sum_rows(n, inner, x, y);
    }
    return;
  }
  parallel_for(outer, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, n * inner)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t o = begin; o < end; ++o) {
                   const T* from = x + o * n * inner;
                   if (inner == 1) {
                     y[o] = sum_blocks<T>(n, [from](std::int64_t i) { return from[i]; });
                   } else {
                     sum_rows(n, inner, from, y + o * inner);
                   }
                 }
               });
}

/// y[o, i] = the fold of step(accumulated, element) over j, from the first element on.
template <class T, class R, class First, class Step>
void fold(std::int64_t outer, std::int64_t n, std::int64_t inner, const void* x, void* y, First first,
          Step step) {
  const T* from = static_cast<const T*>(x);
  R* to = static_cast<R*>(y);
  parallel_for(outer * inner, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, n)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t k = begin; k < end; ++k) {
                   const T* column = from + k / inner * n * inner + k % inner;
                   R value = first(column, n);
                   for (std::int64_t j = 0; j < n; ++j) value = step(value, j, column, inner);
                   to[k] = value;
                 }
               });
}

template <class T>
void reduce_as(Reduce op, std::int64_t outer, std::int64_t n, std::int64_t inner, const void* x, void* y) {
  using Index = std::int64_t;
  // A NaN wins every comparison, as in NumPy and PyTorch.
  const auto above = [](T a, T b) { return a > b || a != a; };
  const auto below = [](T a, T b) { return a < b || a != a; };
  switch (op) {
    case Reduce::sum:
      if constexpr (std::is_floating_point_v<T> || std::is_same_v<T, std::int64_t>)
        reduce_sum(outer, n, inner, static_cast<const T*>(x), static_cast<T*>(y));
      return;
    case Reduce::product:
      return fold<T, T>(
          outer, n, inner, x, y, [](const T*, Index) { return T(1); },
          [](T v, Index j, const T* c, Index s) { return static_cast<T>(v * c[j * s]); });
    case Reduce::max:
      return fold<T, T>(
          outer, n, inner, x, y, [](const T* c, Index) { return c[0]; },
          [above](T v, Index j, const T* c, Index s) { return v == v && above(c[j * s], v) ? c[j * s] : v; });
    case Reduce::min:
      return fold<T, T>(
          outer, n, inner, x, y, [](const T* c, Index) { return c[0]; },
          [below](T v, Index j, const T* c, Index s) { return v == v && below(c[j * s], v) ? c[j * s] : v; });
    case Reduce::any:
      return fold<T, bool>(
          outer, n, inner, x, y, [](const T*, Index) { return false; },
          [](bool v, Index j, const T* c, Index s) { return v || c[j * s] != T(0); });
    case Reduce::all:
      return fold<T, bool>(
          outer, n, inner, x, y, [](const T*, Index) { return true; },
          [](bool v, Index j, const T* c, Index s) { return v && c[j * s] != T(0); });
    case Reduce::argmax:
      return fold<T, Index>(
          outer, n, inner, x, y, [](const T*, Index) { return Index{0}; },
          [above](Index v, Index j, const T* c, Index s) {
            return c[v * s] == c[v * s] && above(c[j * s], c[v * s]) ? j : v;
          });
    case Reduce::argmin:
      return fold<T, Index>(
          outer, n, inner, x, y, [](const T*, Index) { return Index{0}; },
          [below](Index v, Index j, const T* c, Index s) {
            return c[v * s] == c[v * s] && below(c[j * s], c[v * s]) ? j : v;
          });
  }
}
inline void reduce(Reduce op, DType type, std::int64_t outer, std::int64_t n, std::int64_t inner,
                   const void* x, void* y) {
  if (is_narrow(type)) {
    const auto wide = widened(flat(const_cast<void*>(x), type, outer * n * inner));
    const bool keeps = op == Reduce::sum || op == Reduce::product || op == Reduce::max || op == Reduce::min;
    if (!keeps) return reduce(op, DType::int64, outer, n, inner, wide.data(), y);
    std::vector<std::int64_t> out(static_cast<std::size_t>(outer * inner));
    reduce(op, DType::int64, outer, n, inner, wide.data(), out.data());
    if (!out.empty()) assign(flat(y, type, outer * inner), flat(out.data(), DType::int64, outer * inner));
    return;
  }
  visit_arithmetic(type, [&](auto zero) { reduce_as<decltype(zero)>(op, outer, n, inner, x, y); });
}

inline void cumulative_sum(DType type, std::int64_t outer, std::int64_t n, std::int64_t inner, const void* x,
                           void* y) {
  visit(type, [&](auto zero) {
    using T = decltype(zero);
    parallel_for(outer * inner, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, n)),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t k = begin; k < end; ++k) {
                     const std::int64_t base = k / inner * n * inner + k % inner;
                     T total = T(0);
                     for (std::int64_t j = 0; j < n; ++j) {
                       total = static_cast<T>(total + static_cast<const T*>(x)[base + j * inner]);
                       static_cast<T*>(y)[base + j * inner] = total;
                     }
                   }
                 });
  });
}

inline double dot(DType type, std::int64_t n, const void* x, const void* y) {
  return visit_floating("dot", type, [&](auto zero) {
    using T = decltype(zero);
    const T* a = static_cast<const T*>(x);
    const T* b = static_cast<const T*>(y);
    return sum_blocks<double>(
        n, [a, b](std::int64_t i) { return static_cast<double>(a[i]) * static_cast<double>(b[i]); });
  });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
