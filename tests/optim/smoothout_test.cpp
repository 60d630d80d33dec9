// SmoothOut compared with the formula in Python (tests/fixtures/make_fixtures.py), with given noise;
// the distribution of its noise.
#include "lpf/optim/smoothout.hpp"

#include <limits>

#include "lpf/nn/normalization.hpp"
#include "lpf/optim/adam.hpp"
#include "lpf/optim/sgd.hpp"
#include "lpf/train/checkpoint.hpp"
#include "replay.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;
using optim::SmoothOut;

TEST_CASE("SmoothOut, plain and adaptive, agrees with the formula, the noise handed over") {
  const auto& file = FixtureFile::named("sam.safetensors");
  const auto names = file.cases_with([](const Json& h) { return h["op"] == "smoothout"; });
  CHECK(names.size() == 3);
  for (const auto& name : names) {
    CAPTURE(name);
    const FixtureCase c(file, name);
    const ParameterStore params({.dtype = DType::float64});
    const TanhNet net(params);
    initialize(params, c);
    const Json& base = c.hyper["base"];
    optim::SGD sgd(params, {.lr = base["lr"],
                            .momentum = base["momentum"],
                            .weight_decay = base["weight_decay"],
                            .nesterov = base["nesterov"]});
    const auto noise = [&](std::uint64_t draw) {
      const Tensor u = zeros_like(params.theta());
      for (const auto& info : params.parameters())
        part(u, info).copy_(c.at("eps." + info.name)[static_cast<std::int64_t>(draw)]);
      return reshape(u, {1, u.numel()});
    };
    SmoothOut smooth({.a = c.hyper["a"], .adaptive = c.hyper["adaptive"], .noise = noise});
    const Tensor x = c.at("x"), target = c.at("target");
    for (std::int64_t t = 0; t < 20; ++t) {
      CAPTURE(t);
      const auto before = values_of(params);
      {
        const auto scope = smooth.perturb(params);
        const Tensor loss = cross_entropy(net(x[t]), target[t]);
        CHECK(loss.item() == doctest::Approx(c.at("loss")[t].item()).epsilon(1e-12));
        loss.backward();
      }
      CHECK(values_of(params) == before);
      sgd.step();
      CHECK(difference_after(c, params, t) < 1e-12);
    }
    CHECK(smooth.draws() == 20);
  }
}

TEST_CASE("every case of the flat-minima fixtures has its test") {
  const auto& file = FixtureFile::named("sam.safetensors");
  const std::vector<std::string> tested{"sam", "asam", "lpf_sgd", "radius", "smoothout", "entropy_sgd"};
  for (const auto& [name, hyper] : file.cases)
    CHECK(std::count(tested.begin(), tested.end(), hyper.at("op").get<std::string>()) == 1);
}

TEST_CASE("SmoothOut: offsets are uniform in ±a, or in ±a times the norm of each filter") {
  const ParameterStore params({.dtype = DType::float64, .seed = 2});
  const nn::Linear fc(params / "fc", 400, 20);
  const auto& weight = params.parameters()[0];
  const auto& bias = params.parameters()[1];
  for (const bool adaptive : {false, true}) {
    CAPTURE(adaptive);
    const SmoothOut smooth({.a = 0.3, .adaptive = adaptive, .M = 2, .seed = 6});
    const Tensor offsets = smooth.offsets(params, 0);
    CHECK(offsets.shape() == Shape{2, params.theta().numel()});
    for (std::int64_t r = 0; r < 2; ++r) {
      const Tensor of_weight = part(offsets[r], weight), of_bias = part(offsets[r], bias);
      for (std::int64_t k = 0; k < 20; ++k) {
        const Tensor w = params.tensor("fc.weight")[k];
        const double s = 0.3 * (adaptive ? std::sqrt(w.square().sum().item()) : 1.0);
        const Tensor u = affine(of_weight[k], 1 / s, 0);  // 400 numbers of U(−1, 1)
        CHECK(u.abs().max().item() <= 1);
        CHECK(u.abs().max().item() > 0.97);
        CHECK(std::abs(u.mean().item()) < 4 * std::sqrt(1 / 3.0 / 400));
        CHECK(u.square().mean().item() == doctest::Approx(1 / 3.0).epsilon(0.2));
      }
      const double s = 0.3 * (adaptive ? std::sqrt(params.tensor("fc.bias").square().sum().item()) : 1.0);
      CHECK(of_bias.abs().max().item() <= s);
      CHECK(of_bias.abs().max().item() > 0.7 * s);
    }
    CHECK_FALSE(same_bits(offsets[0], offsets[1]));
    CHECK(same_bits(smooth.offsets(params, 0), offsets));
    CHECK_FALSE(same_bits(smooth.offsets(params, 1), offsets));
    CHECK_FALSE(same_bits(SmoothOut({.a = 0.3, .adaptive = adaptive, .M = 2, .seed = 7}).offsets(params, 0),
                          offsets));
  }
}

TEST_CASE(
    "SmoothOut: what is left out or frozen is not perturbed; any optimizer, clipping, parts of a batch") {
  const Task task(2);
  ParameterStore params({.dtype = DType::float64, .seed = 4});
  const TanhNet net(params);
  params.set_trainable("fc2.weight", false);
  SmoothOut smooth({.a = 0.5, .include = [](const ParameterInfo& info) { return !optim::is_vector(info); }});
  const Tensor offsets = smooth.offsets(params, 0)[0];
  for (const auto& info : params.parameters())
    CHECK((part(offsets, info).abs().max().item() > 0) == (info.name == "fc1.weight"));

  // two parts of a batch, each in its own pass, add up
  const Tensor theta = params.theta().clone();
  Tensor expected = zeros_like(theta);
  for (std::int64_t i = 0; i < 2; ++i) {
    ParameterStore moved({.dtype = DType::float64, .seed = 4});
    const TanhNet other(moved);
    moved.set_trainable("fc2.weight", false);
    moved.theta().copy_(add(theta, smooth.offsets(params, static_cast<std::uint64_t>(i))[0]));
    cross_entropy(other(task.x[i]), task.y[i]).backward();
    expected = add(expected, moved.gradient());
  }
  for (std::int64_t i = 0; i < 2; ++i) {
    const auto scope = smooth.perturb(params);
    cross_entropy(net(task.x[i]), task.y[i]).backward();
  }
  CHECK(difference(params.gradient(), expected) < 1e-14);
  optim::clip_grad_norm(params, 0.01);
  CHECK(optim::grad_norm(params) == doctest::Approx(0.01).epsilon(1e-3));
  optim::Adam adam(params, {.lr = 0.01}, {{optim::is_vector, {.lr = 0}}});
  adam.step();
  CHECK(params.tensor("fc1.bias").to_vector() == part(theta, params.parameters()[1]).to_vector());
  CHECK(values_of(params) != theta.to_vector());
}

TEST_CASE("SmoothOut: batch norm sees the whole batch; a checkpoint keeps the number of passes") {
  const Task task(1);
  const TempDir dir;
  const ParameterStore params({.dtype = DType::float64, .seed = 1});
  const nn::Linear fc(params / "fc", 6, 3);
  const nn::BatchNorm norm(params / "norm", 3);
  for (const auto policy : {BatchNormPolicy::per_replica, BatchNormPolicy::frozen}) {
    SmoothOut smooth({.batch_norm = policy});
    const auto scope = smooth.perturb(params);
    norm(fc(task.x[0]));
    CHECK(norm.num_batches_tracked.item() == 1);
  }
  SmoothOut smooth({.seed = 5}), again({.seed = 5}), other({.seed = 6});
  smooth.set_draws(17);
  const auto with = [&](SmoothOut& s) {
    Checkpoint c;
    c.add(params);
    c.add("smoothout", s);
    return c;
  };
  with(smooth).save((dir / "run").string());
  with(again).load((dir / "run").string());
  CHECK(again.draws() == 17);
  CHECK_THROWS_AS(with(other).load((dir / "run").string()), ValueError);
}

TEST_CASE("SmoothOut: what is out of range or out of place is refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const double bad : {-0.1, nan, inf}) CHECK_THROWS_AS(SmoothOut({.a = bad}), ValueError);
  CHECK_THROWS_AS(SmoothOut({.M = 0}), ValueError);
  const ParameterStore params({.dtype = DType::float64});
  const TanhNet net(params);
  SmoothOut noisy({.noise = [](std::uint64_t) { return zeros({1, 3}, f64); }});
  CHECK_ERROR(noisy.perturb(params), ShapeError, "noise", "[1, 3]");
  SmoothOut smooth;
  { const auto forgotten = smooth.perturb(params); }
  CHECK_ERROR(smooth.perturb(params), StateError, "ended without reading a parameter");
  const auto scope = smooth.perturb(params);
  CHECK_ERROR(smooth.perturb(params), StateError, "scopes do not nest");
}
