// A convolution as the kernels see it: each output pixel gathers from a grid of source pixels.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "lpf/backend/cpu/elementwise.hpp"
#include "lpf/core/os.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// The source pixels of an output pixel: tap (u, v) of output (i, j) reads source pixel
/// (i·step_h + first_h + u·tap_h, j·step_w + first_w + v·tap_w), or zero outside the source.
struct Gather {
  std::int64_t rows, cols;  // output pixels of a sample
  std::int64_t h, w, c;     // the source [n, h, w, c]
  std::int64_t step_h, step_w, first_h, first_w, tap_h, tap_w;
  std::int64_t taps_h, taps_w;

  /// The pixels of x that an output pixel of a convolution reads.
  static Gather of_input(const Conv2d& c) {
    return {c.p,      c.q,      c.h,          c.w,          c.c,  c.stride_h, c.stride_w,
            -c.pad_h, -c.pad_w, c.dilation_h, c.dilation_w, c.kh, c.kw};
  }
  std::int64_t taps() const { return taps_h * taps_w; }
  /// True if output pixel i reads source pixel i only: no gather is needed.
  bool is_identity() const {
    return taps() == 1 && step_h == 1 && step_w == 1 && first_h == 0 && first_w == 0 && rows == h &&
           cols == w;
  }
};

/// target[sample, i, j, group, k] = bias[group, k] + Σ source·filter over a gather, for groups
/// of `in` and `out` channels. A convolution is one of these, and so is the gradient of its
/// input (with strides, several).
template <class T>
struct Convolution {
  Gather g;
  std::int64_t samples, groups, in, out;
  const T* source;
  const T* filters;  // filters[group·group_stride + k·out_stride + c·in_stride + tap_offset[tap]]
  std::int64_t group_stride, out_stride, in_stride;  // one of the last two is 1
  std::vector<std::int64_t> tap_offset;
  const T* bias;  // may be null
  T* target;
  std::int64_t sample_stride, row_stride, pixel_stride;
  std::int64_t replicas, filter_stride, bias_stride;
  const std::int64_t* slice_begin;
};

/// A scratch buffer of the thread, reused between calls.
template <class T, int which>
T* conv_scratch(std::int64_t count) {
  struct Block {
    void* data = nullptr;
    std::size_t bytes = 0;
    ~Block() { ::operator delete (data, std::align_val_t{64}); }
  };
  Block& block = lpf::detail::os::of_thread<Block>();
  if (const auto bytes = static_cast<std::size_t>(count) * sizeof(T); block.bytes < bytes) {
    ::operator delete (block.data, std::align_val_t{64});
    block = Block{nullptr, 0};
    block.data = ::operator new (bytes, std::align_val_t{64});
    block.bytes = bytes;
  }
  return static_cast<T*>(block.data);
}

/// Units of work per thread, for units of `work` multiply-adds each.
inline std::int64_t conv_grain(std::int64_t work) {
  return std::max<std::int64_t>(1, (1 << 17) / std::max<std::int64_t>(1, work));
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
