// All training methods by name, for programs that choose one at run time:
//
//   for (const auto& m : optim::list()) std::cout << m.name << "  " << m.description << "\n";
//   const auto method = optim::make("lpf-sgd", params, {.lr = 0.1, .momentum = 0.9, .M = 8, .gamma = 0.06});
//   method->optimizer().set_schedule(schedule::cosine(steps));
//   for (auto [x, y] : loader) method->step([&, x = x, y = y](auto) { return cross_entropy(net(x), y); });
//
// To add an optimizer, write its header and its entry in optimizers(): every program then has it,
// alone and inside each of wrappers(). To add a way to compute the gradient, write its header and its
// entry in wrappers().
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/core/suggest.hpp"
#include "lpf/optim/adam.hpp"
#include "lpf/optim/lion.hpp"
#include "lpf/optim/rmsprop.hpp"
#include "lpf/optim/sgd.hpp"
#include "lpf/optim/wrappers.hpp"

namespace lpf::optim {

/// Initial hyper-parameters, from the literature for image networks.
struct Customary {
  double lr, weight_decay;
  bool of_sgd;  ///< those of SGD, which depend on the network
};

/// An optimizer: updates θ from its gradient.
struct OptimizerInfo {
  std::string name, title, description;
  std::vector<std::string> settings;  ///< MethodOptions that it reads, as flags: "weight-decay"
  Customary customary;
  std::unique_ptr<AnyOptimizer> (*make)(const ParameterStore&, const MethodOptions&);
};

/// A wrapper: computes the gradient that an optimizer takes.
struct WrapperInfo {
  std::string name, title, description;
  std::vector<std::string> settings;
  std::vector<std::string> strength;  ///< those of them to lower where training diverges
  std::string slices;                 ///< the setting with the number of slices per batch; "": none
  bool sgd_by_default;                ///< "NAME" alone means NAME-sgd; else SGD is named too, as in "lpf-sgd"
  std::unique_ptr<Method> (*make)(const ParameterStore&, std::unique_ptr<AnyOptimizer>, const MethodOptions&);
};

/// A training method: an optimizer, alone or inside a wrapper.
struct MethodInfo {
  std::string name;         ///< "lpf-adam"
  std::string title;        ///< in texts: "LPF-Adam"
  std::string description;  ///< a few words
  std::string optimizer;    ///< "adam"
  std::string wrapper;      ///< "lpf", or "" for the optimizer alone
  std::vector<std::string> settings, strength;
  std::string slices;
  Customary customary;
  std::function<std::unique_ptr<Method>(const ParameterStore&, const MethodOptions&)> make;

  bool takes(std::string_view setting) const {
    return std::find(settings.begin(), settings.end(), setting) != settings.end();
  }
};

// clang-format off

/// The optimizers. An optimizer is registered here only.
inline const std::vector<OptimizerInfo>& optimizers() {
  using P = const ParameterStore&;
  using O = const MethodOptions&;
  static const std::vector<OptimizerInfo> all{
      {"sgd", "SGD", "stochastic gradient descent", {"lr", "momentum", "nesterov", "weight-decay"},
       {0.1, 0, true}, [](P p, O o) {
         return make_any<SGD>(p, SGDOptions{.lr = o.lr, .momentum = o.momentum,
                                            .weight_decay = o.weight_decay, .nesterov = o.nesterov}); }},
      {"adam", "Adam", "Adam, weight decay in the gradient", {"lr", "weight-decay"}, {1e-3, 0, false},
       [](P p, O o) { return make_any<Adam>(p, AdamOptions{.lr = o.lr, .weight_decay = o.weight_decay}); }},
      {"adamw", "AdamW", "Adam, decoupled weight decay", {"lr", "weight-decay"}, {1e-3, 0.01, false},
       [](P p, O o) { return make_any<AdamW>(p, AdamWOptions{.lr = o.lr, .weight_decay = o.weight_decay}); }},
      {"lion", "Lion", "the sign of an averaged gradient", {"lr", "weight-decay"}, {1e-4, 0, false},
       [](P p, O o) { return make_any<Lion>(p, LionOptions{.lr = o.lr, .weight_decay = o.weight_decay}); }},
      {"rmsprop", "RMSprop", "the gradient by its mean square", {"lr", "momentum", "weight-decay"},
       {1e-3, 0, false}, [](P p, O o) {
         return make_any<RMSprop>(p, RMSpropOptions{.lr = o.lr, .momentum = o.momentum,
                                                    .weight_decay = o.weight_decay}); }},
  };
  return all;
}

/// The wrappers. Each combines with every optimizer.
inline const std::vector<WrapperInfo>& wrappers() {
  static const std::vector<WrapperInfo> all{
      {"sam", "SAM", "sharpness-aware minimisation", {"rho", "slices", "batch-norm"}, {"rho"}, "slices", true,
       detail::make_sam<false>},
      {"asam", "ASAM", "adaptive SAM", {"rho", "eta", "slices", "batch-norm"}, {"rho"}, "slices", true,
       detail::make_sam<true>},
      {"smoothout", "SmoothOut", "uniform noise on the weights", {"M", "a", "adaptive", "batch-norm"}, {"a"},
       "M", true, detail::make_smoothout},
      {"lpf", "LPF", "the low-pass filter", {"M", "gamma", "alpha", "law", "estimator", "batch-norm"},
       {"gamma", "alpha"}, "M", false, detail::make_lpf}};
  return all;
}

// clang-format on

namespace detail {

inline MethodInfo alone(const OptimizerInfo& o) {
  const auto make = [&o](const ParameterStore& p, const MethodOptions& options) {
    return std::make_unique<Method>(p, o.make(p, options), options.clip_norm);
  };
  return {o.name, o.title, o.description, o.name, "", o.settings, {}, "", o.customary, make};
}

inline MethodInfo inside(const WrapperInfo& w, const OptimizerInfo& o) {
  const bool short_name = w.sgd_by_default && o.name == "sgd";
  MethodInfo out{short_name ? w.name : w.name + "-" + o.name,
                 short_name ? w.title : w.title + "-" + o.title,
                 concat(w.description, ", around ", o.title),
                 o.name,
                 w.name,
                 o.settings,
                 w.strength,
                 w.slices,
                 o.customary,
                 [&w, &o](const ParameterStore& p, const MethodOptions& options) {
                   return w.make(p, o.make(p, options), options);
                 }};
  out.settings.insert(out.settings.end(), w.settings.begin(), w.settings.end());
  return out;
}

}  // namespace detail

/// All methods: the optimizers, Entropy-SGD, and every wrapper around every optimizer.
inline const std::vector<MethodInfo>& list() {
  static const std::vector<MethodInfo> all = [] {
    std::vector<MethodInfo> out;
    for (const OptimizerInfo& o : optimizers()) out.push_back(detail::alone(o));
    out.push_back(
        {"entropy-sgd",
         "Entropy-SGD",
         "descent on the local entropy, by Langevin dynamics",
         "entropy-sgd",
         "",
         {"lr", "momentum", "weight-decay", "inner-steps", "inner-lr", "g0", "g1", "g-max", "batch-norm"},
         {"inner-lr"},
         "",
         {0.5, 0, true},
         detail::make_entropy_sgd});
    for (const WrapperInfo& w : wrappers())
      for (const OptimizerInfo& o : optimizers()) out.push_back(detail::inside(w, o));
    return out;
  }();
  return all;
}

inline std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const MethodInfo& m : list()) out.push_back(m.name);
  return out;
}

/// @throws ValueError, with the nearest names, for an unknown name.
inline const MethodInfo& info(std::string_view name) {
  for (const MethodInfo& m : list())
    if (m.name == name) return m;
  fail("optim", "there is no optimizer '", name, "'", lpf::detail::suggest(name, names()));
}

/// Creates a method that trains `params`.
/// @throws ValueError for an unknown name, or for options that it does not accept.
inline std::unique_ptr<Method> make(std::string_view name, const ParameterStore& params,
                                    const MethodOptions& options = {}) {
  return info(name).make(params, options);
}

}  // namespace lpf::optim
