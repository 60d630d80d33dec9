// Pooling layers for sequences; they have no parameters.
#pragma once

#include "lpf/ops/pool1d.hpp"

namespace lpf::nn {

/// The maximum of each window: MaxPool1d{.kernel = 2}. PyTorch's torch.nn.MaxPool1d.
struct MaxPool1d {
  std::int64_t kernel;
  std::int64_t stride = kernel_length;  ///< default: the kernel's size
  std::int64_t padding = 0;             ///< counts as −∞
  bool ceil_mode = false;               ///< also windows that end behind the padding
  Tensor operator()(const Tensor& x) const { return max_pool1d(x, kernel, {stride, padding, ceil_mode}); }
};

/// The mean of each window: AvgPool1d{.kernel = 2}. PyTorch's torch.nn.AvgPool1d.
struct AvgPool1d {
  std::int64_t kernel;
  std::int64_t stride = kernel_length;  ///< default: the kernel's size
  std::int64_t padding = 0;             ///< counts as 0
  bool count_include_pad = true;        ///< false: divide by the number of positions inside the sequence
  bool ceil_mode = false;               ///< also windows that end behind the padding
  Tensor operator()(const Tensor& x) const {
    return avg_pool1d(x, kernel, {stride, padding, count_include_pad, ceil_mode});
  }
};

/// Means over a number of cells: AdaptiveAvgPool1d{7}. PyTorch's torch.nn.AdaptiveAvgPool1d.
struct AdaptiveAvgPool1d {
  std::int64_t output;
  Tensor operator()(const Tensor& x) const { return adaptive_avg_pool1d(x, output); }
};

/// The mean over all positions: x [B, L, C], y [B, C].
struct GlobalAvgPool1d {
  Tensor operator()(const Tensor& x) const { return global_avg_pool1d(x); }
};

/// The maximum over all positions: x [B, L, C], y [B, C].
struct GlobalMaxPool1d {
  Tensor operator()(const Tensor& x) const { return global_max_pool1d(x); }
};

}  // namespace lpf::nn
