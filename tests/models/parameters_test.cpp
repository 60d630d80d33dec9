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

TEST_CASE("models: the parameters of the LeNets and ResNets are as many as the paper's") {
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

TEST_CASE("models: the parameters of WRN, Shake-Shake and PyramidNet are as many as the paper's") {
  using namespace models;
  CHECK(count<WideResNet>(wrn_16_8()) == 10'961'370);
  CHECK(count<WideResNet>(wrn_28_10()) == 36'479'194);
  CHECK(count<ShakeShake>(shake_shake_26_2x96d()) == 26'192'922);
  CHECK(count<PyramidNet>(pyramidnet_110()) == 10'668'722);
  CHECK(count<PyramidNet>(pyramidnet_272()) == 26'210'842);
}
