// From replicas to samples and back. Each pair is one operation and its adjoint, so derivatives of any order
// stay here:
//   replicate     one tensor for all replicas            sum_replicas   the sum over replicas
//   slice_expand  each sample of slice r gets replica r   slice_sum      the sum over each slice
#pragma once

#include "lpf/ops/arithmetic.hpp"

namespace lpf {

/// The sum over the replicas, a plain tensor.
LPF_ONCE inline Tensor sum_replicas(const Tensor& x) { return sum(detail::unhide(x), {0}); }

/// A plain tensor as M equal replicas, to meet a replicated one (a mask on a perturbed weight).
LPF_ONCE inline Tensor replicate(const Tensor& x, const PlanPtr& plan) {
  return detail::hide(expand(x, x.shape().prepended(plan->count())), plan);
}
LPF_ONCE inline Tensor replicate(const Tensor& x, const Tensor& like) {
  return like.is_replicated() ? replicate(x, like.impl().replicas) : x;
}

namespace detail {

Tensor slice_sum(const Tensor& x, const PlanPtr& plan);

/// [rows, shape…] in which each row of slice r is replica r of x [shape…].
LPF_ONCE inline Tensor slice_expand(const Tensor& x, std::int64_t rows) {
  const PlanPtr plan = x.impl().replicas;
  const auto begin = plan->slices("per_sample", rows);
  const Tensor plain = x.alias(x.shape().prepended(plan->count()));
  Tensor y = empty(x.shape().prepended(rows), x.options());
  for (std::int64_t r = 0; r < plan->count(); ++r) {
    const auto from = begin[static_cast<std::size_t>(r)], to = begin[static_cast<std::size_t>(r) + 1];
    const Tensor target = y.alias(x.shape().prepended(to - from), from * x.numel());
    x.backend().assign(view_of(target), view_as(plain.alias(x.shape(), r * x.numel()), target.shape()));
  }
  return record("slice_expand", std::move(y), {x},
                [plan](const Tensor& g, Need) { return Grads{slice_sum(g, plan)}; });
}

/// Replica r of the result is the sum of the rows of slice r of x [rows, shape…].
LPF_ONCE inline Tensor slice_sum(const Tensor& x, const PlanPtr& plan) {
  const auto begin = plan->slices("slice_sum", x.shape()[0]);
  const Shape shape = x.shape().slice(1, x.rank());
  const std::int64_t n = shape.numel();
  Tensor y = empty(shape.prepended(plan->count()), options_of_sum(x));
  for (std::int64_t r = 0; r < plan->count(); ++r) {
    const auto from = begin[static_cast<std::size_t>(r)], to = begin[static_cast<std::size_t>(r) + 1];
    x.backend().reduce(backend::Reduce::sum, x.dtype(), 1, to - from, n, x.alias(shape, from * n).raw(),
                       y.alias(shape, r * n).raw());
  }
  Tensor out = y.alias(shape);
  out.impl().replicas = plan;
  return record("slice_sum", std::move(out), {x},
                [rows = x.shape()[0]](const Tensor& g, Need) { return Grads{slice_expand(g, rows)}; });
}

/// Two gradients of one replicated tensor: each may be one for each replica, or already their sum.
LPF_ONCE inline Tensor add_gradients(const Tensor& a, const Tensor& b) {
  if (a.is_replicated() == b.is_replicated()) return add(a, b);
  return a.is_replicated() ? add(sum_replicas(a), b) : add(a, sum_replicas(b));
}

}  // namespace detail

/// A parameter ready to broadcast against an activation x [B, …, shape…]: [B, 1…, shape…] with each sample's
/// own replica inside a perturbed pass, the parameter itself outside.
LPF_ONCE inline Tensor per_sample(const Tensor& parameter, const Tensor& x) {
  if (!parameter.is_replicated()) return parameter;
  check<ShapeError>(parameter.rank() < x.rank(), "per_sample", "the activation has shape ", x.shape(),
                    "; a parameter of shape ", parameter.shape(), " would reach its batch axis");
  const Tensor rows = detail::slice_expand(parameter, x.shape()[0]);
  Shape shape{x.shape()[0]};
  for (int i = parameter.rank() + 1; i < x.rank(); ++i) shape.push_back(1);
  for (auto s : parameter.shape()) shape.push_back(s);
  return reshape(rows, shape);
}

}  // namespace lpf
