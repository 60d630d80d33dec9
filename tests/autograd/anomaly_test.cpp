#include <limits>

#include "lpf/ops/activation.hpp"
#include "lpf/ops/linear.hpp"
#include "lpf/ops/matmul.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

TEST_CASE("anomaly mode names the operation that made a NaN, going forward") {
  const Tensor x = tensor({1.0, -1.0}).requires_grad_();
  CHECK(std::isnan(sum(log(x)).item()));  // no error without it
  const AnomalyMode on;
  CHECK(is_anomaly_enabled());
  CHECK_ERROR(log(x), NumericError, "[log]", "the result", "NaN", "[2]");
  CHECK_ERROR(x / zeros({2}, {.dtype = float64}), NumericError, "[div]");
  CHECK_ERROR(exp(x * 1000.0), NumericError, "[exp]");
  CHECK_ERROR(matmul(x * 1e200, x * 1e200), NumericError, "[matmul]");
  CHECK_ERROR(sum(tensor({1.0, not_a_number})), NumericError, "[sum]");  // also without history
  CHECK_NOTHROW(log(x + 2.0));
  CHECK_NOTHROW(zeros({0}) * 2.0);
  CHECK_NOTHROW(tensor<std::int64_t>({1}) + tensor<std::int64_t>({2}));
}

TEST_CASE("anomaly mode names the operation that made a NaN, going backward") {
  const Tensor x = tensor({0.0, 4.0}).requires_grad_();
  CHECK(grad(sum(sqrt(x)), {x})[0][0].item() == infinity);
  const AnomalyMode on;
  const Tensor y = sum(sqrt(x));  // no NaN here
  CHECK_ERROR(y.backward(), NumericError, "[sqrt]", "gradient in backward", "[2]");
  CHECK_FALSE(x.grad().defined());
  const Tensor w = tensor({1.0, 1.0}).requires_grad_();
  CHECK_ERROR(grad(sum(sqrt(x) * w), {x}), NumericError, "sqrt", "backward");
  CHECK_NOTHROW(grad(sum(sqrt(x) * w), {w}));
}

TEST_CASE("anomaly mode sees every replica") {
  const auto plan = std::make_shared<ReplicaPlan>(2);
  const Tensor all = from_vector<double>({1, 1, 1, -1}, {2, 2});
  const Tensor w = detail::add_replica_dim(all, plan);
  CHECK_NOTHROW(log(w));
  const AnomalyMode on;
  CHECK_ERROR(log(w), NumericError, "[log]");
}

TEST_CASE("anomaly mode nests and ends with its block") {
  CHECK_FALSE(is_anomaly_enabled());
  {
    const AnomalyMode on;
    {
      const AnomalyMode off(false);
      CHECK_FALSE(is_anomaly_enabled());
      CHECK_NOTHROW(log(tensor({-1.0})));
    }
    CHECK(is_anomaly_enabled());
  }
  CHECK_FALSE(is_anomaly_enabled());
}
