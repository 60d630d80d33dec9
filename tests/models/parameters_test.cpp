// Sizes and shapes of the networks: parameter counts, logits, options out of range.
#include <cstdint>

#include "lpf/models/registry.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

template <class Model, class... Options>
std::int64_t count(const Options&... options) {
  const ParameterStore params;
  const Model model(params, options...);
  return params.numel();
}

}  // namespace

TEST_CASE("models: the parameters of the LeNets and ResNets are as many as the paper's [slow]") {
  using namespace models;
  CHECK(count<SmallLeNet>() == 44'426);
  CHECK(count<LeNet>() == 1'199'882);
  CHECK(count<ResNet>(resnet18()) == 11'173'962);
  CHECK(count<ResNet>(resnet50()) == 23'520'842);
  CHECK(count<ResNet>(resnet101()) == 42'512'970);
  CHECK(count<ResNet>(narrow_resnet18(4)) == 2'800'010);
  CHECK(count<ResNet>(narrow_resnet18(8)) == 11'178'762);
  CHECK(count<ResNet>(double_descent_resnet18(1)) == 2'991);
  CHECK(count<ResNet>(double_descent_resnet18(4)) == 44'622);
  CHECK(count<ResNet>(double_descent_resnet18(8)) == 176'402);
  CHECK(count<ResNet>(double_descent_resnet18(64)) == 11'173'962);
}

TEST_CASE("models: the parameters of WRN, Shake-Shake and PyramidNet are as many as the paper's [slow]") {
  using namespace models;
  CHECK(count<WideResNet>(wrn_16_8()) == 10'961'370);
  CHECK(count<WideResNet>(wrn_28_10()) == 36'479'194);
  CHECK(count<ShakeShake>(shake_shake_26_2x96d()) == 26'192'922);
  CHECK(count<PyramidNet>(pyramidnet_110()) == 10'668'722);
  CHECK(count<PyramidNet>(pyramidnet_272()) == 26'210'842);
}

TEST_CASE("models: options out of range are ValueErrors that name the rule") {
  using namespace models;
  CHECK_ERROR(count<SmallLeNet>(SmallLeNetOptions{.image = 15}), ValueError, "at least 16", "15");
  CHECK_ERROR(count<LeNet>(LeNetOptions{.image = 5}), ValueError, "at least 6", "5");
  CHECK_ERROR(count<LeNet>(LeNetOptions{.dropout = {0.25, 1.5}}), ValueError, "dropout2", "1.5");
  CHECK_ERROR(count<ResNet>(ResNetOptions{.blocks = {}}), ValueError, "stages");
  CHECK_ERROR(count<ResNet>(ResNetOptions{.blocks = {1, 0}}), ValueError, "layer2", "0");
  CHECK_ERROR(count<ResNet>(ResNetOptions{.width = 0}), ValueError, "conv1");
  CHECK_ERROR(count<WideResNet>(WideResNetOptions{.depth = 17}), ValueError, "6n + 4", "17");
  CHECK_ERROR(count<WideResNet>(WideResNetOptions{.widen = 0}), ValueError, "widen", "0");
  CHECK_ERROR(count<ShakeShake>(ShakeShakeOptions{.depth = 2}), ValueError, "6n + 2", "2");
  CHECK_ERROR(count<ShakeShake>(ShakeShakeOptions{.width = 9}), ValueError, "even", "9");
  CHECK_ERROR(count<PyramidNet>(PyramidNetOptions{.depth = 100}), ValueError, "9n + 2", "100");
  CHECK_ERROR(count<PyramidNet>(PyramidNetOptions{.alpha = -1}), ValueError, "alpha", "-1");
  CHECK_ERROR(count<PyramidNet>(PyramidNetOptions{.alpha = 1e30}), ValueError, "alpha", "1e+30");
  const ParameterStore params;
  const PyramidNet net(params, {.depth = 11, .alpha = 3, .stem = 2});
  CHECK_ERROR(net(normal({1, 6, 8, 3}, 1, float32)), ShapeError, "multiples of 4", "[1, 6, 8, 3]");
}

TEST_CASE("models: networks begin with the paper's initial values") {
  using namespace models;
  const auto deviation = [](const Tensor& t) { return std::sqrt(t.square().mean().item()); };
  ParameterStore params({.seed = 2});
  const WideResNet wide(params / "wide", {.depth = 10, .widen = 2});
  const ShakeShake shake(params / "shake", {.depth = 8, .width = 32});
  const PyramidNet pyramid(params / "pyramid", {.depth = 11, .alpha = 48});
  const ResNet narrow(params / "narrow", narrow_resnet18(2));
  const ResNet plain(params / "plain", {.width = 16});
  // √(2/fan_out): 3×3 kernels with this number of output channels
  const auto fan_out = [](double channels) {
    return doctest::Approx(std::sqrt(2 / (9 * channels))).epsilon(0.02);
  };
  CHECK(deviation(params.tensor("wide.block2.layer.0.conv2.weight")) == fan_out(64));
  CHECK(deviation(params.tensor("shake.stage2.block1.residual_path2.conv2.weight")) == fan_out(64));
  CHECK(deviation(params.tensor("pyramid.layer3.0.conv2.weight")) == fan_out(64));
  CHECK(deviation(params.tensor("narrow.layer3.0.conv1.weight")) == fan_out(64));
  // U(±1/√fan_in) has deviation 1/√(3·fan_in)
  CHECK(deviation(params.tensor("plain.layer3.0.conv1.weight")) ==
        doctest::Approx(1 / std::sqrt(3.0 * 9 * 32)).epsilon(0.02));
  CHECK(deviation(params.tensor("wide.fc.bias")) == 0);
  CHECK(deviation(params.tensor("shake.fc.bias")) == 0);
  CHECK(deviation(params.tensor("pyramid.fc.bias")) > 0);
  CHECK(deviation(params.tensor("narrow.layer1.0.bn1.weight")) == 1);
}
