// Activations. Backward is one fused sweep; if gradients are differentiated again, it is the same formula
// composed of differentiable operations.
#pragma once

#include "lpf/ops/math.hpp"

namespace lpf {

/// max(x, 0); the derivative at 0 is 0.
LPF_ONCE Tensor relu(const Tensor& input) {
  return detail::elementwise("relu", backend::Unary::relu, input, 0, 0, [](const Tensor& g, const Tensor& x) {
    if (!is_grad_enabled()) return detail::fused_backward(backend::Binary::relu_backward, g, x);
    return where(x.detach() <= 0.0, zeros({}, g.options()), g);
  });
}

/// x where x > 0, slope·x elsewhere.
LPF_ONCE Tensor leaky_relu(const Tensor& input, double slope = 0.01) {
  return detail::elementwise(
      "leaky_relu", backend::Unary::leaky_relu, input, slope, 0, [slope](const Tensor& g, const Tensor& x) {
        if (!is_grad_enabled())
          return detail::fused_backward(backend::Binary::leaky_relu_backward, g, x, slope);
        return where(x.detach() > 0.0, g, affine(g, slope, 0));
      });
}

/// x where x > 0, alpha·(eˣ − 1) elsewhere.
LPF_ONCE Tensor elu(const Tensor& input, double alpha = 1) {
  return detail::elementwise(
      "elu", backend::Unary::elu, input, alpha, 0, [alpha](const Tensor& g, const Tensor& x) {
        if (!is_grad_enabled()) return detail::fused_backward(backend::Binary::elu_backward, g, x, alpha);
        return where(x.detach() <= 0.0, mul(g, affine(exp(minimum(x, zeros({}, x.options()))), alpha, 0)), g);
      });
}

/// 1/(1 + e⁻ˣ).
LPF_ONCE Tensor sigmoid(const Tensor& input) {
  return detail::elementwise(
      "sigmoid", backend::Unary::sigmoid, input, 0, 0, [](const Tensor& g, const Tensor& x) {
        const Tensor y = sigmoid(x);
        return is_grad_enabled() ? mul(g, mul(y, affine(y, -1, 1)))
                                 : detail::fused_backward(backend::Binary::sigmoid_backward, g, y);
      });
}

namespace detail {
/// x within ±10⁴, beyond which silu and gelu are x or 0, and their slopes 1 or 0, in every type: so no
/// formula has 0·∞.
LPF_ONCE Tensor within_reach(const Tensor& x) { return clamp(x, -1e4, 1e4); }
}  // namespace detail

/// x·sigmoid(x), also called swish; 0 at −∞.
LPF_ONCE Tensor silu(const Tensor& input) {
  return detail::elementwise("silu", backend::Unary::silu, input, 0, 0, [](const Tensor& g, const Tensor& x) {
    if (!is_grad_enabled()) return detail::fused_backward(backend::Binary::silu_backward, g, x);
    const Tensor s = sigmoid(x);
    return mul(g, mul(s, affine(mul(detail::within_reach(x), affine(s, -1, 1)), 1, 1)));
  });
}

enum class Gelu { erf, tanh };

namespace detail {
/// g·gelu′(x). The fused value also where gradients are recorded: Φ(x) composed of erf loses the digits of
/// its tail.
LPF_ONCE Tensor gelu_gradient(const Tensor& g, const Tensor& x) {
  return record("gelu_backward", fused_backward(backend::Binary::gelu_backward, g, x), {g, x},
                [g, x](const Tensor& h, Need need) {
                  Grads grads(2);
                  if (need[0]) grads[0] = gelu_gradient(h, x);
                  if (need[1]) {  // the slope's derivative is φ(x)·(2 − x²)
                    const Tensor u = square(within_reach(x));
                    const Tensor density =
                        affine(exp(affine(u, -0.5, 0)), std::numbers::inv_sqrtpi / std::numbers::sqrt2, 0);
                    grads[1] = mul(mul(h, g), mul(density, affine(u, -1, 2)));
                  }
                  return grads;
                });
}
}  // namespace detail

/// x·Φ(x) with Φ the normal distribution function, or its approximation by tanh (Hendrycks & Gimpel 2016); 0
/// at −∞.
LPF_ONCE Tensor gelu(const Tensor& input, Gelu form = Gelu::erf) {
  if (form == Gelu::erf) {
    return detail::elementwise("gelu", backend::Unary::gelu, input, 0, 0, detail::gelu_gradient);
  }
  return detail::elementwise(
      "gelu_tanh", backend::Unary::gelu_tanh, input, 0, 0, [](const Tensor& g, const Tensor& input_of) {
        if (!is_grad_enabled())
          return detail::fused_backward(backend::Binary::gelu_tanh_backward, g, input_of);
        const Tensor x = detail::within_reach(input_of);
        const double c = std::numbers::sqrt2 * std::numbers::inv_sqrtpi, k = 0.044715;
        const Tensor t = tanh(mul(affine(x, c, 0), affine(mul(x, x), k, 1)));
        const Tensor slope = affine(affine(mul(x, x), 3 * k, 1), c, 0);
        return mul(g, add(affine(t, 0.5, 0.5), mul(affine(x, 0.5, 0), mul(affine(mul(t, t), -1, 1), slope))));
      });
}

/// log(1 + eˣ), computed without overflow.
LPF_ONCE Tensor softplus(const Tensor& input) {
  return detail::elementwise("softplus", backend::Unary::softplus, input, 0, 0,
                             [](const Tensor& g, const Tensor& x) { return mul(g, sigmoid(x)); });
}

}  // namespace lpf
