// Softmax and its logarithm. Backward is one fused sweep; if gradients are differentiated again, it is the
// same formula composed of differentiable operations.
#pragma once

#include "lpf/ops/math.hpp"

namespace lpf {

namespace detail {

/// (log-)softmax over the last axis, row by row.
LPF_ONCE Tensor softmax_rows(const Tensor& x, bool logarithm) {
  const std::int64_t n = x.shape()[x.rank() - 1], rows = x.shape().product(0, x.rank() - 1);
  Tensor y = empty_like(x);
  x.backend().softmax(x.dtype(), rows, n, logarithm, x.raw(), y.raw());
  // The node stores y without its history, which would be a cycle; second derivatives recompute y.
  return record(logarithm ? "log_softmax" : "softmax", y, {x},
                [x, y = y.detach(), rows, n, logarithm](const Tensor& g, Need) {
                  if (!is_grad_enabled()) {
                    Tensor dx = empty_like(g);
                    g.backend().softmax_backward(g.dtype(), rows, n, logarithm, y.raw(), g.raw(), dx.raw());
                    return Grads{dx};
                  }
                  const Tensor p = softmax_rows(x, false);
                  if (logarithm) return Grads{sub(g, mul(p, sum(g, {-1}, true)))};
                  return Grads{mul(p, sub(g, sum(mul(g, p), {-1}, true)))};
                });
}

LPF_ONCE Tensor softmax(const char* name, const Tensor& x, int axis, bool logarithm) {
  axis = normalize_axis(name, axis, x.rank());
  check_floating(name, x);
  if (const auto cast = cast_operands("softmax", x)) return softmax(name, cast.a, axis, logarithm);
  if (x.is_replicated())
    return on_each_replica(
        x, [&](const Tensor& t) { return softmax(name, t, axis + 1, logarithm); }, BatchMean::refused, name);
  check_each_sample(name, x, {axis});
  if (axis == x.rank() - 1) return softmax_rows(x, logarithm);
  return transpose(softmax_rows(transpose(x, axis, -1), logarithm), axis, -1);
}

}  // namespace detail

/// exp(x)/Σ exp(x) along one axis, computed without overflow. ShapeError for an axis that x does not have.
LPF_ONCE Tensor softmax(const Tensor& x, int axis = -1) { return detail::softmax("softmax", x, axis, false); }

/// x − log Σ exp(x) along one axis: the logarithm of softmax, exact where softmax itself is rounded to 0.
LPF_ONCE Tensor log_softmax(const Tensor& x, int axis = -1) {
  return detail::softmax("log_softmax", x, axis, true);
}

}  // namespace lpf
