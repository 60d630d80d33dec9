// The pass that a layer is part of: whether its parameters are M perturbed replicas, and how batch norm is
// computed then.
#pragma once

#include <utility>
#include <vector>

#include "lpf/core/os.hpp"
#include "lpf/nn/micro_batch.hpp"

namespace lpf {

using PlanPtr = std::shared_ptr<ReplicaPlan>;

/// Batch norm in a perturbed pass.
enum class BatchNormPolicy {
  /// each slice by its own statistics; running statistics updated once per slice, in order (the definition)
  per_replica,
  pooled,  ///< statistics of the whole batch; one update
  frozen,  ///< the running statistics, as in evaluation; no update
  /// statistics of each slice; running statistics are not updated, but left to a clean pass of the caller
  recomputed
};

namespace nn {

/// A perturbed pass over the parameters of one store, as seen by a layer.
/// Implemented by filter::Perturbation.
class ReplicaContext {
 public:
  virtual ~ReplicaContext() = default;
  /// The parameter in this pass: replicated, or the plain leaf if it is excluded from the filter.
  virtual Tensor read(std::size_t parameter) = 0;
  /// Noise of the pre-activations x·wᵀ + b of shape [B, out], if this pass adds it there instead of to the
  /// weights (local reparameterisation); undefined otherwise.
  virtual Tensor pre_activation_noise(const Tensor& x, std::size_t weight, const std::size_t* bias) = 0;
  virtual BatchNormPolicy batch_norm_policy() const = 0;
  /// True if signs tell the replicas of one draw apart (flipout): a slice may then be a single sample.
  virtual bool shares_noise() const = 0;
  /// True if the samples are a part of one slice, whose other samples are evaluated elsewhere (MicroBatch).
  virtual bool cuts_slice() const { return false; }
  virtual const PlanPtr& plan() const = 0;
};
using PerturbedPass [[deprecated("use ReplicaContext")]] = ReplicaContext;

namespace detail {

struct ActivePass {
  const void* store;
  ReplicaContext* pass;
  bool suspended = false;  // parameters read as θ (Perturbation::clean)
};
/// Those of this thread.
inline std::vector<ActivePass>& active_passes() {
  return lpf::detail::os::of_thread<std::vector<ActivePass>>();
}

/// The perturbed pass over a store that is active on this thread, or null.
inline ReplicaContext* pass_over(const void* store) {
  for (const auto& active : active_passes())
    if (active.store == store && !active.suspended) return active.pass;
  return nullptr;
}

/// How batch norm is computed over a store now. Outside a perturbed pass, and at θ itself within one, there is one
/// slice, the whole batch; frozen statistics stay frozen.
inline BatchNormPolicy batch_norm_policy_over(const void* store) {
  if (const ReplicaContext* pass = pass_over(store)) return pass->batch_norm_policy();
  for (const auto& active : active_passes())
    if (active.store == store && active.pass->batch_norm_policy() == BatchNormPolicy::frozen)
      return BatchNormPolicy::frozen;
  return BatchNormPolicy::pooled;
}

}  // namespace detail

}  // namespace nn
}  // namespace lpf
