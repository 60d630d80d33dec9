// The logarithm of a sum of exponentials.
#pragma once

#include "lpf/ops/index.hpp"
#include "lpf/ops/math.hpp"

namespace lpf {

namespace detail {

/// log Σ exp(x) over `axes`, which stay with size 1.
LPF_ONCE Tensor logsumexp_over(const Tensor& x, const Axes& axes) {
  Tensor y;
  {
    const auto off = no_grad();
    if (x.numel() == 0) {  // a sum over nothing is 0
      Shape shape = x.shape();
      for (const int axis : axes) shape[axis] = 1;
      y = full(shape, -std::numeric_limits<double>::infinity(), x.options());
    } else {
      const Tensor largest = amax(x, axes, true);
      const Tensor offset = where(is_finite(largest), largest, zeros({}, x.options()));
      y = add(log(sum(exp(sub(x, offset)), axes, true)), offset);
    }
  }
  // The node has y without its history, which would be a cycle; second derivatives recompute it.
  return record("logsumexp", y, {x}, [x, y = y.detach(), axes](const Tensor& g, Need) {
    return Grads{mul(g, exp(sub(x, is_grad_enabled() ? logsumexp_over(x, axes) : y)))};
  });
}

}  // namespace detail

/// log Σ exp(x) over the given axes (all if empty), without overflow, for bfloat16 in float32; −∞ where all
/// elements are, and over no elements. The gradient is softmax(x), and NaN where the result is −∞, as in PyTorch.
/// Of replicas: each its own. PyTorch's torch.logsumexp.
/// @throws DTypeError for integers, ShapeError for an axis that x does not have or that is named twice.
LPF_ONCE Tensor logsumexp(const Tensor& input, const Axes& axes = {}, bool keepdim = false) {
  detail::check_floating("logsumexp", input);
  const Axes over = detail::reduced_axes("logsumexp", axes, input.rank());
  const Tensor x = detail::to_float32(input);
  if (over.empty()) return clone(x);  // a scalar
  detail::check_each_sample("logsumexp", x, over);
  const Tensor y = x.is_replicated() ? detail::reduce_replicas(detail::logsumexp_over, x, over,
                                                               detail::BatchMean::refused, "logsumexp")
                                     : detail::logsumexp_over(x, over);
  return keepdim ? y : reshape(y, detail::without_axes(x.shape(), over));
}

}  // namespace lpf
