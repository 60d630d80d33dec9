// Learning-rate schedules: functions from the number of updates done to a factor of the base learning
// rate. They are stateless, so a resumed run needs no schedule state. chain() composes them, and
// per_epoch() counts epochs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numbers>
#include <utility>
#include <vector>

#include "lpf/core/error.hpp"

namespace lpf::schedule {

/// factor = schedule(t), t = 0 for the first update.
using Schedule = std::function<double(std::uint64_t)>;

LPF_ONCE Schedule constant(double factor = 1) {
  return [=](std::uint64_t) { return factor; };
}

/// ×gamma every `size` steps. PyTorch's StepLR.
LPF_ONCE Schedule step(std::uint64_t size, double gamma = 0.1) {
  check(size > 0, "schedule::step", "size must be positive");
  return [=](std::uint64_t t) { return std::pow(gamma, static_cast<double>(t / size)); };
}

/// ×gamma at each milestone. PyTorch's MultiStepLR.
LPF_ONCE Schedule multi_step(std::vector<std::uint64_t> milestones, double gamma = 0.1) {
  return [=](std::uint64_t t) {
    double factor = 1;
    for (auto m : milestones) factor *= t >= m ? gamma : 1;
    return factor;
  };
}

/// ×gamma at every step. PyTorch's ExponentialLR.
LPF_ONCE Schedule exponential(double gamma) {
  return [=](std::uint64_t t) { return std::pow(gamma, static_cast<double>(t)); };
}

/// From 1 to `final_factor` along half a cosine over `total` steps, then constant (Loshchilov & Hutter 2017).
/// PyTorch's CosineAnnealingLR up to `total`, eta_min = final_factor·lr.
LPF_ONCE Schedule cosine(std::uint64_t total, double final_factor = 0) {
  check(total > 0, "schedule::cosine", "total must be positive");
  return [=](std::uint64_t t) {
    const double progress = t >= total ? 1 : static_cast<double>(t) / static_cast<double>(total);
    return final_factor + (1 - final_factor) * (1 + std::cos(std::numbers::pi * progress)) / 2;
  };
}

/// Linear from `start_factor` to `end_factor` over `total` steps, then constant. PyTorch's LinearLR.
LPF_ONCE Schedule linear(std::uint64_t total, double start_factor, double end_factor = 1) {
  check(total > 0, "schedule::linear", "total must be positive");
  return [=](std::uint64_t t) {
    const double progress = t >= total ? 1 : static_cast<double>(t) / static_cast<double>(total);
    return start_factor + (end_factor - start_factor) * progress;
  };
}
LPF_ONCE Schedule warm_up(std::uint64_t total, double start_factor = 1.0 / 3) {
  return linear(total, start_factor, 1);
}

/// (t + 1)/warm_up, up to 1 at the last update of the warm-up, then √(warm_up/(t + 1)) (Vaswani et al. 2017). With a base
/// rate of 1/√(d·warm_up) the rate of update n = t + 1 is theirs, d^−½·min(n^−½, n·warm_up^−³ᐟ²).
LPF_ONCE Schedule inverse_square_root(std::uint64_t warm_up) {
  check(warm_up > 0, "schedule::inverse_square_root", "warm_up must be positive");
  return [=](std::uint64_t t) {
    const double n = static_cast<double>(t) + 1, w = static_cast<double>(warm_up);
    return n < w ? n / w : std::sqrt(w / n);
  };
}

struct OneCycleOptions {
  std::uint64_t total = 0;      ///< steps of the whole cycle
  double fraction_up = 0.3;     ///< fraction of them that rises
  double initial_divisor = 25;  ///< begins at 1/initial_divisor of the peak
  double final_divisor = 1e4;   ///< ends at 1/(initial_divisor·final_divisor)
  bool three_phases = false;    ///< down to the initial rate as fast as up, then to the final one
};

/// Up to the peak (the base learning rate) and down again, along cosines (Smith & Topin 2019).
/// PyTorch's OneCycleLR.
LPF_ONCE Schedule one_cycle(const OneCycleOptions& o) {
  check(o.total > 0, "schedule::one_cycle", "total must be positive");
  check(o.fraction_up > 0 && o.fraction_up < 1, "schedule::one_cycle", "fraction_up must lie in (0, 1), got ",
        o.fraction_up);
  check(o.initial_divisor > 0 && o.final_divisor > 0, "schedule::one_cycle",
        "the divisors must be positive, got ", o.initial_divisor, " and ", o.final_divisor);
  return [=](std::uint64_t t) {
    const auto n = static_cast<double>(o.total), x = static_cast<double>(t);
    const double low = 1 / o.initial_divisor, end = low / o.final_divisor;
    const auto between = [](double from, double to, double p) {
      return to + (from - to) / 2 * (1 + std::cos(std::numbers::pi * p));
    };
    const double top = o.fraction_up * n - 1;  // where it rounds to 0 depends on the processor's fma
    if (x <= top) return top > 1e-9 ? between(low, 1, x / top) : 1;
    if (!o.three_phases) return between(1, end, std::min(1.0, (x - top) / (n - 1 - top)));
    const double back = 2 * o.fraction_up * n - 2;
    if (x <= back) return between(1, low, (x - top) / (back - top));
    return between(low, end, std::min(1.0, (x - back) / (n - 1 - back)));
  };
}

/// (1 − t/total)^power; zero from `total` on.
LPF_ONCE Schedule polynomial(std::uint64_t total, double power = 1) {
  check(total > 0, "schedule::polynomial", "total must be positive");
  return [=](std::uint64_t t) {
    return t >= total ? 0 : std::pow(1 - static_cast<double>(t) / static_cast<double>(total), power);
  };
}

/// Schedules in sequence: each starts at t = 0 after the steps of the one before; `last` has no end.
LPF_ONCE Schedule chain(std::vector<std::pair<Schedule, std::uint64_t>> parts, Schedule last) {
  bool all = bool(last);
  for (const auto& part : parts) all = all && part.first;
  check(all, "schedule::chain", "one of the schedules is an empty function");
  return [=](std::uint64_t t) {
    for (const auto& [part, steps] : parts) {
      if (t < steps) return part(t);
      t -= steps;
    }
    return last(t);
  };
}

/// A schedule over epochs of `steps` updates.
LPF_ONCE Schedule per_epoch(Schedule schedule, std::uint64_t steps) {
  check(bool(schedule), "schedule::per_epoch", "the schedule is an empty function");
  check(steps > 0, "schedule::per_epoch", "an epoch needs at least one step");
  return [=](std::uint64_t t) { return schedule(t / steps); };
}

}  // namespace lpf::schedule
