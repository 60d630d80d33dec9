#include "fixture_case.hpp"
#include "lpf/filter/unfused.hpp"
#include "lpf/nn/activation.hpp"
#include "lpf/nn/dropout.hpp"
#include "lpf/nn/embedding.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/ops/conv.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/ops/pool.hpp"

namespace lpf::test {
namespace {

ParameterStore store() { return ParameterStore({.dtype = float64, .seed = 3}); }

nn::BatchNormOptions options_of(const FixtureCase& c) {
  nn::BatchNormOptions o{.eps = c.hyper["eps"], .affine = c.hyper["affine"]};
  if (c.hyper["momentum"].is_null()) {
    o.momentum = std::nullopt;
  } else {
    o.momentum = c.hyper["momentum"];
  }
  return o;
}

TEST_CASE("BatchNorm layer: PyTorch's running statistics") {
  const int cases = for_each_case("layers.safetensors", "batch_norm", [](const FixtureCase& c) {
    const ParameterStore params = store();
    const nn::BatchNorm layer(params / "bn", c["x"].size(-1), options_of(c));
    const auto off = no_grad();
    if (c["weight"].defined()) {
      layer.weight.clean().copy_(c["weight"]);
      layer.bias.clean().copy_(c["bias"]);
    }
    if (!c.hyper["training"]) {
      layer.running_mean.copy_(c["running_mean"]);
      layer.running_var.copy_(c["running_var"]);
      params.eval();
      CHECK(relative_error(layer(c["x"]), c["y"]) < 1e-10);
      CHECK(same_bits(layer.running_mean, c["running_mean"]));
      CHECK(layer.num_batches_tracked.item() == 0);
      return;
    }
    std::int64_t step = 0;
    for (const char* x : {"x_first", "x_second", "x"}) {
      const Tensor y = layer(c[x]);
      CHECK(relative_error(layer.running_mean, c["running_mean"][step]) < 1e-10);
      CHECK(relative_error(layer.running_var, c["running_var"][step]) < 1e-10);
      if (++step == 3) CHECK(relative_error(y, c["y"]) < 1e-10);
    }
    CHECK(layer.num_batches_tracked.item<std::int64_t>() == c["num_batches_tracked"].item<std::int64_t>());
  });
  CHECK(cases == 12);
}

TEST_CASE("layers: PyTorch's networks from end to end") {
  const FixtureFile& file = FixtureFile::named("layers.safetensors");
  const FixtureCase conv(file, "network_conv"), tokens(file, "network_tokens");
  check_case(conv, {"x", "conv.weight", "bn.weight", "bn.bias", "fc.weight", "fc.bias"}, [&](auto leaf) {
    const Tensor h = conv2d(leaf.at("x"), permute(leaf.at("conv.weight"), {0, 2, 3, 1}), {}, {.padding = 1});
    const auto normal = batch_norm_train(h, leaf.at("bn.weight"), leaf.at("bn.bias"), {0, 5});
    const Tensor flat = nn::Flatten{}(avg_pool2d(gelu(normal.y), 2));
    return cross_entropy(linear(flat, leaf.at("fc.weight"), leaf.at("fc.bias")), conv["target"]);
  });
  check_case(tokens,
             {"embed.weight", "norm.weight", "norm.bias", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"},
             [&](auto leaf) {
               const Tensor e = embedding(tokens["tokens"], leaf.at("embed.weight"));
               const Tensor h = layer_norm(e, leaf.at("norm.weight"), leaf.at("norm.bias"));
               const Tensor pooled = mean(silu(linear(h, leaf.at("fc1.weight"), leaf.at("fc1.bias"))), {1});
               return cross_entropy(linear(pooled, leaf.at("fc2.weight"), leaf.at("fc2.bias")),
                                    tokens["target"], {.label_smoothing = 0.1});
             });
}

/// One of every layer with a rule for replicas or with state.
struct Net {
  nn::Embedding embed;
  nn::LayerNorm norm;
  nn::Linear fc1;
  nn::BatchNorm bn1;
  nn::Dropout drop;
  nn::Linear fc2;
  nn::BatchNorm bn2;
  explicit Net(const nn::Path& p)
      : embed(p / "embed", 9, 4, {.padding_idx = 0}),
        norm(p / "norm", 4),
        fc1(p / "fc1", 4, 6),
        bn1(p / "bn1", 6),
        drop(p / "drop", 0.3),
        fc2(p / "fc2", 6, 3),
        bn2(p / "bn2", 3, {.momentum = std::nullopt, .affine = false}) {}
  Tensor operator()(const Tensor& tokens) const {
    const Tensor h = drop(gelu(bn1(fc1(norm(embed(tokens))))));  // [B, T, 6]
    return bn2(fc2(mean(h, {1})));
  }
};

struct Data {
  Tensor tokens, target;
  explicit Data(std::int64_t batch) {
    const NoiseKey key{.seed = 11};
    tokens = integers({batch, 3}, [&](std::int64_t i) { return uniform_below_at(key, i, 9); });
    target = integers({batch}, [&](std::int64_t i) { return uniform_below_at(key, 1000 + i, 3); });
  }
};

std::vector<Tensor> buffers_of(const ParameterStore& params) {
  std::vector<Tensor> out;
  for (const auto& b : params.buffers()) out.push_back(b.tensor.clone());
  return out;
}

TEST_CASE("layers: a perturbed pass is the published loop, with its gradient and its running statistics") {
  for (const std::int64_t M : {1, 2, 3, 8})
    for (const std::int64_t batch : {16, 19})
      for (const auto estimator : {Estimator::replicas, Estimator::antithetic})
        for (const bool kept : {false, true}) {
          if (estimator == Estimator::antithetic && M % 2) continue;
          const Data data(batch);
          const ParameterStore one = store(), other = store();
          const Net net(one), looped(other);
          const LowPassFilterOptions o{
              .M = M, .gamma = 0.1, .estimator = estimator, .seed = 5, .keep_replica_gradients = kept};
          LowPassFilter filter(o);
          for (std::uint64_t step = 0; step < 2; ++step) {
            double loss;
            {
              const auto scope = filter.perturb(one);
              const Tensor l = cross_entropy(net(data.tokens), data.target);
              l.backward();
              loss = l.item();
            }
            const double expected =
                filter::unfused_gradient(other, filter, step, batch, [&](std::int64_t from, std::int64_t to) {
                  return cross_entropy(looped(slice(data.tokens, 0, from, to)),
                                       slice(data.target, 0, from, to));
                });
            CHECK(loss == doctest::Approx(expected).epsilon(1e-12));
            const auto scale = [](const Tensor& t) {
              return t.backend().dot(t.dtype(), t.numel(), t.raw(), t.raw());
            };
            const Tensor difference = sub(one.gradient(), other.gradient());
            CHECK(std::sqrt(scale(difference)) < 1e-12 * std::sqrt(scale(other.gradient())));
            const auto a = buffers_of(one), b = buffers_of(other);
            REQUIRE(a.size() == 6);
            for (std::size_t i = 0; i < a.size(); ++i) CHECK(relative_error(a[i], b[i]) < 1e-12);
            CHECK(net.bn1.num_batches_tracked.item<std::int64_t>() ==
                  M * static_cast<std::int64_t>(step + 1));
          }
        }
}

TEST_CASE("BatchNorm layer: policies of a perturbed pass") {
  const Tensor x = normal({9, 2, 4}) * 2.0 + 1.0;
  const auto run = [&](BatchNormPolicy policy, std::vector<Tensor>* buffers, bool training = true) {
    const ParameterStore params = store();
    const nn::BatchNorm layer(params / "bn", 4);
    layer.running_mean.copy_(normal({4}, 2));
    params.train(training);
    LowPassFilter filter({.M = 3, .gamma = 0, .batch_norm = policy});
    const auto scope = filter.perturb(params);
    const Tensor y = layer(x).detach();
    *buffers = buffers_of(params);
    return y;
  };
  const auto plain = [&](bool training, std::vector<Tensor>* buffers) {
    const ParameterStore params = store();
    const nn::BatchNorm layer(params / "bn", 4);
    layer.running_mean.copy_(normal({4}, 2));
    params.train(training);
    const Tensor y = layer(x).detach();
    *buffers = buffers_of(params);
    return y;
  };
  std::vector<Tensor> pooled, frozen, each, recomputed, trained, evaluated, other;
  const Tensor y_pooled = run(BatchNormPolicy::pooled, &pooled),
               y_frozen = run(BatchNormPolicy::frozen, &frozen),
               y_each = run(BatchNormPolicy::per_replica, &each),
               y_recomputed = run(BatchNormPolicy::recomputed, &recomputed),
               y_trained = plain(true, &trained), y_evaluated = plain(false, &evaluated);
  CHECK(relative_error(y_pooled, y_trained) < 1e-14);
  CHECK(relative_error(y_frozen, y_evaluated) < 1e-14);
  CHECK(same_bits(y_recomputed, y_each));
  CHECK(relative_error(y_each, y_trained) > 0.01);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(same_bits(pooled[i], trained[i]));
    CHECK(same_bits(frozen[i], evaluated[i]));
    CHECK(same_bits(recomputed[i], evaluated[i]));
  }
  CHECK(trained[2].item() == 1);
  CHECK(evaluated[2].item() == 0);
  CHECK(each[2].item() == 3);
  // evaluation does not depend on the policy
  for (const auto policy : {BatchNormPolicy::per_replica, BatchNormPolicy::pooled, BatchNormPolicy::frozen})
    CHECK(relative_error(run(policy, &other, false), y_evaluated) < 1e-14);
}

TEST_CASE("BatchNorm layer: without running statistics, and statistics that do not reach into old graphs") {
  const ParameterStore params = store();
  const nn::BatchNorm layer(params / "bn", 4, {.track_running_stats = false});
  CHECK(params.buffers().empty());
  const Tensor x = normal({5, 4});
  const Tensor trained = layer(x).detach();
  params.eval();
  CHECK(same_bits(layer(x).detach(), trained));

  const ParameterStore more = store();
  const nn::BatchNorm tracked(more / "bn", 4);
  more.eval();
  const Tensor y = tracked(x),
               weight = tracked.weight.clean();  // the weight's gradient contains the running mean
  const Tensor before = grad(sum(y), {weight}, {.retain_graph = true})[0];
  more.train();
  static_cast<void>(tracked(normal({5, 4}, 2)));
  CHECK(same_bits(grad(sum(y), {weight})[0], before));
}

TEST_CASE("normalisation layers: names and initial values") {
  const ParameterStore params;
  const nn::BatchNorm2d bn(params / "a", 3);
  const nn::LayerNorm norm(params / "b", {2, 3}), no_bias(params / "c", 4, {.bias = false}),
      bare(params / "d", 4, {.affine = false});
  std::vector<std::string> names;
  for (const auto& info : params.parameters()) names.push_back(info.name);
  CHECK(names == std::vector<std::string>{"a.weight", "a.bias", "b.weight", "b.bias", "c.weight"});
  names.clear();
  for (const auto& b : params.buffers()) names.push_back(b.name);
  CHECK(names == std::vector<std::string>{"a.running_mean", "a.running_var", "a.num_batches_tracked"});
  CHECK(holds(bn.weight.clean(), {3}, {1, 1, 1}));
  CHECK(holds(bn.bias.clean(), {3}, {0, 0, 0}));
  CHECK(holds(bn.running_mean, {3}, {0, 0, 0}));
  CHECK(holds(bn.running_var, {3}, {1, 1, 1}));
  CHECK(bn.num_batches_tracked.dtype() == int64);
  CHECK(norm.weight.clean().shape() == Shape{2, 3});
  const Tensor x = normal({5, 2, 3}, 1, float32);
  CHECK(relative_error(norm(x), layer_norm(x, Shape{2, 3}, {}, {})) == 0);
  CHECK(bare(normal({2, 4}, 1, float32)).shape() == Shape{2, 4});
  CHECK(no_bias(normal({2, 4}, 1, float32)).shape() == Shape{2, 4});
}

TEST_CASE("normalisation layers: errors") {
  const ParameterStore params = store();
  const nn::BatchNorm bn(params / "bn", 3), untracked(params / "u", 3, {.track_running_stats = false});
  const nn::LayerNorm norm(params / "ln", 3);
  CHECK_ERROR(nn::BatchNorm(params / "e1", 0), ValueError, "'e1'", "0");
  CHECK_ERROR(nn::BatchNorm(params / "e2", 3, {.eps = -1}), ValueError, "'e2'", "eps");
  CHECK_ERROR(nn::BatchNorm(params / "e3", 3, {.momentum = 1.5}), ValueError, "'e3'", "momentum", "1.5");
  CHECK_ERROR(nn::LayerNorm(params / "e4", 0), ValueError, "'e4'");
  CHECK_ERROR(nn::LayerNorm(params / "e5", 3, {.eps = std::nan("")}), ValueError, "'e5'", "eps");
  CHECK_ERROR(bn(normal({3})), ShapeError, "'bn'", "[3]");
  CHECK_ERROR(bn(normal({4, 2})), ShapeError, "[3]", "[4, 2]");
  CHECK_ERROR(bn(normal({1, 3})), ShapeError, "B = 1");
  CHECK_ERROR(norm(normal({4, 2})), ShapeError, "[4, 2]", "[3]");
  LowPassFilter filter({.M = 8, .gamma = 0.1}),
      frozen({.M = 2, .gamma = 0.1, .batch_norm = BatchNormPolicy::frozen});
  const Tensor before = params.theta().clone();
  {
    const auto scope = filter.perturb(params);
    CHECK_ERROR(bn(normal({8, 3})), ShapeError, "M = 8", "B = 8");
  }
  {
    const auto scope = frozen.perturb(params);
    CHECK_ERROR(untracked(normal({8, 3})), StateError, "'u'", "frozen");
    static_cast<void>(bn(normal({8, 3})));
  }
  CHECK(same_bits(params.theta(), before));
  CHECK(bn.num_batches_tracked.item() == 0);
}

}  // namespace
}  // namespace lpf::test
