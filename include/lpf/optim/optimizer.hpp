// Base class of the optimizers: parameter groups as ranges of θ, the learning-rate schedule and the number of
// updates. An optimizer is a formula over a range of θ and the scalars of the step:
//
//   class SignSGD final : public optim::Optimizer<SignSGDOptions> {
//    public:
//     explicit SignSGD(const ParameterStore& params, const SignSGDOptions& options = {})
//         : Optimizer(params, options) {}
//     StateVectors state() const override { return {}; }
//
//    private:
//     void update(const Range& r, const SignSGDOptions&, const StepNumbers& now) override {
//       const Tensor theta = r.of(params_.theta());
//       theta.copy_(theta - sign(r.of(params_.gradient())) * scalar(now[0], theta.options()));
//     }
//   };
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/arithmetic.hpp"
#include "lpf/ops/step_scalar.hpp"
#include "lpf/optim/schedule.hpp"

namespace lpf::optim {

/// Options for the parameters for which `match` holds; the first matching group applies.
template <class Options>
struct ParameterGroup {
  std::function<bool(const ParameterInfo&)> match;
  Options options;
};
template <class Options>
using Group [[deprecated("use ParameterGroup")]] = ParameterGroup<Options>;

/// True for parameters of one axis: biases, and scale and shift of normalisations, often
/// without weight decay.
inline bool is_vector(const ParameterInfo& info) { return info.shape.rank() <= 1; }

/// A range of θ whose parameters share one group.
struct Range {
  std::int64_t begin, end;
  std::size_t group;          ///< 0: the optimizer's own options
  std::size_t parameter = 0;  ///< the first in it

  std::int64_t length() const { return end - begin; }
  /// The range's elements of a vector of θ's length, as a view [length].
  Tensor of(const Tensor& vector) const { return vector.alias({length()}, begin); }
};

/// The ranges of the trainable parameters, in the order of θ; if `apart`, one for each parameter.
template <class Options>
std::vector<Range> ranges_of(const ParameterStore& params, const std::vector<ParameterGroup<Options>>& groups,
                             bool apart = false) {
  std::vector<Range> out;
  const auto align = static_cast<std::int64_t>(64 / size_of(params.dtype()));
  for (const ParameterInfo& info : params.parameters()) {
    if (!info.trainable || info.numel() == 0) continue;
    std::size_t g = 0;
    for (std::size_t i = groups.size(); i-- > 0;)
      if (groups[i].match(info)) g = i + 1;
    const std::int64_t end = info.offset + info.numel();
    // The gap between neighbours is smaller than the alignment and stays zero in θ and in its gradient, so a
    // range may span it. A frozen parameter between two takes at least the alignment.
    const bool neighbours = !out.empty() && out.back().group == g && info.offset - out.back().end < align;
    if (neighbours && !apart) {
      out.back().end = end;
    } else {
      out.push_back({info.offset, end, g, info.index});
    }
  }
  return out;
}

/// The scalars of one update that change per step, from Optimizer::step_numbers().
struct StepNumbers {
  std::vector<StepScalar> values;
  bool first;  ///< true in the first update of all

  const StepScalar& operator[](std::size_t i) const { return values[i]; }
};

/// State vectors, each of θ's length, by name.
using StateVectors = std::vector<std::pair<std::string, Tensor>>;

/// Base of the optimizers that update θ from its gradient, one sweep for each range. step() consumes the
/// gradient and clears it: several backward() before it accumulate, and nothing carries over to the next. Without a
/// gradient momentum and weight decay would move θ: that is an error.
///
/// Options with a field `bool skip_unused` decide about parameters that took no part in the loss. false: their
/// gradient is 0, so weight decay and momentum act on them. true, as in PyTorch: they and their state are left
/// alone, and a parameter's `t` and `first` count its own updates; each parameter is then a range of its own.
template <class Options>
class Optimizer {
 public:
  /// @throws ValueError for a group without `match`.
  explicit Optimizer(ParameterStore params, const Options& options = {},
                     std::vector<ParameterGroup<Options>> groups = {})
      : params_(std::move(params)), groups_(std::move(groups)) {
    options_.push_back(options);
    for (const auto& g : groups_) {
      check(g.match != nullptr, "optimizer",
            "a group needs a rule for which parameters it holds: set its match");
      options_.push_back(g.options);
    }
    for (const Options& o : options_) apart_ |= skips_unused(o);
    if (apart_) parameter_steps_.resize(params_.parameters().size());
  }
  virtual ~Optimizer() = default;

  /// θ ← update(θ, gradient), then gradient ← 0.
  /// @throws StateError, and θ stays, if there was no backward() since the last step() or zero_grad(), unless all that
  /// is trained has skip_unused, with which nothing moves.
  void step();
  void zero_grad() { params_.zero_grad(); }

  /// Multiplies the learning rate of every group by schedule(updates done).
  void set_schedule(schedule::Schedule schedule) { schedule_ = std::move(schedule); }
  /// Learning rate of the next update (of parameters without a group).
  double lr() const { return lr_of(options_[0]); }

  std::uint64_t steps() const { return steps_; }
  void set_steps(std::uint64_t n) { steps_ = n; }
  /// Updates of each parameter of the store, in which those that were skipped do not count. Empty if no options
  /// have skip_unused.
  std::vector<std::uint64_t> parameter_steps() const {
    return {parameter_steps_.begin(), parameter_steps_.end()};
  }
  /// ValueError unless there are as many as parameter_steps() returns.
  void set_parameter_steps(const std::vector<std::uint64_t>& n) {
    check(n.size() == parameter_steps_.size(), "optimizer", "it counts the updates of ",
          parameter_steps_.size(), " parameters, got ", n.size(), " numbers");
    std::copy(n.begin(), n.end(), parameter_steps_.begin());
  }
  /// The state that a checkpoint stores besides steps().
  virtual StateVectors state() const = 0;

  const ParameterStore& params() const { return params_; }

 protected:
  /// What errors call the optimizer.
  virtual const char* operation() const { return "optimizer"; }
  /// The scalars of update t = 1, 2, … that change per step, from the options and that update's learning rate
  /// `lr`. A pure function, evaluated for each step.
  virtual std::vector<double> step_numbers(const Options& options, double lr, std::uint64_t t) const {
    static_cast<void>(options), static_cast<void>(t);
    return {lr};
  }
  /// Updates θ and the state over a range. `now` holds the values of step_numbers().
  virtual void update(const Range& range, const Options& options, const StepNumbers& now) = 0;

  /// Learning rate of the next update. ValueError if the schedule returns NaN or infinity.
  double lr_of(const Options& options) const {
    const double factor = schedule_ ? schedule_(steps_) : 1;
    check(std::isfinite(factor), "optimizer", "the schedule gives ", factor, " for update ", steps());
    return options.lr * factor;
  }
  Tensor new_state() const { return zeros_like(params_.theta()); }
  /// Pointer to element i of a state vector, for a kernel; null if t is undefined.
  static void* at(const Tensor& t, std::int64_t i) {
    return t.defined() ? lpf::detail::element(t, i) : nullptr;
  }

  ParameterStore params_;

 private:
  static bool skips_unused(const Options& o) {
    if constexpr (requires { o.skip_unused; })
      return o.skip_unused;
    else
      return false;
  }
  /// False for a parameter that took no part in the loss and is left alone.
  bool is_updated(const Range& r) const {
    return !skips_unused(options_[r.group]) || params_.has_gradient(r.parameter);
  }
  /// The updates so far of a range: all, or those in which its parameter took part.
  const StepCounter& updates_of(const Range& r) const {
    return skips_unused(options_[r.group]) ? parameter_steps_[r.parameter] : steps_;
  }
  void count_step();
  /// Those of the update after `done` others.
  StepNumbers numbers(const Options& options, const StepCounter& done) const;

  StepCounter steps_;
  bool apart_ = false;  // some options skip unused parameters
  std::vector<StepCounter> parameter_steps_;
  std::vector<Options> options_;
  std::vector<ParameterGroup<Options>> groups_;
  schedule::Schedule schedule_;
};

template <class Options>
void Optimizer<Options>::step() {
  const auto off = no_grad();
  const std::vector<Range> ranges = ranges_of(params_, groups_, apart_);
  const auto updated = [this](const Range& r) { return is_updated(r); };
  check<StateError>(
      params_.has_gradient() || std::none_of(ranges.begin(), ranges.end(), updated), operation(),
      "there is no gradient to step with: no backward() since the last step() or zero_grad(). Call "
      "loss.backward() before step(); if you write gradient() yourself, through pointers, call "
      "params.set_has_gradient(i)");
  for (const Range& range : ranges) {
    const Options& options = options_[range.group];
    if (is_updated(range)) update(range, options, numbers(options, updates_of(range)));
  }
  count_step();
  params_.count_update();
  params_.zero_grad();
}

template <class Options>
void Optimizer<Options>::count_step() {
  ++steps_;
  if (!apart_) return;
  for (const Range& range : ranges_of(params_, groups_, apart_))
    if (skips_unused(options_[range.group]) && is_updated(range)) ++parameter_steps_[range.parameter];
}

template <class Options>
StepNumbers Optimizer<Options>::numbers(const Options& options, const StepCounter& done) const {
  StepNumbers now{{}, done.is_zero()};
  const auto all = [this, &options, &done] { return step_numbers(options, lr_of(options), done + 1); };
  const std::vector<double> values = all();
  for (std::size_t i = 0; i < values.size(); ++i)
    now.values.push_back(step_scalar(values[i], [all, i] { return all()[i]; }));
  return now;
}

}  // namespace lpf::optim
