// Noise on pre-activations with the law of noise on the weights (local reparameterisation; Kingma, Salimans
// and Welling 2015): one draw per output and sample, instead of one per weight element and replica.
#pragma once

#include <algorithm>
#include <vector>

#include "lpf/filter/options.hpp"
#include "lpf/ops/math.hpp"

namespace lpf::filter {

namespace detail {

/// t ⊙ ξ [B, out] with t² = ‖x_b‖²σ_k² + σ_β²: the law of x·(w + σε)ᵀ + (b + σ_β ε) with a fresh ε per
/// sample, without its mean x·wᵀ + b. x [B, in], σ [out] and σ_β [1], undefined: 0. The gradient with respect
/// to x is that through t, ∂/∂x_b = σ_k²ξ/t·x_b, and 0 where t = 0.
LPF_ONCE Tensor pre_activation_noise(const Tensor& x, std::int64_t out, const Tensor& sigma,
                                     const Tensor& sigma_bias, const NoiseKey& key, std::int64_t first) {
  if (x.dtype() == bfloat16)
    return pre_activation_noise(lpf::detail::to_float32(x), out, sigma, sigma_bias, key, first);
  const std::int64_t batch = x.size(0);
  Tensor noise = empty({batch, out}, x.options()), slope;
  if (is_grad_enabled() && x.requires_grad()) slope = empty_like(noise);
  const auto raw = [](const Tensor& t) { return t.defined() ? t.raw() : nullptr; };
  x.backend().pre_activation_noise(x.dtype(), batch, x.size(1), out, key, first, x.raw(), raw(sigma),
                                   raw(sigma_bias), noise.raw(), raw(slope));
  return record("pre_activation_noise", std::move(noise), {x}, [=](const Tensor& g, Need) {
    Tensor dt = slope;
    if (is_grad_enabled() && sigma.defined()) {  // the same, composed of differentiable operations
      Tensor xi = empty({batch, out}, x.options());
      x.backend().normal(x.dtype(), key, first, xi.numel(), xi.raw());
      const Tensor variance = reshape(square(sigma), {1, out});
      Tensor t2 = mul(sum(square(x), {1}, true), variance);
      if (sigma_bias.defined()) t2 = add(t2, reshape(square(sigma_bias), {1, 1}));
      const Tensor positive = t2.detach() > 0.0, one = ones({}, x.options());
      dt = where(positive, div(mul(variance, xi), sqrt(where(positive, t2, one))), zeros({}, x.options()));
    }
    return Grads{mul(x, sum(mul(g, dt), {1}, true))};
  });
}

}  // namespace detail

/// The noise of a pass with Estimator::per_sample, drawn on the pre-activations x·wᵀ + b of a
/// layer on [B, in].
class PreActivationNoise {
 public:
  /// `pass` must outlive it.
  explicit PreActivationNoise(const Pass& pass) : pass_(pass) {}

  /// StateError if a parameter was read before, or its noise was drawn on pre-activations.
  LPF_ONCE void check_unused(std::size_t parameter, bool was_read = false) const {
    check<StateError>(!was_read && std::find(used_.begin(), used_.end(), parameter) == used_.end(), "perturb",
                      "'", pass_.params.parameters()[parameter].name,
                      "' is used twice in one pass: per-sample noise is exact for a weight used once; use "
                      "Estimator::replicas");
  }

  /// Noise [B, out] for x [B, in], a weight and a bias (null: none), one of which the filter may exclude.
  LPF_ONCE Tensor draw(const Tensor& x, std::size_t weight, const std::size_t* bias) {
    const backend::Segment* w = pass_.segments.of(weight);
    const backend::Segment* b = bias ? pass_.segments.of(*bias) : nullptr;
    for (const backend::Segment* s : {w, b})
      if (s) used_.push_back(s->parameter);
    const std::int64_t out = pass_.params.parameters()[weight].shape[0];
    const auto scale_of = [&](const backend::Segment* s) {
      return s ? narrow(pass_.scale, 0, s->first_scale, s->rows).detach() : Tensor();
    };
    NoiseKey key = pass_.options.key;
    key.replica = 0xFFFFFF;  // distinct from the replicas' streams
    key.parameter = static_cast<std::uint32_t>(w ? weight : *bias);
    return detail::pre_activation_noise(x, out, scale_of(w), scale_of(b), key,
                                        nn::MicroBatch::first_row("perturb", x.size(0)) * out);
  }

 private:
  const Pass& pass_;
  std::vector<std::size_t> used_;
};

}  // namespace lpf::filter
