// Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019) in PyTorch's form:
//   m ← β₁m + (1 − β₁)g;   v ← β₂v + (1 − β₂)g²;   θ ← θ − η·(m/(1 − β₁ᵗ)) / (√(v/(1 − β₂ᵗ)) + ε)
// With ε = 0 the step of a parameter whose gradients have all been 0 is 0. Adam adds λθ to g; AdamW shrinks θ
// by (1 − ηλ) first. AMSGrad uses the running maximum of v.
#pragma once

#include "lpf/optim/optimizer.hpp"
#ifndef LPF_COMPILED
#  include "lpf/backend/cpu/adam.hpp"
#endif

namespace lpf::optim {

struct AdamOptions {
  double lr = 1e-3;  ///< η
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;  ///< λ
  bool amsgrad = false;
  bool skip_unused = false;  ///< leave parameters alone that took no part in the loss, as PyTorch does
};

/// PyTorch's torch.optim.Adam, on the whole vector θ: the formula at the top of this file.
class Adam : public Optimizer<AdamOptions> {
 public:
  explicit Adam(const ParameterStore& params, const AdamOptions& options = {},
                std::vector<ParameterGroup<AdamOptions>> groups = {})
      : Adam(params, options, std::move(groups), false) {}

  StateVectors state() const override {
    StateVectors out{{"m", m_}, {"v", v_}};
    if (v_max_.defined()) out.push_back({"v_max", v_max_});
    return out;
  }

 protected:
  Adam(const ParameterStore& params, const AdamOptions& options,
       std::vector<ParameterGroup<AdamOptions>> groups, bool decoupled)
      : Optimizer(params, options, groups), decoupled_(decoupled), m_(new_state()), v_(new_state()) {
    validate(options);
    bool amsgrad = options.amsgrad;
    for (const auto& g : groups) {
      validate(g.options);
      amsgrad |= g.options.amsgrad;
    }
    if (amsgrad) v_max_ = new_state();
  }

 private:
  const char* operation() const override { return decoupled_ ? "AdamW" : "Adam"; }
  static void validate(const AdamOptions& o) {
    for (const double x : {o.lr, o.epsilon, o.weight_decay})
      check(x >= 0 && std::isfinite(x), "Adam",
            "lr, epsilon and weight_decay must be finite and not negative, got ", o.lr, ", ", o.epsilon,
            " and ", o.weight_decay);
    check(o.beta1 >= 0 && o.beta1 < 1 && o.beta2 >= 0 && o.beta2 < 1, "Adam",
          "betas must lie in [0, 1), got ", o.beta1, " and ", o.beta2);
  }
  /// η/(1 − β₁ᵗ), 1/√(1 − β₂ᵗ), and the factor of θ: 1 − ηλ of AdamW.
  std::vector<double> step_numbers(const AdamOptions& o, double lr, std::uint64_t t) const override {
    const auto correction = [t](double beta) { return 1 - std::pow(beta, static_cast<double>(t)); };
    return {lr / correction(o.beta1), 1 / std::sqrt(correction(o.beta2)),
            decoupled_ ? 1 - lr * o.weight_decay : 1};
  }
  /// The formula over a range of θ, in one sweep over memory (backend::AdamStep).
  void update(const Range& r, const AdamOptions& o, const StepNumbers& now) override {
    const Tensor theta = params_.theta(), g = params_.gradient();
    theta.backend().adam(theta.dtype(), r.length(),
                         {.beta1 = o.beta1,
                          .beta2 = o.beta2,
                          .epsilon = o.epsilon,
                          .weight_decay = decoupled_ ? 0 : o.weight_decay,
                          .step = now[0],
                          .root = now[1],
                          .shrink = now[2],
                          .amsgrad = o.amsgrad},
                         at(g, r.begin), at(m_, r.begin), at(v_, r.begin),
                         o.amsgrad ? at(v_max_, r.begin) : nullptr, at(theta, r.begin));
  }

  bool decoupled_;
  Tensor m_, v_, v_max_;
};

/// Adam's options with PyTorch's weight decay for AdamW.
struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  bool amsgrad = false;
  bool skip_unused = false;  ///< leave parameters alone that took no part in the loss, as PyTorch does

  operator AdamOptions() const {  // NOLINT
    return {lr, beta1, beta2, epsilon, weight_decay, amsgrad, skip_unused};
  }
};

/// Adam with decoupled weight decay. A group's options replace all of the optimizer's, weight decay included.
class AdamW final : public Adam {
 public:
  explicit AdamW(const ParameterStore& params, const AdamWOptions& options = {},
                 std::vector<ParameterGroup<AdamOptions>> groups = {})
      : Adam(params, options, std::move(groups), true) {}
};

}  // namespace lpf::optim
