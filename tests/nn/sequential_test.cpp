#include "lpf/nn/sequential.hpp"

#include "lpf/filter/unfused.hpp"
#include "lpf/nn/activation.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/ops/loss.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

nn::Sequential mlp(const nn::Path& p) {
  return nn::Sequential({nn::Linear(p / 0, 4, 6), nn::ReLU(), nn::Linear(p / 2, 6, 3)});
}

TEST_CASE("Sequential: its layers one after another") {
  const ParameterStore params({.dtype = float64, .seed = 3}), same({.dtype = float64, .seed = 3});
  const nn::Sequential net = mlp(params);
  const nn::Path p = same;
  const nn::Linear first(p / 0, 4, 6), second(p / 2, 6, 3);
  const Tensor x = normal({5, 4});
  CHECK(net.size() == 3);
  CHECK(same_bits(net(x), second(relu(first(x)))));
}

TEST_CASE("Sequential: PyTorch's names") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::Sequential net(
      {nn::Linear(params / "head" / 0, 4, 6), nn::ReLU(), nn::Linear(params / "head" / 2, 6, 3)});
  std::vector<std::string> names;
  for (const auto& info : params.parameters()) names.push_back(info.name);
  CHECK(names == std::vector<std::string>{"head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"});
}

TEST_CASE("Sequential: gradients of the input and of every parameter") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::Sequential net = mlp(params);
  const Tensor x = normal({5, 4});
  check_derivatives([&](const std::vector<Tensor>& in) { return net(in[0]); }, {x});

  const ParameterStore same({.dtype = float64, .seed = 3});
  const nn::Path p = same;
  const nn::Linear first(p / 0, 4, 6), second(p / 2, 6, 3);
  sum(square(net(x))).backward();
  sum(square(second(relu(first(x))))).backward();
  CHECK(same_bits(params.gradient(), same.gradient()));
  for (const auto& info : params.parameters()) {
    INFO(info.name);
    CHECK(any(params.tensor(info.index).grad() != 0.0).item<bool>());
  }
}

TEST_CASE("Sequential: in a perturbed pass every slice meets its own replica") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::Sequential net = mlp(params);
  const Tensor x = normal({10, 4}), y = from_vector<std::int64_t>({0, 1, 2, 0, 1, 2, 0, 1, 2, 0}, {10});
  const auto loss = [&](std::int64_t from, std::int64_t to) {
    return cross_entropy(net(slice(x, 0, from, to)), slice(y, 0, from, to));
  };
  LowPassFilter filter({.M = 4, .gamma = 0.2});
  {
    const auto scope = filter.perturb(params);
    loss(0, 10).backward();
  }
  const Tensor fused = params.gradient().clone();
  params.zero_grad();
  filter::unfused_gradient(params, filter, 0, 10, loss);
  CHECK(relative_error(fused, params.gradient(), 1e-3) < 1e-12);
  params.zero_grad();
  loss(0, 10).backward();
  CHECK(relative_error(fused, params.gradient(), 1e-3) > 1e-3);  // the filter has an effect
}

TEST_CASE("Sequential: empty it is the identity") {
  const Tensor x = normal({2, 3});
  CHECK(nn::Sequential()(x).is_same(x));
  CHECK(nn::Sequential({})(x).is_same(x));
  CHECK(nn::Sequential().size() == 0);
}

TEST_CASE("Sequential: functions, lambdas, layers of one's own and other Sequentials") {
  struct Twice {
    Tensor operator()(const Tensor& x) const { return x * 2.0; }
  };
  const Tensor x = normal({2, 3, 2});
  const nn::Sequential inner({Twice(), tanh});
  const nn::Sequential net({relu, inner, [](const Tensor& t) { return sum(t, {-1}); }});
  CHECK(same_bits(net(x), sum(tanh(relu(x) * 2.0), {-1})));
  CHECK(same_bits(nn::Sequential({inner})(x), inner(x)));
}

TEST_CASE("Sequential: append, and copies") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::Path p = params;
  nn::Sequential net({nn::Linear(p / 0, 4, 6)});
  const nn::Sequential before = net;
  net.append(nn::Tanh()).append(nn::Linear(p / 2, 6, 3));
  const Tensor x = normal({5, 4});
  CHECK(before.size() == 1);
  CHECK(before(x).shape() == Shape{5, 6});
  CHECK(net.size() == 3);
  CHECK(net(x).shape() == Shape{5, 3});
  const nn::Sequential copy = net;
  const Tensor y = copy(x);
  params.theta().fill_(0);  // a copy reads the same parameters
  CHECK(!same_bits(copy(x), y));
  CHECK(same_bits(copy(x), net(x)));
}

TEST_CASE("Sequential: errors") {
  CHECK_ERROR(nn::Sequential({nn::ReLU(), nn::Sequential::Layer()}), ValueError, "Sequential", "layer 1");
  nn::Sequential net;
  CHECK_ERROR(net.append(nullptr), ValueError, "Sequential", "layer 0");
  const ParameterStore params({.dtype = float64, .seed = 3});
  CHECK_ERROR(mlp(params)(zeros({5, 3}, {.dtype = float64})), ShapeError, "linear", "3 features");
}

}  // namespace
}  // namespace lpf::test
