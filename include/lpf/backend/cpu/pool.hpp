// Pooling: for each output pixel a loop over its window; maxima are held in registers, sums in a loop over
// the channels that the compiler vectorises. Gradients are scattered sample by sample, in order.
#pragma once

#include <cstring>
#include <limits>

#include "lpf/backend/cpu/elementwise.hpp"
#include "lpf/backend/registry.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// The part of an output pixel's window that lies inside the plane.
struct Window {
  std::int64_t row, column;  // where the window begins
  std::int64_t top, bottom, left, right;
  Window(const Pool2d& d, std::int64_t i, std::int64_t j)
      : row(i * d.stride_h - d.pad_h),
        column(j * d.stride_w - d.pad_w),
        top(std::max<std::int64_t>(0, row)),
        bottom(std::min(d.h, row + d.kh)),
        left(std::max<std::int64_t>(0, column)),
        right(std::min(d.w, column + d.kw)) {}
  /// The divisor of its average.
  std::int64_t divisor(const Pool2d& d) const {
    if (d.divisor != 0) return d.divisor;
    if (!d.count_include_pad) return (bottom - top) * (right - left);
    return (std::min(row + d.kh, d.h + d.pad_h) - row) * (std::min(column + d.kw, d.w + d.pad_w) - column);
  }
};

/// Calls f(sample, window, output pixel) for the output pixels of the samples [begin, end).
template <class F>
void for_each_window(const Pool2d& d, std::int64_t begin, std::int64_t end, F f) {
  for (std::int64_t n = begin, pixel = begin * d.p * d.q; n < end; ++n)
    for (std::int64_t i = 0; i < d.p; ++i)
      for (std::int64_t j = 0; j < d.q; ++j, ++pixel) f(n, Window(d, i, j), pixel);
}

inline std::int64_t pool_grain(const Pool2d& d) {
  return std::max<std::int64_t>(1,
                                elementwise_grain / std::max<std::int64_t>(1, d.p * d.q * d.c * d.kh * d.kw));
}

/// Maxima over one window, of `lanes` channels in a register, and their places: index[k] = i·w + j of the
/// first of equals. A NaN wins; of several, the last.
template <class T, int lanes>
struct WindowMaximum {
  // Places within the window, in lanes as wide as the maxima.
  using Place = std::conditional_t<lanes == 1 || sizeof(T) == 8, std::int64_t, std::int32_t>;
  typedef T Values __attribute__((vector_size(lanes * sizeof(T))));
  typedef Place Places __attribute__((vector_size(lanes * sizeof(Place))));
  typedef std::int64_t Indices __attribute__((vector_size(lanes * sizeof(std::int64_t))));

  static void find(const Pool2d& d, const Window& window, const T* sample, std::int64_t channel, T* best,
                   std::int64_t* index) {
    const std::int64_t base = window.top * d.w + window.left;
    const T* const corner = sample + base * d.c + channel;
    Values most = Values{} - std::numeric_limits<T>::infinity();
    Places at{};
    for (std::int64_t i = 0; i < window.bottom - window.top; ++i)
      for (std::int64_t j = 0; j < window.right - window.left; ++j) {
        Values v;
        std::memcpy(&v, corner + (i * d.w + j) * d.c, sizeof v);
        const auto wins = (v > most) | (v != v);
        most = wins ? v : most;
        at = __builtin_convertvector(wins, Places) ? Places{} + static_cast<Place>(i * d.w + j) : at;
      }
    const Indices indices = __builtin_convertvector(at, Indices) + base;
    std::memcpy(best + channel, &most, sizeof most);
    std::memcpy(index + channel, &indices, sizeof indices);
  }
  /// All channels of a window; where their number is not a multiple of `lanes`, some are computed twice.
  static void find_all(const Pool2d& d, const Window& window, const T* sample, T* best, std::int64_t* index) {
    for (std::int64_t k = 0; k < d.c; k += lanes)
      find(d, window, sample, std::min<std::int64_t>(k, d.c - lanes), best, index);
  }
};

inline void max_pool2d(const Pool2d& d, const void* x, void* y, std::int64_t* index) {
  visit_floating("max_pool2d", d.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int most = std::max(16, LPF_VECTOR_BYTES) / static_cast<int>(sizeof(T)),
                  few = std::max(2, most / 4);
    const bool small = d.kh * d.w <= INT32_MAX;  // so that places fit 32 bits
    const auto find = small && d.c >= most  ? WindowMaximum<T, most>::find_all
                      : small && d.c >= few ? WindowMaximum<T, few>::find_all
                                            : WindowMaximum<T, 1>::find_all;
    parallel_for(d.n, pool_grain(d), [&](std::int64_t begin, std::int64_t end) {
      for_each_window(d, begin, end, [&](std::int64_t n, const Window& window, std::int64_t pixel) {
        find(d, window, static_cast<const T*>(x) + n * d.h * d.w * d.c, static_cast<T*>(y) + pixel * d.c,
             index + pixel * d.c);
      });
    });
  });
}

inline void max_pool2d_backward(const Pool2d& d, const void* dy, const std::int64_t* index, void* dx) {
  visit_floating("max_pool2d", d.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_for(d.n, pool_grain(d), [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t plane = d.h * d.w * d.c, outputs = d.p * d.q;
      std::fill(static_cast<T*>(dx) + begin * plane, static_cast<T*>(dx) + end * plane, T(0));
      for (std::int64_t pixel = begin * outputs; pixel < end * outputs; ++pixel) {
        T* const to = static_cast<T*>(dx) + pixel / outputs * plane;
        const T* const from = static_cast<const T*>(dy) + pixel * d.c;
        const std::int64_t* const at = index + pixel * d.c;
        for (std::int64_t k = 0; k < d.c; ++k) to[at[k] * d.c + k] += from[k];
      }
    });
  });
}

inline void avg_pool2d(const Pool2d& d, const void* x, void* y) {
  visit_floating("avg_pool2d", d.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_for(d.n, pool_grain(d), [&](std::int64_t begin, std::int64_t end) {
      for_each_window(d, begin, end, [&](std::int64_t n, const Window& window, std::int64_t pixel) {
        T* const total = static_cast<T*>(y) + pixel * d.c;
        std::fill(total, total + d.c, T(0));
        for (std::int64_t i = window.top; i < window.bottom; ++i)
          for (std::int64_t j = window.left; j < window.right; ++j) {
            const T* const from = static_cast<const T*>(x) + ((n * d.h + i) * d.w + j) * d.c;
            LPF_SIMD
            for (std::int64_t k = 0; k < d.c; ++k) total[k] += from[k];
          }
        const T divisor = static_cast<T>(window.divisor(d));
        LPF_SIMD
        for (std::int64_t k = 0; k < d.c; ++k) total[k] /= divisor;
      });
    });
  });
}

inline void avg_pool2d_backward(const Pool2d& d, const void* dy, void* dx) {
  visit_floating("avg_pool2d", d.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_for(d.n, pool_grain(d), [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t plane = d.h * d.w * d.c;
      std::fill(static_cast<T*>(dx) + begin * plane, static_cast<T*>(dx) + end * plane, T(0));
      for_each_window(d, begin, end, [&](std::int64_t n, const Window& window, std::int64_t pixel) {
        const T* const from = static_cast<const T*>(dy) + pixel * d.c;
        const T divisor = static_cast<T>(window.divisor(d));
        for (std::int64_t i = window.top; i < window.bottom; ++i)
          for (std::int64_t j = window.left; j < window.right; ++j) {
            T* const to = static_cast<T*>(dx) + ((n * d.h + i) * d.w + j) * d.c;
            LPF_SIMD
            for (std::int64_t k = 0; k < d.c; ++k) to[k] += from[k] / divisor;
          }
      });
    });
  });
}

inline void fill_pooling(Table& t) {
  t.max_pool2d = max_pool2d;
  t.max_pool2d_backward = max_pool2d_backward;
  t.avg_pool2d = avg_pool2d;
  t.avg_pool2d_backward = avg_pool2d_backward;
}
inline const bool pooling_registered = register_cpu(KernelGroup::pooling, LPF_VECTOR_BYTES, fill_pooling);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
