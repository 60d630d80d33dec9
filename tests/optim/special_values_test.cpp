// Three steps of every optimizer, and gradient clipping, with gradients of ±0, subnormal, tiny and huge
// numbers, ±∞ and NaN, beside PyTorch's.
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "lpf/optim/adam.hpp"
#include "lpf/optim/clip.hpp"
#include "lpf/optim/lion.hpp"
#include "lpf/optim/rmsprop.hpp"
#include "lpf/optim/sgd.hpp"
#include "special_case.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// An optimizer's step on a store, and a store with one parameter.
using SpecialStep = std::function<void()>;
using SpecialOptimizer = std::function<SpecialStep(const ParameterStore&)>;

template <class O, class Options>
SpecialOptimizer making(const Options& options) {
  return [options](const ParameterStore& params) {
    const auto optimizer = std::make_shared<O>(params, options);
    return [optimizer] { optimizer->step(); };
  };
}

const std::map<std::string, SpecialOptimizer>& special_optimizers() {
  using namespace optim;
  static const std::map<std::string, SpecialOptimizer> all = {
      {"sgd", making<SGD>(SGDOptions{.lr = 0.1})},
      {"sgd_momentum", making<SGD>(SGDOptions{.lr = 0.1, .momentum = 0.9})},
      {"sgd_all",
       making<SGD>(SGDOptions{.lr = 0.1, .momentum = 0.9, .dampening = 0.1, .weight_decay = 0.01})},
      {"sgd_nesterov",
       making<SGD>(SGDOptions{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true})},
      {"sgd_zero_lr", making<SGD>(SGDOptions{.lr = 0, .momentum = 0.9})},
      {"adam", making<Adam>(AdamOptions{.lr = 0.01})},
      {"adam_all", making<Adam>(AdamOptions{.lr = 0.01, .weight_decay = 0.1, .amsgrad = true})},
      {"adam_zero_eps", making<Adam>(AdamOptions{.lr = 0.01, .epsilon = 0})},
      {"adam_zero_betas", making<Adam>(AdamOptions{.lr = 0.01, .beta1 = 0, .beta2 = 0})},
      {"adamw", making<AdamW>(AdamWOptions{.lr = 0.01})},
      {"rmsprop", making<RMSprop>(RMSpropOptions{.lr = 0.01})},
      {"rmsprop_all",
       making<RMSprop>(RMSpropOptions{.lr = 0.01, .momentum = 0.9, .weight_decay = 0.1, .centered = true})},
      {"rmsprop_zero_alpha", making<RMSprop>(RMSpropOptions{.lr = 0.01, .alpha = 0})},
      {"rmsprop_zero_eps", making<RMSprop>(RMSpropOptions{.lr = 0.01, .epsilon = 0})},
      {"lion", making<Lion>(LionOptions{.lr = 0.01, .weight_decay = 0.1})}};
  return all;
}

ParameterStore store_of(const Tensor& theta) {
  ParameterStore params({.dtype = theta.dtype()});
  nn::Path(params).parameter("theta", theta.shape(), init::zeros());
  params.theta().alias({theta.numel()}, 0).copy_(theta);
  return params;
}
/// Writes the gradient of the only parameter.
void put_gradient(const ParameterStore& params, const Tensor& g) {
  params.gradient().alias({g.numel()}, 0).copy_(g);
}
/// What is behind the parameter in a vector of the store stays zero.
bool padding_is_zero(const Tensor& vector, std::int64_t n) {
  for (std::int64_t i = n; i < vector.numel(); ++i)
    if (vector[i].item() != 0) return false;
  return true;
}

}  // namespace

TEST_CASE("special values: three steps of every optimizer beside PyTorch") {
  std::set<std::string> seen;
  for (const SpecialCase& c : SpecialCase::all()) {
    if (!c.op().starts_with("optim_")) continue;
    INFO(c.name());
    const std::string name = c.op().substr(6);
    seen.insert(name);
    REQUIRE(special_optimizers().contains(name));
    const Tensor theta = c.at("theta"), g = c.at("g"), y = c.expected("y");
    const ParameterStore params = store_of(theta);
    const SpecialStep step = special_optimizers().at(name)(params);
    for (std::int64_t t = 0; t < y.size(0); ++t) {
      put_gradient(params, g);
      step();
      const std::string wrong =
          wrong_numbers(params.theta().alias(theta.shape(), 0), y[t], 16, false, ones_like(theta));
      CHECK_MESSAGE(wrong.empty(), c.name(), " after ", t + 1, " steps: ", wrong);
      CHECK(padding_is_zero(params.theta(), theta.numel()));
      CHECK(padding_is_zero(params.gradient(), theta.numel()));
    }
  }
  for (const auto& [name, make] : special_optimizers())
    CHECK_MESSAGE(seen.contains(name), name, " has no case");
}

TEST_CASE("special values: clipping beside PyTorch") {
  int cases = 0;
  for (const SpecialCase& c : SpecialCase::all()) {
    if (!c.op().starts_with("clip_")) continue;
    ++cases;
    const Tensor g = c.at("g");
    const ParameterStore params = store_of(zeros_like(g));
    put_gradient(params, g);
    if (c.contains("norm")) {
      const std::string wrong = wrong_numbers(optim::clip_grad_norm(params, 1), c.expected("norm"), 4, false);
      CHECK_MESSAGE(wrong.empty(), c.name(), " norm: ", wrong);
    } else {
      optim::clip_grad_value(params, 1);
    }
    const std::string wrong = wrong_numbers(params.gradient().alias(g.shape(), 0), c.expected("y"), 4, false);
    CHECK_MESSAGE(wrong.empty(), c.name(), ": ", wrong);
  }
  CHECK(cases == 32);
}
