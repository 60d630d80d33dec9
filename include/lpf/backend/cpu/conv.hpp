// Convolutions as products. A tile of output pixels at a time is gathered from the input (im2col) and
// multiplied with the filters; the input is never unfolded as a whole. The data gradient is a convolution
// too: each pixel of x gathers from dy what it took part in. Tiles and blocks are cut from the shape of a
// slice alone, so results depend neither on the number of threads nor on the other slices of the batch.
#pragma once

#include <numeric>

#include "lpf/backend/cpu/conv_filter.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

template <class T>
void conv2d_as(const Conv2d& c, const T* x, const T* w, const T* bias, T* y) {
  const std::int64_t cg = c.c / c.groups, kg = c.k / c.groups, depth = c.kh * c.kw * cg;
  const Gather g{c.p,      c.q,      c.h,          c.w,          c.c,  c.stride_h, c.stride_w,
                 -c.pad_h, -c.pad_w, c.dilation_h, c.dilation_w, c.kh, c.kw};
  const bool identity = g.is_identity();
  const std::int64_t at_once = taps_at_once(g.taps(), cg), columns = at_once * cg, tile = tile_rows(columns);
  const SliceTiles tiles(c, c.p * c.q, tile);
  auto work = [&](std::int64_t begin, std::int64_t end) {
    T* const gathered = identity ? nullptr : conv_scratch<T, 0>(tile * columns);
    for (std::int64_t u = begin; u < end; ++u) {
      const auto [slice, first, last] = tiles[u / c.groups];
      const std::int64_t group = u % c.groups, rows = last - first;
      T* const out = y + first * c.k + group * kg;
      const T* const b = bias ? bias + slice * c.bias_stride + group * kg : nullptr;
      for (std::int64_t i = 0; i < rows; ++i) {
        if (b) {
          std::copy(b, b + kg, out + i * c.k);
        } else {
          std::fill(out + i * c.k, out + i * c.k + kg, T(0));
        }
      }
      const T* const filters = w + slice * c.w_stride + group * kg * depth;
      for (std::int64_t t = 0; t < g.taps(); t += at_once) {
        const std::int64_t stop = std::min(t + at_once, g.taps()), k = (stop - t) * cg;
        if (!identity) gather_tile(g, x + group * cg, cg, first, last, t, stop, gathered);
        tile_product(false, true, rows, kg, k, identity ? x + first * c.c + group * cg : gathered,
                     identity ? c.c : k, filters + t * cg, depth, true, out, c.k);
      }
    }
  };
  parallel_for(tiles.count() * c.groups, conv_grain(tile * depth * kg), work);
}

/// Taps of one axis that reach the x pixels i ≡ residue (mod stride): count, the last of them, the distance
/// between two, and where the last reads dy for the first such pixel.
struct ResidueTaps {
  std::int64_t count = 0, last = 0, apart = 1, first_source = 0;
  ResidueTaps(std::int64_t residue, std::int64_t kernel, std::int64_t stride, std::int64_t pad,
              std::int64_t dilation)
      : apart(stride / std::gcd(stride, dilation)) {
    for (std::int64_t r = 0; r < kernel; ++r) {
      const std::int64_t reach = residue + pad - r * dilation;
      if (reach % stride != 0) continue;
      ++count;
      last = r;
      first_source = reach / stride;
    }
  }
};

/// dx of the pixels (i, j) modulo the strides, whose gather has no holes: with stride 1 all, at once.
template <class T>
void conv2d_backward_data_residue(const Conv2d& c, std::int64_t i, std::int64_t j, const T* dy, const T* w,
                                  T* dx) {
  const std::int64_t cg = c.c / c.groups, kg = c.k / c.groups, depth = c.kh * c.kw * cg;
  const ResidueTaps th(i, c.kh, c.stride_h, c.pad_h, c.dilation_h),
      tw(j, c.kw, c.stride_w, c.pad_w, c.dilation_w);
  const Gather g{(c.h - i + c.stride_h - 1) / c.stride_h,  // taps backwards, so that sources ascend
                 (c.w - j + c.stride_w - 1) / c.stride_w,
                 c.p,
                 c.q,
                 c.k,
                 1,
                 1,
                 th.first_source,
                 tw.first_source,
                 c.dilation_h * th.apart / c.stride_h,
                 c.dilation_w * tw.apart / c.stride_w,
                 th.count,
                 tw.count};
  const auto tap_offset = [&](std::int64_t t) {
    return ((th.last - t / g.taps_w * th.apart) * c.kw + tw.last - t % g.taps_w * tw.apart) * cg;
  };
  const bool identity = g.is_identity(), dense = c.stride_h == 1 && c.stride_w == 1;
  const std::int64_t at_once = kg < 64 ? g.taps() : 1;  // several taps need their filters side by side
  const std::int64_t columns = std::max<std::int64_t>(1, at_once * kg), tile = tile_rows(columns);
  const SliceTiles tiles(c, g.rows * g.cols, tile);
  auto work = [&](std::int64_t begin, std::int64_t end) {
    T* const gathered = conv_scratch<T, 0>(tile * columns);
    T* const result = conv_scratch<T, 1>(tile * cg);
    T* const packed = conv_scratch<T, 2>(columns * cg);
    std::int64_t packed_for = -1;
    for (std::int64_t u = begin; u < end; ++u) {
      const auto [slice, first, last] = tiles[u % tiles.count()];
      const std::int64_t group = u / tiles.count(), rows = last - first;
      const T* const filters = w + slice * c.w_stride + group * kg * depth;
      if (at_once > 1 && packed_for != group * c.replicas + slice) {
        packed_for = group * c.replicas + slice;
        for (std::int64_t t = 0; t < g.taps(); ++t)
          for (std::int64_t k = 0; k < kg; ++k) {
            const T* const filter = filters + k * depth + tap_offset(t);
            std::copy(filter, filter + cg, packed + (t * kg + k) * cg);
          }
      }
      T* const out = dense ? dx + first * c.c + group * cg : result;
      const std::int64_t ld = dense ? c.c : cg;
      if (g.taps() == 0) std::fill(out, out + rows * ld, T(0));  // only with strides, so not dense
      for (std::int64_t t = 0; t < g.taps(); t += at_once) {
        if (!identity) gather_tile(g, dy + group * kg, kg, first, last, t, t + at_once, gathered);
        tile_product(false, false, rows, cg, at_once * kg,
                     identity ? dy + first * c.k + group * kg : gathered, identity ? c.k : at_once * kg,
                     at_once > 1 ? packed : filters + tap_offset(t), at_once > 1 ? cg : depth, t > 0, out,
                     ld);
      }
      for (std::int64_t row = first; !dense && row < last; ++row) {
        const std::int64_t n = row / (g.rows * g.cols), at_h = row / g.cols % g.rows * c.stride_h + i,
                           at_w = row % g.cols * c.stride_w + j;
        const T* const from = result + (row - first) * cg;
        std::copy(from, from + cg, dx + ((n * c.h + at_h) * c.w + at_w) * c.c + group * cg);
      }
    }
  };
  parallel_for(tiles.count() * c.groups, conv_grain(tile * g.taps() * kg * cg), work);
}

inline void conv2d(const Conv2d& c, const void* x, const void* w, const void* bias, void* y) {
  visit_floating("conv2d", c.dtype, [&](auto zero) {
    using T = decltype(zero);
    conv2d_as(c, static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(bias),
              static_cast<T*>(y));
  });
}

inline void conv2d_backward_data(const Conv2d& c, const void* dy, const void* w, void* dx) {
  visit_floating("conv2d", c.dtype, [&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t i = 0; i < c.stride_h; ++i)
      for (std::int64_t j = 0; j < c.stride_w; ++j)
        conv2d_backward_data_residue(c, i, j, static_cast<const T*>(dy), static_cast<const T*>(w),
                                     static_cast<T*>(dx));
  });
}

inline void conv2d_backward_filter(const Conv2d& c, const void* x, const void* dy, void* dw,
                                   bool per_replica) {
  visit_floating("conv2d", c.dtype, [&](auto zero) {
    using T = decltype(zero);
    conv2d_backward_filter_as(c, static_cast<const T*>(x), static_cast<const T*>(dy), static_cast<T*>(dw),
                              per_replica);
  });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
