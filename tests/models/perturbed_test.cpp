// The networks in perturbed passes, and Shake-Shake's random weights.
#include <functional>
#include <vector>

#include "lpf/filter/unfused.hpp"
#include "lpf/models/registry.hpp"
#include "lpf/ops/loss.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

struct Small {
  const char* name;
  Shape image;
  std::function<models::Model(const nn::Path&)> make;
};

const std::vector<Small> small_networks{
    {"small lenet",
     {16, 16, 1},
     [](const nn::Path& p) -> models::Model {
       return models::SmallLeNet(p, {.classes = 3, .image = 16, .channels = {2, 3}, .features = {5, 4}});
     }},
    {"convnet",
     {5, 6, 2},
     [](const nn::Path& p) -> models::Model {
       return models::ConvNet(p, {.classes = 3, .in_channels = 2, .width = 2});
     }},
    {"convnet1d",
     {1, 12, 2},
     [](const nn::Path& p) -> models::Model {
       return models::ConvNet1d(p, {.classes = 3, .length = 12, .in_channels = 2, .width = 3});
     }},
    {"lenet",
     {8, 8, 1},
     [](const nn::Path& p) -> models::Model {
       return models::LeNet(p, {.classes = 3, .image = 8, .channels = {2, 3}, .features = 5});
     }},
    {"resnet",
     {8, 8, 3},
     [](const nn::Path& p) -> models::Model {
       return models::ResNet(p, {.blocks = {1, 1, 1}, .width = 2, .classes = 3, .conv_bias = true});
     }},
    {"wide resnet",
     {8, 8, 3},
     [](const nn::Path& p) -> models::Model {
       return models::WideResNet(p, {.depth = 10, .widen = 2, .classes = 3, .stem = 2});
     }},
    {"shake-shake",
     {8, 8, 3},
     [](const nn::Path& p) -> models::Model {
       return models::ShakeShake(p, {.depth = 8, .width = 2, .classes = 3, .stem = 2});
     }},
    {"pyramidnet",
     {8, 8, 3},
     [](const nn::Path& p) -> models::Model {
       return models::PyramidNet(p, {.depth = 11, .alpha = 4, .classes = 3, .stem = 2});
     }},
};

}  // namespace

TEST_CASE("models: one perturbed pass is the published loop, dropout and Shake-Shake's weights included") {
  constexpr std::int64_t batch = 11, M = 3;
  const Tensor y = integers({batch}, [](std::int64_t i) { return i % 3; });
  for (const Small& s : small_networks) {
    CAPTURE(s.name);
    const ParameterStore one({.dtype = float64, .seed = 3}), other({.dtype = float64, .seed = 3});
    const models::Model net = s.make(one), same = s.make(other);
    const Tensor x = normal({batch, s.image[0], s.image[1], s.image[2]});
    LowPassFilter filter({.M = M, .gamma = 0.05, .seed = 5});
    for (std::uint64_t draw = 0; draw < 2; ++draw) {
      double loss;
      {
        const auto scope = filter.perturb(one);
        const Tensor l = cross_entropy(net(x), y);
        l.backward();
        loss = l.item();
      }
      const double expected = filter::unfused_gradient(other, filter, draw, batch, [&](auto from, auto to) {
        return cross_entropy(same(slice(x, 0, from, to)), slice(y, 0, from, to));
      });
      CHECK(loss == doctest::Approx(expected).epsilon(1e-12));
      const Tensor difference = abs(one.gradient() - other.gradient());
      CHECK(difference.max().item() < 1e-11 * abs(other.gradient()).max().item());
      for (std::size_t i = 0; i < one.counters().size(); ++i)
        CHECK(*one.counters()[i].value == *other.counters()[i].value);
    }
  }
}

TEST_CASE("models: shake mixes by alpha, and sends back by beta") {
  const Tensor a = normal({3, 2, 2, 2}, 1), b = normal({3, 2, 2, 2}, 2), g = normal({3, 2, 2, 2}, 3);
  const Tensor alpha = uniform({3, 1, 1, 1}, 0, 1, 4), beta = uniform({3, 1, 1, 1}, 0, 1, 5);
  a.requires_grad_();
  b.requires_grad_();
  const Tensor y = models::shake(a, b, alpha, beta);
  CHECK(relative_error(y.detach(), (alpha * a + (1.0 - alpha) * b).detach()) < 1e-15);
  y.backward(g);
  CHECK(relative_error(a.grad(), beta * g) < 1e-15);
  CHECK(relative_error(b.grad(), (1.0 - beta) * g) < 1e-15);
  // with alpha = beta it is an ordinary operation with consistent derivatives
  const auto f = [&](const std::vector<Tensor>& in) { return models::shake(in[0], in[1], alpha, alpha); };
  CHECK(wrong_derivatives(f, {a.detach(), b.detach()}) == "");
}

TEST_CASE(
    "models: Shake-Shake draws anew for each image, block and pass, by the seed, and not in evaluation") {
  const auto run = [](std::uint64_t seed, const char* block, DType dtype, int passes) {
    const ParameterStore params({.dtype = dtype, .seed = seed});
    const models::Shake shake(params / block);
    Tensor y;  // for ones and zeros it equals alpha
    for (int i = 0; i < passes; ++i)
      y = shake(ones({1000, 1, 1, 1}, {.dtype = dtype}), zeros({1000, 1, 1, 1}, {.dtype = dtype}));
    return y;
  };
  const Tensor alpha = run(1, "a", float64, 1);
  CHECK(alpha.mean().item() == doctest::Approx(0.5).epsilon(0.05));
  CHECK((alpha - 0.5).square().mean().item() == doctest::Approx(1 / 12.0).epsilon(0.05));
  CHECK(same_bits(run(1, "a", float64, 1), alpha));
  CHECK(same_bits(run(1, "a", float32, 1), alpha.to(float32)));
  for (const Tensor& other : {run(2, "a", float64, 1), run(1, "b", float64, 1), run(1, "a", float64, 2)})
    CHECK(abs((alpha - 0.5) * (other - 0.5)).mean().item() < 0.07);  // independent: 1/16

  const ParameterStore params({.dtype = float64, .seed = 1});
  const models::Shake shake(params / "a");
  const Tensor one = ones({4, 1, 1, 1}, {.dtype = float64}), zero = zeros_like(one);
  {
    const EvalMode mode(params);
    CHECK(holds(shake(one, zero), {4, 1, 1, 1}, {0.5, 0.5, 0.5, 0.5}));
  }
  {
    const nn::MicroBatch part(4, 4);
    CHECK_ERROR(shake(one, zero), StateError, "'a'", "begins at sample 4");
  }
  CHECK(same_bits(shake(one, zero), slice(alpha, 0, 0, 4)));  // evaluation did not draw
  const nn::MicroBatch part(4, 4);
  CHECK(same_bits(shake(one, zero), slice(alpha, 0, 4, 8)));
}
