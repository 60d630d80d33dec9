// The gradient norm: the exact value on a quadratic, its blocks, and the registry's entry.
#include "lpf/sharpness/gradient_norm.hpp"

#include "filter/networks.hpp"
#include "lpf/sharpness/measure.hpp"
#include "quadratic.hpp"

namespace lpf::test {
namespace {

using namespace sharpness;

TEST_CASE("gradient norm: ‖C A (w − x̄)‖ on a quadratic, with and without filter normalisation") {
  const Quadratic q(with_eigenvalues({1, 2, 3, 4}, 3));
  for (const bool normalize : {false, true}) {
    const double exact = (q.units(normalize) * (q.A * q.displacement())).norm();
    CHECK(exact > 0.01);
    CHECK(gradient_norm(q.landscape({.filter_normalize = normalize})).value ==
          doctest::Approx(exact).epsilon(1e-12));
  }
  Quadratic minimum(q.A, 20, 0.3);
  minimum.params.theta().zero_();
  minimum.x.zero_();
  CHECK(gradient_norm(minimum.landscape()).value == 0);
}

TEST_CASE("gradient norm: the same in several passes, split over the layers, and by name") {
  const Problem p(Kind::linear, 30);
  const auto losses = [&](const Tensor& x, const Tensor& y) {
    return cross_entropy(p.net(x), y, {.reduction = Reduction::none});
  };
  const Landscape l(p.params, {p.x, p.y}, losses), parts(p.params, {p.x, p.y}, losses, {.samples = 7});
  const Estimate e = gradient_norm(l, blocks_of(p.params));
  CHECK(gradient_norm(parts).value == doctest::Approx(e.value).epsilon(1e-12));
  REQUIRE(e.blocks.size() == 3);
  double squares = 0;
  for (const auto& b : e.blocks) squares += b.value * b.value;
  CHECK(std::sqrt(squares) == doctest::Approx(e.value).epsilon(1e-12));
  CHECK(e.standard_error == 0);
  const Report r = measure(p.net, p.params, Data{p.x, p.y}, {.measures = {"gradient_norm"}});
  REQUIRE(r.measurements.size() == 1);
  CHECK(r["gradient_norm"].value == e.value);
  CHECK(r["gradient_norm"].blocks.size() == 3);
}

}  // namespace
}  // namespace lpf::test
