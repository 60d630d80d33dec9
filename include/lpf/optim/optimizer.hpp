// What optimizers have in common: parameter groups as ranges of θ, the learning-rate schedule, gradient
// clipping.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "lpf/backend/capture.hpp"
#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/arithmetic.hpp"
#include "lpf/optim/schedule.hpp"

namespace lpf::optim {

/// Parameters for which `match` holds are updated with options of their own; the first group that matches
/// counts.
template <class Options>
struct Group {
  std::function<bool(const ParameterInfo&)> match;
  Options options;
};

/// Biases, and scale and shift of normalisations: parameters of one axis, which often go without weight
/// decay.
inline bool is_vector(const ParameterInfo& info) { return info.shape.rank() <= 1; }

namespace detail {

/// A range of θ whose parameters share one group.
struct Range {
  std::int64_t begin, end;
  std::size_t group;
};

template <class Options>
std::vector<Range> ranges_of(const ParameterStore& params, const std::vector<Group<Options>>& groups) {
  std::vector<Range> out;
  const auto align = static_cast<std::int64_t>(64 / size_of(params.dtype()));
  for (const ParameterInfo& info : params.parameters()) {
    if (!info.trainable || info.numel() == 0) continue;
    std::size_t g = 0;  // 0: the optimizer's own options
    for (std::size_t i = groups.size(); i-- > 0;)
      if (groups[i].match(info)) g = i + 1;
    const std::int64_t end = info.offset + info.numel();
    // What lies between neighbours is less than the alignment, zero in θ and in its gradient, and stays so:
    // ranges may run across it. A frozen parameter between two takes at least the alignment.
    const bool neighbours = !out.empty() && out.back().group == g && info.offset - out.back().end < align;
    if (neighbours) {
      out.back().end = end;
    } else {
      out.push_back({info.offset, end, g});
    }
  }
  return out;
}

}  // namespace detail

/// Base of the optimizers that update θ from its gradient in one sweep a group. step() uses the gradient up
/// and clears it, so that several backward() before it accumulate, and none is left over for the next.
template <class Options>
class Optimizer {
 public:
  Optimizer(ParameterStore params, const Options& options, std::vector<Group<Options>> groups)
      : params_(std::move(params)), groups_(std::move(groups)) {
    options_.push_back(options);
    for (const auto& g : groups_) {
      check(g.match != nullptr, "optimizer",
            "a group needs a rule for which parameters it holds: set its match");
      options_.push_back(g.options);
    }
  }
  virtual ~Optimizer() = default;

  /// θ ← update(θ, gradient), then gradient ← 0.
  void step() {
    for (const auto& range : detail::ranges_of(params_, groups_)) update(range, options_[range.group]);
    lpf::detail::on_host([this] {
      params_.changed();
      ++steps_;
      params_.set_updates(params_.updates() + 1);
    });
    params_.zero_grad();
  }
  void zero_grad() { params_.zero_grad(); }

  /// The learning rate of every group is multiplied by schedule(updates done).
  void set_schedule(schedule::Schedule schedule) { schedule_ = std::move(schedule); }
  /// Learning rate of the coming update (of the parameters without a group of their own).
  double lr() const { return lr_of(options_[0]); }

  std::uint64_t steps() const { return steps_; }
  void set_steps(std::uint64_t n) { steps_ = n; }
  /// The state vectors, each of θ's length, by name: what a checkpoint keeps besides steps().
  virtual std::vector<std::pair<std::string, Tensor>> state() const = 0;

  const ParameterStore& params() const { return params_; }

 protected:
  /// θ and the state over a range. Numbers that change from step to step come from lpf::detail::changing().
  virtual void update(const detail::Range& range, const Options& options) = 0;
  /// Learning rate of the coming update. ValueError where the schedule gives no number.
  double lr_of(const Options& options) const {
    const double factor = schedule_ ? schedule_(steps_) : 1;
    check(std::isfinite(factor), "optimizer", "the schedule gives ", factor, " for update ", steps_);
    return options.lr * factor;
  }
  Tensor new_state() const { return zeros_like(params_.theta()); }
  static void* at(const Tensor& t, std::int64_t i) {
    return t.defined() ? static_cast<std::byte*>(t.raw()) + static_cast<std::size_t>(i) * size_of(t.dtype())
                       : nullptr;
  }

  ParameterStore params_;
  std::uint64_t steps_ = 0;

 private:
  std::vector<Options> options_;
  std::vector<Group<Options>> groups_;
  schedule::Schedule schedule_;
};

/// ‖gradient‖₂ over all parameters; waits for the device.
LPF_ONCE inline double grad_norm(const ParameterStore& params) {
  const Tensor g = params.gradient();
  return std::sqrt(g.backend().dot(g.dtype(), g.numel(), g.raw(), g.raw()));
}

/// Scales the gradient so that its norm is at most max_norm; returns the norm before, a scalar, without
/// waiting for the device. PyTorch's clip_grad_norm_.
LPF_ONCE inline Tensor clip_grad_norm(const ParameterStore& params, double max_norm) {
  check(max_norm > 0, "clip_grad_norm", "max_norm must be positive, got ", max_norm);
  const Tensor g = params.gradient(), norm = empty({}, g.options());
  g.backend().rescale(g.dtype(), g.numel(), max_norm, 1e-6, 1, g.raw(), g.raw(), g.raw(), norm.raw());
  return norm;
}

/// Limits each element of the gradient to [−limit, limit].
LPF_ONCE inline void clip_grad_value(const ParameterStore& params, double limit) {
  check(limit > 0, "clip_grad_value", "the limit must be positive, got ", limit);
  const Tensor g = params.gradient();
  g.copy_(lpf::detail::unary(backend::Unary::clamp, g, -limit, limit));
}

}  // namespace lpf::optim
