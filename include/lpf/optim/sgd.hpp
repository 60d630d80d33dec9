// Stochastic gradient descent as PyTorch has it:
//   d = g + λθ;   v ← μv + (1 − τ)d (first step v = d);   θ ← θ − η(d + μv) with Nesterov, θ − ηv without.
#pragma once

#include "lpf/optim/optimizer.hpp"

namespace lpf::optim {

struct SgdOptions {
  double lr = 0.1;          ///< η
  double momentum = 0;      ///< μ
  double dampening = 0;     ///< τ
  double weight_decay = 0;  ///< λ, on every parameter unless a group says otherwise
  bool nesterov = false;    ///< needs momentum, and no dampening
};

/// PyTorch's torch.optim.SGD, on the whole vector θ: the formula at the top of this file.
class SGD final : public Optimizer<SgdOptions> {
 public:
  LPF_ONCE inline explicit SGD(const ParameterStore& params, const SgdOptions& options = {},
                               std::vector<Group<SgdOptions>> groups = {})
      : Optimizer(params, options, groups) {
    validate(options);
    for (const auto& g : groups) validate(g.options);
  }

  LPF_ONCE inline std::vector<std::pair<std::string, Tensor>> state() const override {
    if (!velocity_.defined()) velocity_ = new_state();
    return {{"velocity", velocity_}};
  }

 private:
  LPF_ONCE static inline void validate(const SgdOptions& o) {
    check(o.lr >= 0 && std::isfinite(o.lr), "SGD", "lr must be finite and not negative, got ", o.lr);
    check(
        o.momentum >= 0 && std::isfinite(o.momentum) && o.weight_decay >= 0 && std::isfinite(o.weight_decay),
        "SGD", "momentum and weight_decay must be finite and not negative, got ", o.momentum, " and ",
        o.weight_decay);
    check(std::isfinite(o.dampening), "SGD", "dampening must be finite, got ", o.dampening);
    check(!o.nesterov || (o.momentum > 0 && o.dampening == 0), "SGD",
          "nesterov needs momentum > 0 and dampening 0, got ", o.momentum, " and ", o.dampening);
  }
  LPF_ONCE inline void update(const detail::Range& r, const SgdOptions& o) override {
    if (o.momentum > 0 && !velocity_.defined()) velocity_ = new_state();
    lpf::detail::decided_by(this, [this] { return steps_ == 0; });
    const auto lr = lpf::detail::changing([this, &o] { return lr_of(o); });
    const Tensor theta = params_.theta();
    theta.backend().sgd(theta.dtype(), r.end - r.begin,
                        {lr, o.momentum, o.dampening, o.weight_decay, o.nesterov, steps_ == 0},
                        at(params_.gradient(), r.begin), at(velocity_, r.begin), at(theta, r.begin));
  }
  mutable Tensor velocity_;
};

}  // namespace lpf::optim
