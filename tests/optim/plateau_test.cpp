// ReduceOnPlateau compared with PyTorch's ReduceLROnPlateau.
#include "lpf/optim/plateau.hpp"

#include "lpf/optim/sgd.hpp"
#include "lpf/train/checkpoint.hpp"
#include "replay.hpp"

using namespace lpf;
using namespace lpf::test;
using schedule::ReduceOnPlateau;
using schedule::ReduceOnPlateauOptions;

namespace {

/// The options of a case; those that PyTorch has in units of the rate are relative to it here.
ReduceOnPlateauOptions plateau_options(const FixtureCase& c) {
  const Json& o = c.hyper["options"];
  const double lr = c.hyper["lr"];
  return {.maximize = o.value("mode", "min") == "max",
          .factor = o.value("factor", 0.1),
          .patience = o.value("patience", std::uint64_t{10}),
          .threshold = o.value("threshold", 1e-4),
          .relative = o.value("threshold_mode", "rel") == "rel",
          .cooldown = o.value("cooldown", std::uint64_t{0}),
          .min_factor = o.value("min_lr", 0.0) / lr,
          .epsilon = o.value("eps", 1e-8) / lr};
}

/// The metrics of a case, with NaN and infinities.
std::vector<double> metrics_of(const FixtureCase& c) {
  std::vector<double> out = c.at("metrics").to_vector();
  const auto kind = c.at("kind").to_vector<std::int64_t>();
  for (std::size_t t = 0; t < out.size(); ++t)
    if (kind[t] != 0) out[t] = kind[t] == 1 ? not_a_number : kind[t] == 2 ? infinity : -infinity;
  return out;
}

}  // namespace

TEST_CASE("ReduceOnPlateau: PyTorch's learning rate after every metric") {
  int reductions = 0;
  const int cases = for_each_case("optimizers.safetensors", "plateau", [&](const FixtureCase& c) {
    const ParameterStore params = weight_and_bias();
    optim::SGD sgd(params, {.lr = c.hyper["lr"]});
    ReduceOnPlateau plateau(plateau_options(c));
    sgd.set_schedule(plateau);
    const auto metrics = metrics_of(c), lr = c.at("lr").to_vector();
    double before = sgd.lr();
    for (std::size_t t = 0; t < metrics.size(); ++t) {
      CAPTURE(t);
      const bool reduced = plateau.step(metrics[t]);
      CHECK(sgd.lr() == doctest::Approx(lr[t]).epsilon(1e-12));
      CHECK(reduced == (sgd.lr() < before));
      reductions += reduced;
      before = sgd.lr();
    }
  });
  CHECK(cases == 24);
  CHECK(reductions > 50);
}

TEST_CASE("ReduceOnPlateau: interrupted after any metric, a checkpoint goes on with the same decisions") {
  const int cases = for_each_case("optimizers.safetensors", "plateau", [&](const FixtureCase& c) {
    const auto metrics = metrics_of(c), lr = c.at("lr").to_vector();
    const double base = c.hyper["lr"];
    for (std::size_t cut = 0; cut < metrics.size(); cut += 5) {
      const TempDir dir;
      const ParameterStore params = weight_and_bias();
      ReduceOnPlateau first(plateau_options(c)), second(plateau_options(c));
      Checkpoint saved, loaded;
      saved.add(params), loaded.add(params);
      saved.add("schedule", first), loaded.add("schedule", second);
      for (std::size_t t = 0; t < cut; ++t) first.step(metrics[t]);
      saved.save((dir / "run").string());
      loaded.load((dir / "run").string());
      for (std::size_t t = cut; t < metrics.size(); ++t) {
        second.step(metrics[t]);
        CHECK(base * second(0) == doctest::Approx(lr[t]).epsilon(1e-12));
      }
      CHECK((cut == 0 || second.best() == first.best() || metrics.size() > cut));
    }
  });
  CHECK(cases == 24);
}

TEST_CASE("ReduceOnPlateau: copies share their state, and combine with other schedules") {
  ReduceOnPlateau plateau({.factor = 0.5, .patience = 0});
  const schedule::Schedule warm = schedule::chain({{schedule::warm_up(4, 0.5), 4}}, plateau);
  CHECK(warm(0) == 0.5);
  CHECK(warm(9) == 1);
  plateau.step(1);
  CHECK(plateau.step(1));
  CHECK(warm(9) == 0.5);
  CHECK(plateau(0) == 0.5);
  CHECK(plateau.best() == 1);
}

TEST_CASE("ReduceOnPlateau: options out of range are ValueErrors") {
  for (const double bad : {0.0, 1.0, -0.5, not_a_number})
    CHECK_ERROR(ReduceOnPlateau({.factor = bad}), ValueError, "[schedule::ReduceOnPlateau] factor",
                concat(bad));
  for (const double bad : {-1.0, not_a_number, infinity}) {
    CHECK_ERROR(ReduceOnPlateau({.threshold = bad}), ValueError, "threshold", concat(bad));
    CHECK_ERROR(ReduceOnPlateau({.min_factor = bad}), ValueError, "min_factor", concat(bad));
    CHECK_ERROR(ReduceOnPlateau({.epsilon = bad}), ValueError, "epsilon", concat(bad));
  }
  CHECK_THROWS_AS(ReduceOnPlateau({.min_factor = 1.5}), ValueError);
}
