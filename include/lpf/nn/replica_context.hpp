// The pass that a layer is part of: whether its parameters are M perturbed replicas, how batch norm is
// computed then, and which part of a batch this is.
#pragma once

#include <utility>
#include <vector>

#include "lpf/tensor/tensor.hpp"

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
  virtual const PlanPtr& plan() const = 0;
};
using PerturbedPass [[deprecated("use ReplicaContext")]] = ReplicaContext;

namespace detail {

struct ActivePass {
  const void* store;
  ReplicaContext* pass;
};
inline thread_local std::vector<ActivePass> active_passes;

/// The perturbed pass over a store that is active on this thread, or null.
inline ReplicaContext* pass_over(const void* store) {
  for (const auto& active : active_passes)
    if (active.store == store) return active.pass;
  return nullptr;
}

}  // namespace detail

/// Until the end of the scope, forward passes on this thread process a part of a batch that begins at sample
/// `first_sample`: layers that draw random numbers (dropout) continue where the previous part ended, so that
/// a batch in parts gets the same numbers as the whole batch.
class MicroBatch {
 public:
  explicit MicroBatch(std::int64_t first_sample) : before_(std::exchange(first_sample_, first_sample)) {}
  ~MicroBatch() { first_sample_ = before_; }
  MicroBatch(const MicroBatch&) = delete;
  MicroBatch& operator=(const MicroBatch&) = delete;

  /// First sample of this thread's part; 0 for a whole batch or the first part.
  static std::int64_t first_sample() { return first_sample_; }

 private:
  static inline thread_local std::int64_t first_sample_ = 0;
  std::int64_t before_;
};

using PartOfBatch [[deprecated("use MicroBatch")]] = MicroBatch;

}  // namespace nn
}  // namespace lpf
