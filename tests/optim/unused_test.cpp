// Parameters that took no part in the loss: which they are, and optimizers that leave them alone.
#include <functional>

#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/optim/adam.hpp"
#include "lpf/optim/lion.hpp"
#include "lpf/optim/method.hpp"
#include "lpf/optim/rmsprop.hpp"
#include "lpf/optim/sam.hpp"
#include "lpf/optim/sgd.hpp"
#include "lpf/train/checkpoint.hpp"
#include "replay.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// A trunk with three heads, of which the loss uses some.
struct HeadsNet {
  nn::Linear trunk, a, b, never;
  explicit HeadsNet(const nn::Path& p)
      : trunk(p / "trunk", 6, 5), a(p / "a", 5, 3), b(p / "b", 5, 3), never(p / "never", 5, 3) {}
  Tensor loss(char head, const Tensor& x, const Tensor& y) const {
    return cross_entropy((head == 'a' ? a : b)(tanh(trunk(x))), y);
  }
};

std::unique_ptr<optim::AnyOptimizer> make_skipping(const std::string& name, const Json& o,
                                                   const ParameterStore& params, bool skip = true) {
  const double lr = o.at("lr"), momentum = o.value("momentum", 0.0), decay = o.value("weight_decay", 0.0);
  if (name == "SGD")
    return optim::make_any<optim::SGD>(params, optim::SGDOptions{.lr = lr,
                                                                 .momentum = momentum,
                                                                 .dampening = o.value("dampening", 0.0),
                                                                 .weight_decay = decay,
                                                                 .nesterov = o.value("nesterov", false),
                                                                 .skip_unused = skip});
  if (name == "Adam")
    return optim::make_any<optim::Adam>(
        params, optim::AdamOptions{.lr = lr, .weight_decay = decay, .skip_unused = skip});
  if (name == "AdamW")
    return optim::make_any<optim::AdamW>(
        params,
        optim::AdamWOptions{
            .lr = lr, .weight_decay = decay, .amsgrad = o.value("amsgrad", false), .skip_unused = skip});
  REQUIRE(name == "RMSprop");
  return optim::make_any<optim::RMSprop>(params, optim::RMSpropOptions{.lr = lr,
                                                                       .momentum = momentum,
                                                                       .weight_decay = decay,
                                                                       .centered = o.value("centered", false),
                                                                       .skip_unused = skip});
}

/// Steps [from, to) of a case; after(t) is called after each.
void train_heads(
    const FixtureCase& c, const HeadsNet& net, optim::AnyOptimizer& optimizer, std::int64_t from,
    std::int64_t to, const std::function<void(std::int64_t)>& after = [](std::int64_t) {}) {
  for (std::int64_t t = from; t < to; ++t) {
    const std::string heads = c.hyper["heads"][static_cast<std::size_t>(t)];
    for (const char head : heads) net.loss(head, c.at("x")[t], c.at("y")[t]).backward();
    const bool skips = !optimizer.parameter_steps().empty();
    if (heads.empty() && !skips) {  // in one of the steps the loss uses none
      CHECK_ERROR(optimizer.step(), StateError, "no gradient");
      continue;
    }
    optimizer.step();
    after(t);
  }
}

const std::vector<std::string> trunk_and_a{"trunk.weight", "trunk.bias", "a.weight", "a.bias"};

/// The names of the parameters at which a gradient has arrived.
std::vector<std::string> reached(const ParameterStore& params) {
  std::vector<std::string> out;
  for (const auto& info : params.parameters())
    if (params.has_gradient(info.index)) out.push_back(info.name);
  return out;
}

}  // namespace

TEST_CASE("skip_unused: PyTorch's parameters after every step, with heads that the loss uses in turn") {
  const int cases = for_each_case("optimizers.safetensors", "unused", [](const FixtureCase& c) {
    for (const bool skip : {true, false}) {
      const ParameterStore params({.dtype = float64});
      const HeadsNet net(params);
      initialize(params, c);
      const Tensor never = params.tensor("never.weight").detach().clone();
      const auto optimizer = make_skipping(c.hyper["optimizer"], c.hyper["options"], params, skip);
      const std::int64_t steps = std::ssize(c.hyper["heads"]);
      REQUIRE(steps == 12);
      if (skip) {
        train_heads(c, net, *optimizer, 0, steps,
                    [&](std::int64_t t) { CHECK(difference_after(c, params, t) < 1e-12); });
        CHECK(same_bits(params.tensor("never.weight").detach(), never));
        CHECK(optimizer->parameter_steps() == std::vector<std::uint64_t>{11, 11, 7, 7, 6, 6, 0, 0});
      } else {  // decay or momentum acts on the head that is not used
        train_heads(c, net, *optimizer, 0, steps);
        CHECK(difference_after(c, params, steps - 1) > 1e-4);
        CHECK(optimizer->parameter_steps().empty());
      }
    }
  });
  CHECK(cases == 6);
}

TEST_CASE("skip_unused: a run that is restored from a checkpoint after any step goes on to the bit") {
  const int cases = for_each_case("optimizers.safetensors", "unused", [](const FixtureCase& c) {
    const auto start = [&](const ParameterStore& params) {
      initialize(params, c);
      return make_skipping(c.hyper["optimizer"], c.hyper["options"], params);
    };
    const ParameterStore whole({.dtype = float64});
    const HeadsNet net(whole);
    const auto uninterrupted = start(whole);
    train_heads(c, net, *uninterrupted, 0, 12);
    for (const std::int64_t cut : {0, 2, 5, 9}) {
      const TempDir dir;
      const std::string name = (dir / "run").string();
      const ParameterStore first({.dtype = float64}), second({.dtype = float64});
      const HeadsNet begun(first), resumed(second);
      const auto before = start(first), after = start(second);
      Checkpoint saved, loaded;
      saved.add(first), loaded.add(second);
      saved.add("optimizer", *before), loaded.add("optimizer", *after);
      train_heads(c, begun, *before, 0, cut);
      saved.save(name);
      loaded.load(name);
      CHECK(after->parameter_steps() == before->parameter_steps());
      train_heads(c, resumed, *after, cut, 12);
      CHECK(values_of(second) == values_of(whole));
    }
  });
  CHECK(cases == 6);
}

TEST_CASE("skip_unused: in one group only, and in Lion") {
  const ParameterStore params({.dtype = float64, .seed = 2});
  const HeadsNet net(params);
  const Tensor before = params.theta().clone();
  const auto changed = [&](const char* name) {
    for (const auto& info : params.parameters())
      if (info.name == name) return !same_bits(part(before, info), params.tensor(info.index).detach());
    return false;
  };
  optim::SGD sgd(params, {.lr = 0.1, .weight_decay = 0.1},
                 {{is_bias, {.lr = 0.1, .weight_decay = 0.1, .skip_unused = true}}});
  net.loss('a', normal({4, 6}), zeros({4}, {int64})).backward();
  sgd.step();
  CHECK((changed("a.weight") && changed("a.bias") && changed("trunk.bias")));
  CHECK((changed("b.weight") && !changed("b.bias") && changed("never.weight") && !changed("never.bias")));
  CHECK(sgd.parameter_steps() == std::vector<std::uint64_t>{0, 1, 0, 1, 0, 0, 0, 0});

  before.copy_(params.theta());
  optim::Lion lion(params, {.lr = 0.1, .weight_decay = 0.1, .skip_unused = true});
  net.loss('b', normal({4, 6}), zeros({4}, {int64})).backward();
  lion.step();
  CHECK((changed("b.weight") && changed("trunk.weight") && !changed("a.weight") && !changed("never.bias")));
  CHECK_ERROR(lion.set_parameter_steps({1, 2}), ValueError, "8 parameters, got 2");
}

TEST_CASE("has_gradient of a parameter: set by what arrives, in every pass, and cleared") {
  const ParameterStore params({.dtype = float64, .seed = 2});
  const HeadsNet net(params);
  const Tensor x = normal({8, 6}), y = integers({8}, [](std::int64_t i) { return i % 3; });
  CHECK(reached(params).empty());
  (net.loss('a', x, y) * 0.0).backward();  // a gradient of zeros is one, as in PyTorch
  CHECK(reached(params) == trunk_and_a);
  params.zero_grad();
  CHECK(reached(params).empty());
  net.loss('a', x, y).backward();
  net.loss('b', x, y).backward();
  CHECK(reached(params).size() == 6);
  params.tensor("b.weight").zero_grad();
  CHECK(reached(params).size() == 5);
  params.zero_grad();
  static_cast<void>(grad(net.loss('a', x, y), {params.tensor("a.weight")}));  // touches no leaf
  CHECK(reached(params).empty());
  params.set_has_gradient(3);
  CHECK(reached(params) == std::vector<std::string>{params.parameters()[3].name});
  CHECK_ERROR(params.set_has_gradient(8), IndexError, "8");
  CHECK_ERROR(params.has_gradient(8), IndexError, "8");
  params.zero_grad();
  params.set_trainable("a.bias", false);
  net.loss('a', x, y).backward();
  CHECK(reached(params) == std::vector<std::string>{"trunk.weight", "trunk.bias", "a.weight"});
  params.set_trainable("a.bias", true);
  for (const auto estimator :
       {Estimator::replicas, Estimator::antithetic, Estimator::per_sample, Estimator::flipout})
    for (const auto memory : {ReplicaMemory::stored, ReplicaMemory::recomputed})
      for (const bool kept : {false, true}) {
        if (estimator == Estimator::per_sample && kept) continue;
        params.zero_grad();
        LowPassFilter filter({.M = estimator == Estimator::per_sample ? 1 : 2,
                              .gamma = 0.1,
                              .estimator = estimator,
                              .keep_replica_gradients = kept,
                              .memory = memory});
        const auto scope = filter.perturb(params);
        net.loss('a', x, y).backward();
        CHECK(reached(params) == trunk_and_a);
      }
}

TEST_CASE("skip_unused: inside SAM and a perturbed pass") {
  const Tensor x = normal({8, 6}), y = integers({8}, [](std::int64_t i) { return i % 3; });
  for (const bool sam : {false, true})
    for (const std::int64_t slices : {1, 2}) {
      const ParameterStore params({.dtype = float64, .seed = 2});
      const HeadsNet net(params);
      const Tensor before = params.theta().clone();
      optim::SGD sgd(params, {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1, .skip_unused = true});
      LowPassFilter filter({.M = slices, .gamma = 0.1});
      optim::SAM around(params, sgd, {.rho = 0.1, .slices = slices});
      for (int t = 0; t < 2; ++t) {
        if (sam) {
          around.step([&] { return net.loss('a', x, y); });
        } else {
          const auto scope = filter.perturb(params);
          net.loss('a', x, y).backward();
          sgd.step();
        }
      }
      for (const auto& info : params.parameters()) {
        const bool used = std::find(trunk_and_a.begin(), trunk_and_a.end(), info.name) != trunk_and_a.end();
        CHECK(same_bits(part(before, info), params.tensor(info.index).detach()) != used);
      }
    }
}
