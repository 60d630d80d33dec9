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
  bool suspended = false;  // parameters read as θ (Perturbation::clean)
};
inline thread_local std::vector<ActivePass> active_passes;

/// The perturbed pass over a store that is active on this thread, or null.
inline ReplicaContext* pass_over(const void* store) {
  for (const auto& active : active_passes)
    if (active.store == store && !active.suspended) return active.pass;
  return nullptr;
}

/// How batch norm is computed over a store now. Outside a perturbed pass, and at θ itself within one, there is one
/// slice, the whole batch; frozen statistics stay frozen.
inline BatchNormPolicy batch_norm_policy_over(const void* store) {
  if (const ReplicaContext* pass = pass_over(store)) return pass->batch_norm_policy();
  for (const auto& active : active_passes)
    if (active.store == store && active.pass->batch_norm_policy() == BatchNormPolicy::frozen)
      return BatchNormPolicy::frozen;
  return BatchNormPolicy::pooled;
}

}  // namespace detail

/// Until the end of the scope, forward passes on this thread process a part of a batch, `samples` of it from
/// `first_sample` on: layers that draw random numbers (dropout) continue where the previous part ended, so that
/// a batch in parts gets the same numbers as the whole batch.
class MicroBatch {
 public:
  /// @throws ValueError for a negative first sample, or no samples.
  MicroBatch(std::int64_t first_sample, std::int64_t samples) : before_(current_) {
    check(first_sample >= 0 && samples > 0, "MicroBatch", samples, " samples from ", first_sample,
          " on are no part of a batch");
    current_ = {first_sample, samples};
  }
  [[deprecated(
      "use MicroBatch(first_sample, samples); without the number every row is a "
      "sample")]] explicit MicroBatch(std::int64_t first_sample)
      : before_(std::exchange(current_, Part{first_sample, 0})) {}
  ~MicroBatch() { current_ = before_; }
  MicroBatch(const MicroBatch&) = delete;
  MicroBatch& operator=(const MicroBatch&) = delete;

  /// First sample of this thread's part; 0 for a whole batch or the first part.
  static std::int64_t first_sample() { return current_.first_sample; }
  /// Where the part begins in an operand that has `rows` rows in it: samples may be folded, [B·L, …].
  /// @throws ShapeError if the rows are not a multiple of the part's samples.
  static std::int64_t first_row(const char* operation, std::int64_t rows) {
    const auto [first, samples] = current_;
    if (samples == 0) return first;
    check<ShapeError>(rows % samples == 0, operation, "a part of a batch has ", samples,
                      " samples, but this operand has ", rows, " rows along its first axis");
    return first * (rows / samples);
  }

 private:
  struct Part {
    std::int64_t first_sample, samples;  // 0 samples: each row is one
  };
  static inline thread_local Part current_{0, 0};
  Part before_;
};

using PartOfBatch [[deprecated("use MicroBatch")]] = MicroBatch;

}  // namespace nn
}  // namespace lpf
