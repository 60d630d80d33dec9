// SGD compared with PyTorch's, and the common behaviour of optimizers: step() and the gradient, groups,
// frozen parameters, bits that do not depend on the threads.
#include "lpf/optim/sgd.hpp"

#include <limits>

#include "lpf/filter/low_pass_filter.hpp"
#include "replay.hpp"

using namespace lpf;
using namespace lpf::test;
using optim::SGD;
using optim::SGDOptions;

namespace {

SGDOptions sgd_options(const Json& o) {
  return {.lr = o.at("lr"),
          .momentum = o.value("momentum", 0.0),
          .dampening = o.value("dampening", 0.0),
          .weight_decay = o.value("weight_decay", 0.0),
          .nesterov = o.value("nesterov", false)};
}

}  // namespace

TEST_CASE("SGD: 20 steps of every variant agree with PyTorch") {
  const auto& file = FixtureFile::named("optim.safetensors");
  const auto names = file.cases_with([](const Json& hyper) { return hyper["op"] == "SGD"; });
  CHECK(names.size() == 12);
  for (const auto& name : names) {
    const auto make = [](const ParameterStore& params, const std::vector<Json>& groups) {
      std::vector<optim::ParameterGroup<SGDOptions>> own;
      if (groups.size() == 2) own.push_back({is_bias, sgd_options(groups[1])});
      return SGD(params, sgd_options(groups[0]), own);
    };
    replay(FixtureCase(file, name), make, {{"velocity", "momentum_buffer"}});
  }
}

TEST_CASE("SGD: options out of range are ValueErrors") {
  const ParameterStore params = weight_and_bias();
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const double bad : {-0.1, nan, inf, -inf}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(SGD(params, {.lr = bad}), ValueError);
    CHECK_THROWS_AS(SGD(params, {.momentum = bad}), ValueError);
    CHECK_THROWS_AS(SGD(params, {.weight_decay = bad}), ValueError);
  }
  CHECK_THROWS_AS(SGD(params, {.momentum = 0.9, .dampening = nan}), ValueError);
  CHECK_THROWS_AS(SGD(params, {.nesterov = true}), ValueError);
  CHECK_THROWS_AS(SGD(params, {.momentum = 0.9, .dampening = 0.1, .nesterov = true}), ValueError);
  CHECK_THROWS_AS(SGD(params, {}, {{is_bias, {.lr = -1}}}), ValueError);
  CHECK_THROWS_AS(SGD(params, {}, {{nullptr, {}}}), ValueError);  // a group without a rule
  CHECK_NOTHROW(SGD(params, {.lr = 0}));
  try {
    SGD(params, {.lr = -0.5});
    FAIL("no error");
  } catch (const ValueError& e) { CHECK(std::string(e.what()).find("-0.5") != std::string::npos); }
}

TEST_CASE("step() uses the gradient up, several backward() before it accumulate") {
  const Task task(2);
  ParameterStore params({.dtype = DType::float64, .seed = 1});
  const TanhNet net(params);
  SGD sgd(params, {.lr = 0.5});
  const auto backward = [&](std::int64_t t) { cross_entropy(net(task.x[t]), task.y[t]).backward(); };

  backward(0);
  const Tensor first = params.gradient().clone();
  backward(1);
  const Tensor both = params.gradient().clone(), theta = params.theta().clone();
  params.zero_grad();
  backward(1);
  CHECK(difference(sub(both, first), params.gradient()) < 1e-15);
  backward(0);
  CHECK(difference(params.gradient(), both) < 1e-15);
  sgd.step();
  CHECK(difference(params.theta(), sub(theta, affine(both, 0.5, 0))) < 1e-15);
  for (const double g : params.gradient().to_vector()) CHECK(g == 0);
  CHECK(sgd.steps() == 1);
  CHECK(params.updates() == 1);
}

TEST_CASE("an update between forward and backward is a StateError") {
  const Task task(1);
  ParameterStore params({.dtype = DType::float64});
  const TanhNet net(params);
  SGD sgd(params, {.lr = 0.1});
  SUBCASE("plain pass") {
    const Tensor loss = cross_entropy(net(task.x[0]), task.y[0]);
    params.gradient().fill_(1);
    sgd.step();
    CHECK_THROWS_AS(loss.backward(), StateError);
  }
  SUBCASE("perturbed pass") {
    LowPassFilter filter({.M = 3, .gamma = 0.1});
    const auto scope = filter.perturb(params);
    const Tensor loss = cross_entropy(net(task.x[0]), task.y[0]);
    params.gradient().fill_(1);
    sgd.step();
    CHECK_THROWS_AS(loss.backward(), StateError);
  }
  SUBCASE("perturbed pass, update before the forward") {
    LowPassFilter filter({.M = 3, .gamma = 0.1});
    const auto scope = filter.perturb(params);
    params.gradient().fill_(1);
    sgd.step();
    CHECK_THROWS_AS(net(task.x[0]), StateError);
  }
}

TEST_CASE("frozen parameters do not move, whatever their size and the dtype") {
  for (const DType dtype : {DType::float32, DType::float64}) {
    for (const std::int64_t size : {1, 7, 8, 9, 15, 16, 17, 40}) {
      CAPTURE(size);
      ParameterStore params({.dtype = dtype});
      const nn::Path p = params;
      p.parameter("a", {16}, init::ones());
      p.parameter("b", {size}, init::ones());
      p.parameter("c", {16}, init::ones());
      params.set_trainable("b", false);
      SGD sgd(params, {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true});
      for (int t = 0; t < 3; ++t) {
        params.gradient().fill_(1);  // any value
        sgd.step();
      }
      for (const double v : params.tensor("b").to_vector()) CHECK(v == 1);
      for (const char* moved : {"a", "c"})
        for (const double v : params.tensor(moved).to_vector()) CHECK(v < 0.9);
      // and, made trainable again, they do
      params.set_trainable("b", true);
      params.gradient().fill_(1);
      sgd.step();
      for (const double v : params.tensor("b").to_vector()) CHECK(v < 1);
    }
  }
}

TEST_CASE("groups: the first match counts, neighbours of one group are one sweep") {
  ParameterStore params({.dtype = DType::float64});
  const nn::Path p = params;
  for (const char* name : {"a.weight", "a.bias", "b.weight", "b.bias"}) p.parameter(name, {3}, init::ones());
  const auto in_a = [](const ParameterInfo& info) { return info.name.starts_with("a."); };
  SGD sgd(params, {.lr = 1}, {{in_a, {.lr = 0.5}}, {is_bias, {.lr = 0.25}}});
  params.gradient().fill_(1);
  sgd.step();
  CHECK(params.tensor("a.weight").to_vector()[0] == 0.5);
  CHECK(params.tensor("a.bias").to_vector()[2] == 0.5);
  CHECK(params.tensor("b.weight").to_vector()[1] == 0);
  CHECK(params.tensor("b.bias").to_vector()[0] == 0.75);

  const std::vector<optim::ParameterGroup<SGDOptions>> none;
  CHECK(optim::ranges_of(params, none).size() == 1);
  params.set_trainable("a.bias", false);
  CHECK(optim::ranges_of(params, none).size() == 2);
  CHECK(optim::is_vector(params.parameters()[0]));
}

TEST_CASE("what lies between parameters in θ stays zero") {
  ParameterStore params({.dtype = DType::float64});
  const nn::Path p = params;
  p.parameter("a", {3}, init::ones());
  p.parameter("b", {5}, init::ones());
  SGD sgd(params, {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1});
  for (int t = 0; t < 3; ++t) {
    for (std::size_t i = 0; i < 2; ++i) set_gradient(params, i, ones_like(params.tensor(i)));
    sgd.step();
  }
  const auto theta = values_of(params);
  for (std::size_t i = 3; i < 8; ++i) CHECK(theta[i] == 0);
}

TEST_CASE("20 steps have the same bits for 1, 2 and 3 threads") {
  const Task task(20, 96, DType::float32);
  std::vector<std::vector<double>> runs;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    ParameterStore params({.seed = 3});
    const nn::Linear in(nn::Path(params) / "in", 6, 300), hidden(nn::Path(params) / "hidden", 300, 300),
        out(nn::Path(params) / "out", 300, 3);
    SGD sgd(params, {.lr = 0.1, .momentum = 0.9, .weight_decay = 5e-4, .nesterov = true});
    LowPassFilter filter({.M = 8, .gamma = 0.02, .seed = 9});
    for (std::int64_t t = 0; t < 20; ++t) {
      const auto scope = filter.perturb(params);
      cross_entropy(out(tanh(hidden(tanh(in(task.x[t]))))), task.y[t]).backward();
      optim::clip_grad_norm(params, 1.0);
      sgd.step();
    }
    runs.push_back(values_of(params));
  }
  set_num_threads(0);
  CHECK(runs[0] == runs[1]);
  CHECK(runs[0] == runs[2]);
}
