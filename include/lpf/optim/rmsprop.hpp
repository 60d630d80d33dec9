// RMSprop (Tieleman & Hinton 2012, lecture 6.5 of "Neural networks for machine learning") in PyTorch's form:
//   d = g + λθ;   v ← αv + (1 − α)d²;   u = d/(√v + ε);   b ← μb + u;   θ ← θ − ηb, or θ − ηu if μ = 0
// Centred (Graves 2013, "Generating sequences with recurrent neural networks"): a ← αa + (1 − α)d, and √(v − a²)
// in the place of √v.
#pragma once

#include "lpf/ops/math.hpp"
#include "lpf/optim/optimizer.hpp"

namespace lpf::optim {

struct RMSpropOptions {
  double lr = 0.01;  ///< η
  double alpha = 0.99;
  double epsilon = 1e-8;
  double momentum = 0;       ///< μ
  double weight_decay = 0;   ///< λ
  bool centered = false;     ///< divide by an estimate of the standard deviation
  bool skip_unused = false;  ///< leave parameters alone that took no part in the loss, as PyTorch does
};

/// PyTorch's torch.optim.RMSprop, on the whole vector θ, composed of operations on tensors: the formula at the
/// top of this file. Where a root is 0 and ε too, u is 0; a v − a² that rounds below 0 counts as 0.
class RMSprop final : public Optimizer<RMSpropOptions> {
 public:
  /// @throws ValueError for options out of range.
  explicit RMSprop(const ParameterStore& params, const RMSpropOptions& options = {},
                   std::vector<ParameterGroup<RMSpropOptions>> groups = {})
      : Optimizer(params, options, groups), v_(new_state()) {
    add(options);
    for (const auto& g : groups) add(g.options);
  }

  StateVectors state() const override {
    StateVectors out{{"v", v_}};
    if (average_.defined()) out.push_back({"average", average_});
    if (buffer_.defined()) out.push_back({"buffer", buffer_});
    return out;
  }

 private:
  const char* operation() const override { return "RMSprop"; }
  /// Checks a set of options, and creates the state that it needs.
  void add(const RMSpropOptions& o) {
    for (const double x : {o.lr, o.epsilon, o.momentum, o.weight_decay})
      check(x >= 0 && std::isfinite(x), "RMSprop",
            "lr, epsilon, momentum and weight_decay must be finite and not negative, got ", o.lr, ", ",
            o.epsilon, ", ", o.momentum, " and ", o.weight_decay);
    check(o.alpha >= 0 && o.alpha < 1, "RMSprop", "alpha must lie in [0, 1), got ", o.alpha);
    if (o.centered && !average_.defined()) average_ = new_state();
    if (o.momentum > 0 && !buffer_.defined()) buffer_ = new_state();
  }

  /// The formula over a range of θ; now[0] is η.
  void update(const Range& r, const RMSpropOptions& o, const StepNumbers& now) override {
    const Tensor theta = r.of(params_.theta()), v = r.of(v_), g = r.of(params_.gradient());
    const Tensor d = o.weight_decay > 0 ? g + theta * o.weight_decay : g;
    v.copy_(v * o.alpha + square(d) * (1 - o.alpha));
    Tensor variance = v;
    if (o.centered) {
      const Tensor average = r.of(average_);
      average.copy_(average * o.alpha + d * (1 - o.alpha));
      variance = maximum(v - square(average), zeros({}, v.options()));
    }
    const Tensor root = sqrt(variance);
    Tensor step = d / (root + o.epsilon);
    if (o.epsilon == 0)
      step = where(root == 0.0, zeros({}, v.options()), step);  // so the padding of θ stays 0
    if (o.momentum > 0) {
      const Tensor buffer = r.of(buffer_);
      buffer.copy_(buffer * o.momentum + step);
      step = buffer;
    }
    theta.copy_(theta - scalar(now[0], theta.options()) * step);
  }

  Tensor v_, average_, buffer_;
};

}  // namespace lpf::optim
