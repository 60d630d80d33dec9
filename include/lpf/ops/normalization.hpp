// Batch and layer normalisation. Batch norm treats x [B, …, C] as rows of C channels. Two things are cut into
// slices, independently of each other: the statistics (one mean and variance per group of samples, or one for
// all), and weight and bias (replicated in a perturbed pass). Backward is fused; where gradients are
// differentiated again, it is the same formula composed of differentiable operations. For bfloat16
// activations statistics, weight and bias are float32.
#pragma once

#include "lpf/ops/activation.hpp"
#include "lpf/ops/math.hpp"
#include "lpf/ops/replicate.hpp"
#ifndef LPF_COMPILED
#  include "lpf/backend/cpu/norm.hpp"
#endif

namespace lpf {

namespace detail {

/// First row of each group, and the end.
using RowBegin = std::vector<std::int64_t>;

Tensor group_expand(const Tensor& x, const RowBegin& begin);

/// Row g of the result is the sum of rows [begin[g], begin[g + 1]) of x [rows, C].
LPF_ONCE Tensor group_sum(const Tensor& x, const RowBegin& begin) {
  const std::int64_t groups = std::ssize(begin) - 1, c = x.shape()[1];
  Tensor y = empty({groups, c}, x.options());
  for (std::int64_t g = 0; g < groups; ++g) {
    const auto from = begin[static_cast<std::size_t>(g)], to = begin[static_cast<std::size_t>(g) + 1];
    x.backend().reduce(backend::Reduce::sum, x.dtype(), 1, to - from, c,
                       x.alias({to - from, c}, from * c).raw(), y.alias({c}, g * c).raw());
  }
  return record("group_sum", std::move(y), {x},
                [begin](const Tensor& g, Need) { return Grads{group_expand(g, begin)}; });
}

/// Each row of group g of the result is row g of x [groups, C]: the adjoint of group_sum().
LPF_ONCE Tensor group_expand(const Tensor& x, const RowBegin& begin) {
  const std::int64_t c = x.shape()[1];
  Tensor y = empty({begin.back(), c}, x.options());
  for (std::size_t g = 0; g + 1 < begin.size(); ++g) {
    const Tensor rows = y.alias({begin[g + 1] - begin[g], c}, begin[g] * c);
    x.backend().assign(view_of(rows), view_as(x.alias({c}, static_cast<std::int64_t>(g) * c), rows.shape()));
  }
  return record("group_expand", std::move(y), {x},
                [begin](const Tensor& g, Need) { return Grads{group_sum(g, begin)}; });
}

/// The gradient of a parameter from those of its groups, [groups, C].
LPF_ONCE Tensor sum_of_groups(const Tensor& groups, const Tensor& parameter) {
  const PlanPtr plan = gradient_plan(parameter);
  return plan ? add_replica_dim(groups, plan) : sum(groups, {0});
}

LPF_ONCE const void* data_or_null(const Tensor& t) { return t.defined() ? t.raw_with_replicas() : nullptr; }

/// Checked weight and bias of an activation's channels; either may be undefined, and either replicated.
struct Affine {
  Tensor weight, bias;
  PlanPtr plan;  // of both, if one is replicated

  Affine() = default;
  Affine(const char* operation, const Tensor& x, const Shape& shape, Tensor scale, Tensor shift)
      : weight(std::move(scale)), bias(std::move(shift)) {
    for (Tensor* t : {&weight, &bias}) {
      if (!t->defined()) continue;
      check<ShapeError>(t->shape() == shape, operation, t == &weight ? "weight" : "bias", " has shape ",
                        t->shape(), ", the input ", x.shape(), " needs ", shape,
                        channels_first_hint(x.shape(), t->numel()));
      *t = to_float32(*t);  // replicas may be rounded
      check_accumulation_kind(operation, x, *t);
      if (t->is_replicated()) plan = t->impl().replicas;
    }
    if (!plan) return;
    check<ShapeError>(x.rank() > shape.rank(), operation,
                      "a perturbed pass needs a batch axis, the input is ", x.shape());
    check_samples_first(operation, x);
    for (const Tensor* t : {&weight, &bias})
      if (t->defined()) check_own_values(operation, *t);
    plan->meet(operation, x.shape(),
               x.rank() == 4 ? 3 : shape.rank());  // images may be folded, [B·T, H, W, C]
    for (Tensor* t : {&weight, &bias}) {
      check<ReplicaError>(!t->defined() || !t->is_replicated() || t->impl().replicas == plan, operation,
                          "weight and bias are replicas of two different perturbed passes");
      if (t->defined() && !t->is_replicated()) *t = replicate(*t, plan);
      if (t->defined() && shape.rank() != 1) *t = reshape(*t, {shape.numel()});
    }
  }
};

LPF_ONCE backend::BatchNorm describe(const Tensor& rows, const RowBegin& begin, bool replicated,
                                     double epsilon) {
  const std::int64_t c = rows.shape()[1];
  return {rows.dtype(), std::ssize(begin) - 1, c, begin.data(), replicated ? c : 0, epsilon};
}

/// (x − mean)·rstd·weight + bias of x [rows, C] with constants mean and rstd [C]; closed
/// under differentiation.
LPF_ONCE Tensor scale_shift(const Tensor& x, const Tensor& mean, const Tensor& rstd, const Affine& affine) {
  const RowBegin begin =
      affine.plan ? affine.plan->slices("scale_shift", x.shape()[0]).boundaries() : RowBegin{0, x.shape()[0]};
  const Shape each{std::ssize(begin) - 1, x.shape()[1]};
  const Tensor m = expand(mean, each), r = expand(rstd, each);
  Tensor y = empty_like(x);
  x.backend().batch_norm(describe(x, begin, affine.plan != nullptr, 0), x.raw(), m.raw(), nullptr, r.raw(),
                         data_or_null(affine.weight), data_or_null(affine.bias), nullptr, false, y.raw());
  return record(
      "scale_shift", std::move(y), {x, affine.weight, affine.bias}, [=](const Tensor& g, Need need) {
        Grads grads(3);
        Affine scale = affine;
        scale.bias = Tensor();
        if (need[0]) grads[0] = scale_shift(g, zeros_like(mean), rstd, scale);
        if (need[1])
          grads[1] =
              sum_of_rows(mul(to_float32(g), scale_shift(to_float32(x), mean, rstd, {})), affine.weight);
        if (need[2]) grads[2] = sum_of_rows(g, affine.bias);
        return grads;
      });
}

/// The gradients of normalize_rows(), composed of differentiable operations.
LPF_ONCE Grads normalize_rows_backward(const Tensor& x, const Affine& affine, const RowBegin& begin,
                                       double epsilon, const Tensor& g, Need need) {
  Tensor count = empty({std::ssize(begin) - 1, 1}, {float64, Device::cpu()});
  for (std::size_t i = 0; i + 1 < begin.size(); ++i)
    count.data<double>()[i] = static_cast<double>(begin[i + 1] - begin[i]);
  count = count.to(x.dtype()).to(x.device());
  const auto group_mean = [&](const Tensor& t) { return div(group_sum(t, begin), count); };
  const auto mean = [&](const Tensor& t) { return group_expand(group_mean(t), begin); };
  const Tensor near = sub(x, mean(x)), centred = sub(near, mean(near));  // a large mean is rounded
  const Tensor rstd = group_expand(rsqrt(group_mean(square(centred)) + epsilon), begin);
  const Tensor normal = mul(centred, rstd);
  const Tensor scaled = affine.weight.defined() ? mul(g, per_sample(affine.weight, g)) : g;
  Grads grads(3);
  if (need[0]) grads[0] = mul(rstd, sub(sub(scaled, mean(scaled)), mul(normal, mean(mul(scaled, normal)))));
  if (need[1]) grads[1] = sum_of_rows(mul(g, normal), affine.weight);
  if (need[2]) grads[2] = sum_of_rows(g, affine.bias);
  return grads;
}

/// x [rows, C] normalised with the mean (mean + rest) and variance [groups, C] of each group, scaled and
/// shifted, plus residual (may be undefined), then max(·, 0) if relu. Replicas of weight and bias must be
/// sliced like the groups.
LPF_ONCE Tensor normalize_rows(const Tensor& x, const Affine& affine, const RowBegin& begin, double epsilon,
                               const Tensor& mean, const Tensor& rest, const Tensor& variance,
                               const Tensor& residual, bool relu) {
  const bool replicated = affine.plan != nullptr;
  const Tensor rstd = rsqrt(variance + epsilon);
  Tensor y = empty_like(x);
  x.backend().batch_norm(describe(x, begin, replicated, epsilon), x.raw(), mean.raw(), rest.raw(), rstd.raw(),
                         data_or_null(affine.weight), data_or_null(affine.bias), data_or_null(residual), relu,
                         y.raw());
  const Tensor positive = relu ? y.detach() : Tensor();
  return record(
      "batch_norm", std::move(y), {x, affine.weight, affine.bias, residual}, [=](const Tensor& g, Need need) {
        if (is_grad_enabled()) {
          const Tensor d = relu ? where(positive <= 0.0, zeros({}, g.options()), g) : g;
          Grads grads = normalize_rows_backward(to_float32(x), affine, begin, epsilon, to_float32(d), need);
          grads.push_back(d);
          return grads;
        }
        const Tensor dx = empty_like(x), dweight = empty_like(mean), dbias = empty_like(mean);
        const Tensor masked = relu && need[3] ? empty_like(x) : Tensor();
        x.backend().batch_norm_backward(describe(x, begin, replicated, epsilon), x.raw(),
                                        data_or_null(positive), g.raw(), mean.raw(), rest.raw(), rstd.raw(),
                                        data_or_null(affine.weight), dx.raw(), dweight.raw(), dbias.raw(),
                                        masked.defined() ? masked.raw() : nullptr);
        return Grads{dx, need[1] ? sum_of_groups(dweight, affine.weight) : Tensor(),
                     need[2] ? sum_of_groups(dbias, affine.bias) : Tensor(), masked.defined() ? masked : g};
      });
}

/// x [B, …, C] as [B·…, C].
LPF_ONCE Tensor as_rows(const char* operation, const Tensor& x) {
  check<ShapeError>(x.rank() >= 2, operation, "the input needs shape [B, …, C], got ", x.shape());
  check_floating(operation, x);
  return reshape(x, {x.shape().product(0, x.rank() - 1), x.shape()[x.rank() - 1]});
}

}  // namespace detail

/// Operations fused with a batch norm in one sweep over memory: y = relu(batch norm + residual).
struct BatchNormEpilogue {
  Tensor residual = {};  ///< of x's shape; undefined: none
  bool relu = false;
};
using BatchNormThen [[deprecated("use BatchNormEpilogue")]] = BatchNormEpilogue;

namespace detail {
LPF_ONCE void check_then(const Tensor& x, const BatchNormEpilogue& then) {
  if (!then.residual.defined()) return;
  check<ShapeError>(then.residual.shape() == x.shape(), "batch_norm", "the residual has shape ",
                    then.residual.shape(), ", the input ", x.shape());
  if (!is_cast("batch_norm residual", x, then.residual)) check_same_kind("batch_norm", x, then.residual);
}
/// The same by separate operations.
LPF_ONCE Tensor finish(Tensor y, const BatchNormEpilogue& then) {
  if (then.residual.defined()) y = add(y, then.residual);
  return then.relu ? relu(y) : y;
}
}  // namespace detail

/// Result of batch_norm_train(): y, and without history the statistics from which a layer updates
/// its running ones.
struct BatchNormResult {
  Tensor y;
  Tensor mean, variance;  ///< [groups, C]; the variance is the biased one, Σ(x − mean)²/values
  /// Values per channel in each group; the unbiased variance is `variance`·values/(values − 1).
  std::vector<std::int64_t> values;
};

/// (x − mean)/√(variance + eps)·weight + bias (Ioffe & Szegedy 2015) of x [B, …, C], with the mean and the
/// biased variance of each channel over the samples [sample_begin[g], sample_begin[g + 1]) of each group: {0,
/// B} pools the batch. weight, bias [C], plain or replicated, or undefined. Followed by `then`.
/// @throws ShapeError if shapes do not fit, or if a group has fewer than two values per channel.
LPF_ONCE BatchNormResult batch_norm_train(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                          const std::vector<std::int64_t>& sample_begin, double eps = 1e-5,
                                          const BatchNormEpilogue& then = {}) {
  const Tensor rows = detail::as_rows("batch_norm", x);
  const std::int64_t samples = x.shape()[0], c = rows.shape()[1],
                     positions = x.shape().product(1, x.rank() - 1);
  const detail::Affine affine("batch_norm", x, {c}, weight, bias);
  check<ShapeError>(sample_begin.size() >= 2 && sample_begin.front() == 0 && sample_begin.back() == samples,
                    "batch_norm", "groups must begin at sample 0 and end at ", samples, ", the batch of ",
                    x.shape());
  detail::RowBegin begin;
  for (auto b : sample_begin) begin.push_back(b * positions);
  BatchNormResult result;
  const std::int64_t groups = std::ssize(begin) - 1;
  for (std::size_t g = 0; g + 1 < begin.size(); ++g) {
    result.values.push_back(begin[g + 1] - begin[g]);
    check<ShapeError>(result.values.back() > 1, "batch_norm",
                      "statistics need at least two values a channel, but slice ", g, " of M = ", groups,
                      " slices of a batch of B = ", samples, " samples, ", x.shape(), ", has ",
                      result.values.back(), ": use a larger batch, fewer replicas, or pooled statistics");
  }
  result.mean = empty({groups, c}, detail::accumulation_options(x));
  result.variance = empty_like(result.mean);
  const Tensor rest = empty_like(result.mean);
  x.backend().batch_norm_statistics(detail::describe(rows, begin, false, eps), rows.raw(), result.mean.raw(),
                                    rest.raw(), result.variance.raw());
  detail::check_then(x, then);
  const bool fits = !affine.plan || affine.plan->slices("batch_norm", rows.shape()[0]).boundaries() == begin;
  if (fits && !(then.residual.defined() && detail::is_cast("batch_norm residual", x, then.residual))) {
    const Tensor residual = then.residual.defined() ? reshape(then.residual, rows.shape()) : Tensor();
    result.y = reshape(detail::normalize_rows(rows, affine, begin, eps, result.mean, rest, result.variance,
                                              residual, then.relu),
                       x.shape());
  } else {
    Tensor y = detail::normalize_rows(rows, fits ? affine : detail::Affine(), begin, eps, result.mean, rest,
                                      result.variance, {}, false);
    const TensorOptions wide = result.mean.options();
    if (!fits) y = detail::scale_shift(y, zeros({c}, wide), ones({c}, wide), affine);
    result.y = detail::finish(reshape(y, x.shape()), then);
  }
  return result;
}

/// (x − running_mean)/√(running_var + eps)·weight + bias of x [B, …, C]: batch norm with given statistics
/// [C], constants for the gradient. weight, bias [C], plain or replicated, or undefined. Followed by `then`.
/// @throws ShapeError if shapes do not fit.
LPF_ONCE Tensor batch_norm_eval(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                const Tensor& running_mean, const Tensor& running_var, double eps = 1e-5,
                                const BatchNormEpilogue& then = {}) {
  const Tensor rows = detail::as_rows("batch_norm", x);
  const Shape channels{rows.shape()[1]};
  const detail::Affine affine("batch_norm", x, channels, weight, bias);
  for (const Tensor& t : {running_mean, running_var}) {
    check<ShapeError>(t.shape() == channels, "batch_norm", "running statistics have shape ", t.shape(),
                      ", the input ", x.shape(), " needs ", channels,
                      detail::channels_first_hint(x.shape(), t.numel()));
    detail::check_accumulation_kind("batch_norm", x, t);
  }
  const Tensor rstd = rsqrt(running_var.detach() + eps);
  detail::check_then(x, then);
  return detail::finish(
      reshape(detail::scale_shift(rows, running_mean.detach().clone(), rstd, affine), x.shape()), then);
}

}  // namespace lpf
