// Adam and AdamW compared with PyTorch's.
#include "lpf/optim/adam.hpp"

#include <limits>

#include "replay.hpp"

using namespace lpf;
using namespace lpf::test;
using optim::Adam;
using optim::AdamOptions;
using optim::AdamW;

namespace {

AdamOptions adam_options(const Json& o) {
  const auto betas = o.value("betas", std::vector<double>{0.9, 0.999});
  return {.lr = o.at("lr"),
          .beta1 = betas[0],
          .beta2 = betas[1],
          .epsilon = o.value("eps", 1e-8),
          .weight_decay = o.value("weight_decay", 0.0),
          .amsgrad = o.value("amsgrad", false)};
}

template <class Optimizer>
void replay_all(const std::string& op, std::size_t count) {
  const auto& file = FixtureFile::named("optim.safetensors");
  const auto names = file.cases_with([&](const Json& hyper) { return hyper["op"] == op; });
  CHECK(names.size() == count);
  for (const auto& name : names) {
    const auto make = [](const ParameterStore& params, const std::vector<Json>& groups) {
      std::vector<optim::ParameterGroup<AdamOptions>> own;
      if (groups.size() == 2) own.push_back({is_bias, adam_options(groups[1])});
      const AdamOptions o = adam_options(groups[0]);
      if constexpr (std::is_same_v<Optimizer, AdamW>) {
        return AdamW(params, {o.lr, o.beta1, o.beta2, o.epsilon, o.weight_decay, o.amsgrad}, own);
      } else {
        return Optimizer(params, o, own);
      }
    };
    replay(FixtureCase(file, name), make,
           {{"m", "exp_avg"}, {"v", "exp_avg_sq"}, {"v_max", "max_exp_avg_sq"}});
  }
}

}  // namespace

TEST_CASE("Adam: 20 steps of every variant agree with PyTorch") { replay_all<Adam>("Adam", 4); }
TEST_CASE("AdamW: 20 steps of every variant agree with PyTorch") { replay_all<AdamW>("AdamW", 4); }

TEST_CASE("Adam: an element whose gradient is always zero stays") {
  const ParameterStore params = weight_and_bias();
  params.theta().fill_(1);
  Adam adam(params, {.lr = 0.1, .epsilon = 0});
  for (int t = 0; t < 3; ++t) {
    set_gradient(params, 1, full({4}, 1, f64));
    adam.step();
  }
  CHECK(params.tensor("bias").to_vector()[0] == doctest::Approx(0.7).epsilon(1e-12));
}

TEST_CASE("Adam: amsgrad in one group only") {
  const ParameterStore params = weight_and_bias();
  Adam mixed(params, {.lr = 0.1}, {{is_bias, {.lr = 0.1, .beta2 = 0.5, .amsgrad = true}}});
  CHECK(mixed.state().size() == 3);
  for (const double scale : {1.0, 0.01, 0.01}) {
    for (std::size_t i = 0; i < 2; ++i)
      set_gradient(params, i, full(params.parameters()[i].shape, scale, f64));
    mixed.step();
  }
  const Tensor v_max = mixed.state()[2].second, v = mixed.state()[1].second;
  const auto& weight = params.parameters()[0];
  const auto& bias = params.parameters()[1];
  CHECK(part(v_max, bias).to_vector()[0] == doctest::Approx(0.5));  // (1 − β₂)·1² of the first step
  CHECK(part(v, bias).to_vector()[0] < 0.2);
  CHECK(part(v_max, weight).to_vector()[0] == 0);
  CHECK(Adam(params).state().size() == 2);
}

TEST_CASE("Adam: options out of range are ValueErrors") {
  const ParameterStore params = weight_and_bias();
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const double bad : {-0.1, nan, inf}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(Adam(params, {.lr = bad}), ValueError);
    CHECK_THROWS_AS(Adam(params, {.epsilon = bad}), ValueError);
    CHECK_THROWS_AS(AdamW(params, {.weight_decay = bad}), ValueError);
    CHECK_THROWS_AS(Adam(params, {.beta1 = bad}), ValueError);
    CHECK_THROWS_AS(Adam(params, {.beta2 = bad}), ValueError);
  }
  CHECK_THROWS_AS(Adam(params, {.beta1 = 1}), ValueError);
  CHECK_THROWS_AS(Adam(params, {.beta2 = 1}), ValueError);
  CHECK_THROWS_AS(Adam(params, {}, {{is_bias, {.beta1 = 2}}}), ValueError);
}
