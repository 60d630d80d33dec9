// From replicas to samples and back. Each pair is an operation and its adjoint, so derivatives of any order
// are again these operations:
//   replicate     one tensor for all replicas            sum_replicas   the sum over replicas
//   slice_expand  each sample of slice r gets replica r   slice_sum      the sum over each slice
#pragma once

#include "lpf/ops/arithmetic.hpp"

namespace lpf {

/// The sum over the replicas, a plain tensor.
LPF_ONCE Tensor sum_replicas(const Tensor& x) {
  return sum(detail::remove_replica_dim(x, detail::BatchMean::kept), {0});
}

/// A plain tensor as M equal replicas, for an operation with a replicated one (a mask on a perturbed weight).
LPF_ONCE Tensor replicate(const Tensor& x, const PlanPtr& plan) {
  return detail::add_replica_dim(expand(x, x.shape().prepended(plan->count())), plan);
}
LPF_ONCE Tensor replicate(const Tensor& x, const Tensor& like) {
  return like.is_replicated() ? replicate(x, like.impl().replicas) : x;
}

namespace detail {

Tensor slice_sum(const Tensor& x, const PlanPtr& plan);

/// The slices of an operand of `rows` rows for the replicas of `parameter`; the whole batch if it has none.
LPF_ONCE Slices slices_of(const char* operation, const Tensor& parameter, std::int64_t rows) {
  return parameter.is_replicated() ? parameter.impl().replicas->slices(operation, rows) : Slices(1, rows);
}
/// Checks that the first axis of x, whose last `features` axes are those of one row, is the batch that the
/// replicas of `parameter` share. ShapeError where x has no batch axis, or another batch.
LPF_ONCE void meet_batch(const char* operation, const Tensor& parameter, const Tensor& x, int features) {
  if (!parameter.defined() || !parameter.is_replicated()) return;
  check<ShapeError>(x.rank() > features, operation, "a perturbed pass needs a batch axis, x is ", x.shape());
  check_samples_first(operation, x);
  check_own_values(operation, parameter);
  parameter.impl().replicas->meet(operation, x.shape(), features);
}

/// [rows, shape…] in which each row of slice r is replica r of x [shape…].
LPF_ONCE Tensor slice_expand(const Tensor& x, std::int64_t rows) {
  const PlanPtr plan = x.impl().replicas;
  check_own_values("per_sample", x);
  const Slices slices = plan->slices("per_sample", rows);
  const Tensor plain = x.alias(x.shape().prepended(plan->count()));
  Tensor y = empty(x.shape().prepended(rows), x.options());
  for (std::int64_t r = 0; r < plan->count(); ++r) {
    const Tensor target = y.alias(x.shape().prepended(slices.length(r)), slices.begin(r) * x.numel());
    x.backend().assign(view_of(target), view_as(plain.alias(x.shape(), r * x.numel()), target.shape()));
  }
  return record("slice_expand", std::move(y), {x},
                [plan](const Tensor& g, Need) { return Grads{slice_sum(g, plan)}; });
}

/// Replica r of the result is the sum of the rows of slice r of x [rows, shape…].
LPF_ONCE Tensor slice_sum(const Tensor& x, const PlanPtr& plan) {
  const Slices slices = plan->slices("slice_sum", x.shape()[0]);
  const Shape shape = x.shape().slice(1, x.rank());
  const std::int64_t n = shape.numel();
  Tensor y = empty(shape.prepended(plan->count()), accumulation_options(x));
  for (std::int64_t r = 0; r < plan->count(); ++r) {
    x.backend().reduce(backend::Reduce::sum, x.dtype(), 1, slices.length(r), n,
                       x.alias(shape, slices.begin(r) * n).raw(), y.alias(shape, r * n).raw());
  }
  Tensor out = y.alias(shape);
  out.impl().replicas = plan;
  out = record("slice_sum", std::move(out), {x},
               [rows = x.shape()[0]](const Tensor& g, Need) { return Grads{slice_expand(g, rows)}; });
  out.impl().from_samples = false;  // each replica has its own
  return out;
}

/// The gradient of a parameter that was broadcast over the rows of an activation.
LPF_ONCE Tensor sum_of_rows(const Tensor& rows, const Tensor& parameter) {
  const PlanPtr plan = gradient_plan(parameter);
  return plan ? slice_sum(rows, plan) : sum(rows, {0});
}

/// The sum of two gradients of one replicated tensor, each with one value per replica or already summed.
LPF_ONCE Tensor add_gradients(const Tensor& a, const Tensor& b) {
  if (a.is_replicated() == b.is_replicated()) return add(a, b);
  return a.is_replicated() ? add(sum_replicas(a), b) : add(a, sum_replicas(b));
}

}  // namespace detail

/// The mean over the replicas, each with the share of its slice in the batch, B_r/B; x itself if it is plain.
/// backward() of a replicated scalar, such as a loss to which a penalty on the weights was added, begins here.
LPF_ONCE Tensor mean_replicas(const Tensor& x) {
  if (!x.is_replicated()) return x;
  const PlanPtr plan = x.impl().replicas;
  Shape each{plan->count()};
  for (int i = 0; i < x.rank(); ++i) each.push_back(1);
  const Tensor share = empty(each, x.options());
  for (std::int64_t r = 0; r < plan->count(); ++r)
    x.backend().fill(share.alias({}, r).raw(), x.dtype(), 1, plan->share(r));
  return sum(mul(detail::remove_replica_dim(x, detail::BatchMean::kept), share), {0});
}

/// The mean of x [B, …] over each slice of the batch, and over the other `axes` (all if empty), as replicas like
/// those of `parameter`; outside a perturbed pass mean(x, axes). A function of it is right as in M separate passes,
/// where one of mean(x) is refused: sqrt(slice_mean(losses, w)), exp(-s) * slice_mean(losses, s). Rows may be folded.
/// @throws ShapeError unless x begins with the batch, which must be one of the axes.
LPF_ONCE Tensor slice_mean(const Tensor& x, const Tensor& parameter, const Axes& axes = {}) {
  Axes rest = detail::reduced_axes("slice_mean", axes, x.rank());
  check<ShapeError>(!rest.empty() && rest[0] == 0, "slice_mean",
                    "needs the batch, axis 0, among the axes over which ", x.shape(), " is averaged");
  if (!parameter.is_replicated()) return mean(x, axes);
  detail::check_floating("slice_mean", x);
  detail::check_plain("slice_mean", x);
  detail::meet_batch("slice_mean", parameter, x, x.rank() - 1);
  const PlanPtr plan = parameter.impl().replicas;
  const Slices slices = plan->slices("slice_mean", x.shape()[0]);
  rest.erase(rest.begin());
  const Tensor sums = detail::slice_sum(rest.empty() ? x : mean(x, rest), plan);
  Shape each{plan->count()};
  for (int i = 0; i < sums.rank(); ++i) each.push_back(1);
  const Tensor count = empty(each, sums.options());
  for (std::int64_t r = 0; r < plan->count(); ++r)
    count.backend().fill(count.alias({}, r).raw(), count.dtype(), 1, static_cast<double>(slices.length(r)));
  return detail::add_replica_dim(div(detail::remove_replica_dim(sums), count), plan);
}

/// A parameter broadcastable against an activation x [B, …, shape…]: inside a perturbed pass [B, 1…, shape…]
/// with each sample's own replica, otherwise the parameter itself. The shape may begin with 1 for the batch.
LPF_ONCE Tensor per_sample(const Tensor& parameter, const Tensor& x) {
  if (!parameter.is_replicated()) return parameter;
  if (parameter.rank() == x.rank() && parameter.rank() > 0 && parameter.shape()[0] == 1)
    return per_sample(reshape(parameter, parameter.shape().slice(1, parameter.rank())), x);
  check<ShapeError>(parameter.rank() < x.rank(), "per_sample", "the activation has shape ", x.shape(),
                    "; a parameter of shape ", parameter.shape(), " would reach its batch axis");
  detail::check_samples_first("per_sample", x);
  parameter.impl().replicas->meet("per_sample", x.shape(), 1);
  const Tensor rows = detail::slice_expand(parameter, x.shape()[0]);
  Shape shape{x.shape()[0]};
  for (int i = parameter.rank() + 1; i < x.rank(); ++i) shape.push_back(1);
  for (auto s : parameter.shape()) shape.push_back(s);
  return reshape(rows, shape);
}

/// expand() of replicas: an activation where the first axis may be the batch, otherwise each replica expanded.
LPF_ONCE Tensor detail::expand_replicas(const Tensor& x, const Shape& shape) {
  check<ShapeError>(x.rank() <= shape.rank() && broadcast("expand", x.shape(), shape) == shape, "expand",
                    "shape ", x.shape(), " does not expand to ", shape);
  const PlanPtr plan = x.impl().replicas;
  const bool leading = x.rank() == shape.rank() && x.shape()[0] == 1, many = plan->count() > 1;
  check<ReplicaError>(!(leading && many && plan->batch() == 0 && shape[0] != 1), "expand",
                      "the number of samples is not known yet, so whether the first axis of ", shape,
                      " is the batch: give it, perturb(params, batch)");
  if (is_activation(shape, x) && (!many || shape[0] % std::max<std::int64_t>(plan->batch(), 1) == 0))
    return expand(per_sample(x, empty(shape, x.options())), shape);
  Shape ones = x.shape();
  while (ones.rank() < shape.rank()) ones = ones.prepended(1);
  return on_each_replica(
      x,
      [&](const Tensor& t) {
        return expand(reshape(t, ones.prepended(plan->count())), shape.prepended(plan->count()));
      },
      BatchMean::kept);
}

}  // namespace lpf
