// The network and the training method of a run, by name: one step() for every optimizer.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lpf/data/dataset.hpp"
#include "lpf/experiment/settings.hpp"
#include "lpf/models/registry.hpp"
#include "lpf/optim/plateau.hpp"
#include "lpf/optim/registry.hpp"
#include "lpf/train/checkpoint.hpp"

namespace lpf::experiment {

/// The network named by the settings, for images of shape `input`, [h, w, c]. SettingsError if it does not take such.
inline models::Model make_model(const Settings& s, const nn::Path& p, const Shape& input,
                                std::int64_t classes) {
  models::ModelOptions options{.classes = classes, .input = input, .width = s.width, .skip = s.skip};
  if (!s.bn_layers) options.batch_norm = false;
  try {
    return models::make(s.model, p, options);
  } catch (const ShapeError& e) { throw SettingsError(e.what()); }
}

inline NoiseLaw law_of(const Settings& s) { return law_named(s.law); }
inline BatchNormPolicy batch_norm_of(const Settings& s) {
  return s.batch_norm == "pooled"       ? BatchNormPolicy::pooled
         : s.batch_norm == "frozen"     ? BatchNormPolicy::frozen
         : s.batch_norm == "recomputed" ? BatchNormPolicy::recomputed
                                        : BatchNormPolicy::per_replica;
}

/// The learning rate's factor over `epochs` epochs of `steps` updates; all schedules but "plateau".
inline schedule::Schedule schedule_of(const Settings& s, std::int64_t steps) {
  const auto total = static_cast<std::uint64_t>(s.epochs * steps);
  if (s.schedule == "cosine") return schedule::cosine(total);
  if (s.schedule == "linear") return schedule::polynomial(total);
  if (s.schedule == "one-cycle") return schedule::one_cycle({.total = total});
  if (s.schedule == "constant") return schedule::constant();
  const std::vector<std::uint64_t> epochs(s.milestones.begin(), s.milestones.end());
  return schedule::per_epoch(schedule::multi_step(epochs, s.lr_factor), static_cast<std::uint64_t>(steps));
}

/// The settings as options of an optimizer, for epochs of `steps` updates.
inline optim::MethodOptions method_options(const Settings& s, std::int64_t steps) {
  return {.lr = s.lr,
          .momentum = s.momentum,
          .weight_decay = s.weight_decay,
          .nesterov = s.nesterov,
          .clip_norm = s.clip_norm,
          .seed = s.seed,
          .total_steps = s.epochs * steps,
          .batch_norm = batch_norm_of(s),
          .M = s.M,
          .gamma = s.gamma,
          .alpha = s.alpha,
          .law = law_of(s),
          .estimator = estimator_named(s.estimator),
          .rho = s.rho,
          .eta = s.eta,
          .slices = s.slices,
          .a = s.a,
          .adaptive = s.adaptive,
          .inner_steps = static_cast<int>(std::min<std::int64_t>(s.inner_steps, 1'000'000)),
          .inner_lr = s.inner_lr,
          .g0 = s.g0,
          .g1 = s.g1,
          .g_max = s.g_max > 0 ? s.g_max : std::numeric_limits<double>::infinity()};
}

/// The training method named by the settings, applied to batches.
class Trainer {
 public:
  /// For epochs of `steps` updates. Throws what the optimizers throw for options out of range.
  Trainer(const Settings& s, const ParameterStore& params, std::int64_t steps)
      : settings_(s), method_(optim::make(s.optimizer, params, method_options(s, steps))) {
    if (s.schedule == "plateau") {
      plateau_.emplace(schedule::ReduceOnPlateauOptions{.factor = s.lr_factor,
                                                        .patience = static_cast<std::uint64_t>(s.patience)});
      method_->optimizer().set_schedule(*plateau_);
    } else {
      method_->optimizer().set_schedule(schedule_of(s, steps));
    }
  }

  /// One update. next() returns a batch, loss(batch) its mean loss; loss may be called repeatedly.
  template <class Next, class Loss>
  void step(Next next, Loss loss) {
    std::optional<Batch> batch;
    std::int64_t number = -1;
    method_->step([&](std::int64_t k) {
      if (std::exchange(number, k) != k) batch = next();
      return loss(*batch);
    });
  }

  /// Whether step() takes one batch and may therefore be captured (CapturedStep).
  bool takes_one_batch() const { return method_->batches() == 1; }

  /// The loss of an evaluation, for the schedule "plateau".
  void evaluated(double loss) {
    if (plateau_) plateau_->step(loss);
  }

  /// Adds the state that a resumed run needs.
  void add_to(Checkpoint& checkpoint) {
    method_->add_to(checkpoint);
    if (plateau_) checkpoint.add("schedule", *plateau_);
  }

  /// Learning rate of the coming update.
  double lr() const { return method_->optimizer().lr(); }
  /// Radius of the coming update; NaN where there is no filter.
  double gamma() const { return method_->radius(); }
  /// Number of state vectors of θ's length.
  std::int64_t state_vectors() const { return std::ssize(method_->optimizer().state()); }
  /// Number of perturbed copies of θ in a pass.
  std::int64_t replicas() const { return method_->replicas(); }
  /// The settings to lower if the loss became infinite: "--lr (0.1) or --gamma (0.06)".
  std::string remedy() const {
    std::string out = concat("--lr (", settings_.lr, ")");
    const auto& strength = optim::info(settings_.optimizer).strength;
    if (!strength.empty()) out += concat(" or --", strength[0], " (", number(settings_, strength[0]), ")");
    return out;
  }

 private:
  Settings settings_;
  std::unique_ptr<optim::Method> method_;
  std::optional<schedule::ReduceOnPlateau> plateau_;
};
using Method [[deprecated("use Trainer")]] = Trainer;

}  // namespace lpf::experiment
