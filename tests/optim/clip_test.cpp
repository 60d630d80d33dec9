// Gradient clipping. (Its agreement with PyTorch: the clip cases of sgd_test.cpp and adam_test.cpp.)
#include <limits>

#include "lpf/optim/optimizer.hpp"
#include "replay.hpp"

using namespace lpf;
using namespace lpf::test;

TEST_CASE("clip_grad_norm scales the gradient down to the limit and returns the norm before") {
  const ParameterStore params = weight_and_bias();
  set_gradient(params, 0, full({3, 4}, 2, f64));
  set_gradient(params, 1, full({4}, -2, f64));
  CHECK(optim::grad_norm(params) == doctest::Approx(8).epsilon(1e-15));
  CHECK(optim::clip_grad_norm(params, 10).item() == doctest::Approx(8).epsilon(1e-15));
  CHECK(params.tensor("weight").grad().to_vector()[0] == 2);  // below the limit: unchanged
  CHECK(optim::clip_grad_norm(params, 4).item() == doctest::Approx(8).epsilon(1e-15));
  CHECK(optim::grad_norm(params) == doctest::Approx(4 * 8 / (8 + 1e-6)).epsilon(1e-14));
  CHECK(params.tensor("bias").grad().to_vector()[0] == doctest::Approx(-1).epsilon(1e-6));
}

TEST_CASE("clip_grad_norm of a zero gradient leaves it") {
  const ParameterStore params = weight_and_bias();
  CHECK(optim::clip_grad_norm(params, 1).item() == 0);
  CHECK(optim::grad_norm(params) == 0);
}

TEST_CASE("clip_grad_norm of a gradient that is not finite is PyTorch's") {
  // PyTorch multiplies by max_norm/(norm + 1e-6), at most 1: NaN if the norm is, 0 if it is infinite.
  const ParameterStore params = weight_and_bias();
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  set_gradient(params, 0, full({3, 4}, 1e6, f64));
  set_gradient(params, 1, tensor({nan, 1e6, 1.0, 0.0}));
  CHECK(std::isnan(optim::clip_grad_norm(params, 1).item()));
  for (const char* name : {"weight", "bias"})
    for (const double g : params.tensor(name).grad().to_vector()) CHECK(std::isnan(g));
  params.zero_grad();  // also between the parameters
  set_gradient(params, 0, full({3, 4}, 1e6, f64));
  set_gradient(params, 1, tensor({inf, 1e6, -inf, 0.0}));
  CHECK(optim::clip_grad_norm(params, 1).item() == inf);
  for (const double g : params.tensor("weight").grad().to_vector()) CHECK(g == 0);
  const auto bias = params.tensor("bias").grad().to_vector();
  CHECK(std::isnan(bias[0]));
  CHECK(bias[1] == 0);
  CHECK(std::isnan(bias[2]));
}

TEST_CASE("clip_grad_value limits each element") {
  const ParameterStore params = weight_and_bias();
  set_gradient(params, 1, tensor({-3.0, -0.1, 0.2, 7.0}));
  optim::clip_grad_value(params, 0.5);
  CHECK(params.tensor("bias").grad().to_vector() == std::vector<double>{-0.5, -0.1, 0.2, 0.5});
}

TEST_CASE("a limit that is not positive is a ValueError") {
  const ParameterStore params = weight_and_bias();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {0.0, -1.0, nan}) {
    CHECK_THROWS_AS(optim::clip_grad_norm(params, bad), ValueError);
    CHECK_THROWS_AS(optim::clip_grad_value(params, bad), ValueError);
  }
}

TEST_CASE("a frozen parameter has no share in the norm") {
  const ParameterStore params = weight_and_bias();
  set_gradient(params, 0, full({3, 4}, 2, f64));
  set_gradient(params, 1, full({4}, 2, f64));
  params.set_trainable("weight", false);
  CHECK(optim::grad_norm(params) == doctest::Approx(4).epsilon(1e-15));
}
