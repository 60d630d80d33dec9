// Lengths and spreads: the 2-norm and the standard deviation, with derivatives where they are 0.
#pragma once

#include "lpf/ops/math.hpp"

namespace lpf {

namespace detail {

/// √x of x ≥ 0 with the derivative 0 at 0: there 0 is a subgradient of what it is the length of.
LPF_ONCE Tensor length_of_square(const Tensor& x) {
  const Tensor none = x == 0.0;
  return where(none, zeros({}, x.options()), sqrt(where(none, ones({}, x.options()), x)));
}

}  // namespace detail

/// √Σ x² over the given axes (all if empty), for bfloat16 in float32; its gradient is x/‖x‖, and 0 where the
/// norm is. Where x² overflows the norm is ∞. PyTorch's torch.linalg.vector_norm.
/// @throws DTypeError for integers, ShapeError for an axis that x does not have.
LPF_ONCE Tensor vector_norm(const Tensor& input, const Axes& axes = {}, bool keepdim = false) {
  detail::check_floating("vector_norm", input);
  if (input.is_replicated())
    return detail::reduce_replicas([&](const Tensor& t, const Axes& a) { return vector_norm(t, a, keepdim); },
                                   input, detail::reduced_axes("vector_norm", axes, input.rank()));
  return detail::length_of_square(sum(square(detail::to_float32(input)), axes, keepdim));
}

/// The standard deviation √var over the given axes (all if empty), with divisor n − correction (PyTorch's
/// default is 1), for bfloat16 in float32; its gradient is 0 where the deviation is. PyTorch's torch.std, whose
/// name would be ambiguous with the namespace.
/// @throws DTypeError for integers, ShapeError for an axis that x does not have.
LPF_ONCE Tensor stddev(const Tensor& input, const Axes& axes = {}, double correction = 1,
                       bool keepdim = false) {
  detail::check_floating("stddev", input);
  if (input.is_replicated())
    return detail::reduce_replicas(
        [&](const Tensor& t, const Axes& a) { return stddev(t, a, correction, keepdim); }, input,
        detail::reduced_axes("stddev", axes, input.rank()));
  return detail::length_of_square(var(input, axes, correction, keepdim));
}

}  // namespace lpf
