// Kendall's τ compared with values by hand and with its definition, and the bootstrap's intervals.
#include "lpf/sharpness/kendall.hpp"

#include "tensor_test.hpp"

namespace lpf::test {
namespace {

using sharpness::kendall_tau_b;
using Values = std::vector<double>;

TEST_CASE("kendall: values by hand") {
  CHECK(kendall_tau_b(Values{1, 2, 3, 4}, Values{10, 20, 30, 40}) == 1);
  CHECK(kendall_tau_b(Values{1, 2, 3, 4}, Values{4, 3, 2, 1}) == -1);
  // pairs of (1,1) (2,3) (3,2): two in order, one not
  CHECK(kendall_tau_b(Values{1, 2, 3}, Values{1, 3, 2}) == doctest::Approx(1.0 / 3).epsilon(1e-15));
  // x tied once, y not: C = 5, D = 0, n0 = 6, n1 = 1, n2 = 0
  CHECK(kendall_tau_b(Values{1, 1, 2, 3}, Values{1, 2, 3, 4}) ==
        doctest::Approx(5 / std::sqrt(5.0 * 6)).epsilon(1e-15));
  // one pair tied in both: C = 2, D = 0, n0 = 3, n1 = n2 = 1
  CHECK(kendall_tau_b(Values{1, 1, 2}, Values{5, 5, 6}) == doctest::Approx(1).epsilon(1e-15));
  // C = 4, D = 2, n1 = 2 (two pairs in x), n2 = 2, joint ties none: (4 − 2)/8
  CHECK(kendall_tau_b(Values{1, 1, 2, 2, 3}, Values{1, 2, 1, 3, 2}) ==
        doctest::Approx((4.0 - 2) / 8).epsilon(1e-15));
  CHECK(std::isnan(kendall_tau_b(Values{1, 1}, Values{1, 2})));
  CHECK(std::isnan(kendall_tau_b(Values{1}, Values{1})));
  CHECK(std::isnan(kendall_tau_b(Values{}, Values{})));
}

TEST_CASE("kendall: the quick algorithm gives what counting all pairs gives, with and without ties") {
  for (const double levels : {3.0, 10.0, 1e6}) {
    Values x, y;
    for (std::int64_t i = 0; i < 200; ++i) {
      x.push_back(std::floor(levels * uniform_at<double>({.seed = 1}, i)));
      y.push_back(std::floor(levels * (uniform_at<double>({.seed = 2}, i) + x.back() / levels)));
    }
    double difference = 0, n1 = 0, n2 = 0, n0 = 200 * 199 / 2.0;
    for (std::size_t i = 0; i < 200; ++i)
      for (std::size_t j = i + 1; j < 200; ++j) {
        const double a = x[i] - x[j], b = y[i] - y[j];
        difference += (a * b > 0) - (a * b < 0);
        n1 += a == 0;
        n2 += b == 0;
      }
    CHECK(kendall_tau_b(x, y) ==
          doctest::Approx(difference / std::sqrt((n0 - n1) * (n0 - n2))).epsilon(1e-13));
  }
}

TEST_CASE("kendall: the bootstrap's interval of a mean covers it as often as it says") {
  int inside = 0;
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    const Values x = normal({40}, 100 + trial).to_vector();
    const auto found = sharpness::bootstrap(x.size(),
                                            [&](std::span<const std::size_t> index) {
                                              double mean = 0;
                                              for (const std::size_t i : index) mean += x[i] / 40;
                                              return mean;
                                            },
                                            {.resamples = 200, .level = 0.9, .seed = trial});
    inside += found.low <= 0 && 0 <= found.high;
  }
  CHECK(inside > 165);  // 180 expected, less a little for the finite sample; standard deviation 4.2
  CHECK(inside < 194);
}

TEST_CASE("kendall: an interval holds its value, is repeated with its seed, and wrong input is refused") {
  const Values x = normal({60}, 1).to_vector();
  Values y = normal({60}, 2).to_vector();
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += x[i];
  const auto a = sharpness::kendall(x, y), b = sharpness::kendall(x, y);
  CHECK(a.value == kendall_tau_b(x, y));
  CHECK(a.low < a.value);
  CHECK(a.value < a.high);
  CHECK(a.low > 0);
  CHECK(a.low == b.low);
  CHECK(sharpness::kendall(x, y, {.seed = 1}).low != a.low);
  CHECK(std::isnan(sharpness::kendall(Values{1, 1}, Values{1, 2}).low));
  CHECK_ERROR(kendall_tau_b(Values{1}, Values{1, 2}), ShapeError, "1 x and 2 y");
  CHECK_ERROR(kendall_tau_b(Values{1, not_a_number}, Values{1, 2}), ValueError, "finite");
  CHECK_ERROR(sharpness::kendall(x, y, {.level = 1}), ValueError, "level");
}

TEST_CASE("kendall: the difference of two statistics is paired, resample by resample") {
  const Values y = normal({60}, 1).to_vector(), noise = normal({60}, 2).to_vector(),
               other = normal({60}, 3).to_vector();
  Values a = y, b = y;
  for (std::size_t i = 0; i < y.size(); ++i) a[i] += noise[i], b[i] += noise[i] + 0.1 * other[i];
  const auto tau = [&](const Values& x) {
    return [&, x](std::span<const std::size_t> index) {
      Values p, q;
      for (const std::size_t i : index) p.push_back(x[i]), q.push_back(y[i]);
      return kendall_tau_b(p, q);
    };
  };
  const sharpness::Resampled of_a = sharpness::resampled(60, tau(a)), of_b = sharpness::resampled(60, tau(b));
  const sharpness::Interval i = of_a.interval(), difference = (of_a - of_b).interval();
  CHECK(i.low == sharpness::kendall(a, y).low);
  CHECK(i.high == sharpness::kendall(a, y).high);
  const auto both = [&](std::span<const std::size_t> index) { return tau(a)(index) - tau(b)(index); };
  CHECK(difference.value == of_a.value - of_b.value);
  CHECK(difference.low == sharpness::bootstrap(60, both).low);
  CHECK(difference.high == sharpness::bootstrap(60, both).high);
  CHECK(difference.high - difference.low < 0.6 * (i.high - i.low));
  CHECK(of_a.resamples.size() == 1000);
  CHECK((of_a - of_a).interval().high == 0);
  CHECK(of_a.interval(0.5).low > i.low);
  for (const double level : {-0.1, 1.1, not_a_number})
    CHECK_ERROR(of_a.interval(level), ValueError, "a level lies in [0, 1]");
  CHECK_ERROR(of_a - sharpness::resampled(60, tau(a), {.resamples = 10}), ShapeError, "1000 and 10");
}

TEST_CASE(
    "kendall: the granulated coefficient is the mean over groups, and does not see what lies between them") {
  // Within groups τ is 1, 1/3 and −1; overall y falls with the group while x rises.
  const std::vector<std::size_t> group{0, 5, 0, 5, 0, 5, 9, 9, 7};
  const Values x{1, 11, 2, 12, 3, 13, 21, 22, 30}, y{91, 81, 92, 83, 93, 82, 72, 71, 60};
  const auto found = sharpness::granulated_kendall(group, x, y);  // group 7 has one model
  CHECK(found.value == doctest::Approx((1 + 1.0 / 3 - 1) / 3).epsilon(1e-14));
  CHECK(kendall_tau_b(x, y) < -0.5);
  CHECK(found.low == -1);
  CHECK(found.high == 1);
  CHECK(std::isnan(
      sharpness::granulated_kendall(std::vector<std::size_t>{0, 1}, Values{1, 2}, Values{1, 2}).value));
  // If y is constant within a group there is no order: the group is left out, not counted as 0.
  CHECK(sharpness::granulated_kendall(std::vector<std::size_t>{0, 0, 1, 1}, Values{1, 2, 1, 2},
                                      Values{3, 4, 5, 5})
            .value == 1);
  CHECK_ERROR(sharpness::granulated_kendall(std::vector<std::size_t>{0}, x, y), ShapeError,
              "1 groups, 9 x and 9 y");
}

}  // namespace
}  // namespace lpf::test
