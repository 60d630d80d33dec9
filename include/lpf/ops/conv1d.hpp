// Convolution of sequences, channels last: that of images of one row.
#pragma once

#include "lpf/ops/conv.hpp"

namespace lpf {

struct Conv1dOptions {
  std::int64_t stride = 1;    ///< distance between neighbouring windows
  std::int64_t padding = 0;   ///< zeros before and after the sequence, on each side
  std::int64_t dilation = 1;  ///< distance between neighbouring taps of the kernel
  std::int64_t groups = 1;    ///< channels are cut into this many groups, each convolved separately
};

namespace detail {

/// t, or its replicas, with another shape of as many elements. The gradient may be one for each replica, or
/// already summed.
LPF_ONCE Tensor with_shape(const Tensor& t, const Shape& shape) {
  Tensor y = t.alias(shape);
  y.impl().replicas = t.impl().replicas;
  y.impl().sum_gradient = t.impl().sum_gradient;
  y = record("conv1d_view", std::move(y), {t},
             [from = t.shape()](const Tensor& g, Need) { return Grads{with_shape(g, from)}; });
  if (y.node()) y.node()->set_gradient_dtype(t.node()->gradient_dtype());  // not rounded to bfloat16
  return y;
}

}  // namespace detail

/// y[b, p, k] = bias[k] + Σ_{r,c} x[b, p·stride + r·dilation − padding, c] · w[k, r, c], with x zero outside.
/// x [B, L, C], w [K, k, C/groups], bias [K] or undefined; y [B, P, K] with
/// P = ⌊(L + 2·padding − dilation·(k − 1) − 1) / stride⌋ + 1. Filter k reads the channels of group
/// ⌊k·groups/K⌋. w and bias may be replicated: replica r applies to the samples of slice r. PyTorch's conv1d,
/// channels last.
/// @throws what conv2d() throws.
LPF_ONCE Tensor conv1d(const Tensor& x, const Tensor& w, const Tensor& bias = {},
                       const Conv1dOptions& options = {}) {
  if (const auto cast = detail::cast_operands("conv1d", x, w)) return conv1d(cast.a, cast.b, bias, options);
  const Conv2dOptions in_a_row{
      {1, options.stride}, {0, options.padding}, {1, options.dilation}, options.groups};
  const backend::Conv2d c = detail::describe_conv("conv1d", 1, x, w, bias, in_a_row);
  const Tensor y = detail::conv(reshape(x, detail::as_image(x.shape())),
                                detail::with_shape(w, detail::as_image(w.shape())), bias, c);
  return reshape(y, {c.n, c.q, c.k});
}

}  // namespace lpf
