// The Kullback-Leibler divergence, as defined by PyTorch.
#pragma once

#include "lpf/ops/loss.hpp"

namespace lpf {

/// The reduction of kl_div(): `batchmean` divides the sum by the size of the first axis, and is the divergence
/// of a batch of distributions; `mean` divides by the number of elements.
enum class KLDivReduction { mean, batchmean, sum, none };

struct KLDivOptions {
  KLDivReduction reduction =
      KLDivReduction::mean;  ///< PyTorch's default; batchmean is what is wanted as a rule
  bool log_target = false;   ///< the target holds log-probabilities too
};

/// p·(log p − x) for log-probabilities x and probabilities p of x's shape, or e^t·(t − x) for targets t = log p
/// with log_target. Where p = 0 it is −p·x = 0, and NaN for x = −∞, as in PyTorch; the gradient of p counts
/// p·log p as 0 there. Logits are passed through log_softmax() first. PyTorch's torch.nn.functional.kl_div.
/// @throws ShapeError, DTypeError if x and target differ; DTypeError for integers.
LPF_ONCE Tensor kl_div(const Tensor& x, const Tensor& target, const KLDivOptions& options = {}) {
  if (const auto cast = detail::cast_operands("kl_div", x, target)) return kl_div(cast.a, cast.b, options);
  detail::check_target("kl_div", x, target);
  Tensor loss;
  if (options.log_target) {
    loss = mul(exp(target), sub(target, x));
  } else {
    const Tensor none = target == 0.0, one = ones({}, x.options()), zero = zeros({}, x.options());
    loss = sub(where(none, zero, mul(target, log(where(none, one, target)))), mul(target, x));
  }
  switch (options.reduction) {
    case KLDivReduction::none: return loss;
    case KLDivReduction::sum: return sum(loss);
    case KLDivReduction::mean: return mean(loss);
    case KLDivReduction::batchmean: break;
  }
  return loss.rank() == 0 ? loss : detail::divided(sum(loss), static_cast<double>(loss.shape()[0]));
}

}  // namespace lpf
