// Limits given by tensors.
#pragma once

#include "lpf/ops/math.hpp"

namespace lpf {

namespace detail {

/// An operand of replicas of `plan`: [M, …] with ones up to `rank` axes for replicas, itself for one number.
LPF_ONCE Tensor replica_rows_of(const char* operation, const Tensor& t, const PlanPtr& plan, int rank) {
  if (!t.is_replicated()) {
    check<ReplicaError>(t.numel() == 1 && !t.impl().from_samples, operation,
                        "a replicated parameter (M = ", plan->count(), ") meets a plain tensor of shape ",
                        t.shape(),
                        ": use per_sample(parameter, x) against an activation, replicate(t, parameter) for a "
                        "constant");
    return t;
  }
  check<ReplicaError>(t.impl().replicas == plan, operation,
                      "the operands are replicas of two different perturbed passes");
  Shape shape = t.shape();
  while (shape.rank() < rank) shape = shape.prepended(1);
  return reshape(remove_replica_dim(t), shape.prepended(plan->count()));
}

/// g where `all` is true, g/2 where `half` is, and 0 elsewhere, summed to `shape`.
LPF_ONCE Tensor shared_gradient(const Tensor& g, const Tensor& all, const Tensor& half, const Shape& shape) {
  return sum_to(where(all, g, where(half, affine(g, 0.5, 0), zeros({}, g.options()))), shape);
}

/// The larger (smaller) of x and one bound, the bound if they are equal, as 0 and −0 are. Equal ones share the
/// gradient; where one is NaN, each has all of it.
LPF_ONCE Tensor clamp_one_side(bool from_below, const Tensor& x, const Tensor& bound) {
  Tensor y = binary("clamp", from_below ? backend::Binary::maximum : backend::Binary::minimum, bound, x);
  return record("clamp", std::move(y), {x, bound}, [=](const Tensor& g, Need need) {
    const Tensor a = x.detach(), b = bound.detach(), tie = a == b;
    const Tensor outside = from_below ? a < b : a > b, inside = from_below ? a > b : a < b;
    const auto share = [&](const Tensor& loses, const Shape& shape) {
      return shared_gradient(g, logical_not(logical_or(loses, tie)), tie, shape);
    };
    return Grads{need[0] ? share(outside, a.shape()) : Tensor(),
                 need[1] ? share(inside, b.shape()) : Tensor()};
  });
}

LPF_ONCE Tensor clamp_plain(const Tensor& x, const Tensor& low, const Tensor& high) {
  if (!high.defined()) return clamp_one_side(true, x, low);
  if (!low.defined()) return clamp_one_side(false, x, high);
  const Tensor raised = binary("clamp", backend::Binary::maximum, low, x);
  Tensor y = binary("clamp", backend::Binary::minimum, high, raised);
  return record("clamp", std::move(y), {x, low, high}, [=](const Tensor& g, Need need) {
    const Tensor a = x.detach(), b = low.detach(), c = high.detach();
    const Tensor below = a<b, above = a> c, open = b < c;
    const Tensor tie_low = logical_and(a == b, open), tie_high = logical_and(a == c, open);
    Grads grads(3);
    if (need[0]) {
      const Tensor tie = logical_or(tie_low, tie_high);
      grads[0] = shared_gradient(g, logical_not(logical_or(logical_or(below, above), tie)), tie, a.shape());
    }
    if (need[1]) grads[1] = shared_gradient(g, logical_and(below, b <= c), tie_low, b.shape());
    if (need[2])
      grads[2] = shared_gradient(g, logical_or(b > c, logical_and(above, b <= c)), tie_high, c.shape());
    return grads;
  });
}

}  // namespace detail

/// min(max(x, low), high) with bounds that are broadcast together with x; an undefined one does not limit. Where
/// low > high the result is high; NaN in any of them gives NaN. Where x equals a bound, the two share the
/// gradient. Of replicas: each its own, with bounds that are replicas of the same pass or one number. PyTorch's
/// torch.clamp.
/// @throws ValueError without any bound; ShapeError, DTypeError if shapes or dtypes do not fit; ReplicaError for
/// replicas beside a plain tensor of more than one element.
LPF_ONCE Tensor clamp(const Tensor& x, const Tensor& low, const Tensor& high) {
  check(low.defined() || high.defined(), "clamp", "needs a lower or an upper bound");
  detail::check_arithmetic("clamp", x);
  if (detail::is_cast("clamp", x, low) || detail::is_cast("clamp", x, high))
    return clamp(detail::to_float32(x), detail::to_float32(low), detail::to_float32(high));
  PlanPtr plan;
  int rank = 0;
  for (const Tensor* t : {&x, &low, &high}) {
    if (!t->defined()) continue;
    rank = std::max(rank, t->rank());
    if (t->is_replicated()) plan = t->impl().replicas;
  }
  if (!plan) {
    for (const Tensor* t : {&x, &low, &high})
      if (t->defined()) detail::check_not_batch_mean("clamp", *t);
    return detail::clamp_plain(x, low, high);
  }
  const auto rows = [&](const Tensor& t) {
    return t.defined() ? detail::replica_rows_of("clamp", t, plan, rank) : t;
  };
  return detail::add_replica_dim(detail::clamp_plain(rows(x), rows(low), rows(high)), plan);
}

}  // namespace lpf
