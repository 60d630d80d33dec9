// Layers for sequences, and group norm: Conv1d, pooling, GroupNorm.
#include <cmath>

#include "fixture_case.hpp"
#include "lpf/nn/conv1d.hpp"
#include "lpf/nn/group_norm.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/pool.hpp"
#include "lpf/nn/pool1d.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/train/weights.hpp"
#include "perturbed_loop.hpp"

namespace lpf::test {
namespace {

/// Convolutions, group norm over a sequence and over vectors, pooling.
struct SequenceNet {
  nn::Conv1d conv1, conv2;
  nn::GroupNorm norm, vectors;
  nn::Linear fc;
  explicit SequenceNet(const nn::Path& p)
      : conv1(p / "conv1", 3, 4, 3, {.padding = 1}),
        conv2(p / "conv2", 4, 6, 2, {.stride = 2, .dilation = 2, .groups = 2, .bias = false}),
        norm(p / "norm", 2, 4),
        vectors(p / "vectors", 3, 6, {.eps = 1e-3}),
        fc(p / "fc", 6, 3) {}
  Tensor operator()(const Tensor& x) const {  // [B, 12, 3]
    const Tensor h = nn::MaxPool1d{.kernel = 3, .stride = 2, .ceil_mode = true}(gelu(norm(conv1(x))));
    return fc(vectors(nn::GlobalAvgPool1d{}(conv2(h))));
  }
};

TEST_CASE("Conv1d and GroupNorm layers: a perturbed pass is the published loop") {
  for (const std::int64_t M : {1, 2, 3, 8})
    for (const auto estimator : {Estimator::replicas, Estimator::antithetic})
      for (const auto memory : {ReplicaMemory::automatic, ReplicaMemory::stored, ReplicaMemory::recomputed})
        for (const bool kept : {false, true}) {
          if (estimator == Estimator::antithetic && M % 2) continue;
          const std::int64_t batch = 19;
          const Tensor x = normal({batch, 12, 3});
          const Tensor target = integers({batch}, [](std::int64_t i) { return i % 3; });
          const ParameterStore params({.dtype = float64, .seed = 3});
          const SequenceNet net(params);
          const LowPassFilterOptions options{.M = M,
                                             .gamma = 0.1,
                                             .estimator = estimator,
                                             .seed = 5,
                                             .keep_replica_gradients = kept,
                                             .memory = memory};
          CHECK(against_loop(params, options, batch, [&](std::int64_t from, std::int64_t to) {
                  return cross_entropy(net(slice(x, 0, from, to)), slice(target, 0, from, to));
                }) < exactly);
        }
}

TEST_CASE("Conv1d layer: names, shapes, PyTorch's initial values and layouts, errors") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::Conv1d a(params / "a", 32, 64, 5, {.groups = 2}), b(params / "b", 3, 8, 1, {.bias = false});
  CHECK(a.weight.info().name == "a.weight");
  CHECK(a.weight.info().shape == Shape{64, 5, 16});
  CHECK(a.weight.info().layout == Layout::filter);
  CHECK(a.bias.info().shape == Shape{64});
  CHECK_FALSE(b.bias.defined());
  const double bound = 1 / std::sqrt(5 * 16), largest = abs(a.weight.clean()).max().item();
  CHECK((largest <= bound && largest > 0.99 * bound));
  const Tensor x = normal({2, 9, 32});
  CHECK(same_bits(a(x), conv1d(x, a.weight, a.bias, {.groups = 2})));

  const NamedTensors state = state_dict(params);  // [out, in/groups, k] in PyTorch
  REQUIRE(state[0].first == "a.weight");
  CHECK(same_bits(state[0].second, permute(a.weight.clean().detach(), {0, 2, 1})));
  const TempDir dir;
  const std::string path = (dir / "net.safetensors").string();
  save_weights(path, params);
  const ParameterStore other({.dtype = float64, .seed = 4});
  const nn::Conv1d c(other / "a", 32, 64, 5, {.groups = 2}), d(other / "b", 3, 8, 1, {.bias = false});
  load_weights(path, other);
  CHECK(same_bits(other.theta(), params.theta()));

  const ParameterStore more;
  CHECK_ERROR(nn::Conv1d(more / "e", 3, 4, 3, {.groups = 2}), ShapeError,
              "[Conv1d] 'e': 3 channels in and 4 out");
  CHECK_ERROR(nn::Conv1d(more / "e", 0, 4, 3), ValueError, "[Conv1d] 'e'");
  CHECK_ERROR(nn::Conv1d(more / "e", 3, 4, 0), ValueError, "[Conv1d]", "kernel");
  CHECK_ERROR(nn::Conv1d(more / "e", 3, 4, 3, {.stride = 0}), ValueError, "[Conv1d]", "stride", "got 0");
  CHECK(more.parameters().empty());
}

TEST_CASE("Conv1d layer: PyTorch's weights give PyTorch's values") {
  const int cases = for_each_case("sequences.safetensors", "conv1d", [](const FixtureCase& c) {
    const TempDir dir;
    const std::string path = (dir / "net.safetensors").string();
    NamedTensors weights{{"conv.weight", c["weight"]}};
    if (c["bias"].defined()) weights.emplace_back("conv.bias", c["bias"]);
    save_safetensors(path, weights);
    const ParameterStore params({.dtype = float64});
    const std::int64_t groups = c.hyper["groups"];
    const nn::Conv1d conv(
        params / "conv", c["x"].size(-1), c["weight"].size(0), c["weight"].size(2),
        {c.hyper["stride"], c.hyper["padding"], c.hyper["dilation"], groups, c["bias"].defined()});
    load_weights(path, params);
    CHECK(relative_error(conv(c["x"]), c["y"]) < 1e-10);
  });
  CHECK(cases == 11);
}

TEST_CASE("GroupNorm layer: names, initial values, errors") {
  const ParameterStore params;
  const nn::GroupNorm norm(params / "a", 2, 6), bare(params / "b", 3, 6, {.eps = 0.1, .affine = false});
  REQUIRE(params.parameters().size() == 2);
  CHECK(params.parameters()[0].name == "a.weight");
  CHECK(params.parameters()[1].name == "a.bias");
  CHECK(holds(norm.weight.clean(), {6}, {1, 1, 1, 1, 1, 1}));
  CHECK(holds(norm.bias.clean(), {6}, {0, 0, 0, 0, 0, 0}));
  const Tensor x = normal({5, 2, 3, 6}, 1, float32);
  CHECK(largest_difference(norm(x).detach(), group_norm(x, 2)) == 0);
  CHECK(same_bits(bare(x), group_norm(x, 3, {}, {}, 0.1)));
  CHECK_ERROR(norm(normal({5, 4}, 1, float32)), ShapeError, "[group_norm]", "[5, 4]");
  const ParameterStore more;
  CHECK_ERROR(nn::GroupNorm(more / "e1", 4, 6), ShapeError, "[GroupNorm] 'e1': 6 channels", "4 groups");
  CHECK_ERROR(nn::GroupNorm(more / "e2", 0, 6), ValueError, "'e2'", "got 0 and 6");
  CHECK_ERROR(nn::GroupNorm(more / "e3", 1, 0), ValueError, "'e3'", "got 1 and 0");
  CHECK_ERROR(nn::GroupNorm(more / "e4", 2, 6, {.eps = -1}), ValueError, "'e4'", "eps", "-1");
  CHECK_ERROR(nn::GroupNorm(more / "e5", 2, 6, {.eps = not_a_number}), ValueError, "'e5'", "eps");
  CHECK(more.parameters().empty());
}

TEST_CASE("pooling layers of sequences, and ceil_mode: the operations with their options") {
  const Tensor x = normal({2, 8, 3}), image = normal({2, 7, 6, 3});
  CHECK(same_bits(nn::MaxPool1d{2}(x), max_pool1d(x, 2)));
  CHECK(same_bits(nn::MaxPool1d{.kernel = 3, .stride = 2, .padding = 1, .ceil_mode = true}(x),
                  max_pool1d(x, 3, {2, 1, true})));
  CHECK(same_bits(
      nn::AvgPool1d{.kernel = 3, .stride = 2, .padding = 1, .count_include_pad = false, .ceil_mode = true}(x),
      avg_pool1d(x, 3, {2, 1, false, true})));
  CHECK(same_bits(nn::AdaptiveAvgPool1d{3}(x), adaptive_avg_pool1d(x, 3)));
  CHECK(same_bits(nn::GlobalAvgPool1d{}(x), global_avg_pool1d(x)));
  CHECK(same_bits(nn::GlobalMaxPool1d{}(x), global_max_pool1d(x)));
  CHECK(same_bits(nn::GlobalMaxPool2d{}(image), global_max_pool2d(image)));
  CHECK(same_bits(nn::MaxPool2d{.kernel = 2, .ceil_mode = true}(image),
                  max_pool2d(image, 2, {.ceil_mode = true})));
  CHECK(same_bits(nn::AvgPool2d{.kernel = 2, .ceil_mode = true, .divisor_override = 3}(image),
                  avg_pool2d(image, 2, {.ceil_mode = true, .divisor_override = 3})));
}

}  // namespace
}  // namespace lpf::test
