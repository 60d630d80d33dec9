// Functions for writing a custom operation:
//   record(name, y, {operands}, backward)  y was computed from the operands; backward(g, need) returns their
//                                          gradients, written with differentiable operations, so that they
//                                          can be differentiated again
//   map_replicas(f, parameter)             the rule for perturbed parameters
//   per_sample(parameter, x)               a parameter broadcastable against an activation (replicate.hpp)
//   check_floating, check_same_kind,       typed errors for unsupported operands
//   check_plain
// examples/custom_op.cpp shows the first three, examples/captured_step.cpp a number of your own in a captured step.
#pragma once

#include "lpf/ops/replicate.hpp"

namespace lpf {

/// check_floating("name", x): DTypeError unless x is floating.
using detail::check_floating;
/// check_same_kind("name", a, b): DTypeError or DeviceError unless a and b have the same dtype and device.
using detail::check_same_kind;
/// check_plain("name", x): ReplicaError if x is a perturbed parameter, for an operation
/// without a replica rule.
using detail::check_plain;

namespace detail {
/// y [M, result…] as replicas of a tensor of shape [result…], or as that tensor itself outside a pass.
inline Tensor hide_mapped(const Tensor& y, const PlanPtr& plan) {
  const std::int64_t M = plan ? plan->count() : 1;
  check<ReplicaError>(y.rank() >= 1 && y.shape()[0] == M, "map_replicas", "the function returned shape ",
                      y.shape(), ", whose first axis is not that of the M = ", M, " replicas");
  return plan ? add_replica_dim(y, plan) : squeeze(y, 0);
}
}  // namespace detail

/// f of all replicas of a parameter at once: f takes a plain tensor [M, shape…] and returns [M, result…], the
/// M replicas of the result. Outside a perturbed pass M is 1. An elementwise f needs no change; any other
/// must count axes from the end, or shifted by one. Rows of length 1:
///
///   map_replicas([](const Tensor& w) { return w / sqrt(sum(square(w), {-1}, true)); }, weight)
///
/// @throws ReplicaError if the first axis of the result is not M.
template <class F>
Tensor map_replicas(F f, const Tensor& x) {
  if (!x.is_replicated()) return detail::hide_mapped(f(unsqueeze(x, 0)), nullptr);
  return detail::hide_mapped(f(detail::remove_replica_dim(x)), x.impl().replicas);
}

/// The same for two parameters. @throws ReplicaError also if they are not replicas of one pass: combine a
/// plain one with a perturbed one by replicate(plain, perturbed).
template <class F>
Tensor map_replicas(F f, const Tensor& a, const Tensor& b) {
  const PlanPtr plan = a.impl().replicas;
  check<ReplicaError>(plan == b.impl().replicas, "map_replicas", "operands of shapes ", a.shape(), " and ",
                      b.shape(), " are not replicas of one perturbed pass: use replicate(plain, perturbed)");
  if (!plan) return detail::hide_mapped(f(unsqueeze(a, 0), unsqueeze(b, 0)), nullptr);
  return detail::hide_mapped(f(detail::remove_replica_dim(a), detail::remove_replica_dim(b)), plan);
}

}  // namespace lpf
