// The experiments of apps/theory: closed forms against quadrature, what is measured against what is exact.
#include "../../apps/theory/estimators.hpp"
#include "../../apps/theory/landscape.hpp"
#include "../../apps/theory/nonsmooth.hpp"
#include "../../apps/theory/smoothness.hpp"
#include "../../apps/theory/stability.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

using namespace theory;

/// E f(ε) for ε ~ N(0, 1), by Gauss-Legendre's rule of three points in 4000 intervals on each side of `kink`.
template <class F>
double expectation(F f, double kink = 0) {
  double total = 0;
  for (const auto& [low, high] : {std::pair{-14.0, kink}, {kink, 14.0}}) {
    const double h = (high - low) / 4000;
    for (int i = 0; i < 4000; ++i)
      for (const auto& [at, weight] :
           {std::pair{-std::sqrt(.6), 5.0 / 18}, {0.0, 8.0 / 18}, {std::sqrt(.6), 5.0 / 18}}) {
        const double e = low + h * (i + .5 + at / 2);
        total += h * weight * f(e) * normal_density(e);
      }
  }
  return total;
}

/// Value, slope and curvature of f smoothed, for f with slope f', whose kink is at 0.
template <class F, class D>
Jet smoothed_by_quadrature(F f, D slope, double x, double sigma) {
  const double kink = -x / sigma;
  return {expectation([&](double e) { return f(x + sigma * e); }, kink),
          expectation([&](double e) { return slope(x + sigma * e); }, kink),
          expectation([&](double e) { return slope(x + sigma * e) * e / sigma; }, kink)};
}

void check_jet(const Jet& a, const Jet& b) {
  CHECK(std::abs(a.value - b.value) < 1e-10);
  CHECK(std::abs(a.slope - b.slope) < 1e-10);
  CHECK(std::abs(a.curvature - b.curvature) < 1e-10);
}

/// A measured value within four standard errors of the exact one.
void check_within(const Measured& m, double exact) {
  CAPTURE(m.value);
  CAPTURE(m.error);
  CAPTURE(exact);
  CHECK(m.error > 0);
  CHECK(std::abs(m.value - exact) < 4 * m.error);
}

const TiltedWell well;

}  // namespace

TEST_CASE("theory: closed forms equal quadrature") {
  for (const double sigma : {.3, 1.0, 2.5})
    for (const double x : {-1.2, 0.0, .4, 2.0}) {
      CAPTURE(x);
      CAPTURE(sigma);
      check_jet(smoothed_abs(x, sigma),
                smoothed_by_quadrature([](double v) { return std::abs(v); },
                                       [](double v) { return v > 0 ? 1.0 : -1.0; }, x, sigma));
      check_jet(smoothed_relu(x, sigma),
                smoothed_by_quadrature([](double v) { return std::max(v, 0.0); },
                                       [](double v) { return v > 0 ? 1.0 : 0.0; }, x, sigma));
      check_jet(smoothed_cos(x, 2, .7, sigma),
                smoothed_by_quadrature([](double v) { return std::cos(2 * v + .7); },
                                       [](double v) { return -2 * std::sin(2 * v + .7); }, x, sigma));
      check_jet(well.at(x, sigma),
                smoothed_by_quadrature([](double v) { return well.at(v, 0).value; },
                                       [](double v) { return well.at(v, 0).slope; }, x, sigma));
      CHECK(std::abs(mean_sine(x, sigma) - expectation([&](double e) { return std::sin(x + sigma * e); })) <
            1e-10);
      CHECK(std::abs(mean_squared_sine(x, sigma) -
                     expectation([&](double e) { return std::pow(std::sin(x + sigma * e), 2); })) < 1e-10);
    }
}

TEST_CASE("theory: without smoothing, and where a bound diverges") {
  for (const double x : {-2.0, 0.0, 2.0}) {
    CHECK(smoothed_abs(x, 0).value == std::abs(x));
    CHECK(smoothed_relu(x, 0).value == std::max(x, 0.0));
    CHECK(smoothed_abs(x, 1e-9).value == doctest::Approx(std::abs(x)).epsilon(1e-8));
  }
  CHECK(smoothed_abs(0, 0).curvature == infinity);
  CHECK(smoothed_relu(0, 0).curvature == infinity);
  CHECK(smoothed_abs(1, 0).curvature == 0);
  CHECK(smoothness_bound(2, infinity, 0) == infinity);
  CHECK(smoothness_bound(2, infinity, .5) == 4);
  CHECK(smoothness_bound(2, 3, .5) == 3);
  CHECK(smoothness_bound(2, 3, 0) == 3);
  CHECK_ERROR(smoothed_abs(0, -1), ValueError, "smoothed_abs", "sigma", "-1");
  CHECK_ERROR(smoothness_bound(1, 1, std::nan("")), ValueError, "sigma");

  CHECK(stability_bound(1, 0, 1, 100, 10) == infinity);                    // βc = 0
  CHECK(stability_bound(1, 1e-6, 1, 100, 10) > 1e3);                       // and towards it
  CHECK(stability_bound(3, infinity, 1, 101, 50) == doctest::Approx(.5));  // T/(n − 1)
  CHECK_ERROR(stability_bound(1, 1, 1, 1, 10), ValueError, "n > 1");
  for (const double sigma : {.1, .5, 1.0, 5.0}) {
    const double L = 2, beta = 7, c = .8, T = 3000, n = 200;
    CHECK(stability_ratio(L, beta, sigma, c, T) ==
          doctest::Approx(stability_bound(L, smoothness_bound(L, beta, sigma), c, n, T) /
                          stability_bound(L, beta, c, n, T)));
  }
  CHECK(stability_ratio(2, 7, .2, .8, 3000) == 1);  // σ below L/β
  CHECK(stability_ratio(2, 7, .5, .8, 3000) < 1);
}

TEST_CASE("theory: the sine model's smoothed loss equals the mean of its noisy losses") {
  SineModel model(4);
  LowPassFilter filter({.M = 1, .gamma = .3, .seed = 5});
  std::vector<double> losses;
  Tensor scale;
  for (int k = 0; k < 4000; ++k) {
    const auto scope = filter.perturb(model.params);
    losses.push_back(model.loss(1).item());
    scale = scope.scale();
  }
  check_within(measured(losses), model.smoothed_loss(narrow(scale, 0, 0, 4), narrow(scale, 0, 4, 1)).item());
}

TEST_CASE("theory: curvature of smoothed functions") {
  for (const KnownFunction& f : known_functions())
    for (const double sigma : {.1, .7}) {
      CAPTURE(f.name);
      CAPTURE(sigma);
      const double exact = std::abs(f.smoothed(0, sigma).curvature);
      check_within(known_curvature(f, sigma, 4000, {.seed = 1}), exact);
      CHECK(exact <= smoothness_bound(f.lipschitz, f.beta, sigma));
      CHECK(exact <= sharp_smoothness(f.lipschitz, sigma) * (1 + 1e-12));
    }
  CHECK(smoothed_abs(0, .3).curvature == doctest::Approx(sharp_smoothness(1, .3)));
}

TEST_CASE("theory: curvature of smoothed networks") {
  const SmallNetwork smooth(true);
  // With little noise it is the network's own.
  smooth.move_to(1);
  const double own = largest_curvature(mean(smooth.losses(smooth.x, smooth.y)), smooth.params, 200);
  const auto l = smooth.landscape(50);
  check_within(smoothed_curvature(paired_gradients(l, .003, 2000, {.seed = 2}), .003), own);
  const NetworkSmoothness relu = network_smoothness(SmallNetwork(false), .5, 2, 400, 0);
  CHECK(relu.beta == infinity);
  CHECK(relu.smoothed.value < smoothness_bound(relu.lipschitz, relu.beta, .5) + 4 * relu.smoothed.error);
  CHECK(relu.root_mean_square <= relu.lipschitz);
}

TEST_CASE("theory: the tilted landscape") {
  const double minimum = well.minimum();
  for (double x = -4; x < 4; x += .003) CHECK(well.at(x, 0).value >= well.at(minimum, 0).value);
  const double convex = well.convex_from();
  double least = 1, below = 1;
  for (double x = -2; x < 2; x += .003) {
    least = std::min(least, well.at(x, convex).curvature);
    below = std::min(below, well.at(x, .9 * convex).curvature);
  }
  CHECK(least > -1e-12);
  CHECK(below < 0);
  CHECK(TiltedWell{.amplitude = .01}.convex_from() == 0);

  for (const std::int64_t d : {1, 10}) {
    const Descent o{.runs = 40, .dimensions = d, .steps = 600, .lr = .03, .seed = 3};
    const auto all = shrinking_schedules();
    const DescentResult plain = descend(well, all[0], o), closed = descend_closed(well, all[0], o);
    for (std::size_t k = 0; k < plain.distance.size(); ++k)
      CHECK(std::abs(plain.distance[k] - closed.distance[k]) < 1e-10);
    CHECK(plain.found < .5);
    const DescentResult large = descend(well, all[2], o);
    const double bias = std::abs(well.descend(0, .6) - minimum);
    CHECK(large.found == doctest::Approx(1));
    check_within(measured(large.mean_z), well.descend(0, .6));
    CHECK(bias > .15);
    const DescentResult shrinking = descend(well, all[3], o);
    CHECK(shrinking.found > .97);
    CHECK(measured(shrinking.distance).value < bias / 3);
  }
}

TEST_CASE("theory: the error of the estimate falls as 1/√M") {
  for (const auto& [name, estimator] : named_estimators) {
    if (is_flipout(estimator)) continue;  // its draws share |ε|
    CAPTURE(name);
    SineModel model(8);
    const EstimateError few = estimate_error(model, estimator, Draws::on_all_samples, 2, .3, 600, 1);
    const EstimateError many = estimate_error(model, estimator, Draws::on_all_samples, 16, .3, 600, 2);
    const Measured &a = few.root_mean_square, &b = many.root_mean_square;
    const double error = a.value / b.value * std::hypot(a.error / a.value, b.error / b.value);
    check_within({a.value / b.value, error}, std::sqrt(8));
    CHECK(few.bias < 2.5);
    CHECK(many.bias < 2.5);
  }
}

TEST_CASE("theory: the error of draws on slices") {
  SineModel model(16);
  const auto square_error = [&](Estimator e, std::int64_t M) {
    const Measured m = estimate_error(model, e, Draws::on_slices, M, .3, 1500, static_cast<std::uint64_t>(M))
                           .root_mean_square;
    return Measured{m.value * m.value, 2 * m.value * m.error};
  };
  const Measured one = square_error(Estimator::replicas, 1), each = square_error(Estimator::per_sample, 1),
                 four = square_error(Estimator::replicas, 4), all = square_error(Estimator::replicas, 16);
  check_within({four.value, std::hypot(four.error, one.error, each.error)},
               sliced_error(one.value, each.value, 4, 16));
  check_within({all.value, std::hypot(all.error, each.error)}, each.value);
  CHECK(one.value > 1.5 * each.value);
  CHECK(sliced_error(5, 2, 1, 16) == doctest::Approx(5));  // its two ends
  CHECK(sliced_error(5, 2, 16, 16) == doctest::Approx(2));
}

TEST_CASE("theory: twin runs") {
  TwinOptions o{.runs = 4, .examples = 10, .epochs = 3, .M = 2, .sigma = .3, .seed = 1};
  TwinData data(o, 20);
  const TwinResult r = twin_runs(data, o);
  for (std::size_t run = 0; run < 4;
       ++run) {  // equal until the replaced example is met, and different from then on
    const auto& order = data.order[run];
    const auto met = std::find(order.begin(), order.end(), data.replaced[run]) - order.begin();
    for (std::size_t k = 0; k < r.time.size(); ++k)
      CHECK((r.distance[k][run] > 0) == (r.time[k] > static_cast<double>(met)));
  }
  CHECK(r.lipschitz > 0);
  CHECK(r.beta > 0);
  const auto allowed = recursion(data, o, r.lipschitz, r.beta, r.time);
  for (std::size_t k = 0; k < r.time.size(); ++k) CHECK(measured(r.distance[k]).value <= allowed[k]);
  const auto geometric = geometric_ratio({2, 8}, {1, 1});
  CHECK(geometric.value == doctest::Approx(4));
  data.x[1].copy_(data.x[0]);  // without a replaced example there is no difference
  data.y[1].copy_(data.y[0]);
  const TwinResult same = twin_runs(data, o);
  for (const double distance : same.distance.back()) CHECK(distance == 0);
  o.runs = 3;
  CHECK_ERROR(twin_runs(TwinData(o, 5), o), ValueError, "runs", "3");
}

TEST_CASE("theory: a convex problem that is not smooth") {
  const LeastDeviations problem(4);
  CHECK(problem.certificate < 1);
  const double at = problem.losses(reshape(problem.solution, {1, problem.d})).item();
  CHECK(std::abs(at - problem.minimum) < 1e-12);
  for (std::uint64_t k = 0; k < 20; ++k) {
    const Tensor other = add(problem.solution, affine(randn({problem.d}, {.seed = k}, doubles), .01, 0));
    other.requires_grad_();
    const Tensor loss = sum(problem.losses(reshape(other, {1, problem.d})));
    CHECK(loss.item() > problem.minimum);
    CHECK(std::sqrt(sum(square(grad(loss, {other})[0])).item()) <= problem.lipschitz);
    for (const double sigma : {.05, .5}) {
      const double excess = problem.smoothed(other, sigma) - loss.item();
      CHECK(excess >= 0);
      CHECK(excess <= excess_bound(problem.lipschitz, sigma, static_cast<double>(problem.d)));
    }
  }
  for (const double sigma : {.05, .5})
    check_within(measured_smoothed(problem, problem.solution, sigma, 2000, noise_key(1, 0)),
                 problem.smoothed(problem.solution, sigma));
  CHECK_ERROR(LeastDeviations(0, 1), NumericError, "LeastDeviations", "outliers");
  // More draws end nearer to the minimum.
  const DeviationResult one = deviation_runs(problem, {.steps = 100, .M = 1, .sigma = .03}),
                        many = deviation_runs(problem, {.steps = 100, .M = 32, .sigma = .03});
  CHECK(many.excess.value < one.excess.value);
  CHECK(many.excess.value > 0);
}

}  // namespace lpf::test
