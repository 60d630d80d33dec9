// Stochastic gradient descent in PyTorch's form:
//   d = g + λθ;   v ← μv + (1 − τ)d (first step v = d);   θ ← θ − η(d + μv) with Nesterov, θ − ηv without,
//   θ − ηd if μ = 0.
#pragma once

#include "lpf/optim/optimizer.hpp"

namespace lpf::optim {

struct SGDOptions {
  double lr = 0.1;           ///< η
  double momentum = 0;       ///< μ
  double dampening = 0;      ///< τ
  double weight_decay = 0;   ///< λ, on every parameter unless a group overrides it
  bool nesterov = false;     ///< needs momentum, and no dampening
  bool skip_unused = false;  ///< leave parameters alone that took no part in the loss, as PyTorch does
};
using SgdOptions [[deprecated("use SGDOptions")]] = SGDOptions;

/// PyTorch's torch.optim.SGD, on the whole vector θ: the formula at the top of this file.
class SGD final : public Optimizer<SGDOptions> {
 public:
  /// @throws ValueError for options out of range.
  explicit SGD(const ParameterStore& params, const SGDOptions& options = {},
               std::vector<ParameterGroup<SGDOptions>> groups = {})
      : Optimizer(params, options, groups) {
    validate(options);
    for (const auto& g : groups) validate(g.options);
  }

  StateVectors state() const override {
    if (!velocity_.defined()) velocity_ = new_state();
    return {{"velocity", velocity_}};
  }

 private:
  const char* operation() const override { return "SGD"; }
  static void validate(const SGDOptions& o) {
    check(o.lr >= 0 && std::isfinite(o.lr), "SGD", "lr must be finite and not negative, got ", o.lr);
    check(
        o.momentum >= 0 && std::isfinite(o.momentum) && o.weight_decay >= 0 && std::isfinite(o.weight_decay),
        "SGD", "momentum and weight_decay must be finite and not negative, got ", o.momentum, " and ",
        o.weight_decay);
    check(std::isfinite(o.dampening), "SGD", "dampening must be finite, got ", o.dampening);
    check(!o.nesterov || (o.momentum > 0 && o.dampening == 0), "SGD",
          "nesterov needs momentum > 0 and dampening 0, got ", o.momentum, " and ", o.dampening);
  }

  /// The formula over a range of θ, in one sweep over memory (`sgd` of backend::Table); now[0] is η.
  void update(const Range& r, const SGDOptions& o, const StepNumbers& now) override {
    if (o.momentum > 0 && !velocity_.defined()) velocity_ = new_state();
    const Tensor theta = params_.theta(), g = params_.gradient();
    // [reading 8]
    theta.backend().sgd(theta.dtype(), r.length(),
                        {.lr = now[0],
                         .momentum = o.momentum,
                         .dampening = o.dampening,
                         .weight_decay = o.weight_decay,
                         .nesterov = o.nesterov,
                         .first = now.first},
                        at(g, r.begin), at(velocity_, r.begin), at(theta, r.begin));
  }

  mutable Tensor velocity_;  // v
};

}  // namespace lpf::optim
