// Lengths and spreads: the 2-norm and the standard deviation, with derivatives where they are 0.
#pragma once

#include "lpf/ops/math.hpp"

namespace lpf {

namespace detail {

/// s·√f(x/s) for a mean or sum of squares f over the axes `over` that keeps them with size 1. s is a power of
/// two, so no digit changes: 1 for ordinary numbers, and where squares would overflow or underflow one with
/// which they do not. The gradient is slope(x), 0 where the length is.
template <class F, class Slope>
Tensor length(const char* name, const Tensor& x, const Axes& over, bool keepdim, F f, Slope slope) {
  check_each_sample(name, x, over);
  Tensor y;
  {
    const auto off = no_grad();
    if (x.numel() == 0) {
      y = sqrt(f(x));
    } else {
      const bool single = x.dtype() == float32;
      const double large = single ? 0x1p50 : 0x1p480, by = single ? 0x1p100 : 0x1p600;
      const Tensor most = reduce(backend::Reduce::max, abs(x.detach()), over, x.dtype());
      const auto number = [&](double v) { return full({}, v, x.options()); };
      const Tensor s = where(most > large, number(by), where(most < 1 / large, number(1 / by), number(1)));
      y = mul(sqrt(f(div(x.detach(), s))), s);
    }
  }
  const Shape kept = y.shape();
  return record(name, keepdim ? y : y.alias(without_axes(x.shape(), over)), {x},
                [x, kept, slope](const Tensor& g, Need) { return Grads{mul(reshape(g, kept), slope(x))}; });
}

/// a/length, and 0 where the length is 0: there 0 is a subgradient.
LPF_ONCE Tensor over_length(const Tensor& a, const Tensor& length) {
  const Tensor none = length == 0.0;
  return where(none, zeros({}, a.options()), div(a, where(none, ones({}, a.options()), length)));
}

}  // namespace detail

/// √Σ x² over the given axes (all if empty), for bfloat16 in float32; its gradient is x/‖x‖, and 0 where the
/// norm is. No square overflows or underflows. PyTorch's torch.linalg.vector_norm.
/// @throws DTypeError for integers, ShapeError for an axis that x does not have.
LPF_ONCE Tensor vector_norm(const Tensor& input, const Axes& axes = {}, bool keepdim = false) {
  detail::check_floating("vector_norm", input);
  if (input.is_replicated())
    return detail::reduce_replicas([&](const Tensor& t, const Axes& a) { return vector_norm(t, a, keepdim); },
                                   input, detail::reduced_axes("vector_norm", axes, input.rank()),
                                   detail::BatchMean::refused, "vector_norm");
  const Axes over = detail::reduced_axes("vector_norm", axes, input.rank());
  return detail::length(
      "vector_norm", detail::to_float32(input), over, keepdim,
      [&](const Tensor& x) { return sum(square(x), axes, true); },
      [axes](const Tensor& x) { return detail::over_length(x, vector_norm(x, axes, true)); });
}

/// The standard deviation √var over the given axes (all if empty), with divisor n − correction (PyTorch's
/// default is 1), for bfloat16 in float32; its gradient is 0 where the deviation is. No square overflows or
/// underflows. PyTorch's torch.std, whose name would be ambiguous with the namespace.
/// @throws DTypeError for integers, ShapeError for an axis that x does not have.
LPF_ONCE Tensor stddev(const Tensor& input, const Axes& axes = {}, double correction = 1,
                       bool keepdim = false) {
  detail::check_floating("stddev", input);
  if (input.is_replicated())
    return detail::reduce_replicas(
        [&](const Tensor& t, const Axes& a) { return stddev(t, a, correction, keepdim); }, input,
        detail::reduced_axes("stddev", axes, input.rank()), detail::BatchMean::refused, "stddev");
  const Axes over = detail::reduced_axes("stddev", axes, input.rank());
  std::int64_t n = 1;
  for (int a : over) n *= input.shape()[a];
  return detail::length(
      "stddev", detail::to_float32(input), over, keepdim,
      [&](const Tensor& x) { return var(x, axes, correction, true); },
      [=](const Tensor& x) {
        const Tensor near = sub(x, mean(x, axes, true)), centred = sub(near, mean(near, axes, true));
        return detail::divided(detail::over_length(centred, stddev(x, axes, correction, true)),
                               std::max(0.0, static_cast<double>(n) - correction));
      });
}

}  // namespace lpf
