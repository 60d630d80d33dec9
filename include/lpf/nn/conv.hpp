// Convolution layer.
#pragma once

#include "lpf/nn/layer_error.hpp"
#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/conv.hpp"

namespace lpf::nn {

struct Conv2dOptions {
  Size2d stride = 1;
  Size2d padding = 0;
  Size2d dilation = 1;
  std::int64_t groups = 1;
  bool bias = true;
  init::Initializer weight_init = {};  ///< default: PyTorch's, U(±1/√(kh·kw·C/groups))
  init::Initializer bias_init = {};    ///< default: likewise
};

namespace detail {

/// Checks the channels of a convolution layer.
LPF_ONCE void check_conv(const char* layer, const Path& p, std::int64_t in, std::int64_t out,
                         std::int64_t groups) {
  check(in > 0 && out > 0, layer, "'", p.name(), "' needs at least one channel in and out, got ", in, " and ",
        out);
  check(groups > 0, layer, "'", p.name(), "': groups must be positive, got ", groups);
  check<ShapeError>(in % groups == 0 && out % groups == 0, layer, "'", p.name(), "': ", in,
                    " channels in and ", out, " out do not divide into ", groups, " groups");
}

/// The parameters of a convolution layer with filters [out, …, in/groups].
template <class Options>
void add_filters(const Path& p, const Shape& shape, const Options& o, Parameter& weight, Parameter& bias) {
  const auto initial = init::fan_in_uniform(static_cast<double>(shape.product(1, shape.rank())));
  weight = p.parameter("weight", shape, o.weight_init ? o.weight_init : initial, Layout::filter);
  if (o.bias) bias = p.parameter("bias", {shape[0]}, o.bias_init ? o.bias_init : initial);
}

}  // namespace detail

/// y = conv2d(x, weight) + bias. x [B, H, W, in], weight [out, kh, kw, in/groups], y [B, P, Q, out].
/// PyTorch's torch.nn.Conv2d, channels last.
struct Conv2d {
  Parameter weight, bias;
  lpf::Conv2dOptions options;

  /// @throws ValueError for sizes or options out of range, ShapeError unless groups divide in and out.
  Conv2d(const Path& p, std::int64_t in, std::int64_t out, Size2d kernel, const Conv2dOptions& o = {})
      : options{o.stride, o.padding, o.dilation, o.groups} {
    detail::check_conv("Conv2d", p, in, out, o.groups);
    lpf::detail::check_window("Conv2d", 2, kernel, o.stride, o.padding, o.dilation);
    detail::add_filters(p, {out, kernel.h, kernel.w, in / o.groups}, o, weight, bias);
  }

  Tensor operator()(const Tensor& x) const {
    return detail::in_layer(weight, [&] { return conv2d(x, weight, bias, options); });
  }
};

}  // namespace lpf::nn
