// One interface for all training methods, for programs that choose one at run time: an optimizer, alone
// or inside a wrapper that computes its gradient (the low-pass filter, SAM, SmoothOut). registry.hpp
// creates methods by name.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "lpf/autograd/engine.hpp"
#include "lpf/filter/options.hpp"
#include "lpf/optim/clip.hpp"
#include "lpf/optim/optimizer.hpp"

namespace lpf::optim {

/// Options of all methods. A method reads those listed in its registry entry (MethodInfo::settings), and
/// clip_norm, seed and total_steps where they apply.
struct MethodOptions {
  double lr = 0.1, momentum = 0, weight_decay = 0;
  bool nesterov = false;
  double clip_norm = 0;                            ///< maximum gradient norm of an update; 0: no limit
  std::uint64_t seed = 0;                          ///< of the noise
  std::int64_t total_steps = 0;                    ///< updates of the whole run; required unless alpha is 1
  std::optional<BatchNormPolicy> batch_norm = {};  ///< in perturbed passes; empty: the method's default

  std::int64_t M = 8;  ///< lpf, smoothout: replicas
  double gamma = 5e-4, alpha = 1;
  NoiseLaw law = NoiseLaw::filter_wise;
  Estimator estimator = Estimator::replicas;
  ReplicaMemory memory = ReplicaMemory::automatic;

  double rho = 0.05, eta = 0.01;  ///< sam, asam
  std::int64_t slices = 1;

  double a = 0.009;  ///< smoothout
  bool adaptive = false;

  int inner_steps = 5;  ///< entropy-sgd
  double inner_lr = 0.1, g0 = 0.5, g1 = 1e-4, g_max = 2.38;
};

/// A type-erased optimizer.
class AnyOptimizer {
 public:
  virtual ~AnyOptimizer() = default;
  virtual void step() = 0;
  virtual void set_schedule(schedule::Schedule schedule) = 0;
  virtual double lr() const = 0;
  virtual std::uint64_t steps() const = 0;
  virtual void set_steps(std::uint64_t n) = 0;
  virtual std::vector<std::uint64_t> parameter_steps() const = 0;
  virtual void set_parameter_steps(const std::vector<std::uint64_t>& n) = 0;
  virtual StateVectors state() const = 0;
  virtual const ParameterStore& params() const = 0;
};

/// AnyOptimizer that holds an O.
template <class O>
class OptimizerOf final : public AnyOptimizer {
 public:
  template <class Options>
  OptimizerOf(const ParameterStore& params, const Options& options) : optimizer_(params, options) {}

  void step() override {
    if constexpr (requires { optimizer_.step(); })
      optimizer_.step();
    else
      fail<StateError>("optim",
                       "this optimizer computes the gradients of its update itself: give it the loss");
  }
  void set_schedule(schedule::Schedule schedule) override { optimizer_.set_schedule(std::move(schedule)); }
  double lr() const override { return optimizer_.lr(); }
  std::uint64_t steps() const override { return optimizer_.steps(); }
  void set_steps(std::uint64_t n) override { optimizer_.set_steps(n); }
  std::vector<std::uint64_t> parameter_steps() const override { return optimizer_.parameter_steps(); }
  void set_parameter_steps(const std::vector<std::uint64_t>& n) override {
    optimizer_.set_parameter_steps(n);
  }
  StateVectors state() const override { return optimizer_.state(); }
  const ParameterStore& params() const override { return optimizer_.params(); }
  O& get() { return optimizer_; }

 private:
  O optimizer_;
};

/// Example: make_any<SGD>(params, SGDOptions{.lr = 0.1})
template <class O, class Options>
std::unique_ptr<AnyOptimizer> make_any(const ParameterStore& params, const Options& options) {
  return std::make_unique<OptimizerOf<O>>(params, options);
}

/// Number of random draws of a method, stored in checkpoints.
class NoiseState {
 public:
  struct Options {
    std::uint64_t seed;
  };
  virtual ~NoiseState() = default;
  virtual Options options() const = 0;
  virtual std::uint64_t draws() const = 0;
  virtual void set_draws(std::uint64_t n) = 0;
  virtual const char* name() const = 0;  ///< its name in the checkpoint
};

/// A training method. The base class is an optimizer alone; methods that compute the gradient
/// otherwise derive from it.
class Method {
 public:
  /// Mean loss of batch k of an update, 0 ≤ k < batches(). A method evaluates the batches in order, each once
  /// or several times in a row.
  using Loss = std::function<Tensor(std::int64_t k)>;

  Method(ParameterStore params, std::unique_ptr<AnyOptimizer> optimizer, double clip_norm = 0)
      : params_(std::move(params)), optimizer_(std::move(optimizer)), clip_norm_(clip_norm) {}
  virtual ~Method() = default;
  Method(const Method&) = delete;
  Method& operator=(const Method&) = delete;

  /// Performs one update. Returns the mean loss over its batches, each at its first evaluation. Does not
  /// wait for the device.
  virtual Tensor step(const Loss& loss) {
    const Tensor value = params_.gradient_in_parts([&] { return backward(loss); });
    if (clip_norm_ > 0) clip_grad_norm(params_, clip_norm_);
    optimizer_->step();
    return value;
  }
  /// Number of distinct batches per update.
  virtual std::int64_t batches() const { return 1; }
  /// Number of loss evaluations, with backward, per update.
  virtual std::int64_t evaluations() const { return 1; }
  /// Number of perturbed copies of θ per pass.
  virtual std::int64_t replicas() const { return 0; }
  /// Noise radius of the next update; NaN for a method without a radius schedule.
  virtual double radius() const { return std::numeric_limits<double>::quiet_NaN(); }

  /// The optimizer that updates θ: its learning rate, schedule and state.
  AnyOptimizer& optimizer() { return *optimizer_; }
  /// Adds the state that a resumed run needs to a Checkpoint.
  template <class Checkpoint>
  void add_to(Checkpoint& checkpoint) {
    checkpoint.add("optimizer", *optimizer_);
    if (NoiseState* n = noise()) checkpoint.add(n->name(), *n);
  }

 protected:
  /// Accumulates the gradient of an update; returns the loss.
  virtual Tensor backward(const Loss& loss) {
    const Tensor value = loss(0);
    value.backward();
    return value.detach();
  }
  virtual NoiseState* noise() { return nullptr; }
  const ParameterStore& params() const { return params_; }

 private:
  ParameterStore params_;
  std::unique_ptr<AnyOptimizer> optimizer_;
  double clip_norm_;
};

}  // namespace lpf::optim
