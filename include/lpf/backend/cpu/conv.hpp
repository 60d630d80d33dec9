// Convolutions, either by a kernel that walks the input (conv_direct.hpp), or as products of gathered tiles
// (conv_products.hpp). The gradient of the input is also a convolution: each pixel of x gathers from the
// pixels of dy that it contributed to; with few channels it is computed one row at a time (conv_fold.hpp).
// All work is cut from the shape of a slice alone, so results depend neither on the number of threads nor on
// the other slices of the batch.
#pragma once

#include <numeric>

#include "lpf/backend/cpu/conv_filter.hpp"
#include "lpf/backend/cpu/conv_fold.hpp"
#include "lpf/backend/registry.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

template <class T>
void convolve(const Convolution<T>& c) {
  if (c.samples * c.g.rows * c.g.cols * c.out == 0) return;
  if (direct_serves(c.g, c.in, c.out)) {
    convolve_directly(c);
  } else {
    convolve_by_products(c);
  }
}

template <class T>
void conv2d_as(const Conv2d& c, const T* x, const T* w, const T* bias, T* y) {
  const std::int64_t in = c.c / c.groups, out = c.k / c.groups, depth = c.kh * c.kw * in;
  std::vector<std::int64_t> taps;
  for (std::int64_t t = 0; t < c.kh * c.kw; ++t) taps.push_back(t * in);
  convolve<T>({.g = Gather::of_input(c),
               .samples = c.n,
               .groups = c.groups,
               .in = in,
               .out = out,
               .source = x,
               .filters = w,
               .group_stride = out * depth,
               .out_stride = depth,
               .in_stride = 1,
               .tap_offset = std::move(taps),
               .bias = bias,
               .target = y,
               .sample_stride = c.p * c.q * c.k,
               .row_stride = c.q * c.k,
               .pixel_stride = c.k,
               .replicas = c.replicas,
               .filter_stride = c.w_stride,
               .bias_stride = c.bias_stride,
               .slice_begin = c.slice_begin});
}

/// Taps of one axis that reach the x pixels i ≡ residue (mod stride): their number, the last of them, the
/// distance between two, and where the last reads dy for the first such pixel.
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

/// dx of the pixels congruent to (i, j) modulo the strides, whose gathers have no holes;
/// with stride 1 all pixels at once.
template <class T>
void conv2d_backward_data_residue(const Conv2d& c, std::int64_t i, std::int64_t j, const T* dy, const T* w,
                                  T* dx) {
  const std::int64_t in = c.k / c.groups, out = c.c / c.groups, depth = c.kh * c.kw * out;
  const ResidueTaps h(i, c.kh, c.stride_h, c.pad_h, c.dilation_h),
      v(j, c.kw, c.stride_w, c.pad_w, c.dilation_w);
  std::vector<std::int64_t> taps;  // from the last on, so that their sources ascend
  for (std::int64_t t = 0; t < h.count * v.count; ++t)
    taps.push_back(((h.last - t / v.count * h.apart) * c.kw + v.last - t % v.count * v.apart) * out);
  convolve<T>({.g = {.rows = (c.h - i + c.stride_h - 1) / c.stride_h,
                     .cols = (c.w - j + c.stride_w - 1) / c.stride_w,
                     .h = c.p,
                     .w = c.q,
                     .c = c.k,
                     .step_h = 1,
                     .step_w = 1,
                     .first_h = h.first_source,
                     .first_w = v.first_source,
                     .tap_h = c.dilation_h * h.apart / c.stride_h,
                     .tap_w = c.dilation_w * v.apart / c.stride_w,
                     .taps_h = h.count,
                     .taps_w = v.count},
               .samples = c.n,
               .groups = c.groups,
               .in = in,
               .out = out,
               .source = dy,
               .filters = w,
               .group_stride = in * depth,
               .out_stride = 1,
               .in_stride = depth,
               .tap_offset = std::move(taps),
               .bias = nullptr,
               .target = dx + (i * c.w + j) * c.c,
               .sample_stride = c.h * c.w * c.c,
               .row_stride = c.stride_h * c.w * c.c,
               .pixel_stride = c.stride_w * c.c,
               .replicas = c.replicas,
               .filter_stride = c.w_stride,
               .bias_stride = 0,
               .slice_begin = c.slice_begin});
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
    if (fold_serves<T>(c))
      return conv2d_backward_data_folded(c, static_cast<const T*>(dy), static_cast<const T*>(w),
                                         static_cast<T*>(dx));
    for (std::int64_t i = 0; i < std::min(c.stride_h, c.h); ++i)
      for (std::int64_t j = 0; j < std::min(c.stride_w, c.w); ++j)
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

inline void fill_convolution(Table& t) {
  t.conv2d = conv2d;
  t.conv2d_backward_data = conv2d_backward_data;
  t.conv2d_backward_filter = conv2d_backward_filter;
}
inline const bool convolution_registered =
    register_cpu(KernelGroup::convolution, LPF_VECTOR_BYTES, fill_convolution);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
