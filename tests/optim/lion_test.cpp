// Lion against the formula in plain loops.
#include "lpf/optim/lion.hpp"

#include <limits>

#include "lpf/train/checkpoint.hpp"
#include "replay.hpp"

using namespace lpf;
using namespace lpf::test;
using optim::Lion;
using optim::LionOptions;

namespace {

/// Lion of one parameter, an element after the other.
struct LoopLion {
  std::vector<double> theta, m = std::vector<double>(theta.size());
  LionOptions options;

  void step(const std::vector<double>& g, double factor) {
    for (std::size_t i = 0; i < theta.size(); ++i) {
      const double c = options.beta1 * m[i] + (1 - options.beta1) * g[i];
      const double direction = c > 0 ? 1 : c < 0 ? -1 : 0;
      theta[i] -= options.lr * factor * (direction + options.weight_decay * theta[i]);
      m[i] = options.beta2 * m[i] + (1 - options.beta2) * g[i];
    }
  }
};

/// The gradient of a parameter at step t: Gaussian, and zero for every third element.
Tensor gradient(const ParameterInfo& info, std::uint64_t t) {
  auto g = normal(info.shape, 100 * t + info.index + 1).to_vector();
  for (std::size_t i = 0; i < g.size(); i += 3) g[i] = 0;
  return from_vector(g, info.shape);
}

ParameterStore begin() {
  const auto off = no_grad();
  const ParameterStore params = weight_and_bias();
  for (const auto& info : params.parameters())
    params.tensor(info.index).copy_(normal(info.shape, 7 + info.index));
  return params;
}

void step(const ParameterStore& params, Lion& lion, std::uint64_t t) {
  for (const auto& info : params.parameters()) set_gradient(params, info.index, gradient(info, t));
  lion.step();
}

const LionOptions own{.lr = 0.02, .beta1 = 0.8, .beta2 = 0.95, .weight_decay = 0.1};
const LionOptions of_biases{.lr = 0.05, .beta1 = 0.7, .beta2 = 0.9};

Lion make(const ParameterStore& params) {
  Lion lion(params, own, {{is_bias, of_biases}});
  lion.set_schedule(schedule::cosine(20));
  return lion;
}

}  // namespace

TEST_CASE("Lion: 20 steps with groups, a schedule and weight decay agree with the formula in plain loops") {
  const ParameterStore params = begin();
  Lion lion = make(params);
  std::vector<LoopLion> loops;
  for (const auto& info : params.parameters())
    loops.push_back(
        {.theta = params.tensor(info.index).to_vector(), .options = is_bias(info) ? of_biases : own});
  const auto factor = schedule::cosine(20);
  for (std::uint64_t t = 0; t < 20; ++t) {
    CHECK(lion.lr() == doctest::Approx(own.lr * factor(t)).epsilon(1e-12));
    step(params, lion, t);
    for (const auto& info : params.parameters()) {
      LoopLion& loop = loops[info.index];
      loop.step(gradient(info, t).to_vector(), factor(t));
      const auto expect = [&](const Tensor& found, const std::vector<double>& expected) {
        CHECK(difference(found, from_vector(expected, info.shape)) < 1e-12);
      };
      expect(params.tensor(info.index), loop.theta);
      expect(part(lion.state()[0].second, info), loop.m);
    }
  }
  CHECK(lion.steps() == 20);
}

TEST_CASE("Lion: the defaults are the paper's, and an element without gradient stays") {
  const LionOptions o;
  CHECK((o.lr == 1e-4 && o.beta1 == 0.9 && o.beta2 == 0.99 && o.weight_decay == 0));
  const ParameterStore params = weight_and_bias();
  params.theta().fill_(1);
  Lion lion(params);
  set_gradient(params, 1, full({4}, -3, f64));
  lion.step();
  CHECK(params.tensor("weight").to_vector() == std::vector<double>(12, 1.0));
  CHECK(params.tensor("bias").to_vector()[0] == doctest::Approx(1 + 1e-4).epsilon(1e-12));
}

TEST_CASE("Lion: a run that is restored from a checkpoint goes on to the bit") {
  const ParameterStore whole = begin();
  Lion uninterrupted = make(whole);
  for (std::uint64_t t = 0; t < 20; ++t) step(whole, uninterrupted, t);
  const TempDir dir;
  const std::string name = (dir / "run").string();
  {
    const ParameterStore params = begin();
    Lion lion = make(params);
    for (std::uint64_t t = 0; t < 9; ++t) step(params, lion, t);
    Checkpoint checkpoint;
    checkpoint.add(params);
    checkpoint.add("lion", lion);
    checkpoint.save(name);
  }
  const ParameterStore params = weight_and_bias();
  Lion lion = make(params);
  Checkpoint checkpoint;
  checkpoint.add(params);
  checkpoint.add("lion", lion);
  checkpoint.load(name);
  for (std::uint64_t t = 9; t < 20; ++t) step(params, lion, t);
  CHECK(values_of(params) == values_of(whole));
}

TEST_CASE("Lion: options out of range are ValueErrors") {
  const ParameterStore params = weight_and_bias();
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const double bad : {-0.1, nan, inf}) {
    CAPTURE(bad);
    CHECK_ERROR(Lion(params, {.lr = bad}), ValueError, "[Lion] lr and weight_decay", concat(bad));
    CHECK_ERROR(Lion(params, {.weight_decay = bad}), ValueError, "[Lion] lr and weight_decay", concat(bad));
    CHECK_ERROR(Lion(params, {.beta1 = bad}), ValueError, "[Lion] betas", concat(bad));
    CHECK_ERROR(Lion(params, {.beta2 = bad}), ValueError, "[Lion] betas", concat(bad));
  }
  CHECK_THROWS_AS(Lion(params, {.beta1 = 1}), ValueError);
  CHECK_THROWS_AS(Lion(params, {}, {{is_bias, {.lr = -1}}}), ValueError);
}
