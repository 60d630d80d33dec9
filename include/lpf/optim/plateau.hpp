// Lowers the learning rate when a metric stops improving. Its state depends on the metrics that it was given, so
// a checkpoint stores it:
//
//   schedule::ReduceOnPlateau plateau({.factor = 0.5, .patience = 5});
//   sgd.set_schedule(plateau);
//   checkpoint.add("schedule", plateau);
//   for (…) { train an epoch; plateau.step(validation_loss); }
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "lpf/core/error.hpp"

namespace lpf::schedule {

struct ReduceOnPlateauOptions {
  bool maximize = false;  ///< the metric improves by rising, as an accuracy; false: by falling, as a loss
  double factor = 0.1;    ///< the learning rate is multiplied by this
  std::uint64_t patience = 10;  ///< steps without improvement that are accepted; the next one lowers the rate
  double threshold = 1e-4;      ///< least improvement that counts
  bool relative = true;         ///< the threshold is relative to the best metric; false: a difference
  std::uint64_t cooldown = 0;   ///< steps after a reduction that do not count as without improvement
  double min_factor = 0;        ///< least factor of the optimizer's rate: PyTorch's min_lr / lr
  double epsilon = 1e-8;  ///< a reduction of the factor by no more than this is left out: PyTorch's eps / lr
};

/// A schedule: the factor of the optimizer's learning rate, which step(metric) lowers by PyTorch's
/// ReduceLROnPlateau. A handle: copies, one of which the optimizer holds, share their state.
class ReduceOnPlateau {
 public:
  /// @throws ValueError for options out of range.
  explicit ReduceOnPlateau(const ReduceOnPlateauOptions& options = {}) : state_(std::make_shared<State>()) {
    constexpr const char* name = "schedule::ReduceOnPlateau";
    const auto& o = state_->options = options;
    check(o.factor > 0 && o.factor < 1, name, "factor must lie in (0, 1), got ", o.factor);
    check(o.threshold >= 0 && std::isfinite(o.threshold), name,
          "threshold must be finite and not negative, got ", o.threshold);
    check(o.min_factor >= 0 && o.min_factor <= 1, name, "min_factor must lie in [0, 1], got ", o.min_factor);
    check(o.epsilon >= 0 && std::isfinite(o.epsilon), name, "epsilon must be finite and not negative, got ",
          o.epsilon);
    state_->best = (o.maximize ? -1 : 1) * std::numeric_limits<double>::infinity();
  }

  /// The metric after a further epoch, or evaluation. NaN is no improvement. Returns whether it lowered the rate.
  bool step(double metric) {
    State& s = *state_;
    const ReduceOnPlateauOptions& o = s.options;
    if (improves(metric)) {
      s.best = metric;
      s.bad = 0;
    } else {
      ++s.bad;
    }
    if (s.cooldown > 0) {
      --s.cooldown;
      s.bad = 0;
    }
    if (s.bad <= o.patience) return false;
    s.cooldown = o.cooldown;
    s.bad = 0;
    const double lower = std::max(s.factor * o.factor, o.min_factor);
    const bool reduced = s.factor - lower > o.epsilon;
    if (reduced) s.factor = lower;
    return reduced;
  }

  /// The factor, for any number of updates.
  double operator()(std::uint64_t) const { return state_->factor; }
  /// The best metric so far; ±infinity before the first.
  double best() const { return state_->best; }

  /// Adds the state to a Checkpoint: checkpoint.add(name, plateau) calls it.
  template <class Checkpoint>
  void add_to(Checkpoint& checkpoint, const std::string& name) {
    const auto add = [&](const char* what, auto State::*member) {
      checkpoint.add_value(
          name + "/" + what, [s = state_, member] { return (*s).*member; },
          [s = state_, member](const auto& value) { (*s).*member = value; });
    };
    add("factor", &State::factor);
    add("best", &State::best);
    add("bad", &State::bad);
    add("cooldown", &State::cooldown);
  }

 private:
  struct State {
    ReduceOnPlateauOptions options;
    double factor = 1, best = 0;
    std::uint64_t bad = 0;       // steps without improvement
    std::uint64_t cooldown = 0;  // steps of it that are left
  };

  bool improves(double metric) const {
    const ReduceOnPlateauOptions& o = state_->options;
    const double best = state_->best;
    if (o.maximize) return metric > (o.relative ? best * (o.threshold + 1) : best + o.threshold);
    return metric < (o.relative ? best * (1 - o.threshold) : best - o.threshold);
  }

  std::shared_ptr<State> state_;
};

}  // namespace lpf::schedule
