// What a layer may ask about the pass it is part of: whether its parameters stand for M perturbed replicas,
// how batch norm is to be done then, and which part of a batch this is.
#pragma once

#include <utility>
#include <vector>

#include "lpf/tensor/tensor.hpp"

namespace lpf {

using PlanPtr = std::shared_ptr<ReplicaPlan>;

/// Batch norm in a perturbed pass.
enum class BatchNormPolicy {
  per_replica,  ///< each slice by its own statistics; running statistics updated once a slice, in order (the
                ///< definition)
  pooled,       ///< statistics of the whole batch; one update
  frozen,       ///< the running statistics, as in evaluation; no update
  recomputed    ///< statistics of each slice, but running statistics are left to a clean pass of yours
};

namespace nn {

/// A perturbed pass over the parameters of one store, seen from a layer. Implemented by filter::Perturbation.
class ReplicaContext {
 public:
  virtual ~ReplicaContext() = default;
  /// The parameter as this pass sees it: replicated, or the plain leaf where it is left out of the filter.
  virtual Tensor read(std::size_t parameter) = 0;
  /// Noise of the pre-activations x·wᵀ + b of shape [B, out], if this pass draws it there instead of on the
  /// weights (local reparameterisation); undefined otherwise.
  virtual Tensor pre_activation_noise(const Tensor& x, std::size_t weight, const std::size_t* bias) = 0;
  virtual BatchNormPolicy batch_norm_policy() const = 0;
  virtual const PlanPtr& plan() const = 0;
};
using PerturbedPass [[deprecated("use ReplicaContext")]] = ReplicaContext;

namespace detail {

struct ActivePass {
  const void* store;
  ReplicaContext* pass;
};
inline thread_local std::vector<ActivePass> active_passes;

/// The perturbed pass over a store that this thread is in, or null.
inline ReplicaContext* pass_over(const void* store) {
  for (const auto& active : active_passes)
    if (active.store == store) return active.pass;
  return nullptr;
}

}  // namespace detail

/// Until the end of the block, forward passes on this thread are of a part of a batch that begins at sample
/// `first_sample`: layers that draw random numbers (dropout) go on where the part before ended, so that a
/// batch in parts sees the same numbers as the batch in one piece.
class MicroBatch {
 public:
  explicit MicroBatch(std::int64_t first_sample) : before_(std::exchange(first_sample_, first_sample)) {}
  ~MicroBatch() { first_sample_ = before_; }
  MicroBatch(const MicroBatch&) = delete;
  MicroBatch& operator=(const MicroBatch&) = delete;

  /// First sample of the part this thread works on; 0 for a whole batch or the first part.
  static std::int64_t first_sample() { return first_sample_; }

 private:
  static inline thread_local std::int64_t first_sample_ = 0;
  std::int64_t before_;
};

using PartOfBatch [[deprecated("use MicroBatch")]] = MicroBatch;

}  // namespace nn
}  // namespace lpf
