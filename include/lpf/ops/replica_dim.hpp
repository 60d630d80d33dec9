// Conversion between replicated and plain tensors: remove_replica_dim() turns the hidden axis of M replicas
// into a plain first axis, add_replica_dim() turns it back. An elementwise operation on replicas is
// add_replica_dim(op(remove_replica_dim(x))).
#pragma once

#include "lpf/ops/samples.hpp"

namespace lpf {

using PlanPtr = std::shared_ptr<ReplicaPlan>;

namespace detail {

/// The plan if the gradient of a parameter is computed per replica; null if the sum is wanted.
inline PlanPtr gradient_plan(const Tensor& t) {
  return t.is_replicated() && !t.impl().sum_gradient ? t.impl().replicas : nullptr;
}

Tensor add_replica_dim(const Tensor& x, const PlanPtr& plan);

/// ReplicaError if a batch mean was added to the replicas x: separate passes would have added each slice's own.
LPF_ONCE void check_own_values(const char* operation, const Tensor& x) {
  check<ReplicaError>(
      !x.is_replicated() || !x.impl().from_samples, operation,
      "is not linear, and is applied to the sum of a value of each replica and a mean (or sum) over "
      "the batch, of which the slices' parts are not known: use slice_mean(losses, parameter), or "
      "the losses of the samples before their mean");
}

/// What an operation does with a batch mean that was added to replicas.
enum class BatchMean { refused, kept };

/// The replicas of x, of shape [shape…], as a plain tensor [M, shape…] on the same memory.
/// @throws ReplicaError for a plain tensor, and unless it is kept (by linear operations) for a batch mean.
LPF_ONCE Tensor remove_replica_dim(const Tensor& x, BatchMean mean = BatchMean::refused,
                                   const char* operation = "an operation") {
  const PlanPtr plan = x.impl().replicas;
  check<ReplicaError>(plan != nullptr, "remove_replica_dim", "a plain tensor of shape ", x.shape(),
                      " came where one value for each replica is needed");
  if (mean == BatchMean::refused) check_own_values(operation, x);
  Tensor y = record("remove_replica_dim", x.alias(x.shape().prepended(plan->count())), {x},
                    [plan](const Tensor& g, Need) { return Grads{add_replica_dim(g, plan)}; });
  y.impl().from_samples = x.impl().from_samples;
  y.impl().sample_axis = y.impl().from_samples ? TensorImpl::summed_axis : TensorImpl::unknown_axis;
  return y;
}

/// A plain tensor [M, shape…] as M replicas of a tensor of shape [shape…].
LPF_ONCE Tensor add_replica_dim(const Tensor& x, const PlanPtr& plan) {
  check<ReplicaError>(x.rank() >= 1 && x.shape()[0] == plan->count(), "add_replica_dim", "a tensor of shape ",
                      x.shape(), " does not hold ", plan->count(), " replicas along its first axis");
  Tensor y = x.alias(x.shape().slice(1, x.rank()));
  y.impl().replicas = plan;
  return record("add_replica_dim", std::move(y), {x},
                [](const Tensor& g, Need) { return Grads{remove_replica_dim(g)}; });
}

/// f(all replicas of x as a plain tensor) as replicas.
template <class F>
Tensor on_each_replica(const Tensor& x, F f, BatchMean mean = BatchMean::refused,
                       const char* operation = "an operation") {
  return add_replica_dim(f(remove_replica_dim(x, mean, operation)), x.impl().replicas);
}

}  // namespace detail

}  // namespace lpf
