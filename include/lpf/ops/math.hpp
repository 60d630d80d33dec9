// Elementwise mathematical functions. Each derivative consists of differentiable operations, so that
// it can be differentiated again.
#pragma once

#include <numbers>

#include "lpf/ops/arithmetic.hpp"

namespace lpf {

namespace detail {

/// A differentiable elementwise operation: `op` forward, derivative(g, x, y) backward.
template <class Derivative>
Tensor elementwise(const char* name, backend::Unary op, const Tensor& x, double a, double b,
                   Derivative derivative) {
  if (x.is_replicated())
    return on_each_replica(
        x, [&](const Tensor& t) { return elementwise(name, op, t, a, b, derivative); }, BatchMean::refused,
        name);
  check_not_batch_mean(name, x);
  check_floating(name, x);
  if (is_sensitive(op))
    if (const auto cast = cast_operands("sensitive function", x))
      return elementwise(name, op, cast.a, a, b, derivative);
  return record(name, unary(op, x, a, b), {x},
                [x, derivative](const Tensor& g, Need) { return Grads{derivative(g, x)}; });
}

/// A fused backward, one sweep over g and x (or y), without history.
LPF_ONCE Tensor fused_backward(backend::Binary op, const Tensor& g, const Tensor& x, double alpha = 0) {
  return binary("backward", op, g, x, false, alpha);
}

}  // namespace detail

LPF_ONCE Tensor exp(const Tensor& input) {
  return detail::elementwise("exp", backend::Unary::exp, input, 0, 0,
                             [](const Tensor& g, const Tensor& x) { return mul(g, exp(x)); });
}
LPF_ONCE Tensor expm1(const Tensor& input) {
  return detail::elementwise("expm1", backend::Unary::expm1, input, 0, 0,
                             [](const Tensor& g, const Tensor& x) { return mul(g, exp(x)); });
}
LPF_ONCE Tensor log(const Tensor& input) {
  return detail::elementwise("log", backend::Unary::log, input, 0, 0,
                             [](const Tensor& g, const Tensor& x) { return div(g, x); });
}
LPF_ONCE Tensor log1p(const Tensor& input) {
  return detail::elementwise("log1p", backend::Unary::log1p, input, 0, 0,
                             [](const Tensor& g, const Tensor& x) { return div(g, x + 1.0); });
}
LPF_ONCE Tensor sqrt(const Tensor& input) {
  return detail::elementwise("sqrt", backend::Unary::sqrt, input, 0, 0, [](const Tensor& g, const Tensor& x) {
    return div(affine(g, 0.5, 0), sqrt(x));
  });
}
LPF_ONCE Tensor reciprocal(const Tensor& input) {
  return detail::elementwise(
      "reciprocal", backend::Unary::reciprocal, input, 0, 0,
      [](const Tensor& g, const Tensor& x) { return affine(div(div(g, x), x), -1, 0); });
}
/// 1/√x.
LPF_ONCE Tensor rsqrt(const Tensor& input) {
  return detail::elementwise(
      "rsqrt", backend::Unary::rsqrt, input, 0, 0,
      [](const Tensor& g, const Tensor& x) { return affine(mul(g, div(rsqrt(x), x)), -0.5, 0); });
}
LPF_ONCE Tensor square(const Tensor& input) {
  return detail::elementwise("square", backend::Unary::square, input, 0, 0,
                             [](const Tensor& g, const Tensor& x) { return mul(g, affine(x, 2, 0)); });
}
LPF_ONCE Tensor sign(const Tensor& input) {
  return detail::elementwise("sign", backend::Unary::sign, input, 0, 0,
                             [](const Tensor& g, const Tensor&) { return zeros_like(g); });
}
LPF_ONCE Tensor abs(const Tensor& input) {
  return detail::elementwise("abs", backend::Unary::absolute, input, 0, 0,
                             [](const Tensor& g, const Tensor& x) { return mul(g, sign(x)); });
}
LPF_ONCE Tensor sin(const Tensor& x);
LPF_ONCE Tensor cos(const Tensor& input) {
  return detail::elementwise("cos", backend::Unary::cos, input, 0, 0,
                             [](const Tensor& g, const Tensor& x) { return mul(g, affine(sin(x), -1, 0)); });
}
LPF_ONCE Tensor sin(const Tensor& input) {
  return detail::elementwise("sin", backend::Unary::sin, input, 0, 0,
                             [](const Tensor& g, const Tensor& x) { return mul(g, cos(x)); });
}
LPF_ONCE Tensor tanh(const Tensor& input) {
  return detail::elementwise("tanh", backend::Unary::tanh, input, 0, 0, [](const Tensor& g, const Tensor& x) {
    const Tensor y = tanh(x);
    return is_grad_enabled() ? mul(g, affine(mul(y, y), -1, 1))
                             : detail::fused_backward(backend::Binary::tanh_backward, g, y);
  });
}
/// Gauss error function.
LPF_ONCE Tensor erf(const Tensor& input) {
  return detail::elementwise("erf", backend::Unary::erf, input, 0, 0, [](const Tensor& g, const Tensor& x) {
    return mul(g, affine(exp(affine(mul(x, x), -1, 0)), 2 * std::numbers::inv_sqrtpi, 0));
  });
}
/// x to a constant power; the derivative is 0 everywhere for exponent 0.
LPF_ONCE Tensor pow(const Tensor& input, double exponent) {
  return detail::elementwise(
      "pow", backend::Unary::power, input, exponent, 0, [exponent](const Tensor& g, const Tensor& x) {
        return exponent == 0 ? zeros_like(g) : mul(g, affine(pow(x, exponent - 1), exponent, 0));
      });
}
/// a to the power b, as std::pow: 0⁰ = 1, (−2)² = 4. Where a = 0 the gradient of b is 0 for b ≥ 0, and that
/// of a for b = 0; where a < 0 the gradient of b is NaN, as in PyTorch.
LPF_ONCE Tensor pow(const Tensor& a, const Tensor& b) {
  if (detail::any_replicated(a, b))
    return detail::on_replicas("pow", a, b, [](const Tensor& u, const Tensor& v) { return pow(u, v); });
  if (const auto cast = detail::cast_operands("sensitive function", a, b)) return pow(cast.a, cast.b);
  detail::check_floating("pow", a);
  detail::check_not_batch_mean("pow", a);
  detail::check_not_batch_mean("pow", b);
  Tensor y = detail::binary("pow", backend::Binary::power, a, b);
  return record("pow", std::move(y), {a, b}, [a, b](const Tensor& g, Need need) {
    const Tensor one = ones({}, a.options());
    Grads grads(2);
    if (need[0]) {  // b·a^(b − 1), and 0 instead of 0·∞, also where 1/a overflows
      const Tensor flat = logical_and(b == 0.0, logical_not(is_finite(reciprocal(a.detach()))));
      grads[0] = sum_to(mul(g, mul(b, pow(where(flat, one, a), affine(b, 1, -1)))), a.shape());
    }
    if (need[1]) {  // a^b·log a, and 0 instead of 0·(−∞)
      const Tensor flat = logical_and(a == 0.0, b >= 0.0);
      grads[1] = sum_to(mul(g, mul(pow(a, b), log(where(flat, one, a)))), b.shape());
    }
    return grads;
  });
}
/// x limited to [low, high]; the gradient passes where x is inside, bounds included.
LPF_ONCE Tensor clamp(const Tensor& input, double low, double high) {
  check(low <= high, "clamp", "low ", low, " is above high ", high);
  return detail::elementwise(
      "clamp", backend::Unary::clamp, input, low, high, [low, high](const Tensor& g, const Tensor& x) {
        return where(logical_and(x.detach() >= low, x.detach() <= high), g, zeros({}, g.options()));
      });
}
namespace detail {
LPF_ONCE Tensor zero_gradient(const Tensor& g, const Tensor&) { return zeros_like(g); }
}  // namespace detail
LPF_ONCE Tensor floor(const Tensor& input) {
  return detail::elementwise("floor", backend::Unary::floor, input, 0, 0, detail::zero_gradient);
}
LPF_ONCE Tensor ceil(const Tensor& input) {
  return detail::elementwise("ceil", backend::Unary::ceil, input, 0, 0, detail::zero_gradient);
}
/// Nearest integer, ties to even.
LPF_ONCE Tensor round(const Tensor& input) {
  return detail::elementwise("round", backend::Unary::round, input, 0, 0, detail::zero_gradient);
}

LPF_ONCE Tensor Tensor::exp() const { return lpf::exp(*this); }
LPF_ONCE Tensor Tensor::log() const { return lpf::log(*this); }
LPF_ONCE Tensor Tensor::sqrt() const { return lpf::sqrt(*this); }
LPF_ONCE Tensor Tensor::square() const { return lpf::square(*this); }
LPF_ONCE Tensor Tensor::abs() const { return lpf::abs(*this); }
LPF_ONCE Tensor Tensor::tanh() const { return lpf::tanh(*this); }
LPF_ONCE Tensor Tensor::pow(double exponent) const { return lpf::pow(*this, exponent); }

}  // namespace lpf
