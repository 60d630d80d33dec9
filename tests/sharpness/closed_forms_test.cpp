// Every measure on a quadratic with known Hessian, compared with its closed form.
#include "lpf/nn/linear.hpp"
#include "lpf/sharpness/measure.hpp"
#include "quadratic.hpp"

namespace lpf::test {
namespace {

using namespace sharpness;

/// Five eigenvalues from 0.2 to 4, random directions; as it is and after filter normalisation.
struct Case {
  bool normalize;
  Quadratic q{with_eigenvalues({0.2, 0.5, 1, 2, 4}, 3)};
  Landscape l;
  Matrix C, B;  // B = C A C
  Vector g;     // C ∇L
  explicit Case(bool n)
      : normalize(n),
        l(q.landscape({.filter_normalize = n})),
        C(q.units(n)),
        B(C * q.A * C),
        g(C * q.A * q.displacement()) {}
};

TEST_CASE("closed forms: LPF is L + σ²/2 tr(CAC)") {
  for (const bool normalize : {false, true}) {
    const Case c(normalize);
    const Estimate e = low_pass(c.l, 0.4, {.draws = 2000, .key = 3});
    CHECK(agrees(e, c.q.loss() + 0.08 * c.B.trace()));
    CHECK(e.standard_error < 0.03 * e.value);
    // draw by draw: the same draws by hand
    const Estimate few = low_pass(c.l, 0.4, {.draws = 13, .key = 3});
    REQUIRE(few.per_draw.size() == 13);
    for (std::int64_t i = 0; i < 13; ++i)
      CHECK(few.per_draw[static_cast<std::size_t>(i)] ==
            doctest::Approx(c.q.loss(0.4 * c.C * c.q.draw(3, i))).epsilon(1e-12));
    CHECK(few.per_sample.size() == 20);
  }
}

TEST_CASE("closed forms: the profile is L + α²/2 tr(CAC), its points paired") {
  const Case c(true);
  const Curve p = profile(c.l, {-0.3, 0, 0.3}, {.draws = 40, .key = 2});
  double plus = 0, minus = 0;
  for (std::int64_t i = 0; i < 40; ++i) {
    plus += c.q.loss(0.3 * c.C * c.q.draw(2, i)) / 40;
    minus += c.q.loss(-0.3 * c.C * c.q.draw(2, i)) / 40;
  }
  CHECK(p.x == std::vector<double>{-0.3, 0, 0.3});
  CHECK(p.y[0] == doctest::Approx(minus).epsilon(1e-12));
  CHECK(p.y[1] == doctest::Approx(c.q.loss()).epsilon(1e-12));
  CHECK(p.y[2] == doctest::Approx(plus).epsilon(1e-12));
  CHECK(p.standard_error[1] < 1e-12);
  CHECK(p.standard_error[2] > 0);
  CHECK_ERROR(profile(c.l, {not_a_number}), ValueError, "alpha");
}

TEST_CASE("closed forms: ε-sharpness solves a quadratic equation") {
  for (const bool normalize : {false, true})
    for (const double epsilon : {1e-3, 0.1, 10.0}) {
      const Case c(normalize);
      const double slope = c.g.norm(), curvature = c.g.dot(c.B * c.g) / (slope * slope);
      const double distance = (-slope + std::sqrt(slope * slope + 2 * curvature * epsilon)) / curvature;
      CHECK(epsilon_sharpness(c.l, {.epsilon = epsilon, .tolerance = 1e-6}).value ==
            doctest::Approx(1 / distance).epsilon(1e-9));
      CHECK(epsilon_sharpness(c.l, {.epsilon = epsilon}).value ==
            doctest::Approx(1 / distance).epsilon(1e-6));
    }
}

TEST_CASE("closed forms: PAC-Bayes' σ solves a quadratic equation of the draws, and its bound follows") {
  for (const bool normalize : {false, true}) {
    const Case c(normalize);
    double slope = 0, curvature = 0;
    for (std::int64_t i = 0; i < 10; ++i) {
      const Vector e = c.q.draw(5, i);
      slope += c.g.dot(e) / 10;
      curvature += e.dot(c.B * e) / 10;
    }
    const double sigma = (-slope + std::sqrt(slope * slope + 0.2 * curvature)) / curvature;
    const Tensor initial = zeros_like(c.q.params.theta());
    initial.data<double>()[1] = 0.7;
    const PACBayes p = pac_bayes(c.l, {.initial = initial}, {.draws = 10, .key = 5});
    CHECK(p.sigma.value == doctest::Approx(sigma).epsilon(1e-8));
    const Vector w = c.C.inverse() * c.q.weights();
    Vector moved = c.q.weights();
    moved(1) -= 0.7;
    const double rest = std::log(2 * 20 / 1e-6);
    CHECK(p.norm.value == doctest::Approx(w.squared_norm() / (4 * sigma * sigma) + rest).epsilon(1e-7));
    CHECK(p.distance.value ==
          doctest::Approx((c.C.inverse() * moved).squared_norm() / (4 * sigma * sigma) + rest).epsilon(1e-7));
    // many draws: σ²/2 tr = 0.1
    CHECK(agrees(pac_bayes(c.l, {}, {.draws = 1000}).sigma, std::sqrt(0.2 / c.B.trace())));
    CHECK(std::isnan(pac_bayes(c.l).distance.value));
  }
}

TEST_CASE("closed forms: Frobenius norm, trace, Hutch++, Fisher-Rao, λ_max, effective dimension") {
  for (const bool normalize : {false, true}) {
    const Case c(normalize);
    const Hessian h(c.l);
    Probes probes(h, 1);
    CHECK(agrees(probes.frobenius_norm({.draws = 500}), c.B.norm()));
    CHECK(agrees(probes.trace({.draws = 500}), c.B.trace()));
    CHECK(probes.products() == 500);
    Probes signs(h, 1, {}, Probe::rademacher);
    const Estimate by_signs = signs.trace({.draws = 500});
    CHECK(agrees(by_signs, c.B.trace()));
    CHECK(by_signs.standard_error < probes.trace({.draws = 500}).standard_error);
    CHECK(agrees(signs.frobenius_norm({.draws = 500}), c.B.norm()));
    CHECK(trace_hutchpp(h, 15).value == doctest::Approx(c.B.trace()).epsilon(1e-10));  // the basis is all
    CHECK(agrees(trace_hutchpp(h, 6), c.B.trace(), 30));
    CHECK(fisher_rao(h).value == doctest::Approx(c.q.weights().dot(c.q.A * c.q.weights())).epsilon(1e-12));
    const Spectrum s(h, {.starts = 400, .eigenpairs = 2});
    const Vector lambda = eigenvalues_of(c.B);
    CHECK(s.largest() == doctest::Approx(lambda.max()).epsilon(1e-10));
    CHECK(s.smallest() == doctest::Approx(lambda.min()).epsilon(1e-10));
    CHECK(agrees(s.effective_dimension(), lambda.map([](double x) { return x / (x + 1); }).sum()));
    CHECK(agrees(s.trace_of([](double x) { return x; }), lambda.sum()));
    for (const std::size_t k : {0u, 1u}) {
      const Vector v = matrix_of(s.eigenpairs()[k].vector).block(0, 0, 5, 1);
      CHECK(s.eigenpairs()[k].value ==
            doctest::Approx(lambda(4 - static_cast<std::int64_t>(k))).epsilon(1e-9));
      CHECK((c.B * v - s.eigenpairs()[k].value * v).norm() < 1e-9);
      CHECK(v.norm() == doctest::Approx(1));
    }
  }
}

TEST_CASE(
    "closed forms: negative eigenvalues count nothing in the effective dimension; equal ones are exact") {
  const Quadratic q(with_eigenvalues({-1, -0.5, 3, 3}, 2));
  const Landscape l = q.landscape();
  const Hessian h(l);
  CHECK(agrees(Spectrum(h, {.starts = 400}).effective_dimension(), 1.5));
  const Quadratic ball(with_eigenvalues({2, 2, 2}, 2));
  const Landscape flat = ball.landscape();
  const Estimate e = Spectrum(Hessian(flat)).effective_dimension();
  CHECK(e.value == doctest::Approx(2));
  CHECK(e.standard_error < 1e-12);
}

TEST_CASE("closed forms: local entropy is a Gaussian integral") {
  for (const bool normalize : {false, true})
    for (const double gamma : {2.0, 100.0}) {
      const Case c(normalize);
      const Matrix I = Matrix::identity(5);
      const auto exact = [&](double precision) {  // of noise N(0, I/precision)
        const Vector b = eigenvalues_of(c.B);
        return c.q.loss() + 0.5 * b.map([&](double x) { return std::log(1 + x / precision); }).sum() -
               0.5 * c.g.dot((precision * I + c.B).inverse() * c.g);
      };
      CHECK(agrees(local_entropy(c.l, {.gamma = gamma}, {.draws = 3000}), exact(gamma)));
      CHECK(agrees(local_entropy(c.l, {.gamma = gamma, .published_deviation = true}, {.draws = 3000}),
                   exact(gamma * gamma)));
    }
}

TEST_CASE("local entropy: losses of thousands neither overflow nor vanish") {
  const Quadratic q(1e5 * with_eigenvalues({1, 2, 3}, 3));
  const Landscape l = q.landscape();
  const Estimate e = local_entropy(l, {.gamma = 100}, {.draws = 24, .key = 4});
  double lowest = infinity, sum = 0;
  for (std::int64_t i = 0; i < 24; ++i) lowest = std::min(lowest, q.loss(0.1 * q.draw(4, i)));
  for (std::int64_t i = 0; i < 24; ++i) sum += std::exp(lowest - q.loss(0.1 * q.draw(4, i)));
  CHECK(lowest > 1e4);
  CHECK(e.value == doctest::Approx(lowest - std::log(sum / 24)).epsilon(1e-12));
  CHECK(std::isfinite(e.standard_error));
  CHECK(std::isfinite(e.data_error));
}

TEST_CASE("closed forms: gradient of local entropy is a linear recursion without noise") {
  for (const bool normalize : {false, true}) {
    const Case c(normalize);
    Vector v(5), mean(5);
    for (int t = 0; t < 20; ++t) {
      v = v - 0.1 * (c.g + c.B * v + 0.5 * v);
      mean = 0.75 * mean + 0.25 * v;
    }
    // one batch has all samples
    const LocalEntropyGradientOptions o{.gamma = 0.5, .noise = 0, .batch_size = 1000};
    const Estimate e = local_entropy_gradient(c.l, o, {.draws = 3});
    CHECK(e.value == doctest::Approx(0.5 * mean.norm()).epsilon(1e-10));
    CHECK(e.standard_error < 1e-12);
    LocalEntropyGradientOptions published = o;
    published.published = true;
    CHECK(local_entropy_gradient(c.l, published).value == doctest::Approx(mean.norm()).epsilon(1e-10));
  }
}

TEST_CASE("gradient of local entropy: fresh batches or one, noise of its size, chains of their own") {
  const Case c(false);
  const Estimate fresh = local_entropy_gradient(c.l, {.gamma = 1, .batch_size = 5}, {.draws = 16});
  CHECK(fresh.draws == 16);
  CHECK(fresh.standard_error > 0);
  const Estimate one = local_entropy_gradient(c.l, {.gamma = 1, .batch_size = 5, .published = true});
  CHECK(one.draws == 4);                             // 20 samples
  CHECK(one.standard_error > fresh.standard_error);  // a fixed batch has more influence
  // a flat loss: the chain is a random walk of 20 steps of 1e-2·√0.2, and μ its weighted sum
  const Quadratic flat(Matrix(5, 5));
  const Landscape l = flat.landscape();
  double variance = 0;
  for (int born = 1; born <= 20; ++born) {
    double weight = 0;
    for (int t = born; t <= 20; ++t) weight += 0.25 * std::pow(0.75, 20 - t);
    variance += weight * weight * 1e-4 * 0.2;
  }
  const Estimate walk = local_entropy_gradient(
      l, {.gamma = 0, .noise = 1e-2, .batch_size = 2, .published = true}, {.draws = 8});
  double squares = 0;
  for (const double x : walk.per_draw) squares += x * x / static_cast<double>(walk.draws);
  CHECK(squares / (5 * variance) == doctest::Approx(1).epsilon(0.3));  // 50 numbers
}

TEST_CASE("closed forms: SAM's sharpness is the trust region's maximum") {
  for (const bool normalize : {false, true})
    for (const double rho : {0.05, 1.0}) {
      const Case c(normalize);
      // max g·v + ½ vᵀBv, ‖v‖ = ρ: (μI − B) v = g with μ > λ_max (Moré & Sorensen 1983)
      double low = eigenvalues_of(c.B).max(), high = low + 10 * c.g.norm() / rho;
      const auto at = [&](double mu) { return (mu * Matrix::identity(5) - c.B).inverse() * c.g; };
      for (int i = 0; i < 200; ++i) {
        const double middle = (low + high) / 2;
        (at(middle).norm() > rho ? low : high) = middle;
      }
      const Vector v = at(high);
      const double exact = c.g.dot(v) + 0.5 * v.dot(c.B * v);
      const Ascent a = sam_sharpness(c.l, {.rho = rho, .steps = 40});
      CHECK(a.sharpness.value == doctest::Approx(exact).epsilon(2e-3));
      CHECK(a.sharpness.value <= exact * (1 + 1e-9));
      CHECK(a.first_step ==
            doctest::Approx(rho * c.g.norm() + 0.5 * rho * rho * c.g.dot(c.B * c.g) / c.g.squared_norm()));
      CHECK(a.highest.size() == 4);
    }
  // at the minimum there is no gradient: ½ ρ² λ_max
  Quadratic q(with_eigenvalues({1, 2, 5}, 3));
  q.params.theta().zero_();
  q.x.zero_();
  const Landscape l = q.landscape();
  CHECK(sam_sharpness(l, {.rho = 0.1, .steps = 60}).sharpness.value / 0.025 ==
        doctest::Approx(1).epsilon(5e-3));
}

TEST_CASE("closed forms: Shannon entropy of known probabilities") {
  const ParameterStore params({.dtype = float64});
  const nn::Linear fc(params / "fc", 3, 3, {.bias = false});
  fc.weight.clean().detach().copy_(from_vector<double>({1, 0, 0, 0, 1, 0, 0, 0, 1}, {3, 3}));
  const Tensor x = log(from_vector<double>({1, 1, 1, 1, 2, 5, 1, 1e-300, 1e-300}, {3, 3}));
  const Landscape l(params, {x, x}, [&](const Tensor& a, const Tensor&) { return sum(square(fc(a)), {1}); });
  const Estimate e = shannon_entropy(l, [&](const Tensor& a) { return fc(a); });
  const double a = std::log(3.0), b = std::log(8.0) - (2 * std::log(2.0) + 5 * std::log(5.0)) / 8;
  CHECK(e.value == doctest::Approx((a + b) / 3).epsilon(1e-12));
  CHECK(e.draws == 0);
  CHECK(e.standard_error == 0);
  const double mean = (a + b) / 3;
  const double squares = std::pow(a - mean, 2) + std::pow(b - mean, 2) + mean * mean;
  CHECK(e.data_error == doctest::Approx(std::sqrt(squares / 6)).epsilon(1e-12));
  CHECK_ERROR(shannon_entropy(l, [&](const Tensor& s) { return sum(fc(s), {1}); }), ShapeError, "logits");
}

}  // namespace
}  // namespace lpf::test
