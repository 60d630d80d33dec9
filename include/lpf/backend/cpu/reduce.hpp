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

/// The elements of an array as a function of their index.
template <class T>
struct ElementsOf {
  const T* x;
  T operator()(std::int64_t i) const { return x[i]; }
};

template <class T>
struct AsDouble {
  const T* x;
  double operator()(std::int64_t i) const { return static_cast<double>(x[i]); }
};

/// Sum of f(begin) … f(begin + n − 1) for at most sum_block terms, in sixteen
/// lanes that are then added pairwise.
template <class T, class F>
T sum_lanes(std::int64_t begin, std::int64_t n, const F& f) {
  constexpr std::int64_t lanes = 16;
  T lane[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    LPF_SIMD
    for (std::int64_t l = 0; l < lanes; ++l) lane[l] = wrapping_add(lane[l], f(begin + i + l));
  }
  for (std::int64_t l = 0; i < n; ++i, ++l) lane[l] = wrapping_add(lane[l], f(begin + i));
  for (std::int64_t half = lanes / 2; half > 0; half /= 2)
    for (std::int64_t l = 0; l < half; ++l) lane[l] = wrapping_add(lane[l], lane[l + half]);
  return lane[0];
}

/// A reference to a sum over f(begin) … f(begin + n − 1): its users are compiled once, not once per f.
template <class T>
class SumOf {
 public:
  template <class F>
  SumOf(const F& f)  // NOLINT: implicit on purpose
      : f_(&f), call_([](const void* g, std::int64_t begin, std::int64_t n) {
          return sum_lanes<T>(begin, n, *static_cast<const F*>(g));
        }) {}
  T operator()(std::int64_t begin, std::int64_t n) const { return call_(f_, begin, n); }

 private:
  const void* f_;
  T (*call_)(const void*, std::int64_t, std::int64_t);
};

/// Sum of f(i) over [0, n) on this thread: blocks of fixed length, then the blocks' sums in the same way.
template <class T>
T sum_tree(std::int64_t n, SumOf<T> f) {
  if (n <= sum_block) return f(0, n);
  std::vector<T> partial;
  for (std::int64_t b = 0; b < n; b += sum_block) partial.push_back(f(b, std::min(sum_block, n - b)));
  return sum_tree<T>(std::ssize(partial), ElementsOf<T>{partial.data()});
}

/// sum_tree() of an array, with the blocks distributed over threads.
template <class T>
T sum_blocks(std::int64_t n, SumOf<T> f) {
  std::vector<T> partial(static_cast<std::size_t>((n + sum_block - 1) / sum_block));
  parallel_for(std::ssize(partial), 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      partial[static_cast<std::size_t>(b)] = f(b * sum_block, std::min(sum_block, n - b * sum_block));
  });
  return sum_tree<T>(std::ssize(partial), ElementsOf<T>{partial.data()});
}

/// y[i] = Σ_j x[j, i] over `rows` contiguous rows of `inner` elements.
template <class T>
void sum_rows(std::int64_t rows, std::int64_t inner, const T* x, T* y) {
  constexpr std::int64_t block = 256;  // rows
  const auto add = [&](std::int64_t from, std::int64_t to, T* out) {
    std::fill(out, out + inner, T(0));
    for (std::int64_t j = from; j < to; ++j) {
      const T* row = x + j * inner;
      LPF_SIMD
      for (std::int64_t i = 0; i < inner; ++i) out[i] = wrapping_add(out[i], row[i]);
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
  // With one column the threads share the blocks or rows of that sum instead.
  parallel_for(outer, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, n * inner)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t o = begin; o < end; ++o) {
                   const T* from = x + o * n * inner;
                   if (inner == 1) {
                     y[o] = n > sum_block ? sum_blocks<T>(n, ElementsOf<T>{from})
                                          : sum_lanes<T>(0, n, ElementsOf<T>{from});
                   } else {
                     sum_rows(n, inner, from, y + o * inner);
                   }
                 }
               });
}

/// Calls f(column, k) for each of the outer·inner columns of n elements, `inner` apart. Without elements x may be null.
template <class T, class F>
void for_each_column(std::int64_t outer, std::int64_t n, std::int64_t inner, const T* x, const F& f) {
  parallel_for(outer * inner, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, n)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t k = begin; k < end; ++k)
                   f(n > 0 ? x + k / inner * n * inner + k % inner : x, k);
               });
}

/// The maximum (minimum) of each column of n rows, row by row: the columns of a tile are read together. Of
/// equal elements the first, and the first NaN if there is one.
template <class T>
void reduce_extremum(bool least, std::int64_t outer, std::int64_t n, std::int64_t inner, const T* x, T* y) {
  constexpr std::int64_t tile = 64;
  const std::int64_t tiles = (inner + tile - 1) / tile,
                     work = std::max<std::int64_t>(1, n * std::min(inner, tile));
  parallel_for(outer * tiles, std::max<std::int64_t>(1, elementwise_grain / work),
               [&](std::int64_t t, std::int64_t end) {
                 for (; t < end; ++t) {
                   const std::int64_t o = t / tiles, first = t % tiles * tile,
                                      width = std::min(tile, inner - first);
                   const T* row = x + o * n * inner + first;
                   T best[tile];
                   std::copy(row, row + width, best);
                   for (std::int64_t j = 1; j < n; ++j) {
                     row += inner;
                     LPF_SIMD
                     for (std::int64_t i = 0; i < width; ++i) {
                       const bool better = (least ? row[i] < best[i] : row[i] > best[i]) || row[i] != row[i];
                       best[i] = better && best[i] == best[i] ? row[i] : best[i];
                     }
                   }
                   std::copy(best, best + width, y + o * inner + first);
                 }
               });
}

template <class T>
void reduce(Reduce op, DType, std::int64_t outer, std::int64_t n, std::int64_t inner, const void* x,
            void* y) {
  const T* from = static_cast<const T*>(x);
  if (inner > 1 && (op == Reduce::max || op == Reduce::min))
    return reduce_extremum(op == Reduce::min, outer, n, inner, from, static_cast<T*>(y));
  switch (op) {
    case Reduce::sum: return reduce_sum(outer, n, inner, from, static_cast<T*>(y));
    case Reduce::product:
      return for_each_column(outer, n, inner, from, [=](const T* column, std::int64_t k) {
        T product = T(1);
        for (std::int64_t j = 0; j < n; ++j) product = wrapping_multiply(product, column[j * inner]);
        static_cast<T*>(y)[k] = product;
      });
    case Reduce::any:
    case Reduce::all:
      return for_each_column(outer, n, inner, from, [=](const T* column, std::int64_t k) {
        std::int64_t j = 0;  // up to the first decisive element
        while (j < n && (column[j * inner] != T(0)) == (op == Reduce::all)) ++j;
        static_cast<bool*>(y)[k] = (j < n) == (op == Reduce::any);
      });
    default:  // the extreme's place, the first of equals; a NaN wins, as in NumPy and PyTorch
      return for_each_column(outer, n, inner, from, [=](const T* column, std::int64_t k) {
        const bool least = op == Reduce::min || op == Reduce::argmin;
        std::int64_t place = 0;
        T best = column[0];
        for (std::int64_t j = 1; j < n && best == best; ++j) {
          const T v = column[j * inner];
          if ((least ? v < best : v > best) || v != v) best = v, place = j;
        }
        if (op == Reduce::argmax || op == Reduce::argmin) {
          static_cast<std::int64_t*>(y)[k] = place;
        } else {
          static_cast<T*>(y)[k] = best;
        }
      });
  }
}

inline void narrow_reduce(Reduce op, DType type, std::int64_t outer, std::int64_t n, std::int64_t inner,
                          const void* x, void* y) {
  const auto wide = widened(flat(const_cast<void*>(x), type, outer * n * inner));
  const bool keeps = op == Reduce::sum || op == Reduce::product || op == Reduce::max || op == Reduce::min;
  if (!keeps) return reduce<std::int64_t>(op, DType::int64, outer, n, inner, wide.data(), y);
  std::vector<std::int64_t> out(static_cast<std::size_t>(outer * inner));
  reduce<std::int64_t>(op, DType::int64, outer, n, inner, wide.data(), out.data());
  if (!out.empty()) assign(flat(y, type, outer * inner), flat(out.data(), DType::int64, outer * inner));
}

template <class T>
double dot(DType, std::int64_t n, const void* x, const void* y) {
  const T* a = static_cast<const T*>(x);
  const T* b = static_cast<const T*>(y);
  return sum_blocks<double>(
      n, [a, b](std::int64_t i) { return static_cast<double>(a[i]) * static_cast<double>(b[i]); });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
