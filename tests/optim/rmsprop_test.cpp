// RMSprop compared with PyTorch's.
#include "lpf/optim/rmsprop.hpp"

#include <limits>

#include "lpf/optim/clip.hpp"
#include "lpf/train/checkpoint.hpp"
#include "replay.hpp"

using namespace lpf;
using namespace lpf::test;
using optim::RMSprop;
using optim::RMSpropOptions;

namespace {

RMSpropOptions rmsprop_options(const Json& o) {
  return {.lr = o.at("lr"),
          .alpha = o.value("alpha", 0.99),
          .epsilon = o.value("eps", 1e-8),
          .momentum = o.value("momentum", 0.0),
          .weight_decay = o.value("weight_decay", 0.0),
          .centered = o.value("centered", false)};
}

}  // namespace

TEST_CASE("RMSprop: 20 steps of every variant agree with PyTorch") {
  const int cases = for_each_case("optimizers.safetensors", "RMSprop", [](const FixtureCase& c) {
    const auto make = [](const ParameterStore& params, const std::vector<Json>& groups) {
      std::vector<optim::ParameterGroup<RMSpropOptions>> own;
      if (groups.size() == 2) own.push_back({is_bias, rmsprop_options(groups[1])});
      return RMSprop(params, rmsprop_options(groups[0]), own);
    };
    replay(c, make, {{"v", "square_avg"}, {"average", "grad_avg"}, {"buffer", "momentum_buffer"}});
  });
  CHECK(cases == 7);
}

TEST_CASE("RMSprop: elements without a gradient stay, also with epsilon = 0, and so does the padding of θ") {
  for (const double epsilon : {0.0, 1e-8})
    for (const bool centered : {false, true}) {
      const ParameterStore params = weight_and_bias();
      const std::int64_t gap = 12;  // behind the weight
      for (const auto& info : params.parameters()) params.tensor(info.index).detach().fill_(1);
      RMSprop rmsprop(params, {.lr = 0.1, .epsilon = epsilon, .momentum = 0.5, .centered = centered});
      for (int t = 0; t < 3; ++t) {
        set_gradient(params, 1, full({4}, t + 1.0, f64));
        rmsprop.step();
      }
      CHECK(params.tensor("weight").to_vector() == std::vector<double>(12, 1.0));
      CHECK(params.theta().to_vector()[gap] == 0);
      CHECK(params.tensor("bias").to_vector()[0] < 0);
    }
}

TEST_CASE("RMSprop: centred, a constant gradient whose variance rounds below 0 gives no NaN") {
  const ParameterStore params({.dtype = float32});
  nn::Path(params).parameter("w", {64}, init::zeros());
  RMSprop rmsprop(params, {.lr = 1e-6, .alpha = 0.5, .epsilon = 1e-2, .centered = true});
  const Tensor g = normal({64}, 3, float32);
  for (int t = 0; t < 200; ++t) {
    params.gradient().copy_(g);
    rmsprop.step();
  }
  CHECK(all(is_finite(params.theta())).item<bool>());
  CHECK(is_nan([&] {  // a NaN of the gradient is not hidden
          params.gradient().fill_(not_a_number);
          rmsprop.step();
          return params.tensor("w").detach();
        }())
            .to_vector()[0] == 1);
}

TEST_CASE("RMSprop: a run that is restored from a checkpoint goes on to the bit") {
  const RMSpropOptions options{.lr = 0.02, .momentum = 0.8, .weight_decay = 0.01, .centered = true};
  const auto train = [](const ParameterStore& params, RMSprop& rmsprop, std::uint64_t from,
                        std::uint64_t to) {
    for (std::uint64_t t = from; t < to; ++t) {
      for (const auto& info : params.parameters())
        set_gradient(params, info.index, normal(info.shape, 100 * t + info.index + 1));
      rmsprop.step();
    }
  };
  const auto parts = [](Checkpoint& checkpoint, const ParameterStore& params, RMSprop& rmsprop) {
    checkpoint.add(params);
    checkpoint.add("rmsprop", rmsprop);
  };
  const ParameterStore whole = weight_and_bias(), first = weight_and_bias(), second = weight_and_bias();
  RMSprop uninterrupted(whole, options), begun(first, options), resumed(second, options);
  train(whole, uninterrupted, 0, 20);
  const TempDir dir;
  const std::string name = (dir / "run").string();
  Checkpoint saved, loaded;
  parts(saved, first, begun), parts(loaded, second, resumed);
  train(first, begun, 0, 9);
  saved.save(name);
  loaded.load(name);
  train(second, resumed, 9, 20);
  CHECK(values_of(second) == values_of(whole));
}

TEST_CASE("RMSprop: the defaults are PyTorch's, and options out of range are ValueErrors") {
  const RMSpropOptions o;
  CHECK((o.lr == 0.01 && o.alpha == 0.99 && o.epsilon == 1e-8 && o.momentum == 0 && o.weight_decay == 0));
  const ParameterStore params = weight_and_bias();
  CHECK(RMSprop(params).state().size() == 1);
  CHECK(RMSprop(params, {}, {{is_bias, {.momentum = 0.5, .centered = true}}}).state().size() == 3);
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const double bad : {-0.1, nan, inf}) {
    CAPTURE(bad);
    for (const RMSpropOptions& options :
         {RMSpropOptions{.lr = bad}, RMSpropOptions{.epsilon = bad}, RMSpropOptions{.momentum = bad},
          RMSpropOptions{.weight_decay = bad}})
      CHECK_ERROR(RMSprop(params, options), ValueError, "[RMSprop] lr, epsilon, momentum and weight_decay",
                  concat(bad));
    CHECK_ERROR(RMSprop(params, {.alpha = bad}), ValueError, "[RMSprop] alpha", concat(bad));
  }
  CHECK_THROWS_AS(RMSprop(params, {.alpha = 1}), ValueError);
  CHECK_THROWS_AS(RMSprop(params, {}, {{is_bias, {.lr = -1}}}), ValueError);
}
