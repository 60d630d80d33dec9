// Shannon entropy of the predictions: the mean over samples of −Σ_k p_k ln p_k, p = softmax of the model's
// output [B, …, classes]. Deterministic; the error is that of the data.
#pragma once

#include "lpf/backend/float64.hpp"
#include "lpf/ops/softmax.hpp"
#include "lpf/sharpness/estimate.hpp"
#include "lpf/sharpness/landscape.hpp"

namespace lpf::sharpness {

/// model(x) returns the logits; evaluated on the landscape's samples in evaluation mode.
LPF_ONCE Estimate shannon_entropy(const Landscape& landscape,
                                  const std::function<Tensor(const Tensor&)>& model) {
  const EvalMode eval(landscape.params());
  const auto off = no_grad();
  std::vector<double> per_sample;
  const std::int64_t step = landscape.options().samples;
  const auto entropies = [&](std::int64_t b) {
    const Tensor x = slice(landscape.data().x, 0, b * step, (b + 1) * step), logits = model(x);
    check<ShapeError>(logits.rank() >= 2 && logits.size(0) == x.size(0), "sharpness::shannon_entropy",
                      "needs logits [B, …, classes] for ", x.size(0), " samples, got ", logits.shape());
    const Tensor log_p = log_softmax(logits.to(float64));
    const Tensor terms = mul(where(log_p > -700.0, log_p, zeros_like(log_p)), exp(log_p));  // 0 ln 0 = 0
    const Tensor entropy = affine(sum(terms, {-1}), -1, 0);
    const std::int64_t each = entropy.numel() / x.size(0);  // tokens per sample
    return mean(reshape(entropy, {x.size(0), each}), {1}).to_vector();
  };
  landscape.ranks().in_order(landscape.batches(), entropies, [&](std::int64_t, const Ranks::Numbers& found) {
    per_sample.insert(per_sample.end(), found.begin(), found.end());
  });
  const double value = mean_error(per_sample).mean;
  return estimate_of(value, {}, std::move(per_sample));
}

}  // namespace lpf::sharpness
