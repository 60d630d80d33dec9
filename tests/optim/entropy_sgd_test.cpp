// Entropy-SGD compared with the formula in Python (tests/fixtures/make_fixtures.py), with given noise; the
// cost of an update, groups, batch norm, clipping, resuming.
#include "lpf/optim/entropy_sgd.hpp"

#include <limits>

#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/train/checkpoint.hpp"
#include "replay.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;
using optim::EntropySGD;
using optim::EntropySGDOptions;

namespace {

constexpr double none = std::numeric_limits<double>::infinity();

EntropySGDOptions entropy_sgd_options(const Json& h) {
  return {.lr = h["lr"],
          .momentum = h["momentum"],
          .weight_decay = h["weight_decay"],
          .inner_lr = h["inner_lr"],
          .inner_momentum = h["inner_momentum"],
          .inner_weight_decay = h["inner_weight_decay"],
          .epsilon = h["noise"],
          .average = h["average"],
          .inner_steps = h["inner_steps"],
          .g0 = h["g0"],
          .g1 = h["g1"],
          .g_max = h["g_max"].is_null() ? none : h["g_max"].get<double>()};
}

/// The 6-5-3 network on its own task; each call of loss() is the next batch.
struct Run {
  ParameterStore params;
  TanhNet net;
  Task task;
  std::int64_t batch = 0;

  explicit Run(DType dtype = DType::float64)
      : params({.dtype = dtype, .seed = 4}), net(params), task(40, 12, dtype) {}
  Tensor loss() {
    const std::int64_t t = batch++ % 40;
    return cross_entropy(net(task.x[t]), task.y[t]);
  }
};

}  // namespace

TEST_CASE("Entropy-SGD agrees with the formula, the noise handed over") {
  const auto& file = FixtureFile::named("sam.safetensors");
  const auto names = file.cases_with([](const Json& h) { return h["op"] == "entropy_sgd"; });
  CHECK(names.size() == 2);
  for (const auto& name : names) {
    CAPTURE(name);
    const FixtureCase c(file, name);
    const ParameterStore params({.dtype = DType::float64});
    const TanhNet net(params);
    initialize(params, c);
    EntropySGDOptions options = entropy_sgd_options(c.hyper);
    const auto L = static_cast<std::uint64_t>(options.inner_steps);
    options.noise = [&](std::uint64_t draw) {
      const Tensor xi = zeros_like(params.theta());
      for (const auto& info : params.parameters())
        part(xi, info).copy_(c.at(
            "eps." + info.name)[static_cast<std::int64_t>(draw / L)][static_cast<std::int64_t>(draw % L)]);
      return xi;
    };
    EntropySGD optimizer(params, options);
    const Tensor x = c.at("x"), target = c.at("target");
    const std::int64_t steps = c.hyper["steps"];
    CHECK(steps == 20);
    for (std::int64_t t = 0; t < steps; ++t) {
      CAPTURE(t);
      CHECK(optimizer.scope() == doctest::Approx(c.at("scope")[t].item()).epsilon(1e-14));
      std::int64_t i = 0;
      const Tensor loss = optimizer.step([&] {
        const Tensor l = cross_entropy(net(x[t][i]), target[t][i]);
        CHECK(l.item() == doctest::Approx(c.at("loss")[t][i].item()).epsilon(1e-12));
        ++i;
        return l;
      });
      CHECK(i == options.inner_steps);
      CHECK(loss.item() == doctest::Approx(c.at("loss")[t].mean().item()).epsilon(1e-12));
      CHECK_FALSE(loss.requires_grad());
      CHECK(difference_after(c, params, t) < 1e-12);
    }
    CHECK(params.updates() == static_cast<std::uint64_t>(steps));
  }
}

TEST_CASE("Entropy-SGD: an update costs L passes, during which θ keeps its bits, also if one throws") {
  for (const int L : {1, 5}) {
    Run run;
    const auto before = values_of(run.params);
    EntropySGD optimizer(run.params, {.inner_steps = L});
    CHECK(optimizer.passes() == L);
    for (int bad = 0; bad < L; ++bad) {
      int calls = 0;
      const auto loss = [&] {
        if (calls++ == bad) throw std::runtime_error("the user's");
        return run.loss();
      };
      CHECK_THROWS_WITH(optimizer.step(loss), "the user's");
      CHECK(values_of(run.params) == before);
    }
    CHECK(run.params.updates() == 0);
    int calls = 0;
    optimizer.step([&] {
      ++calls;
      CHECK(values_of(run.params) == before);
      return run.loss();
    });
    CHECK(calls == L);
    CHECK(values_of(run.params) != before);
    CHECK(run.params.updates() == 1);
    for (const double g : run.params.gradient().to_vector()) CHECK(g == 0);
  }
}

TEST_CASE("Entropy-SGD: groups, the schedule, frozen parameters") {
  // the update is linear in lr·schedule: half the rate moves half as far
  const auto moved = [](const EntropySGDOptions& options, const EntropySGDOptions& biases, double factor) {
    Run run;
    const Tensor before = run.params.theta().clone();
    EntropySGD optimizer(run.params, options, {{is_bias, biases}});
    optimizer.set_schedule(schedule::constant(factor));
    optimizer.step([&] { return run.loss(); });
    const Tensor step = sub(run.params.theta(), before);
    return std::pair(part(step, run.params.parameters()[0]).clone(),
                     part(step, run.params.parameters()[1]).clone());
  };
  const auto [weight, bias] = moved({}, {}, 1);
  const auto [weight_half, bias_tenth] = moved({}, {.lr = 0.1}, 0.5);
  CHECK(difference(affine(weight, 0.5, 0), weight_half) < 1e-14);
  CHECK(difference(affine(bias, 0.1, 0), bias_tenth) < 1e-14);
  // dynamics of a group: with a negligible inner rate a group does not move
  const auto [weight_as_before, bias_still] = moved({}, {.inner_lr = 1e-300}, 1);
  CHECK(relative_error(weight_as_before, weight) < 1e-2);
  CHECK(bias_still.abs().max().item() == 0);

  Run run;
  run.params.set_trainable("fc1.weight", false);
  const auto frozen = run.params.tensor("fc1.weight").to_vector();
  EntropySGD optimizer(run.params, {.weight_decay = 0.1, .inner_weight_decay = 0.1});
  for (int t = 0; t < 2; ++t) optimizer.step([&] { return run.loss(); });
  CHECK(run.params.tensor("fc1.weight").to_vector() == frozen);
  std::vector<double> inside(static_cast<std::size_t>(run.params.theta().numel()), 0.0);
  for (const auto& info : run.params.parameters())
    std::fill_n(inside.begin() + info.offset, info.numel(), 1.0);
  const auto theta = values_of(run.params);
  for (std::size_t i = 0; i < theta.size(); ++i)
    if (inside[i] == 0) CHECK(theta[i] == 0);  // gaps between parameters stay zero
}

TEST_CASE("Entropy-SGD: one inner step without noise and scope is a step of SGD on μ") {
  // θ' = x − η'(∇L + λ'x), μ = ax + (1 − a)θ', x ← x − ηg(x − μ)
  Run run, other;
  EntropySGD optimizer(run.params, {.lr = 0.7,
                                    .momentum = 0,
                                    .inner_lr = 0.3,
                                    .inner_momentum = 0.5,
                                    .inner_weight_decay = 0.01,
                                    .epsilon = 0,
                                    .average = 0.6,
                                    .inner_steps = 1,
                                    .g0 = 0.5,
                                    .g1 = 0});
  optimizer.step([&] { return run.loss(); });
  other.loss().backward();
  const auto off = no_grad();
  const Tensor d = add(other.params.gradient(), affine(other.params.theta(), 0.01, 0));
  const Tensor expected = sub(other.params.theta(), affine(d, 0.7 * 0.5 * (1 - 0.6) * 0.3, 0));
  CHECK(difference(run.params.theta(), expected) < 1e-15);
}

TEST_CASE("Entropy-SGD: the gradients of several batches make one inner step, and clipping limits it") {
  Run whole, parts;
  EntropySGD a(whole.params, {.clip_norm = 0.01}), b(parts.params, {.accumulate = 2, .clip_norm = 0.01});
  a.step([&] { return whole.loss(); });
  int calls = 0;
  const Tensor loss = b.step([&] {
    const Tensor x = parts.task.x[calls / 2], y = parts.task.y[calls / 2];
    const int half = calls++ % 2;
    return cross_entropy(parts.net(slice(x, 0, 6 * half, 6 * half + 6)), slice(y, 0, 6 * half, 6 * half + 6));
  });
  CHECK(calls == 10);
  CHECK(b.passes() == 10);
  CHECK(loss.shape() == Shape{});
  CHECK(difference(whole.params.theta(), parts.params.theta()) < 1e-14);

  // Without noise and decay v is at most clip/(1 − m'), so θ' and μ move by at most η'·L·clip/(1 − m').
  Run run;
  const Tensor before = run.params.theta().clone();
  EntropySGD clipped(run.params,
                     {.momentum = 0, .inner_weight_decay = 0, .epsilon = 0, .g0 = 1e-6, .clip_norm = 1e-3});
  clipped.step([&] { return run.loss(); });
  const double moved = std::sqrt(sub(run.params.theta(), before).square().sum().item()) / (0.5 * 1e-6);
  CHECK(moved > 0);
  CHECK(moved < 0.1 * 5 * 1e-3 / (1 - 0.9));
}

TEST_CASE("Entropy-SGD: the batch-norm policy is that of the passes") {
  const Task task(5);
  for (const auto policy :
       {BatchNormPolicy::per_replica, BatchNormPolicy::recomputed, BatchNormPolicy::frozen}) {
    const ParameterStore params({.dtype = DType::float64, .seed = 1});
    const nn::Linear in(params / "in", 6, 5), out(params / "out", 5, 3);
    const nn::BatchNorm norm(params / "norm", 5);
    EntropySGD optimizer(params, {.batch_norm = policy});
    std::int64_t t = 0;
    optimizer.step([&] {
      const Tensor loss = cross_entropy(out(norm(in(task.x[t]))), task.y[t]);
      ++t;
      return loss;
    });
    CHECK(norm.num_batches_tracked.item() == (policy == BatchNormPolicy::per_replica ? 5 : 0));
  }
}

TEST_CASE("Entropy-SGD: a resumed run has the bits of an uninterrupted one; the seed is that of its noise") {
  const TempDir dir;
  const EntropySGDOptions options{.weight_decay = 1e-3, .epsilon = 0.1, .seed = 3};
  const auto file = (dir / "run").string();
  Run straight(DType::float32);
  EntropySGD optimizer(straight.params, options);
  for (int t = 0; t < 6; ++t) {
    optimizer.step([&] { return straight.loss(); });
    if (t != 2) continue;
    Checkpoint checkpoint;
    checkpoint.add(straight.params);
    checkpoint.add("optimizer", optimizer);
    checkpoint.add("batch", straight.batch);
    checkpoint.save(file);
  }
  Run resumed(DType::float32);
  EntropySGD again(resumed.params, options);
  Checkpoint checkpoint;
  checkpoint.add(resumed.params);
  checkpoint.add("optimizer", again);
  checkpoint.add("batch", resumed.batch);
  checkpoint.load(file);
  CHECK(again.steps() == 3);
  for (int t = 3; t < 6; ++t) again.step([&] { return resumed.loss(); });
  CHECK(values_of(resumed.params) == values_of(straight.params));

  Run other(DType::float32);
  EntropySGDOptions seed = options;
  seed.seed = 4;
  EntropySGD different(other.params, seed);
  for (int t = 0; t < 6; ++t) different.step([&] { return other.loss(); });
  CHECK(values_of(other.params) != values_of(straight.params));
}

TEST_CASE("Entropy-SGD: what is out of range or out of place is refused") {
  Run run;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {-0.1, nan, none}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(EntropySGD(run.params, {.lr = bad}), ValueError);
    CHECK_THROWS_AS(EntropySGD(run.params, {.momentum = bad}), ValueError);
    CHECK_THROWS_AS(EntropySGD(run.params, {.weight_decay = bad}), ValueError);
    CHECK_THROWS_AS(EntropySGD(run.params, {.inner_lr = bad}), ValueError);
    CHECK_THROWS_AS(EntropySGD(run.params, {.inner_momentum = bad}), ValueError);
    CHECK_THROWS_AS(EntropySGD(run.params, {.inner_weight_decay = bad}), ValueError);
    CHECK_THROWS_AS(EntropySGD(run.params, {.epsilon = bad}), ValueError);
    CHECK_THROWS_AS(EntropySGD(run.params, {.average = bad}), ValueError);
    CHECK_THROWS_AS(EntropySGD(run.params, {.g0 = bad}), ValueError);
    CHECK_THROWS_AS(EntropySGD(run.params, {.clip_norm = bad}), ValueError);
  }
  CHECK_THROWS_AS(EntropySGD(run.params, {.inner_steps = 0}), ValueError);
  CHECK_THROWS_AS(EntropySGD(run.params, {.accumulate = 0}), ValueError);
  CHECK_THROWS_AS(EntropySGD(run.params, {.average = 1}), ValueError);
  CHECK_THROWS_AS(EntropySGD(run.params, {.g_max = nan}), ValueError);
  CHECK_NOTHROW(EntropySGD(run.params, {.g_max = none}));
  CHECK_ERROR(EntropySGD(run.params, {}, {{is_bias, {.lr = -1}}}), ValueError, "lr");
  CHECK_ERROR(EntropySGD(run.params, {.inner_steps = 3}, {{is_bias, {.weight_decay = 0}}}), ValueError,
              "inner_steps", "a group cannot", "copy");
  EntropySGD noisy(run.params, {.noise = [](std::uint64_t) { return zeros({3}, f64); }});
  CHECK_ERROR(noisy.step([&] { return run.loss(); }), ShapeError, "noise", "[3]");
  // inside a perturbed pass it cannot open its own passes
  LowPassFilter filter({.M = 2});
  const auto scope = filter.perturb(run.params);
  EntropySGD optimizer(run.params);
  CHECK_THROWS_AS(optimizer.step([&] { return run.loss(); }), StateError);
}

TEST_CASE("Entropy-SGD: the dynamics alone leave the gradient of the update") {
  const EntropySGDOptions options{
      .lr = 0.3, .momentum = 0, .inner_steps = 3, .g0 = 0.4, .g1 = 0.1, .seed = 5};
  Run whole, alone;
  EntropySGD optimizer(whole.params, options), dynamics(alone.params, options);
  optim::SGD sgd(alone.params, {.lr = 1});
  for (std::uint64_t t = 0; t < 4; ++t) {
    const double loss = optimizer.step([&] { return whole.loss(); }).item();
    const Tensor before = alone.params.theta().clone();
    CHECK(dynamics.gradient([&] { return alone.loss(); }).item() == loss);
    CHECK(same_bits(alone.params.theta(), before));
    CHECK(dynamics.steps() == t);
    // The base optimizer of this test takes the rate times the scope; θ is then the same.
    const double scope = 0.4 * std::pow(1.1, static_cast<double>(t));
    alone.params.gradient().copy_(alone.params.gradient() * (0.3 * scope));
    sgd.step();
    dynamics.set_steps(t + 1);
    CHECK(largest_difference(alone.params.theta(), whole.params.theta()) < 1e-15);
    CHECK(alone.params.updates() == t + 1);
  }
}
