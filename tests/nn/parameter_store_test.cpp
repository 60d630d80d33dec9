// The store: one vector of all parameters, their names, and errors.
#include "lpf/float64.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/ops/math.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

TEST_CASE("ParameterStore: parameters are views into θ, at multiples of 64 bytes, with zeros between") {
  for (const DType dtype : {float32, float64}) {
    const ParameterStore params({.dtype = dtype, .seed = 3});
    const nn::Linear fc1(params / "fc1", 3, 5), fc2(params / "fc2", 5, 2, {.bias = false});
    CHECK(params.numel() == 3 * 5 + 5 + 5 * 2);
    double elements = 0;
    for (const auto& info : params.parameters()) {
      CHECK(info.offset * static_cast<std::int64_t>(size_of(dtype)) % 64 == 0);
      CHECK(same_bits(params.tensor(info.index), params.theta().alias(info.shape, info.offset)));
      elements += sum(abs(params.tensor(info.name))).item();
    }
    CHECK(sum(abs(params.theta())).item() == doctest::Approx(elements).epsilon(1e-6));
    const auto off = no_grad();
    params.theta().fill_(2);  // θ shares memory with the parameters
    CHECK(holds(params.tensor("fc2.weight"), {2, 5}, std::vector<double>(10, 2)));
  }
}

TEST_CASE("ParameterStore: a layer at the end changes the initial values of no other") {
  const ParameterStore small({.seed = 3}), large({.seed = 3}), other({.seed = 4});
  const nn::Linear a(small / "a", 3, 5), b(large / "a", 3, 5), more(large / "more", 5, 5),
      c(other / "a", 3, 5);
  CHECK(same_bits(a.weight.clean(), b.weight.clean()));
  CHECK(same_bits(a.bias.clean(), b.bias.clean()));
  CHECK_FALSE(same_bits(a.weight.clean(), c.weight.clean()));
}

TEST_CASE("ParameterStore: freezing a parameter") {
  const ParameterStore params;
  const nn::Linear fc(params / "fc", 3, 2);
  const Tensor x = ones({4, 3});
  sum(fc(x)).backward();
  params.set_trainable("fc.weight", false);
  CHECK(params.leaves().size() == 1);
  CHECK(params.numel(true) == 2);
  CHECK(sum(abs(params.gradient())).item() == 2 * 4);  // the weight's old gradient is dropped
  sum(fc(x)).backward();
  CHECK(sum(abs(params.gradient())).item() == 2 * 8);
  params.set_trainable("fc.weight", true);
  sum(fc(x)).backward();
  CHECK(sum(abs(params.gradient())).item() == 2 * 12 + 6 * 4);
}

TEST_CASE("ParameterStore: evaluation mode for a block, also where it ends with an exception") {
  const ParameterStore params;
  for (const bool before : {true, false}) {
    params.train(before);
    try {
      const EvalMode guard(params);
      CHECK_FALSE(params.training());
      throw std::runtime_error("the user's");
    } catch (const std::runtime_error&) {}
    CHECK(params.training() == before);
  }
}

TEST_CASE("ParameterStore: errors") {
  CHECK_ERROR(ParameterStore({.dtype = int64}), DTypeError, "[ParameterStore]", "int64");
  const ParameterStore params;
  const nn::Path p = params;
  const nn::Linear fc(p / "fc", 3, 2);
  CHECK_ERROR(nn::Linear(p / "fc", 3, 2), ValueError, "'fc.weight'", "a path of its own");
  CHECK_ERROR(p.buffer("fc.bias", zeros({2})), ValueError, "'fc.bias'");
  CHECK_ERROR(p.counter("fc.bias"), ValueError, "'fc.bias'");
  CHECK(params.parameters().size() == 2);
  CHECK_ERROR(nn::Linear(p / "late", 3, 2), StateError, "'late.weight'", "before the first pass");
  CHECK_ERROR(params.tensor("fc.scale"), ValueError, "'fc.scale'");
  CHECK_ERROR(params.set_trainable("fc.scale", false), ValueError, "'fc.scale'");
  CHECK_ERROR(params.tensor(2), IndexError, "parameter 2", "[0, 2)");
  const nn::Parameter none;
  CHECK_FALSE(none.defined());
  CHECK_FALSE(none.value().defined());
  CHECK_ERROR(none.info(), StateError, "[Parameter]", "without a bias");
  CHECK_ERROR(none.clean(), StateError, "[Parameter]");
}

}  // namespace
}  // namespace lpf::test
