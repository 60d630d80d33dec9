#include <cmath>

#include "lpf/autograd/engine.hpp"
#include "lpf/backend/backend.hpp"
#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/nn/conv.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/pool.hpp"
#include "lpf_test.hpp"

using namespace lpf;

namespace {

Tensor random(const Shape& shape, std::uint64_t seed) {
  Tensor out = empty(shape, {.dtype = float64});
  out.backend().normal(float64, {.seed = seed, .purpose = Purpose::user}, 0, out.numel(), out.raw());
  return out;
}

struct Net {
  nn::Conv2d conv1, conv2;
  nn::MaxPool2d pool{.kernel = 2};
  nn::GlobalAvgPool2d mean;
  nn::Linear fc;

  explicit Net(const nn::Path& p)
      : conv1(p / "conv1", 3, 4, 3, {.padding = 1}),
        conv2(p / "conv2", 4, 6, {3, 2}, {.stride = {1, 2}, .groups = 2, .bias = false}),
        fc(p / "fc", 6, 2) {}
  Tensor operator()(const Tensor& x) const { return fc(mean(conv2(pool(relu(conv1(x)))))); }
  static Tensor relu(const Tensor& x) { return maximum(x, zeros({}, x.options())); }
};

}  // namespace

TEST_CASE("Conv2d layer: names, shapes and PyTorch's initial values") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::Conv2d a(params / "a", 32, 64, {3, 5}, {.groups = 2}), b(params / "b", 3, 8, 1, {.bias = false});
  CHECK(a.weight.info().name == "a.weight");
  CHECK(a.weight.info().shape == Shape{64, 3, 5, 16});
  CHECK(a.weight.info().layout == Layout::filter);
  CHECK(a.bias.info().shape == Shape{64});
  CHECK(!b.bias.defined());
  const double bound = 1 / std::sqrt(3 * 5 * 16);
  for (const auto& p : {a.weight, a.bias}) {
    double largest = 0, mean = 0;
    const auto values = p.value().to_vector();
    for (const double v : values) {
      largest = std::max(largest, std::abs(v));
      mean += v / static_cast<double>(values.size());
    }
    CHECK(largest <= bound);
    CHECK(largest > 0.9 * bound);
    CHECK(std::abs(mean) < bound / std::sqrt(3 * static_cast<double>(values.size())) * 4);
  }
  const Tensor x = random({2, 7, 7, 32}, 1);
  CHECK(a(x).shape() == Shape{2, 5, 3, 64});
  CHECK(a(x).to_vector() == conv2d(x, a.weight, a.bias, {.groups = 2}).to_vector());
  const nn::Conv2d c(ParameterStore({.dtype = float64}) / "c", 1, 1, 2,
                     {.weight_init = init::constant(2), .bias_init = init::zeros()});
  CHECK(c(ones({1, 2, 2, 1}, {.dtype = float64})).item() == 8);
}

TEST_CASE("Conv2d layer: each misuse is a clear error") {
  const ParameterStore params;
  CHECK_THROWS_WITH_AS(nn::Conv2d(params / "x", 3, 4, 3, {.groups = 2}),
                       "[Conv2d] 'x': 3 channels in and 4 out do not divide into 2 groups", ShapeError);
  CHECK_THROWS_AS(nn::Conv2d(params / "x", 0, 4, 3), ValueError);
  CHECK_THROWS_AS(nn::Conv2d(params / "x", 3, 4, 0), ValueError);
  CHECK_THROWS_AS(nn::Conv2d(params / "x", 3, 4, 3, {.stride = 0}), ValueError);
  CHECK_THROWS_AS(nn::Conv2d(params / "x", 3, 4, 3, {.groups = 0}), ValueError);
  const nn::Conv2d conv(params / "x", 3, 4, 3);  // the failed ones left no parameters
  CHECK_THROWS_AS(conv(zeros({2, 5, 5, 4})), ShapeError);
}

TEST_CASE("pooling layers: the operations with their options") {
  const Tensor x = random({2, 7, 6, 3}, 1);
  CHECK(nn::MaxPool2d{2}(x).to_vector() == max_pool2d(x, 2).to_vector());
  CHECK(nn::MaxPool2d{.kernel = 3, .stride = {2, 1}, .padding = 1}(x).to_vector() ==
        max_pool2d(x, 3, {.stride = {2, 1}, .padding = 1}).to_vector());
  CHECK(nn::AvgPool2d{.kernel = 3, .padding = 1, .count_include_pad = false}(x).to_vector() ==
        avg_pool2d(x, 3, {.padding = 1, .count_include_pad = false}).to_vector());
  CHECK(nn::AdaptiveAvgPool2d{{2, 3}}(x).to_vector() == adaptive_avg_pool2d(x, {2, 3}).to_vector());
  CHECK(nn::GlobalAvgPool2d{}(x).shape() == Shape{2, 3});
}

TEST_CASE("Conv2d layer: one perturbed pass is the mean of M passes at perturbed weights") {
  for (const std::int64_t m : {1, 2, 3, 8, 13}) {
    CAPTURE(m);
    const ParameterStore params({.dtype = float64, .seed = 1});
    const Net net(params);
    const Tensor x = random({13, 8, 8, 3}, 2), target = random({13, 2}, 3), theta = params.theta().clone();
    LowPassFilter filter({.M = m, .gamma = 0.3});
    const Tensor offsets = filter.offsets(params, 0);
    {
      auto scope = filter.perturb(params);
      sum(net(x) * target).backward();
    }
    const auto one = params.gradient().to_vector();
    CHECK(params.theta().to_vector() == theta.to_vector());

    params.zero_grad();
    const auto begin = Slices(m, 13).boundaries();
    for (std::int64_t r = 0; r < m; ++r) {
      const auto from = begin[static_cast<std::size_t>(r)], to = begin[static_cast<std::size_t>(r) + 1];
      {
        const auto off = no_grad();
        params.theta().copy_(theta + offsets[r]);
      }
      sum(net(slice(x, 0, from, to)) * slice(target, 0, from, to)).backward();
    }
    const auto many = params.gradient().to_vector();
    double largest = 0, worst = 0;
    for (std::size_t i = 0; i < one.size(); ++i) {
      largest = std::max(largest, std::abs(many[i]));
      worst = std::max(worst, std::abs(many[i] - one[i]));
    }
    CHECK(worst < 1e-12 * largest);
  }
}
