// The published algorithm as a loop: M passes on consecutive slices of the batch, each with its weights
// written over θ. For reading, and as the reference for tests of the batched pass; it costs M small
// passes and writes θ.
#pragma once

#include "lpf/filter/low_pass_filter.hpp"

namespace lpf::filter {

/// Adds g = Σ_r (|B_r|/|B|) ∇L(θ + s ⊙ ε_r; B_r) to the gradient of `params`; returns the mean loss.
/// `slice_loss(begin, end)` is the mean loss of samples [begin, end). The noise is that of pass
/// `draw` of `filter`.
template <class SliceLoss>
double unfused_gradient(const ParameterStore& params, const LowPassFilter& filter, std::uint64_t draw,
                        std::int64_t batch, SliceLoss slice_loss) {
  const Tensor theta = params.theta(), saved = theta.clone(), noise = filter.offsets(params, draw);
  const Slices slices(filter.options().M, batch);
  double mean = 0;
  for (std::int64_t r = 0; r < slices.count(); ++r) {
    theta.copy_(add(saved, noise[r]));
    const nn::MicroBatch part(slices.begin(r), slices.length(r));
    const Tensor loss = slice_loss(slices.begin(r), slices.end(r));
    loss.backward(full_like(loss, slices.share(r)));
    mean += slices.share(r) * loss.item();
  }
  theta.copy_(saved);
  return mean;
}

}  // namespace lpf::filter
