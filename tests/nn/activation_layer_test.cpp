#include "lpf/nn/activation.hpp"

#include "fixture_case.hpp"
#include "lpf/ops/linear.hpp"

namespace lpf::test {
namespace {

TEST_CASE("activation layers are their functions") {
  const Tensor x = normal({3, 4});
  CHECK(same_bits(nn::ReLU{}(x), relu(x)));
  CHECK(same_bits(nn::LeakyReLU{}(x), leaky_relu(x, 0.01)));
  CHECK(same_bits(nn::LeakyReLU{.slope = 0.2}(x), leaky_relu(x, 0.2)));
  CHECK(same_bits(nn::ELU{.alpha = 0.5}(x), elu(x, 0.5)));
  CHECK(same_bits(nn::GELU{}(x), gelu(x)));
  CHECK(same_bits(nn::GELU{Gelu::tanh}(x), gelu(x, Gelu::tanh)));
  CHECK(same_bits(nn::SiLU{}(x), silu(x)));
  CHECK(same_bits(nn::Tanh{}(x), tanh(x)));
  CHECK(same_bits(nn::Sigmoid{}(x), sigmoid(x)));
  CHECK(same_bits(nn::Softplus{}(x), softplus(x)));
  CHECK(same_bits(nn::Softmax{}(x), softmax(x)));
  CHECK(same_bits(nn::Softmax{.axis = 0}(x), softmax(x, 0)));
  CHECK(same_bits(nn::LogSoftmax{}(x), log_softmax(x)));
}

TEST_CASE("Flatten: images in PyTorch's order") {
  int cases = for_each_case("layers.safetensors", "flatten", [](const FixtureCase& c) {
    check_case(c, {"x"}, [](auto leaf) { return nn::Flatten{}(leaf.at("x")); });
  });
  cases += for_each_case("layers.safetensors", "flatten, linear", [](const FixtureCase& c) {
    check_case(c, {"x", "weight", "bias"}, [](auto leaf) {
      return linear(nn::Flatten{}(leaf.at("x")), leaf.at("weight"), leaf.at("bias"));
    });
  });
  CHECK(cases == 2);
  CHECK(holds(nn::Flatten{}(reshape(arange(8), {1, 2, 2, 2})), {1, 8}, {0, 2, 4, 6, 1, 3, 5, 7}));
  CHECK(holds(nn::Flatten{}(reshape(arange(6), {1, 3, 2})), {1, 6}, {0, 1, 2, 3, 4, 5}));
  CHECK(nn::Flatten{}(zeros({2, 5})).shape() == Shape{2, 5});
  CHECK(nn::Flatten{}(zeros({0, 2, 2, 3})).shape() == Shape{0, 12});
  CHECK_ERROR(nn::Flatten{}(zeros({3})), ShapeError, "Flatten", "[3]");
  CHECK_ERROR(nn::Flatten{}(full({}, 1)), ShapeError, "Flatten");
}

}  // namespace
}  // namespace lpf::test
