// Softmax and cross-entropy over rows. The maximum of a row is subtracted before exponentiation, so no logit
// overflows; sums over a row are in double, in trees cut from its length alone.
#pragma once

#include "lpf/backend/cpu/reduce.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

template <class T>
T row_max(std::int64_t n, const T* x) {
  T top = x[0];
  for (std::int64_t i = 0; i < n; ++i) top = x[i] > top ? x[i] : top;
  return top;
}

/// Σ exp(x − top) over a row.
template <class T>
double sum_of_exponentials(std::int64_t n, const T* x, T top) {
  return sum_tree<double>(n, [x, top](std::int64_t i) { return static_cast<double>(std::exp(x[i] - top)); });
}

/// Calls f(row) for each row, on threads.
template <class F>
void for_each_row(std::int64_t rows, std::int64_t n, F f) {
  parallel_for(rows, std::max<std::int64_t>(1, elementwise_grain / 4 / std::max<std::int64_t>(1, n)),
               [&](std::int64_t row, std::int64_t end) {
                 for (; row < end; ++row) f(row);
               });
}

template <class T>
void softmax(DType, std::int64_t rows, std::int64_t n, bool logarithm, const void* x, void* y) {
  if (n == 0) return;
  for_each_row(rows, n, [&](std::int64_t row) {
    const T* from = static_cast<const T*>(x) + row * n;
    T* to = static_cast<T*>(y) + row * n;
    const T top = row_max(n, from);
    if (logarithm) {
      const T log_sum = static_cast<T>(std::log(sum_of_exponentials(n, from, top)));
      LPF_SIMD
      for (std::int64_t i = 0; i < n; ++i) to[i] = from[i] - top - log_sum;
      return;
    }
    for (std::int64_t i = 0; i < n; ++i) to[i] = std::exp(from[i] - top);
    const double sum = sum_tree<double>(n, AsDouble<T>{to});
    const T scale = static_cast<T>(1 / sum);
    LPF_SIMD
    for (std::int64_t i = 0; i < n; ++i) to[i] *= scale;
  });
}

template <class T>
void softmax_backward(DType, std::int64_t rows, std::int64_t n, bool logarithm, const void* y, const void* dy,
                      void* dx) {
  for_each_row(rows, n, [&](std::int64_t row) {
    const T* p = static_cast<const T*>(y) + row * n;
    const T* g = static_cast<const T*>(dy) + row * n;
    T* to = static_cast<T*>(dx) + row * n;
    if (logarithm) {
      const T sum = static_cast<T>(sum_tree<double>(n, AsDouble<T>{g}));
      for (std::int64_t i = 0; i < n; ++i) to[i] = g[i] - std::exp(p[i]) * sum;
    } else {
      const T sum = static_cast<T>(sum_tree<double>(
          n, [p, g](std::int64_t i) { return static_cast<double>(p[i]) * static_cast<double>(g[i]); }));
      LPF_SIMD
      for (std::int64_t i = 0; i < n; ++i) to[i] = p[i] * (g[i] - sum);
    }
  });
}

template <class T>
void cross_entropy(DType, std::int64_t rows, std::int64_t n, double smoothing, std::int64_t ignore_index,
                   const void* x, const std::int64_t* target, void* loss, void* normalizer) {
  for_each_row(rows, n, [&](std::int64_t row) {
    const T* logit = static_cast<const T*>(x) + row * n;
    T& value = static_cast<T*>(loss)[row];
    T* const kept = static_cast<T*>(normalizer) + 2 * row;
    value = kept[0] = kept[1] = T(0);
    if (target[row] == ignore_index) return;
    const T top = row_max(n, logit);
    const double log_sum = std::log(sum_of_exponentials(n, logit, top));
    double sum = log_sum - static_cast<double>(logit[target[row]] - top);
    if (smoothing > 0) {  // a logit of −∞ (a masked class) must not be multiplied by 0
      const double others =
          sum_tree<double>(n, [&](std::int64_t i) { return static_cast<double>(logit[i] - top); });
      sum = (1 - smoothing) * sum + smoothing * (log_sum - others / static_cast<double>(n));
    }
    value = static_cast<T>(sum);
    kept[0] = top;
    kept[1] = static_cast<T>(log_sum);
  });
}

template <class T>
void cross_entropy_backward(DType, std::int64_t rows, std::int64_t n, double smoothing,
                            std::int64_t ignore_index, const void* x, const std::int64_t* target,
                            const void* normalizer, const void* dloss, void* dx) {
  const T spread = static_cast<T>(smoothing / static_cast<double>(n)), label = static_cast<T>(1 - smoothing);
  for_each_row(rows, n, [&](std::int64_t row) {
    const T* logit = static_cast<const T*>(x) + row * n;
    T* to = static_cast<T*>(dx) + row * n;
    if (target[row] == ignore_index) return std::fill(to, to + n, T(0));
    const T* const kept = static_cast<const T*>(normalizer) + 2 * row;
    const T top = kept[0], log_sum = kept[1];
    const T g = static_cast<const T*>(dloss)[row];
    for (std::int64_t i = 0; i < n; ++i) to[i] = g * (std::exp(logit[i] - top - log_sum) - spread);
    to[target[row]] -= g * label;
  });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
