// The network of a run and how it is trained, by name: one step() whatever the optimizer.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lpf/autograd/engine.hpp"
#include "lpf/data/dataset.hpp"
#include "lpf/experiment/settings.hpp"
#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/models/registry.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/optim/adam.hpp"
#include "lpf/optim/entropy_sgd.hpp"
#include "lpf/optim/sam.hpp"
#include "lpf/optim/sgd.hpp"
#include "lpf/optim/smoothout.hpp"
#include "lpf/train/checkpoint.hpp"

namespace lpf::experiment {

/// Two hidden layers, 128 units each by default: 64-128-128-10 on digits.
struct Mlp {
  nn::Linear fc1, fc2, fc3;
  Mlp(const nn::Path& p, std::int64_t in, std::int64_t hidden, std::int64_t classes)
      : fc1(p / "fc1", in, hidden), fc2(p / "fc2", hidden, hidden), fc3(p / "fc3", hidden, classes) {}
  Tensor operator()(const Tensor& x) const {
    return fc3(relu(fc2(relu(fc1(reshape(x, {x.size(0), x.numel() / x.size(0)}))))));
  }
};

/// The network that the settings name, for images of shape `input`, [h, w, c].
inline models::Model make_model(const Settings& s, const nn::Path& p, const Shape& input,
                                std::int64_t classes) {
  if (s.model == "mlp") return Mlp(p, input.numel(), s.width > 0 ? s.width : 128, classes);
  return models::make(
      s.model, p,
      {.classes = classes, .input = input, .width = s.width, .batch_norm = s.bn_layers, .skip = s.skip});
}

inline NoiseLaw law_of(const Settings& s) {
  return s.law == "tensor-wise" ? NoiseLaw::tensor_wise : NoiseLaw::filter_wise;
}
inline Estimator estimator_of(const Settings& s) {
  return s.estimator == "antithetic"   ? Estimator::antithetic
         : s.estimator == "per-sample" ? Estimator::per_sample
                                       : Estimator::replicas;
}
inline BatchNormPolicy batch_norm_of(const Settings& s) {
  return s.batch_norm == "pooled"       ? BatchNormPolicy::pooled
         : s.batch_norm == "frozen"     ? BatchNormPolicy::frozen
         : s.batch_norm == "recomputed" ? BatchNormPolicy::recomputed
                                        : BatchNormPolicy::per_replica;
}

/// The learning rate's factor over `epochs` epochs of `steps` updates.
inline schedule::Schedule schedule_of(const Settings& s, std::int64_t steps) {
  const auto total = static_cast<std::uint64_t>(s.epochs * steps);
  if (s.schedule == "cosine") return schedule::cosine(total);
  if (s.schedule == "linear") return schedule::polynomial(total);
  if (s.schedule == "one-cycle") return schedule::one_cycle({.total = total});
  if (s.schedule == "constant") return schedule::constant();
  const std::vector<std::uint64_t> epochs(s.milestones.begin(), s.milestones.end());
  return schedule::per_epoch(schedule::multi_step(epochs, s.lr_factor), static_cast<std::uint64_t>(steps));
}

/// An optimizer with what belongs to it: a filter, SAM's ascent, Langevin dynamics.
class Trainer {
 public:
  /// For epochs of `steps` updates. Throws what the optimizers throw for options out of range.
  Trainer(const Settings& s, const ParameterStore& params, std::int64_t steps)
      : params_(params), settings_(s) {
    const std::string base = s.optimizer.starts_with("lpf-") ? s.optimizer.substr(4) : s.optimizer;
    if (base == "adam") {
      adam_ = std::make_unique<optim::Adam>(params,
                                            optim::AdamOptions{.lr = s.lr, .weight_decay = s.weight_decay});
    } else if (base == "adamw") {
      adam_ = std::make_unique<optim::AdamW>(params,
                                             optim::AdamWOptions{.lr = s.lr, .weight_decay = s.weight_decay});
    } else if (base == "entropy-sgd") {
      entropy_.emplace(params, entropy_options(s));
    } else {
      sgd_.emplace(
          params,
          optim::SGDOptions{
              .lr = s.lr, .momentum = s.momentum, .weight_decay = s.weight_decay, .nesterov = s.nesterov});
    }
    with_optimizer([&](auto& o) { o.set_schedule(schedule_of(s, steps)); });
    if (s.optimizer.starts_with("lpf-")) filter_.emplace(filter_options(s, steps));
    if (base == "smoothout")
      smooth_.emplace(optim::SmoothOutOptions{
          .a = s.a, .adaptive = s.adaptive, .M = s.M, .batch_norm = batch_norm_of(s), .seed = s.seed});
    if (base == "sam" || base == "asam")
      sam_.emplace(params, *sgd_,
                   optim::SAMOptions{.rho = s.rho,
                                     .adaptive = base == "asam",
                                     .eta = s.eta,
                                     .slices = s.slices,
                                     .batch_norm = batch_norm_of(s),
                                     .clip_norm = s.clip_norm});
  }
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// One update. next() gives a batch, loss(batch) its mean loss, which it may be asked for again.
  template <class Next, class Loss>
  void step(Next next, Loss loss) {
    if (entropy_) {
      entropy_->step([&] { return loss(next()); });
      return;
    }
    const Batch batch = next();
    if (sam_) {
      sam_->step([&] { return loss(batch); });
      return;
    }
    backward(batch, loss);
    if (settings_.clip_norm > 0) optim::clip_grad_norm(params_, settings_.clip_norm);
    adam_ ? adam_->step() : sgd_->step();
  }

  /// Whether step() asks for one batch, whose step may then be captured (CapturedStep).
  bool takes_one_batch() const { return !entropy_; }

  /// Adds what a resumed run needs of it.
  void add_to(Checkpoint& checkpoint) {
    with_optimizer([&](auto& o) { checkpoint.add("optimizer", o); });
    if (filter_) checkpoint.add("filter", *filter_);
    if (smooth_) checkpoint.add("smoothout", *smooth_);
  }

  /// Learning rate of the coming update.
  double lr() {
    double out = 0;
    with_optimizer([&](auto& o) { out = o.lr(); });
    return out;
  }
  /// Radius of the coming update; NaN where there is no filter.
  double gamma() const {
    return filter_ ? filter_->gamma(params_.updates()) : std::numeric_limits<double>::quiet_NaN();
  }
  /// Vectors of θ's length that it keeps.
  std::int64_t state_vectors() {
    std::int64_t n = 0;
    with_optimizer([&](auto& o) { n = std::ssize(o.state()); });
    return n;
  }
  /// What to lower where the loss became infinite: "--lr (0.1) or --gamma (0.06)".
  std::string remedy() const {
    std::string out = concat("--lr (", settings_.lr, ")");
    if (filter_) out += concat(" or --gamma (", settings_.gamma, ")");
    if (sam_) out += concat(" or --rho (", settings_.rho, ")");
    if (smooth_) out += concat(" or --a (", settings_.a, ")");
    if (entropy_) out += concat(" or --inner-lr (", settings_.inner_lr, ")");
    return out;
  }

 private:
  static optim::EntropySGDOptions entropy_options(const Settings& s) {
    return {.lr = s.lr,
            .momentum = s.momentum,
            .weight_decay = s.weight_decay,
            .inner_lr = s.inner_lr,
            .inner_steps = static_cast<int>(std::min<std::int64_t>(s.inner_steps, 1'000'000)),
            .g0 = s.g0,
            .g1 = s.g1,
            .g_max = s.g_max > 0 ? s.g_max : std::numeric_limits<double>::infinity(),
            .clip_norm = s.clip_norm,
            .batch_norm = batch_norm_of(s),
            .seed = s.seed};
  }
  static LowPassFilterOptions filter_options(const Settings& s, std::int64_t steps) {
    return {.M = s.M,
            .gamma = s.gamma,
            .alpha = s.alpha,
            .total_steps = s.epochs * steps,
            .law = law_of(s),
            .estimator = estimator_of(s),
            .batch_norm = batch_norm_of(s),
            .seed = s.seed};
  }

  template <class Loss>
  void backward(const Batch& batch, Loss& loss) {
    if (filter_) {
      const auto scope = filter_->perturb(params_);
      loss(batch).backward();
    } else if (smooth_) {
      const auto scope = smooth_->perturb(params_);
      loss(batch).backward();
    } else {
      loss(batch).backward();
    }
  }
  template <class F>
  void with_optimizer(F f) {
    if (sgd_)
      f(*sgd_);
    else if (adam_)
      f(*adam_);
    else
      f(*entropy_);
  }

  ParameterStore params_;
  Settings settings_;
  std::optional<optim::SGD> sgd_;
  std::unique_ptr<optim::Adam> adam_;
  std::optional<optim::EntropySGD> entropy_;
  std::optional<LowPassFilter> filter_;
  std::optional<optim::SmoothOut> smooth_;
  std::optional<optim::SAM<optim::SGD>> sam_;
};

}  // namespace lpf::experiment
