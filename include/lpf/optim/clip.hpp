// Gradient norm and gradient clipping.
#pragma once

#include <cmath>

#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/arithmetic.hpp"

namespace lpf::optim {

/// ‖gradient‖₂ over all parameters; waits for the device.
LPF_ONCE double grad_norm(const ParameterStore& params) {
  const Tensor g = params.gradient();
  return std::sqrt(g.backend().dot(g.dtype(), g.numel(), g.raw(), g.raw()));
}

/// Scales the gradient so that its norm is at most max_norm. Returns the norm before scaling, a scalar
/// tensor, without waiting for the device. PyTorch's clip_grad_norm_.
LPF_ONCE Tensor clip_grad_norm(const ParameterStore& params, double max_norm) {
  check(max_norm > 0, "clip_grad_norm", "max_norm must be positive, got ", max_norm);
  const Tensor g = params.gradient(), norm = empty({}, g.options());
  g.impl().storage->note_change();
  g.backend().rescale(g.dtype(), g.numel(), max_norm, 1e-6, 1, g.raw(), g.raw(), nullptr, g.raw(),
                      norm.raw());
  return norm;
}

/// Clamps each element of the gradient to [−limit, limit].
LPF_ONCE void clip_grad_value(const ParameterStore& params, double limit) {
  check(limit > 0, "clip_grad_value", "the limit must be positive, got ", limit);
  const Tensor g = params.gradient();
  g.copy_(lpf::detail::unary(backend::Unary::clamp, g, -limit, limit));
}

}  // namespace lpf::optim
