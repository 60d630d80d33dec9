// Convolution layer for sequences.
#pragma once

#include "lpf/nn/conv.hpp"
#include "lpf/ops/conv1d.hpp"

namespace lpf::nn {

struct Conv1dOptions {
  std::int64_t stride = 1, padding = 0, dilation = 1, groups = 1;
  bool bias = true;
  init::Initializer weight_init = {};  ///< default: PyTorch's, U(±1/√(k·C/groups))
  init::Initializer bias_init = {};    ///< default: likewise
};

/// y = conv1d(x, weight) + bias. x [B, L, in], weight [out, k, in/groups], y [B, P, out].
/// PyTorch's torch.nn.Conv1d, channels last.
struct Conv1d {
  Parameter weight, bias;
  lpf::Conv1dOptions options;

  /// @throws ValueError for sizes or options out of range, ShapeError unless groups divide in and out.
  Conv1d(const Path& p, std::int64_t in, std::int64_t out, std::int64_t kernel, const Conv1dOptions& o = {})
      : options{o.stride, o.padding, o.dilation, o.groups} {
    detail::check_conv("Conv1d", p, in, out, o.groups);
    lpf::detail::check_window("Conv1d", 1, kernel, o.stride, o.padding, o.dilation);
    detail::add_filters(p, {out, kernel, in / o.groups}, o, weight, bias);
  }

  Tensor operator()(const Tensor& x) const {
    return detail::in_layer(weight, [&] { return conv1d(x, weight, bias, options); });
  }
};

}  // namespace lpf::nn
