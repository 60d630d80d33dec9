// The training method of a run: the registry's wrappers around Adam with the Transformer's constants, and Entropy-SGD's
// dynamics around Adam.
#pragma once

#include <memory>
#include <utility>

#include "settings.hpp"

namespace translate {

namespace detail {

/// An optimizer applied to the gradient of Entropy-SGD's dynamics, x − μ.
class EntropyMethod final : public optim::Method, private optim::NoiseState {
 public:
  EntropyMethod(const ParameterStore& params, std::unique_ptr<optim::AnyOptimizer> base,
                const optim::EntropySGDOptions& options)
      : Method(params, std::move(base)), dynamics_(params, options), seed_(options.seed) {}

  Tensor step(const Loss& loss) override {
    std::int64_t k = 0;
    const Tensor value = dynamics_.gradient([&] { return loss(k++); });
    optimizer().step();
    dynamics_.set_steps(dynamics_.steps() + 1);
    return value;
  }
  std::int64_t batches() const override { return dynamics_.passes(); }
  std::int64_t evaluations() const override { return dynamics_.passes(); }

 private:
  NoiseState* noise() override { return this; }
  NoiseState::Options options() const override { return {seed_}; }
  std::uint64_t draws() const override { return dynamics_.steps(); }
  void set_draws(std::uint64_t n) override { dynamics_.set_steps(n); }
  const char* name() const override { return "entropy"; }

  optim::EntropySGD dynamics_;
  std::uint64_t seed_;
};

inline std::unique_ptr<optim::AnyOptimizer> make_base(const Settings& s, const std::string& name, double lr,
                                                      const ParameterStore& params,
                                                      const optim::MethodOptions& options) {
  if (name == "adam")
    return optim::make_any<optim::Adam>(
        params,
        optim::AdamOptions{.lr = lr, .beta2 = s.beta2, .epsilon = s.epsilon, .weight_decay = s.weight_decay});
  for (const auto& o : optim::optimizers())
    if (o.name == name) return o.make(params, options);
  fail("translate", "there is no optimizer '", name, "'");
}

}  // namespace detail

/// Updates of the warm-up in a run of `total`.
inline std::int64_t warm_up_of(const Settings& s, std::int64_t total) {
  return s.warm_up > 0 ? s.warm_up : std::max<std::int64_t>(1, total / 10);
}
/// The learning rate where the warm-up ends.
inline double peak_rate(const Settings& s, std::int64_t total) {
  return s.lr > 0 ? s.lr
                  : 1 / std::sqrt(static_cast<double>(s.dim) * static_cast<double>(warm_up_of(s, total)));
}

/// The method named by the settings, with its schedule, for a run of `total` updates. Throws what the optimizers throw
/// for options out of range.
inline std::unique_ptr<optim::Method> make_method(const Settings& s, const ParameterStore& params,
                                                  std::int64_t total) {
  const double lr = peak_rate(s, total);
  const optim::MethodOptions options{.lr = lr,
                                     .weight_decay = s.weight_decay,
                                     .clip_norm = s.clip_norm,
                                     .seed = s.seed,
                                     .total_steps = total,
                                     .M = s.M,
                                     .gamma = s.gamma,
                                     .alpha = s.alpha,
                                     .law = experiment::law_named(s.law),
                                     .estimator = estimator_named(s.estimator),
                                     .rho = s.rho,
                                     .eta = s.eta};
  std::unique_ptr<optim::Method> out;
  if (s.optimizer == "entropy-adam") {
    out = std::make_unique<detail::EntropyMethod>(
        params, detail::make_base(s, "adam", lr, params, options),
        optim::EntropySGDOptions{.inner_lr = s.inner_lr,
                                 .inner_steps = static_cast<int>(s.inner_steps),
                                 .g0 = s.g0,
                                 .g1 = s.g1,
                                 .clip_norm = s.clip_norm,
                                 .seed = s.seed});
  } else {
    const optim::MethodInfo& info = optim::info(s.optimizer);
    auto base = detail::make_base(s, info.optimizer, lr, params, options);
    if (info.wrapper.empty()) {
      out = std::make_unique<optim::Method>(params, std::move(base), s.clip_norm);
    } else {
      const auto& all = optim::wrappers();
      const auto wrapper =
          std::find_if(all.begin(), all.end(), [&](const auto& w) { return w.name == info.wrapper; });
      out = wrapper->make(params, std::move(base), options);
    }
  }
  out->optimizer().set_schedule(
      schedule::inverse_square_root(static_cast<std::uint64_t>(warm_up_of(s, total))));
  return out;
}

}  // namespace translate
