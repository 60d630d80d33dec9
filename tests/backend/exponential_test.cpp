#include "lpf/backend/cpu/exponential.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "lpf_test.hpp"

namespace lpf::test {
namespace {

TEST_CASE("exponentials: to 2 ulp of the exact value, 0 where it would be subnormal") {
  using backend::cpu::exponentials;
  constexpr float infinite = std::numeric_limits<float>::infinity();
  double worst = 0;
  for (float x = -87.3f; x < 88.0f; x += 0.00127f) {
    float y = 0;
    exponentials(1, &x, 0, 1, &y);
    const double exact = std::exp(static_cast<double>(x));
    const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::max(worst, std::abs(static_cast<double>(y) - exact) / ulp);
  }
  CHECK(worst < 2);
  const std::vector<float> x{0, -0.0f, -87.5f, -1e30f, -infinite, std::nanf("")};
  std::vector<float> y(x.size());
  exponentials(6, x.data(), 0, 3, y.data());
  CHECK(y[0] == 3);
  CHECK(y[1] == 3);
  for (const std::size_t i : {2, 3, 4}) CHECK(y[i] == 0);
  CHECK(std::isnan(y[5]));
  const double a[] = {1, -2};
  double b[2];
  exponentials(2, a, 1.0, 2.0, b);
  CHECK(b[0] == 2);
  CHECK(b[1] == 2 * std::exp(-3.0));
}

}  // namespace
}  // namespace lpf::test
