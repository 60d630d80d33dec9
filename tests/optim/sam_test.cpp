// The flat-minima optimizers compared with plain implementations in Python (tests/fixtures/make_fixtures.py):
// SAM, ASAM, m-sharpness, LPF-SGD and LPF-Adam with given noise.
#include "lpf/optim/sam.hpp"

#include <limits>

#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/optim/adam.hpp"
#include "lpf/optim/sgd.hpp"
#include "replay.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

optim::SGDOptions sgd_from(const Json& o) {
  return {
      .lr = o["lr"], .momentum = o["momentum"], .weight_decay = o["weight_decay"], .nesterov = o["nesterov"]};
}

const FixtureFile& cases() { return FixtureFile::named("sam.safetensors"); }

/// Replays a case of LPF-SGD or LPF-Adam: s from LPF's law, ε from the file.
template <class Optimizer>
void replay_filter(const FixtureCase& c, ParameterStore params, const TanhNet& net, Optimizer& optimizer) {
  INFO(c.name());
  const std::int64_t M = c.hyper["M"], steps = c.hyper["steps"], size = params.theta().numel();
  const Radius radius{c.hyper["gamma0"], c.hyper["alpha"], c.hyper["total_steps"]};
  const NoiseLaw law = c.hyper["law"] == "tensor" ? NoiseLaw::tensor_wise : NoiseLaw::filter_wise;
  const filter::Segments rows = filter::segments_of(params, law, {});
  const Tensor x = c.at("x"), target = c.at("target");
  for (std::int64_t t = 0; t < steps; ++t) {
    CAPTURE(t);
    const double gamma = radius.at(params.updates());
    CHECK(gamma == doctest::Approx(c.at("gamma")[t].item()).epsilon(1e-14));
    const Tensor s = filter::scales(params, rows, gamma), offsets = zeros({M, size}, f64);
    for (const auto& info : params.parameters()) {
      const auto& segment = rows.segments[static_cast<std::size_t>(rows.segment_of[info.index])];
      const Tensor own = s.narrow(0, segment.first_scale, segment.rows), theirs = c.at("s." + info.name)[t];
      CHECK(difference(own, expand(reshape(theirs, {theirs.numel()}), {segment.rows})) < 1e-14);
      const Tensor eps = c.at("eps." + info.name)[t];
      for (std::int64_t r = 0; r < M; ++r) {
        const Tensor e = reshape(eps[r], {segment.rows, segment.length});
        offsets.alias({segment.rows, segment.length}, r * size + info.offset)
            .copy_(mul(e, reshape(own, {segment.rows, 1})));
      }
    }
    {
      filter::PassOptions pass{.M = M};
      pass.perturbations = offsets;
      const filter::Perturbation scope(params, rows, pass);
      const Tensor losses = cross_entropy(net(x[t]), target[t], {.reduction = Reduction::none});
      const auto by_replica = scope.replica_losses(losses);
      CHECK(difference(from_vector(by_replica, {M}), c.at("loss")[t]) < 1e-13);
      mean(losses).backward();
    }
    optimizer.step();
    CHECK(difference_after(c, params, t) < 1e-12);
  }
}

}  // namespace

TEST_CASE("SAM, ASAM and m-sharpness agree with the formulas") {
  const auto& file = cases();
  const auto names = file.cases_with([](const Json& h) { return h["op"] == "sam" || h["op"] == "asam"; });
  CHECK(names.size() == 9);
  for (const auto& name : names) {
    CAPTURE(name);
    const FixtureCase c(file, name);
    const Json& h = c.hyper;
    ParameterStore params({.dtype = DType::float64});
    const TanhNet net(params);
    initialize(params, c);
    std::vector<optim::ParameterGroup<optim::SGDOptions>> groups;
    if (h["base"].contains("biases")) groups.push_back({optim::is_vector, sgd_from(h["base"]["biases"])});
    optim::SGD sgd(params, sgd_from(h["base"]), groups);
    const std::int64_t parts = h["parts"], slices = h["slices"];
    optim::SAMOptions options{.rho = h["rho"],
                              .slices = slices > 1 ? slices / parts : 1,
                              .accumulate = parts,
                              .clip_norm = h["clip_norm"]};
    if (h["op"] == "asam") options.adaptive = true, options.eta = h["eta"];
    optim::SAM sam(params, sgd, options);
    const Tensor x = c.at("x"), target = c.at("target");
    const std::int64_t size = x.size(1) / parts;
    for (std::int64_t t = 0; t < 20; ++t) {
      int calls = 0;
      const Tensor loss = sam.step([&](std::int64_t k) {
        ++calls;
        return cross_entropy(net(x[t].slice(0, k * size, (k + 1) * size)),
                             target[t].slice(0, k * size, (k + 1) * size));
      });
      CHECK(calls == 2 * parts);
      CHECK(loss.item() == doctest::Approx(c.at("loss")[t].item()).epsilon(1e-12));
      CHECK_FALSE(loss.requires_grad());
      CHECK(difference_after(c, params, t) < 1e-12);
    }
  }
}

TEST_CASE("LPF-SGD and LPF-Adam agree with the formulas, s and the noise handed over") {
  const auto& file = cases();
  const auto names = file.cases_with([](const Json& h) { return h["op"] == "lpf_sgd"; });
  CHECK(names.size() == 7);
  for (const auto& name : names) {
    const FixtureCase c(file, name);
    ParameterStore params({.dtype = DType::float64});
    const TanhNet net(params);
    initialize(params, c);
    if (c.hyper["base"].contains("optimizer")) {
      REQUIRE(c.hyper["base"]["optimizer"] == "adam");
      optim::Adam adam(params, {.lr = c.hyper["base"]["lr"]});
      replay_filter(c, params, net, adam);
    } else {
      optim::SGD sgd(params, sgd_from(c.hyper["base"]));
      replay_filter(c, params, net, sgd);
    }
  }
}

TEST_CASE("the radius follows its cosine, both ends included") {
  const auto& file = cases();
  const FixtureCase c(file, "radius_cosine");
  const Radius radius{c.hyper["gamma0"], c.hyper["alpha"], c.hyper["total_steps"]};
  const auto gamma = c.at("gamma").to_vector();
  REQUIRE(gamma.size() == 21);
  for (std::size_t t = 0; t < gamma.size(); ++t)
    CHECK(radius.at(t) == doctest::Approx(gamma[t]).epsilon(1e-14));
  CHECK(radius.at(1000) == doctest::Approx(gamma[20]).epsilon(1e-14));
  CHECK(Radius{0.1, 1, 0}.at(5) == 0.1);
}

TEST_CASE("SAM: ragged slices ascend by their own gradients") {
  const Task task(1, 11);
  const Tensor x = task.x[0], y = task.y[0];
  ParameterStore params({.dtype = DType::float64, .seed = 4});
  const TanhNet net(params);
  const Tensor theta = params.theta().clone();
  // by hand: three passes over slices of 4, 4 and 3 samples, each at its own θ + e
  Tensor wanted = zeros_like(theta);
  const std::int64_t cut[] = {0, 4, 8, 11};
  for (int r = 0; r < 3; ++r) {
    const auto loss = [&] {
      return cross_entropy(net(x.slice(0, cut[r], cut[r + 1])), y.slice(0, cut[r], cut[r + 1]));
    };
    params.zero_grad();
    loss().backward();
    params.theta().copy_(add(theta, affine(params.gradient(), 0.3 / optim::grad_norm(params), 0)));
    params.zero_grad();
    loss().backward();
    wanted = add(wanted, affine(params.gradient(), static_cast<double>(cut[r + 1] - cut[r]) / 11, 0));
    params.theta().copy_(theta);
  }
  params.zero_grad();
  optim::SGD sgd(params, {.lr = 1});
  optim::SAM sam(params, sgd, {.rho = 0.3, .slices = 3});
  sam.step([&] { return cross_entropy(net(x), y); });
  CHECK(difference(params.theta(), sub(theta, wanted)) < 1e-10);
}

TEST_CASE("SAM: batch norm's policy is that of the second pass") {
  const Task task(2);
  const auto step = [&](BatchNormPolicy policy, std::int64_t slices) {
    const ParameterStore params({.dtype = DType::float64, .seed = 1});
    const nn::Linear in(params / "in", 6, 5), out(params / "out", 5, 3);
    const nn::BatchNorm norm(params / "norm", 5);
    optim::SGD sgd(params, {.lr = 0.1});
    optim::SAM sam(params, sgd, {.rho = 0.5, .slices = slices, .batch_norm = policy});
    for (std::int64_t t = 0; t < 2; ++t)
      sam.step([&] { return cross_entropy(out(norm(in(task.x[t]))), task.y[t]); });
    return std::pair(norm.num_batches_tracked.item(), values_of(params));
  };
  using enum BatchNormPolicy;
  CHECK(step(recomputed, 1).first == 2);   // the first passes
  CHECK(step(per_replica, 1).first == 4);  // both
  CHECK(step(frozen, 1).first == 2);
  CHECK(step(recomputed, 3).first == 6);  // each slice of the first passes
  CHECK(step(per_replica, 3).first == 12);
  CHECK(step(recomputed, 1).second == step(per_replica, 1).second);  // statistics of the batch in both
  CHECK(step(frozen, 1).second != step(recomputed, 1).second);
}

TEST_CASE("SAM: a gradient that is there already, and parts that are not told apart, are refused") {
  const Task task(2);
  ParameterStore params({.dtype = DType::float64});
  const TanhNet net(params);
  optim::SGD sgd(params, {.lr = 0.1});
  optim::SAM sam(params, sgd), parts(params, sgd, {.accumulate = 2});
  const auto before = values_of(params);
  const auto loss = [&] { return cross_entropy(net(task.x[0]), task.y[0]); };
  loss().backward();
  CHECK_ERROR(sam.step(loss), StateError, "there is a gradient already", "accumulate", "zero_grad");
  CHECK(optim::grad_norm(params) > 0);  // it was not cleared
  CHECK_ERROR((params.zero_grad(), parts.step(loss)), ValueError, "accumulate is 2", "number of the part");
  CHECK(values_of(params) == before);
  CHECK_NOTHROW(parts.step([&](auto k) { return cross_entropy(net(task.x[k]), task.y[k]); }));
}

TEST_CASE("SAM leaves frozen parameters, and one that the loss does not use, as they are") {
  const Task task(2);
  for (const std::int64_t slices : {1, 4}) {
    ParameterStore params({.dtype = DType::float64});
    const TanhNet net(params);
    const nn::Linear unused(nn::Path(params) / "unused", 3, 3);
    params.set_trainable("fc1.weight", false);
    const auto frozen = params.tensor("fc1.weight").to_vector(),
               idle = params.tensor("unused.weight").to_vector();
    const auto moving = params.tensor("fc2.weight").to_vector();
    optim::SGD sgd(params, {.lr = 0.1, .momentum = 0.9});
    optim::SAM sam(params, sgd, {.rho = 0.5, .slices = slices});
    for (std::int64_t t = 0; t < 2; ++t) sam.step([&] { return cross_entropy(net(task.x[t]), task.y[t]); });
    CHECK(params.tensor("fc1.weight").to_vector() == frozen);
    CHECK(params.tensor("unused.weight").to_vector() == idle);
    CHECK(params.tensor("fc2.weight").to_vector() != moving);
    CHECK(params.updates() == 2);
  }
}

TEST_CASE("SAM: θ is not written between the passes, and a loss that throws leaves it") {
  const Task task(1);
  ParameterStore params({.dtype = DType::float64});
  const TanhNet net(params);
  optim::SGD sgd(params, {.lr = 0.1});
  const auto before = values_of(params);
  for (const std::int64_t slices : {1, 3}) {
    for (const int bad : {1, 2}) {
      optim::SAM sam(params, sgd, {.slices = slices});
      int calls = 0;
      const auto loss = [&] {
        CHECK(values_of(params) == before);
        const Tensor l = cross_entropy(net(task.x[0]), task.y[0]);
        if (++calls == bad) throw std::runtime_error("the user's");
        return l;
      };
      CHECK_THROWS_WITH(sam.step(loss), "the user's");
      CHECK(values_of(params) == before);
      CHECK(optim::grad_norm(params) == 0);
    }
  }
  optim::SAM sam(params, sgd);
  CHECK_NOTHROW(sam.step([&] { return cross_entropy(net(task.x[0]), task.y[0]); }));
}

TEST_CASE(
    "SAM: options out of range are ValueErrors, too few samples a ShapeError, a nested scope a StateError") {
  const Task task(1, 3);
  ParameterStore params({.dtype = DType::float64});
  const TanhNet net(params);
  optim::SGD sgd(params);
  using SAM = optim::SAM<optim::SGD>;
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const double bad : {-0.1, nan, inf}) {
    CHECK_THROWS_AS(SAM(params, sgd, {.rho = bad}), ValueError);
    CHECK_THROWS_AS(SAM(params, sgd, {.eta = bad}), ValueError);
    CHECK_THROWS_AS(SAM(params, sgd, {.clip_norm = bad}), ValueError);
  }
  CHECK_THROWS_AS(SAM(params, sgd, {.slices = 0}), ValueError);
  CHECK_THROWS_AS(SAM(params, sgd, {.accumulate = 0}), ValueError);
  const auto loss = [&] { return cross_entropy(net(task.x[0]), task.y[0]); };
  SAM too_many(params, sgd, {.slices = 4});
  CHECK_THROWS_AS(too_many.step(loss), ShapeError);
  LowPassFilter filter({.M = 2});
  const auto scope = filter.perturb(params);
  SAM sam(params, sgd);
  CHECK_THROWS_AS(sam.step(loss), StateError);
}

TEST_CASE("SAM and Adam: 20 steps have the same bits for 1, 2 and 3 threads") {
  const Task task(20, 96, DType::float32);
  for (const std::int64_t slices : {1, 5}) {
    std::vector<std::vector<double>> runs;
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      ParameterStore params({.seed = 3});
      const nn::Linear in(nn::Path(params) / "in", 6, 200), hidden(nn::Path(params) / "hidden", 200, 200),
          out(nn::Path(params) / "out", 200, 3);
      optim::AdamW adam(params, {.lr = 1e-3, .weight_decay = 0.01, .amsgrad = true});
      optim::SAM sam(params, adam, {.rho = 0.2, .adaptive = slices == 1, .slices = slices});
      for (std::int64_t t = 0; t < 20; ++t)
        sam.step([&] { return cross_entropy(out(tanh(hidden(tanh(in(task.x[t]))))), task.y[t]); });
      runs.push_back(values_of(params));
    }
    set_num_threads(0);
    CHECK(runs[0] == runs[1]);
    CHECK(runs[0] == runs[2]);
  }
}
