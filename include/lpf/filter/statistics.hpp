// Statistics of the replicas of a perturbed pass: the loss of each, and how much their gradients differ.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "lpf/ops/arithmetic.hpp"
#include "lpf/ops/replicate.hpp"

namespace lpf::filter {

/// Norms of the replicas' gradients ∇L_r(θ_r), each the mean over its own slice, and how much they differ.
/// The differences include the noise of the weights and that of the samples.
struct GradientStatistics {
  std::vector<double> norm;  ///< ‖∇L_r‖₂
  double mean_norm;          ///< ‖ḡ‖₂ of the estimate
  double variance;  ///< Σ_r ‖∇L_r − ḡ‖² / (M − 1): the trace of their covariance; divided by M: that of ḡ
};

/// Mean loss of each replica over its slice, from the losses of the samples [B]. ShapeError
/// for any other shape.
LPF_ONCE std::vector<double> replica_losses(const Tensor& losses, const PlanPtr& plan) {
  const auto off = no_grad();
  check<ShapeError>(losses.rank() == 1, "replica_losses", "needs one loss a sample, [B], got ",
                    losses.shape(), ": use Reduction::none, and the mean over other axes");
  const Slices slices = plan->slices("replica_losses", losses.size(0));
  auto means = lpf::detail::remove_replica_dim(lpf::detail::slice_sum(losses.detach(), plan)).to_vector();
  for (std::int64_t r = 0; r < plan->count(); ++r)
    means[static_cast<std::size_t>(r)] /= static_cast<double>(slices.length(r));
  return means;
}

/// The gradients of the replicas of each parameter, stored by a pass with keep_replica_gradients.
class ReplicaGradients {
 public:
  /// Stores g, the gradients (|B_r|/|B|)·∇L_r of the mean loss with respect to the replicas of a parameter.
  void keep(std::size_t parameter, const Tensor& g) {
    if (gradients_.size() <= parameter) gradients_.resize(parameter + 1);
    gradients_[parameter] = g.detach();
  }

  /// Statistics over the parameters after the last backward(). StateError before the first.
  LPF_ONCE GradientStatistics statistics(const PlanPtr& plan) const {
    check<StateError>(
        std::any_of(gradients_.begin(), gradients_.end(), [](const Tensor& g) { return g.defined(); }),
        "gradient_statistics", "call it after backward()");
    const auto off = no_grad();
    const std::int64_t M = plan->count();
    const Slices slices(M, plan->batch());
    const auto dot = [](const Tensor& a, const Tensor& b) {
      return a.backend().dot(a.dtype(), a.numel(), a.raw(), b.raw());
    };
    GradientStatistics out{std::vector<double>(static_cast<std::size_t>(M), 0), 0, 0};
    for (const Tensor& g : gradients_) {
      if (!g.defined()) continue;
      const Tensor parts = lpf::detail::remove_replica_dim(g), total = sum(parts, {0});
      out.mean_norm += dot(total, total);
      for (std::int64_t r = 0; r < M; ++r) {
        const Tensor own = affine(parts[r], 1 / slices.share(r), 0), difference = sub(own, total);
        out.norm[static_cast<std::size_t>(r)] += dot(own, own);
        out.variance += dot(difference, difference);
      }
    }
    for (double& n : out.norm) n = std::sqrt(n);
    out.mean_norm = std::sqrt(out.mean_norm);
    out.variance /= static_cast<double>(std::max<std::int64_t>(1, M - 1));
    return out;
  }

 private:
  std::vector<Tensor> gradients_;  // [M, shape…] by parameter
};

}  // namespace lpf::filter
