// Three steps of every optimizer, and gradient clipping, with gradients of ±0, subnormal, tiny and huge
// numbers, ±∞ and NaN, beside PyTorch's.
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "lpf/ops/print.hpp"
#include "lpf/optim/adam.hpp"
#include "lpf/optim/clip.hpp"
#include "lpf/optim/entropy_sgd.hpp"
#include "lpf/optim/lion.hpp"
#include "lpf/optim/rmsprop.hpp"
#include "lpf/optim/sam.hpp"
#include "lpf/optim/sgd.hpp"
#include "lpf/optim/smoothout.hpp"
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

// SAM, Entropy-SGD and SmoothOut have their own passes: L = Σ c_i θ_i²/2, whose gradient at any θ is c ⊙ θ, beside
// the formulas in plain loops. In the second of four steps c is special.
namespace {

using Numbers = std::vector<double>;

const std::vector<Numbers>& special_curvatures() {
  constexpr double inf = infinity, tiny = 1e-310;
  static const std::vector<Numbers> all = {{1, 2, -3},
                                           {0, 0, 0},
                                           {not_a_number, 1, 2},
                                           {inf, 1, 2},
                                           {1, -inf, 2},
                                           {inf, -inf, 1},
                                           {1, 0, 2},
                                           {tiny, tiny, tiny},
                                           {1e-200, 1e-200, 0},
                                           {1e200, -1e200, 1e200},
                                           {1e200, 1, 1e-200},
                                           {1},
                                           {0},
                                           {not_a_number},
                                           {inf},
                                           {1e200},
                                           {1e-200}};
  return all;
}

/// True if the two are equal to a few roundings, NaN to NaN and infinity to infinity.
bool are_equal(const Tensor& theta, const Numbers& expected) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double a = theta[static_cast<std::int64_t>(i)].item(), b = expected[i];
    const bool same = std::isnan(a) ? std::isnan(b) : a == b || std::abs(a - b) <= 1e-13 * std::abs(b);
    if (!same) return false;
  }
  return true;
}

/// Four steps of `step(loss)`, each beside expected(θ, c, t), with a special c in the second.
template <class Step, class Expected>
void check_special_passes(const char* name, const std::function<Step(const ParameterStore&)>& make,
                          Expected expected) {
  for (const Numbers& special : special_curvatures()) {
    const auto n = static_cast<std::int64_t>(special.size());
    Numbers theta(special.size());
    for (std::size_t i = 0; i < theta.size(); ++i) theta[i] = 1.5 - static_cast<double>(i);
    const ParameterStore params({.dtype = float64});
    const nn::Parameter p = nn::Path(params).parameter("theta", {n}, init::zeros());
    params.theta().alias({n}, 0).copy_(from_vector(theta, {n}));
    Step step = make(params);
    for (int t = 0; t < 4; ++t) {
      const Numbers c = t == 1 ? special : Numbers(special.size(), 0.5);
      step([&] { return sum(from_vector(c, {n}) * square(p.value())) / 2.0; });
      theta = expected(theta, c, t);
      INFO(std::string(name) << ", c = " << from_vector(special, {n}).to_string() << ", step " << t << ": "
                             << params.theta().alias({n}, 0).to_string() << ", expected "
                             << from_vector(theta, {n}).to_string());
      CHECK(are_equal(params.theta().alias({n}, 0), theta));
      CHECK(padding_is_zero(params.theta(), n));
      CHECK(padding_is_zero(params.gradient(), n));
    }
  }
}

using PassStep = std::function<void(const std::function<Tensor()>&)>;

}  // namespace

TEST_CASE("special values: SAM and ASAM beside the formula") {
  constexpr double rho = 0.05, eta = 0.01, lr = 0.1;
  for (const bool adaptive : {false, true}) {
    const auto make = [&](const ParameterStore& params) -> PassStep {
      const auto sgd = std::make_shared<optim::SGD>(params, optim::SGDOptions{.lr = lr});
      const auto sam = std::make_shared<optim::SAM<optim::SGD>>(
          params, *sgd, optim::SAMOptions{.rho = rho, .adaptive = adaptive, .eta = eta});
      return [sgd, sam](const std::function<Tensor()>& loss) { sam->step(loss); };
    };
    check_special_passes<PassStep>(
        adaptive ? "ASAM" : "SAM", make, [&](Numbers theta, const Numbers& c, int) {
          double squares = 0;
          const auto T = [&](std::size_t i) { return adaptive ? std::abs(theta[i]) + eta : 1.0; };
          for (std::size_t i = 0; i < theta.size(); ++i) {
            const double v = T(i) * c[i] * theta[i];
            squares += v * v;
          }
          const auto norm = std::sqrt(squares);
          for (std::size_t i = 0; i < theta.size(); ++i) {
            const double e = rho / (norm + 1e-12) * (T(i) * T(i) * c[i] * theta[i]);
            theta[i] -= lr * (c[i] * (theta[i] + e));
          }
          return theta;
        });
  }
}

TEST_CASE("special values: SmoothOut beside the formula") {
  constexpr double a = 0.25, lr = 0.1;
  for (const bool adaptive : {false, true}) {
    const auto noise = [](std::uint64_t draw, std::size_t i) {
      return std::sin(static_cast<double>(draw) + 2.0 * static_cast<double>(i));
    };
    const auto make = [&](const ParameterStore& params) -> PassStep {
      const auto sgd = std::make_shared<optim::SGD>(params, optim::SGDOptions{.lr = lr});
      const auto given = [&noise, params](std::uint64_t draw) {
        const Tensor u = zeros({1, params.theta().numel()}, {.dtype = float64});
        for (std::int64_t i = 0; i < params.parameters()[0].shape[0]; ++i)
          u[0][i].fill_(noise(draw, static_cast<std::size_t>(i)));
        return u;
      };
      const auto smooth = std::make_shared<optim::SmoothOut>(
          optim::SmoothOutOptions{.a = a, .adaptive = adaptive, .noise = given});
      return [sgd, smooth, params](const std::function<Tensor()>& loss) {
        const auto scope = smooth->perturb(params);
        loss().backward();
        sgd->step();
      };
    };
    check_special_passes<PassStep>("SmoothOut", make, [&](Numbers theta, const Numbers& c, int t) {
      double squares = 0;
      for (const double x : theta) squares += x * x;
      const double s = adaptive ? a * (std::sqrt(squares) + 1e-16) : a;
      for (std::size_t i = 0; i < theta.size(); ++i)
        theta[i] -= lr * (c[i] * (theta[i] + s * noise(static_cast<std::uint64_t>(t), i)));
      return theta;
    });
  }
}

TEST_CASE("special values: Entropy-SGD beside the formula") {
  const optim::EntropySGDOptions o{.lr = 0.5,
                                   .momentum = 0.9,
                                   .weight_decay = 0.01,
                                   .inner_lr = 0.1,
                                   .inner_momentum = 0.9,
                                   .inner_weight_decay = 1e-3,
                                   .epsilon = 0,
                                   .average = 0.75,
                                   .inner_steps = 3};
  const auto make = [&](const ParameterStore& params) -> PassStep {
    const auto optimizer = std::make_shared<optim::EntropySGD>(params, o);
    return [optimizer](const std::function<Tensor()>& loss) { optimizer->step(loss); };
  };
  Numbers velocity;
  check_special_passes<PassStep>("Entropy-SGD", make, [&](Numbers x, const Numbers& c, int t) {
    if (t == 0) velocity.assign(x.size(), 0);
    const double g = std::min(o.g0 * std::pow(1 + o.g1, t), o.g_max);
    for (std::size_t i = 0; i < x.size(); ++i) {
      double at = x[i], mean = x[i], v = 0;
      for (int inner = 0; inner < o.inner_steps; ++inner) {
        v = o.inner_momentum * v + (c[i] * at - g * (x[i] - at) + o.inner_weight_decay * at);
        at -= o.inner_lr * v;
        mean = o.average * mean + (1 - o.average) * at;
      }
      velocity[i] = o.momentum * velocity[i] + (x[i] - mean + o.weight_decay * x[i]);
      x[i] -= o.lr * g * velocity[i];
    }
    return x;
  });
}
