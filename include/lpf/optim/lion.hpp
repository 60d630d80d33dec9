// Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2):
//   c = β₁m + (1 − β₁)g;   θ ← θ − η(sign(c) + λθ);   m ← β₂m + (1 − β₂)g
// Every element moves by η, so η is smaller than Adam's, and λ larger, by a factor of 3 to 10.
#pragma once

#include "lpf/ops/math.hpp"
#include "lpf/optim/optimizer.hpp"

namespace lpf::optim {

struct LionOptions {
  double lr = 1e-4;                  ///< η
  double beta1 = 0.9, beta2 = 0.99;  ///< β₁ of the update, β₂ of the average
  double weight_decay = 0;           ///< λ, decoupled from the gradient
  bool skip_unused = false;  ///< leave parameters alone that took no part in the loss, as PyTorch does
};

/// Lion on the whole vector θ, composed of operations on tensors: the formula at the top of this file.
class Lion final : public Optimizer<LionOptions> {
 public:
  /// @throws ValueError for options out of range.
  explicit Lion(const ParameterStore& params, const LionOptions& options = {},
                std::vector<ParameterGroup<LionOptions>> groups = {})
      : Optimizer(params, options, groups), m_(new_state()) {
    validate(options);
    for (const auto& g : groups) validate(g.options);
  }

  StateVectors state() const override { return {{"m", m_}}; }

 private:
  const char* operation() const override { return "Lion"; }
  static void validate(const LionOptions& o) {
    for (const double x : {o.lr, o.weight_decay})
      check(x >= 0 && std::isfinite(x), "Lion", "lr and weight_decay must be finite and not negative, got ",
            o.lr, " and ", o.weight_decay);
    for (const double beta : {o.beta1, o.beta2})
      check(beta >= 0 && beta < 1, "Lion", "betas must lie in [0, 1), got ", o.beta1, " and ", o.beta2);
  }

  /// The formula over a range of θ; now[0] is η.
  void update(const Range& r, const LionOptions& o, const StepNumbers& now) override {
    const Tensor theta = r.of(params_.theta()), m = r.of(m_), g = r.of(params_.gradient());
    const Tensor lr = scalar(now[0], theta.options());
    const Tensor c = m * o.beta1 + g * (1 - o.beta1);
    const Tensor step = o.weight_decay == 0 ? sign(c) : sign(c) + theta * o.weight_decay;  // 0·∞ would be NaN
    theta.copy_(theta - lr * step);
    m.copy_(m * o.beta2 + g * (1 - o.beta2));
  }

  Tensor m_;
};

}  // namespace lpf::optim
