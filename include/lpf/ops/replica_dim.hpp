// Conversion between replicated and plain tensors: remove_replica_dim() turns the hidden axis of M replicas
// into a plain first axis, add_replica_dim() turns it back. An elementwise operation on replicas is
// add_replica_dim(op(remove_replica_dim(x))).
#pragma once

#include "lpf/ops/fwd.hpp"

namespace lpf {

using PlanPtr = std::shared_ptr<ReplicaPlan>;

namespace detail {

/// The plan if the gradient of a parameter is computed per replica; null if the sum is wanted.
inline PlanPtr gradient_plan(const Tensor& t) {
  return t.is_replicated() && !t.impl().sum_gradient ? t.impl().replicas : nullptr;
}

Tensor add_replica_dim(const Tensor& x, const PlanPtr& plan);

/// The replicas of x, of shape [shape…], as a plain tensor [M, shape…] on the same memory.
LPF_ONCE Tensor remove_replica_dim(const Tensor& x) {
  const PlanPtr plan = x.impl().replicas;
  check<ReplicaError>(plan != nullptr, "remove_replica_dim", "a plain tensor of shape ", x.shape(),
                      " came where one value for each replica is needed");
  Tensor y = x.alias(x.shape().prepended(plan->count()));
  return record("remove_replica_dim", std::move(y), {x},
                [plan](const Tensor& g, Need) { return Grads{add_replica_dim(g, plan)}; });
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

}  // namespace detail

}  // namespace lpf
