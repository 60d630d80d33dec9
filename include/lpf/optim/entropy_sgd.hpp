// Entropy-SGD (Chaudhari et al. 2017), as run by Bisla et al. (2022): descend the local entropy of the loss.
// Its gradient at x = θ is g(x − μ), where μ is the mean of θ' under Langevin dynamics around x:
//   θ' = x, μ = x, v = 0; L times, each with the loss of a fresh batch:
//     d = ∇L(θ') − g(x − θ') + λ'θ';   v ← m'v + d;   θ' ← θ' − η'(v + ε ξ/√(η'/2)), ξ ~ N(0, I)
//     μ ← aμ + (1 − a)θ'
//   then
//     d = x − μ + λx;   V ← mV + d;   x ← x − ηgV,   scope g = min(g₀(1 + g₁)ᵗ, g_max) at update t = 0, 1, …
// One update costs L passes. They do not write θ: they read θ' = θ + o as a stored replica, and the dynamics
// updates o = θ' − x.
#pragma once

#include <functional>
#include <tuple>
#include <utility>
#include <vector>

#include "lpf/autograd/engine.hpp"
#include "lpf/filter/perturbation.hpp"
#include "lpf/optim/clip.hpp"
#include "lpf/optim/optimizer.hpp"

namespace lpf::optim {

struct EntropySGDOptions {
  // The update. A group may override these and the options of the dynamics not marked optimizer-wide.
  double lr = 0.5;          ///< η, times the schedule
  double momentum = 0.9;    ///< m
  double weight_decay = 0;  ///< λ
  // The Langevin dynamics.
  double inner_lr = 0.1;             ///< η'; no schedule
  double inner_momentum = 0.9;       ///< m'
  double inner_weight_decay = 1e-4;  ///< λ'
  double epsilon = 1e-4;             ///< ε, thermal noise
  double average = 0.75;             ///< a, weight of the old μ
  int inner_steps = 5;               ///< L; optimizer-wide
  // The scope; optimizer-wide.
  double g0 = 0.5, g1 = 1e-4;
  double g_max = 2.38;  ///< infinity for none, as in the published logs
  // The passes; optimizer-wide.
  int accumulate = 1;  ///< batches whose gradients are averaged for one inner step
  /// Maximum norm of ∇L in each pass, as in clip_grad_norm(); 0: no limit.
  double clip_norm = 0;
  /// Batch norm in the passes. `per_replica`: as in training, so running statistics are those of θ';
  /// `recomputed`: running statistics are left to a clean pass by the caller; `frozen`: running
  /// statistics are used.
  BatchNormPolicy batch_norm = BatchNormPolicy::per_replica;
  std::uint64_t seed = 0;  ///< of ξ
  /// ξ of inner step `draw` = t·L + i, [size of θ], to reproduce a run of another program; drawn from
  /// the seed if empty.
  std::function<Tensor(std::uint64_t draw)> noise = {};
};
using EntropySgdOptions [[deprecated("use EntropySGDOptions")]] = EntropySGDOptions;

/// Entropy-SGD, the formulas at the top of this file:
///
///   EntropySGD opt(params, {.lr = 0.5});
///   loss = opt.step([&] { auto [x, y] = next(); return cross_entropy(net(x), y); });
class EntropySGD final : public Optimizer<EntropySGDOptions> {
 public:
  explicit EntropySGD(const ParameterStore& params, const EntropySGDOptions& options = {},
                      std::vector<ParameterGroup<EntropySGDOptions>> groups = {})
      : Optimizer(params, options, groups), options_{options}, groups_(std::move(groups)) {
    validate(options);
    for (const auto& g : groups_) {
      validate(g.options);
      check(agree(g.options, options) && !g.options.noise, "EntropySGD",
            "inner_steps, accumulate, g0, g1, g_max, clip_norm, batch_norm, seed and noise are the "
            "optimizer's: a group "
            "cannot "
            "have its own; begin its options as a copy of the optimizer's");
      options_.push_back(g.options);
    }
  }

  /// Performs one update. `loss` computes the mean loss of the next batch; it is called L·accumulate times.
  /// Returns the mean of these losses. If it throws, θ is unchanged.
  template <class Loss>
  Tensor step(Loss loss) {
    const Tensor value = gradient(std::move(loss));
    Optimizer::step();
    return value;
  }

  /// The dynamics of an update alone: leaves x − μ as the gradient, for another optimizer to apply, after which
  /// set_steps(steps() + 1) makes it the next update's turn. Otherwise as step().
  template <class Loss>
  Tensor gradient(Loss loss) {
    check_not_captured("Entropy-SGD");
    check<StateError>(!params_.gradient_parts(), "EntropySGD",
                      "its inner steps, each on a batch of its own, are not computed in parts: run it in one "
                      "process, without shards");
    const EntropySGDOptions& o = options_[0];
    const auto rows = filter::segments_of(params_, NoiseLaw::filter_wise, {});
    const auto ranges = ranges_of(params_, groups_);
    const Tensor offset = new_state(), velocity = new_state(), mean = new_state();  // θ' − x, v, μ − x
    Tensor total = zeros({}, params_.theta().options());
    for (int i = 0; i < o.inner_steps; ++i) {
      params_.zero_grad();
      for (int k = 0; k < o.accumulate; ++k) {
        filter::PassOptions pass{.M = 1, .batch_norm = o.batch_norm};
        pass.perturbations = reshape(offset, {1, offset.numel()});
        const filter::Perturbation around(params_, rows, pass);
        const Tensor l = loss();
        l.backward(full_like(l, 1.0 / o.accumulate));
        total = add(total, mean_replicas(l.detach()));
      }
      if (o.clip_norm > 0) clip_grad_norm(params_, o.clip_norm);
      const Tensor xi =
          noise(rows, steps() * static_cast<std::uint64_t>(o.inner_steps) + static_cast<std::uint64_t>(i));
      for (const auto& r : ranges) langevin(r, options_[r.group], offset, velocity, mean, xi);
    }
    params_.zero_grad();
    params_.gradient().impl().storage->bump_version();
    add_to(params_.gradient(), {0, mean.numel(), 0}, -1, mean);  // x − μ
    return total / static_cast<double>(passes());
  }

  /// g of the next update.
  double scope() const { return scope_of(steps()); }
  /// Number of loss evaluations per update.
  int passes() const { return options_[0].inner_steps * options_[0].accumulate; }

  StateVectors state() const override {
    if (!velocity_.defined()) velocity_ = new_state();
    return {{"velocity", velocity_}};
  }

 private:
  const char* operation() const override { return "EntropySGD"; }
  double scope_of(std::uint64_t t) const {
    const EntropySGDOptions& o = options_[0];
    return std::min(o.g0 * std::pow(1 + o.g1, static_cast<double>(t)), o.g_max);
  }
  /// True if a group overrides no optimizer-wide option.
  static bool agree(const EntropySGDOptions& a, const EntropySGDOptions& b) {
    const auto shared = [](const EntropySGDOptions& o) {
      return std::tie(o.inner_steps, o.accumulate, o.g0, o.g1, o.g_max, o.clip_norm, o.batch_norm, o.seed);
    };
    return shared(a) == shared(b);
  }
  static void validate(const EntropySGDOptions& o) {
    const auto not_negative = [](const char* name, double x) {
      check(std::isfinite(x) && x >= 0, "EntropySGD", name, " must be finite and not negative, got ", x);
    };
    not_negative("lr", o.lr);
    not_negative("momentum", o.momentum);
    not_negative("weight_decay", o.weight_decay);
    not_negative("inner_momentum", o.inner_momentum);
    not_negative("inner_weight_decay", o.inner_weight_decay);
    not_negative("epsilon", o.epsilon);
    not_negative("g0", o.g0);
    not_negative("g1", o.g1);
    not_negative("clip_norm", o.clip_norm);
    check(std::isfinite(o.inner_lr) && o.inner_lr > 0, "EntropySGD",
          "inner_lr must be finite and positive, got ", o.inner_lr);
    check(o.average >= 0 && o.average < 1, "EntropySGD", "average must lie in [0, 1), got ", o.average);
    check(o.g_max > 0, "EntropySGD", "g_max must be positive, got ", o.g_max);
    check(o.inner_steps >= 1 && o.accumulate >= 1, "EntropySGD",
          "inner_steps and accumulate must be at least 1, got ", o.inner_steps, " and ", o.accumulate);
  }

  /// y ← y + a·x and y ← a·y, over a range of θ.
  static void add_to(const Tensor& y, const Range& r, double a, const Tensor& x) {
    y.backend().accumulate(y.dtype(), r.end - r.begin, a, at(x, r.begin), at(y, r.begin));
  }
  static void scale(const Tensor& y, const Range& r, double a) {
    y.backend().unary(backend::Unary::affine, y.dtype(), r.end - r.begin, at(y, r.begin), at(y, r.begin), a,
                      0);
  }

  /// One inner step, from the gradient at θ', in terms of o = θ' − x: d = ∇L + (g + λ')o + λ'x.
  void langevin(const Range& r, const EntropySGDOptions& p, const Tensor& offset, const Tensor& velocity,
                const Tensor& mean, const Tensor& xi) const {
    scale(velocity, r, p.inner_momentum);
    add_to(velocity, r, 1, params_.gradient());
    add_to(velocity, r, scope() + p.inner_weight_decay, offset);
    add_to(velocity, r, p.inner_weight_decay, params_.theta());
    add_to(offset, r, -p.inner_lr, velocity);
    add_to(offset, r, -p.inner_lr * p.epsilon / std::sqrt(0.5 * p.inner_lr), xi);
    scale(mean, r, p.average);
    add_to(mean, r, 1 - p.average, offset);
  }

  /// ξ: zero between the parameters and in frozen ones.
  Tensor noise(const filter::Segments& rows, std::uint64_t draw) const {
    const auto off = no_grad();
    const EntropySGDOptions& o = options_[0];
    const Tensor xi = new_state(), given = o.noise ? o.noise(draw) : Tensor();
    check<ShapeError>(!given.defined() || given.shape() == xi.shape(), "EntropySGD", "the noise needs shape ",
                      xi.shape(), ", got ", given.defined() ? given.shape() : Shape());
    for (const auto& s : rows.segments) {
      const Tensor part = xi.alias({s.rows * s.length}, s.offset);
      if (given.defined())
        part.copy_(given.alias(part.shape(), s.offset));
      else
        xi.backend().normal(xi.dtype(), {o.seed, Purpose::perturbation, draw, 0, s.parameter}, 0,
                            part.numel(), part.raw());
    }
    return xi;
  }

  std::vector<double> step_numbers(const EntropySGDOptions&, double lr, std::uint64_t t) const override {
    return {lr * scope_of(t - 1)};
  }
  void update(const Range& r, const EntropySGDOptions& o, const StepNumbers& now) override {
    if (!velocity_.defined()) velocity_ = new_state();
    const Tensor theta = params_.theta(), g = params_.gradient();
    theta.backend().sgd(theta.dtype(), r.length(),
                        {.lr = now[0],
                         .momentum = o.momentum,
                         .dampening = 0,
                         .weight_decay = o.weight_decay,
                         .nesterov = false,
                         .first = now.first},
                        at(g, r.begin), at(velocity_, r.begin), at(theta, r.begin));
  }

  std::vector<EntropySGDOptions> options_;  // the optimizer's, then each group's
  std::vector<ParameterGroup<EntropySGDOptions>> groups_;
  mutable Tensor velocity_;  // V
};
using EntropySgd [[deprecated("use EntropySGD")]] = EntropySGD;

}  // namespace lpf::optim
