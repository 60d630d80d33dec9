// Batch and layer normalisation layers.
#pragma once

#include <optional>

#include "lpf/nn/layer_error.hpp"
#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/layer_norm.hpp"
#include "lpf/ops/normalization.hpp"
#include "lpf/ops/shape.hpp"

namespace lpf::nn {

struct BatchNormOptions {
  double eps = 1e-5;
  /// Weight m of the newest statistics: running ← (1 − m)·running + m·new. Empty: running statistics are the
  /// mean over all so far.
  std::optional<double> momentum = 0.1;
  bool affine = true;               ///< scale and shift by weight and bias
  bool track_running_stats = true;  ///< false: batch statistics also in evaluation
};

/// Batch norm over x [B, …, C] (Ioffe & Szegedy 2015): batch_norm_train() in training mode, batch_norm_eval()
/// with the running statistics otherwise. PyTorch's torch.nn.BatchNorm1d and 2d, channels last; its names:
/// weight, bias [C] (γ and β in the paper), and the buffers running_mean, running_var [C] (the unbiased
/// variance), num_batches_tracked. In a perturbed pass BatchNormPolicy chooses the statistics. A slice is
/// then a batch of its own: it must have more than one value per channel (ShapeError), and counts as one
/// batch in the running statistics.
struct BatchNorm {
  Path path;
  Parameter weight, bias;
  Tensor running_mean, running_var, num_batches_tracked;
  BatchNormOptions options;

  /// @throws ValueError unless there is a channel, eps ≥ 0 and momentum lies in [0, 1].
  BatchNorm(const Path& p, std::int64_t channels, const BatchNormOptions& o = {}) : path(p), options(o) {
    check(channels > 0, "BatchNorm", "'", p.name(), "' needs at least one channel, got ", channels);
    check(o.eps >= 0, "BatchNorm", "'", p.name(), "': eps must not be negative, got ", o.eps);
    check(!o.momentum || (*o.momentum >= 0 && *o.momentum <= 1), "BatchNorm", "'", p.name(),
          "': momentum must be in [0, 1], got ", o.momentum.value_or(0));
    if (o.affine) {
      weight = p.parameter("weight", {channels}, init::ones());
      bias = p.parameter("bias", {channels}, init::zeros());
    }
    if (o.track_running_stats) {
      running_mean = p.buffer("running_mean", zeros({channels}, {p.dtype(), p.device()}));
      running_var = p.buffer("running_var", ones({channels}, {p.dtype(), p.device()}));
      num_batches_tracked = p.buffer("num_batches_tracked", zeros({}, {int64, p.device()}));
    }
  }

  /// `then`: a sum with a residual and relu, fused in the same sweep over memory: bn(x, {.residual = s, .relu
  /// = true}) is relu(bn(x) + s).
  Tensor operator()(const Tensor& x, const BatchNormEpilogue& then = {}) const {
    ReplicaContext* pass = path.pass();
    const auto policy = path.batch_norm_policy();
    const bool frozen = policy == BatchNormPolicy::frozen;
    check<StateError>(!frozen || options.track_running_stats, "BatchNorm", "'", path.name(),
                      "' keeps no running statistics, which the policy 'frozen' would use");
    if (options.track_running_stats && (frozen || !path.training()))
      return detail::in_layer(weight, [&] {
        return batch_norm_eval(x, weight, bias, running_mean, running_var, options.eps, then);
      });
    check<ShapeError>(x.rank() >= 2, "BatchNorm", "'", path.name(),
                      "': the input needs shape [B, …, C], got ", x.shape());
    const bool pooled = policy == BatchNormPolicy::pooled;
    const std::int64_t samples = x.shape()[0];
    if (pass) {
      ReplicaPlan& plan = *pass->plan();
      detail::in_layer(weight, [&] {
        lpf::detail::check_samples_first("batch_norm", x);
        plan.meet("batch_norm", x.shape(), x.rank() == 4 ? 3 : 1);
      });
      check<ShapeError>(
          pooled || !pass->shares_noise() || plan.count() == 1 || plan.batch() >= 2 * plan.count(),
          "BatchNorm", "'", path.name(), "': of M = ", plan.count(), " slices of ", plan.batch(),
          " samples some have one sample, too few for statistics of their own: use "
          "BatchNormPolicy::pooled or frozen, or fewer replicas");
    }
    const BatchPart& part = MicroBatch::current();
    const bool is_part = part.others && part.samples < part.batch;
    if (is_part && (pooled || pass->cuts_slice())) return normalized_with_others(x, then, policy);
    const BatchNormResult result = detail::in_layer(weight, [&] {
      return batch_norm_train(x, weight, bias,
                              pooled ? std::vector{std::int64_t{0}, samples}
                                     : pass->plan()->slices("batch_norm", samples).boundaries(),
                              options.eps, then);
    });
    if (!options.track_running_stats || policy == BatchNormPolicy::recomputed) return result.y;
    if (is_part) {
      track_with_others(result);
    } else {
      track(result);
    }
    return result.y;
  }

 private:
  /// With the statistics of a batch of which x is a part: those that batch_norm_train() has for the whole.
  Tensor normalized_with_others(const Tensor& x, const BatchNormEpilogue& then,
                                BatchNormPolicy policy) const {
    const BatchPart part = MicroBatch::current();
    const Tensor rows = lpf::detail::as_rows("batch_norm", x);
    lpf::detail::check_then(x, then);
    const std::int64_t values = rows.size(0) / part.samples * part.batch;
    check<ShapeError>(values > 1, "BatchNorm", "'", path.name(), "' needs more than one value per channel");
    const auto mean_of = [&](const Tensor& t) {
      return part.others->sum(sum(t, {0}, true)) / static_cast<double>(values);
    };
    const Tensor near = mean_of(rows), rest = mean_of(rows - near), centred = rows - near - rest;
    const Tensor variance = mean_of(square(centred));
    Tensor y = centred * rsqrt(variance + options.eps);
    if (weight.defined()) y = y * per_sample(weight, y);
    if (bias.defined()) y = y + per_sample(bias, y);
    if (options.track_running_stats && policy != BatchNormPolicy::recomputed)
      track({{}, (near + rest).detach(), variance.detach(), {values}});
    return lpf::detail::finish(reshape(y, x.shape()), then);
  }

  /// Updates the running statistics with those of the groups of all parts of the batch, when all are there.
  void track_with_others(const BatchNormResult& seen) const {
    const auto off = no_grad();
    const std::int64_t groups = std::ssize(seen.values), channels = seen.mean.size(1);
    const Tensor values = empty({groups, 1}, {float64, Device::cpu()});
    for (std::int64_t g = 0; g < groups; ++g)
      values.data<double>()[g] = static_cast<double>(seen.values[static_cast<std::size_t>(g)]);
    const Tensor rows =
        concatenate({seen.mean, seen.variance, values.to(seen.mean.dtype()).to(seen.mean.device())}, 1);
    MicroBatch::current().others->gather(rows, [bn = *this, channels](const Tensor& all) {
      BatchNormResult of_batch{{}, slice(all, 1, 0, channels), slice(all, 1, channels, 2 * channels), {}};
      for (const double n : slice(all, 1, 2 * channels, 2 * channels + 1).to(float64).to_vector<double>())
        of_batch.values.push_back(static_cast<std::int64_t>(n));
      bn.track(of_batch);
    });
  }

  /// Updates the running statistics with those of the groups, one after another, by weights: of each group,
  /// and of the previous values, after the last group. Without a momentum they are means over all groups so
  /// far, whose number the host does not have: the weights are then those of their sum.
  void track(const BatchNormResult& seen) const {
    const std::size_t groups = seen.values.size();
    std::vector<double> of_mean(groups, 1), of_variance(groups);
    double keep = 1;
    for (std::size_t g = 0; options.momentum && g < groups; ++g) {
      const double m = *options.momentum;
      for (std::size_t earlier = 0; earlier < g; ++earlier) of_mean[earlier] *= 1 - m;
      of_mean[g] = m;
      keep *= 1 - m;
    }
    for (std::size_t g = 0; g < groups; ++g) {
      const auto n = static_cast<double>(seen.values[g]);
      of_variance[g] = of_mean[g] * n / (n - 1);
    }
    const auto off = no_grad();
    const Tensor before = options.momentum ? Tensor() : num_batches_tracked.to(running_mean.dtype());
    const auto update = [&](const Tensor& running, const std::vector<double>& share, const Tensor& x) {
      lpf::detail::check_in_place("BatchNorm", running);
      if (before.defined()) running.copy_(running * before);
      running.backend().weighted_rows(running.dtype(), x.size(0), x.size(1), keep, share.data(), x.raw(),
                                      running.raw());
      if (before.defined()) running.copy_(running / (before + static_cast<double>(groups)));
    };
    update(running_mean, of_mean, seen.mean);
    update(running_var, of_variance, seen.variance);
    num_batches_tracked.copy_(affine(num_batches_tracked, 1, static_cast<double>(groups)));
  }
};

/// For x [B, C] or [B, L, C].
using BatchNorm1d = BatchNorm;
/// For x [B, H, W, C].
using BatchNorm2d = BatchNorm;

struct LayerNormOptions {
  double eps = 1e-5;
  bool affine = true;  ///< scale by weight and shift by bias
  bool bias = true;    ///< false: scale only
};

/// Layer norm over the last axes of x, of sizes `normalized_shape` (Ba, Kiros & Hinton 2016). PyTorch's
/// torch.nn.LayerNorm, with its names weight and bias.
struct LayerNorm {
  Parameter weight, bias;
  Shape normalized_shape;
  double eps;

  /// @throws ValueError unless the shape has an element and eps ≥ 0.
  LayerNorm(const Path& p, const Shape& shape, const LayerNormOptions& o = {})
      : normalized_shape(shape), eps(o.eps) {
    check(shape.rank() > 0 && shape.numel() > 0, "LayerNorm", "'", p.name(),
          "' needs at least one feature, got shape ", shape);
    check(o.eps >= 0, "LayerNorm", "'", p.name(), "': eps must not be negative, got ", o.eps);
    if (o.affine) weight = p.parameter("weight", shape, init::ones());
    if (o.affine && o.bias) bias = p.parameter("bias", shape, init::zeros());
  }
  LayerNorm(const Path& p, std::int64_t features, const LayerNormOptions& o = {})
      : LayerNorm(p, Shape{features}, o) {}

  Tensor operator()(const Tensor& x) const {
    return detail::in_layer(weight, [&] { return layer_norm(x, normalized_shape, weight, bias, eps); });
  }
};

}  // namespace lpf::nn
