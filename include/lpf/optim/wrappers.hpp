// The gradient wrappers of registry.hpp (the low-pass filter, SAM and ASAM, SmoothOut) and Entropy-SGD,
// behind the interface of method.hpp.
#pragma once

#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/optim/entropy_sgd.hpp"
#include "lpf/optim/method.hpp"
#include "lpf/optim/sam.hpp"
#include "lpf/optim/smoothout.hpp"

namespace lpf::optim {

/// Any optimizer with the gradient of F's perturbed passes (LowPassFilter, SmoothOut).
template <class F>
class PerturbedMethod final : public Method, private NoiseState {
 public:
  /// `name`: that of the draw count in a checkpoint.
  PerturbedMethod(const char* name, const ParameterStore& params, std::unique_ptr<AnyOptimizer> optimizer,
                  double clip_norm, F filter)
      : Method(params, std::move(optimizer), clip_norm), name_(name), filter_(std::move(filter)) {}

  std::int64_t replicas() const override { return filter_.options().M; }
  double radius() const override {
    if constexpr (requires(const F& f) { f.gamma(std::uint64_t{}); })
      return filter_.gamma(params().updates());
    return Method::radius();
  }

 private:
  Tensor backward(const Loss& loss) override {
    const auto scope = filter_.perturb(params());
    return Method::backward(loss);
  }
  NoiseState* noise() override { return this; }
  NoiseState::Options options() const override { return {filter_.options().seed}; }
  std::uint64_t draws() const override { return filter_.draws(); }
  void set_draws(std::uint64_t n) override { filter_.set_draws(n); }
  const char* name() const override { return name_; }

  const char* name_;
  F filter_;
};

namespace detail {

/// SAM and ASAM, with their own two passes.
class SAMMethod final : public Method {
 public:
  SAMMethod(const ParameterStore& p, std::unique_ptr<AnyOptimizer> base, const SAMOptions& options)
      : Method(p, std::move(base)), sam_(p, optimizer(), options), slices_(options.slices) {}
  Tensor step(const Loss& loss) override {
    return sam_.step([&] { return loss(0); });
  }
  std::int64_t evaluations() const override { return 2; }
  std::int64_t replicas() const override { return slices_; }

 private:
  SAM<AnyOptimizer> sam_;
  std::int64_t slices_;
};

template <bool adaptive>
std::unique_ptr<Method> make_sam(const ParameterStore& p, std::unique_ptr<AnyOptimizer> base,
                                 const MethodOptions& o) {
  SAMOptions options{
      .rho = o.rho, .adaptive = adaptive, .eta = o.eta, .slices = o.slices, .clip_norm = o.clip_norm};
  options.batch_norm = o.batch_norm.value_or(options.batch_norm);
  return std::make_unique<SAMMethod>(p, std::move(base), options);
}

inline std::unique_ptr<Method> make_lpf(const ParameterStore& p, std::unique_ptr<AnyOptimizer> base,
                                        const MethodOptions& o) {
  LowPassFilter filter({.M = o.M,
                        .gamma = o.gamma,
                        .alpha = o.alpha,
                        .total_steps = o.total_steps,
                        .law = o.law,
                        .estimator = o.estimator,
                        .batch_norm = o.batch_norm.value_or(BatchNormPolicy::per_replica),
                        .seed = o.seed,
                        .memory = o.memory});
  return std::make_unique<PerturbedMethod<LowPassFilter>>("filter", p, std::move(base), o.clip_norm,
                                                          std::move(filter));
}

inline std::unique_ptr<Method> make_smoothout(const ParameterStore& p, std::unique_ptr<AnyOptimizer> base,
                                              const MethodOptions& o) {
  SmoothOut smooth({.a = o.a,
                    .adaptive = o.adaptive,
                    .M = o.M,
                    .batch_norm = o.batch_norm.value_or(BatchNormPolicy::per_replica),
                    .seed = o.seed});
  return std::make_unique<PerturbedMethod<SmoothOut>>("smoothout", p, std::move(base), o.clip_norm,
                                                      std::move(smooth));
}

/// Entropy-SGD: an optimizer that runs the passes of its update itself, so it has no wrapper.
class EntropyMethod final : public Method {
 public:
  EntropyMethod(const ParameterStore& p, const EntropySGDOptions& options)
      : Method(p, make_any<EntropySGD>(p, options)),
        entropy_(static_cast<OptimizerOf<EntropySGD>&>(optimizer()).get()) {}
  Tensor step(const Loss& loss) override {
    std::int64_t k = 0;
    return entropy_.step([&] { return loss(k++); });
  }
  std::int64_t batches() const override { return entropy_.passes(); }
  std::int64_t evaluations() const override { return entropy_.passes(); }

 private:
  EntropySGD& entropy_;
};

inline std::unique_ptr<Method> make_entropy_sgd(const ParameterStore& p, const MethodOptions& o) {
  return std::make_unique<EntropyMethod>(
      p, EntropySGDOptions{.lr = o.lr,
                           .momentum = o.momentum,
                           .weight_decay = o.weight_decay,
                           .inner_lr = o.inner_lr,
                           .inner_steps = o.inner_steps,
                           .g0 = o.g0,
                           .g1 = o.g1,
                           .g_max = o.g_max,
                           .clip_norm = o.clip_norm,
                           .batch_norm = o.batch_norm.value_or(BatchNormPolicy::per_replica),
                           .seed = o.seed});
}

}  // namespace detail

}  // namespace lpf::optim
