// Pooling layers; they have no parameters.
#pragma once

#include "lpf/ops/pool.hpp"

namespace lpf::nn {

/// The maximum of each window: MaxPool2d{.kernel = 2}. PyTorch's torch.nn.MaxPool2d.
struct MaxPool2d {
  Size2d kernel;
  Size2d stride = kernel_size;  ///< default: the kernel's size
  Size2d padding = 0;           ///< counts as −∞
  bool ceil_mode = false;       ///< also windows that end behind the padding
  Tensor operator()(const Tensor& x) const { return max_pool2d(x, kernel, {stride, padding, ceil_mode}); }
};

/// The mean of each window: AvgPool2d{.kernel = 2}. PyTorch's torch.nn.AvgPool2d.
struct AvgPool2d {
  Size2d kernel;
  Size2d stride = kernel_size;    ///< default: the kernel's size
  Size2d padding = 0;             ///< counts as 0
  bool count_include_pad = true;  ///< false: divide by the number of pixels inside the image
  bool ceil_mode = false;         ///< also windows that end behind the padding
  std::optional<std::int64_t> divisor_override = {};  ///< divide by this instead
  Tensor operator()(const Tensor& x) const {
    return avg_pool2d(x, kernel, {stride, padding, count_include_pad, ceil_mode, divisor_override});
  }
};

/// Means over a grid of cells: AdaptiveAvgPool2d{{7, 7}}. PyTorch's torch.nn.AdaptiveAvgPool2d.
struct AdaptiveAvgPool2d {
  Size2d output;
  Tensor operator()(const Tensor& x) const { return adaptive_avg_pool2d(x, output); }
};

/// The mean over all pixels: x [B, H, W, C], y [B, C].
struct GlobalAvgPool2d {
  Tensor operator()(const Tensor& x) const { return global_avg_pool2d(x); }
};

/// The maximum over all pixels: x [B, H, W, C], y [B, C].
struct GlobalMaxPool2d {
  Tensor operator()(const Tensor& x) const { return global_max_pool2d(x); }
};

}  // namespace lpf::nn
