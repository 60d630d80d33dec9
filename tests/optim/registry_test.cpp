// Methods of training by name.
#include "lpf/optim/registry.hpp"

#include <map>
#include <set>

#include "replay.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// θ after three updates of a method on the small task.
std::vector<double> trained(const std::string& name, const optim::MethodOptions& options = {}) {
  static const Task task(20, 12);
  const ParameterStore params({.dtype = DType::float64, .seed = 3});
  const TanhNet net(params);
  const auto method = optim::make(name, params, options);
  std::int64_t batch = 0;
  for (int update = 0; update < 3; ++update) {
    method->step([&](std::int64_t k) { return cross_entropy(net(task.x[batch + k]), task.y[batch + k]); });
    batch += method->batches();
  }
  return values_of(params);
}

/// The same by hand: step(params, net, loss) is called three times.
template <class Make>
std::vector<double> by_hand(Make make) {
  const Task task(20, 12);
  const ParameterStore params({.dtype = DType::float64, .seed = 3});
  const TanhNet net(params);
  auto step = make(params);
  for (std::int64_t t = 0; t < 3; ++t) step([&] { return cross_entropy(net(task.x[t]), task.y[t]); });
  return values_of(params);
}

/// A change of the setting of that name.
optim::MethodOptions changed(const std::string& setting) {
  optim::MethodOptions o;
  o.momentum = 0.9, o.M = 4, o.gamma = 0.05, o.rho = 0.2, o.total_steps = 10;  // large enough to show
  if (setting == "lr") o.lr = 0.05;
  if (setting == "momentum") o.momentum = 0.8;
  if (setting == "nesterov") o.nesterov = true;
  if (setting == "weight-decay") o.weight_decay = 0.1;
  if (setting == "clip-norm") o.clip_norm = 1e-3;
  if (setting == "seed") o.seed = 9;
  if (setting == "M") o.M = 2;
  if (setting == "gamma") o.gamma = 0.1;
  if (setting == "alpha") o.alpha = 3;
  if (setting == "law") o.law = NoiseLaw::tensor_wise;
  if (setting == "estimator") o.estimator = Estimator::antithetic;
  if (setting == "rho") o.rho = 5;  // Lion takes the signs alone
  if (setting == "eta") o.eta = 5;
  if (setting == "slices") o.slices = 2;
  if (setting == "a") o.a = 0.05;
  if (setting == "adaptive") o.adaptive = true;
  if (setting == "inner-steps") o.inner_steps = 2;
  if (setting == "inner-lr") o.inner_lr = 0.05;
  if (setting == "g0") o.g0 = 0.1;
  if (setting == "g1") o.g1 = 0.1;
  if (setting == "g-max") o.g_max = 0.3;
  return o;
}

}  // namespace

TEST_CASE("optim registry: an entry names exactly the settings that its method reads") {
  const std::vector<std::string> settings{"lr",       "momentum", "nesterov", "weight-decay", "M",
                                          "gamma",    "alpha",    "law",      "estimator",    "rho",
                                          "eta",      "slices",   "a",        "adaptive",     "inner-steps",
                                          "inner-lr", "g0",       "g1",       "g-max"};
  std::set<std::string> seen;
  for (const auto& m : optim::list()) {
    CAPTURE(m.name);
    CHECK(seen.insert(m.name).second);
    CHECK_FALSE(m.title.empty());
    CHECK_FALSE(m.description.empty());
    const auto usual = trained(m.name, changed(""));
    for (const auto& s : settings) {
      CAPTURE(s);
      CHECK((trained(m.name, changed(s)) != usual) == m.takes(s));
    }
    if (m.optimizer != "lion")  // whose update has no length
      CHECK(trained(m.name, changed("clip-norm")) != usual);
    for (const auto& s : m.settings)
      CHECK((s == "batch-norm" || std::find(settings.begin(), settings.end(), s) != settings.end()));
    for (const auto& s : m.strength) CHECK(m.takes(s));
    CHECK((m.slices.empty() || m.takes(m.slices)));
  }
  CHECK(optim::names().size() == optim::list().size());
}

TEST_CASE("optim registry: a method by name is the one by hand, to the bit") {
  CHECK(trained("sgd", {.lr = 0.2, .momentum = 0.9}) == by_hand([](const ParameterStore& params) {
          return [sgd = optim::SGD(params, {.lr = 0.2, .momentum = 0.9})](const auto& loss) mutable {
            loss().backward();
            sgd.step();
          };
        }));
  CHECK(trained("lpf-adam", {.lr = 0.01, .clip_norm = 0.1, .seed = 4, .M = 3, .gamma = 0.05}) ==
        by_hand([](const ParameterStore& params) {
          return [=, adam = optim::Adam(params, {.lr = 0.01}),
                  filter = LowPassFilter({.M = 3, .gamma = 0.05, .seed = 4})](const auto& loss) mutable {
            {
              const auto scope = filter.perturb(params);
              loss().backward();
            }
            optim::clip_grad_norm(params, 0.1);
            adam.step();
          };
        }));
  CHECK(trained("sam-lion", {.lr = 0.01, .rho = 0.1}) == by_hand([](const ParameterStore& params) {
          const auto lion = std::make_shared<optim::Lion>(params, optim::LionOptions{.lr = 0.01});
          return [lion, sam = optim::SAM(params, *lion, {.rho = 0.1})](const auto& loss) mutable {
            sam.step(loss);
          };
        }));
}

TEST_CASE("optim registry: what an update takes") {
  const ParameterStore params({.dtype = DType::float64});
  const TanhNet net(params);
  const auto of = [&](const char* name) { return optim::make(name, params, {.M = 4, .inner_steps = 7}); };
  CHECK((of("sgd")->evaluations() == 1 && of("sgd")->batches() == 1 && of("sgd")->replicas() == 0));
  CHECK((of("sam-adam")->evaluations() == 2 && of("sam-adam")->batches() == 1));
  CHECK((of("entropy-sgd")->evaluations() == 7 && of("entropy-sgd")->batches() == 7));
  CHECK((of("lpf-sgd")->evaluations() == 1 && of("lpf-sgd")->replicas() == 4));
  CHECK(of("lpf-sgd")->radius() == 5e-4);
  CHECK(std::isnan(of("smoothout")->radius()));
  CHECK_ERROR(of("entropy-sgd")->optimizer().step(), StateError, "give it the loss");
}

TEST_CASE("optim registry: a wrong name says the nearest right ones, and options are checked") {
  const ParameterStore params = weight_and_bias();
  CHECK_ERROR(optim::make("lpf-sdg", params), ValueError, "no optimizer 'lpf-sdg'", "did you mean 'lpf-sgd'");
  CHECK_ERROR(optim::info("adamm"), ValueError, "'adam'");
  CHECK_ERROR(optim::make("sgd", params, {.lr = -1}), ValueError, "[SGD]", "-1");
  CHECK_ERROR(optim::make("lpf-adam", params, {.gamma = -1}), ValueError, "[LowPassFilter]", "-1");
}
