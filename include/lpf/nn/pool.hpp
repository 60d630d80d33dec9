// Pooling layers; they have no parameters.
#pragma once

#include "lpf/ops/pool.hpp"

namespace lpf::nn {

/// The maximum of each window: MaxPool2d{.kernel = 2}. PyTorch's torch.nn.MaxPool2d.
struct MaxPool2d {
  Size2d kernel;
  Size2d stride = kernel_size;  ///< default: the kernel's size
  Size2d padding = 0;           ///< counts as −∞
  Tensor operator()(const Tensor& x) const { return max_pool2d(x, kernel, {stride, padding}); }
};

/// The mean of each window: AvgPool2d{.kernel = 2}. PyTorch's torch.nn.AvgPool2d.
struct AvgPool2d {
  Size2d kernel;
  Size2d stride = kernel_size;    ///< default: the kernel's size
  Size2d padding = 0;             ///< counts as 0
  bool count_include_pad = true;  ///< false: divide by the number of pixels inside the image
  Tensor operator()(const Tensor& x) const {
    return avg_pool2d(x, kernel, {stride, padding, count_include_pad});
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

}  // namespace lpf::nn
