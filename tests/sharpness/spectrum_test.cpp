// Hessian products, eigenpairs and density of a small network compared with the full eigendecomposition
// (Eigen, float64), and the eigenvalues of tridiagonal matrices.
#include "lpf/sharpness/spectrum.hpp"

#include "filter/networks.hpp"
#include "lpf/sharpness/trace.hpp"
#include "quadratic.hpp"

namespace lpf::test {
namespace {

using namespace sharpness;

Landscape landscape_of(const Problem& p, const LandscapeOptions& o = {}) {
  return Landscape(
      p.params, {p.x, p.y},
      [&p](const Tensor& x, const Tensor& y) {
        return cross_entropy(p.net(x), y, {.reduction = Reduction::none});
      },
      o);
}

/// The whole matrix, from products with unit vectors, without the rows and columns of padding.
Matrix dense(const Hessian& h) {
  std::vector<std::int64_t> places;
  for (const auto& info : h.landscape().params().parameters())
    for (std::int64_t i = 0; i < info.numel() && info.trainable; ++i) places.push_back(info.offset + i);
  const auto n = static_cast<std::int64_t>(places.size());
  Matrix out(n, n);
  for (std::int64_t column = 0; column < n; ++column) {
    const Tensor unit = zeros({h.landscape().size()}, {.dtype = float64});
    unit.data<double>()[places[static_cast<std::size_t>(column)]] = 1;
    const Tensor product = h(unit);
    for (std::int64_t row = 0; row < n; ++row)
      out(row, column) = product.data<double>()[places[static_cast<std::size_t>(row)]];
  }
  return out;
}

TEST_CASE("all eigenvalues and vectors of tridiagonal matrices") {
  for (const std::int64_t n : {1, 2, 3, 10, 60})
    for (const std::uint64_t seed : {1u, 2u, 3u, 4u}) {
      CAPTURE(n);
      CAPTURE(seed);
      Tridiagonal t{normal({n}, seed).to_vector(), normal({n - 1}, seed + 10).to_vector()};
      if (seed == 3) t.diagonal.assign(t.diagonal.size(), 0.0);
      if (seed == 4) t.off.assign(t.off.size(), 0.0);
      Matrix m(n, n);
      for (std::int64_t i = 0; i < n; ++i) m(i, i) = t.diagonal[static_cast<std::size_t>(i)];
      for (std::int64_t i = 0; i + 1 < n; ++i) m(i, i + 1) = m(i + 1, i) = t.off[static_cast<std::size_t>(i)];
      const SmallEigen found = eigen_of(t);
      const Vector expected = eigenvalues_of(m);
      Matrix vectors(n, n);
      for (std::int64_t k = 0; k < n; ++k) {
        CHECK(std::abs(found.values[static_cast<std::size_t>(k)] - expected(k)) < 1e-12);
        for (std::int64_t i = 0; i < n; ++i)
          vectors(i, k) = found.vectors[static_cast<std::size_t>(k)][static_cast<std::size_t>(i)];
        CHECK((m * vectors.col(k) - expected(k) * vectors.col(k)).norm() < 1e-12);
      }
      CHECK((vectors.transpose() * vectors - Matrix::identity(n)).norm() < 1e-12);
    }
}

TEST_CASE("tridiagonal matrices of known spectrum, at every scale") {
  // Diagonal a, off-diagonals b: λ_k = a + 2b cos((k + 1)π/(n + 1)), v_k[i] ∝ sin((i + 1)(k + 1)π/(n + 1)).
  for (const std::size_t n : {1u, 2u, 100u})
    for (const double scale : {1e-200, 1e-9, 1.0, 1e9, 1e200})
      for (const double b : {-1.0, 0.0}) {  // 0: one value n times
        CAPTURE(n);
        CAPTURE(scale);
        CAPTURE(b);
        const Tridiagonal t{std::vector<double>(n, 2 * scale), std::vector<double>(n - 1, b * scale)};
        const SmallEigen found = eigen_of(t);
        REQUIRE(found.values.size() == n);
        REQUIRE(found.vectors.size() == n);
        const double step = std::numbers::pi / static_cast<double>(n + 1);
        double worst_value = 0, worst_vector = 0;
        for (std::size_t k = 0; k < n; ++k) {
          const double angle = step * static_cast<double>(k + 1);
          worst_value =
              std::max(worst_value, std::abs(found.values[k] / scale - (2 + 2 * b * std::cos(angle))));
          double along = 0, length = 0;
          for (std::size_t i = 0; i < n; ++i) {
            const double exact =
                std::sqrt(2 * step / std::numbers::pi) * std::sin(static_cast<double>(i + 1) * angle);
            along += exact * found.vectors[k][i];
            length += found.vectors[k][i] * found.vectors[k][i];
          }
          worst_vector = std::max(worst_vector, std::abs(length - 1));
          if (b != 0) worst_vector = std::max(worst_vector, std::abs(std::abs(along) - 1));
        }
        CHECK(worst_value < 1e-13);
        CHECK(worst_vector < 1e-12);
        CHECK(sharpness::detail::largest_eigenvalue(t) / scale ==
              doctest::Approx(found.values.back() / scale).epsilon(1e-13));
      }
  // Blocks that touch in zeros: each value twice, but for the one by one block.
  const SmallEigen twice = eigen_of({{1, 1, 5, 1, 1}, {3, 0, 0, 3, 7}});  // the fifth is ignored
  const double exact[] = {-2, -2, 4, 4, 5};
  for (std::size_t k = 0; k < 5; ++k) CHECK(std::abs(twice.values[k] - exact[k]) < 1e-14);
  const SmallEigen nothing = eigen_of({std::vector<double>(4, 0.0), std::vector<double>(3, 0.0)});
  CHECK(nothing.values == std::vector<double>(4, 0.0));
  CHECK(eigen_of({}).values.empty());
}

TEST_CASE("tridiagonal matrices that are not finite have no eigenvalues") {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {not_a_number, infinity, -infinity})
    for (const std::size_t n : {1u, 2u, 100u}) {
      CAPTURE(bad);
      CAPTURE(n);
      Tridiagonal t{std::vector<double>(n, 1.0), std::vector<double>(n - 1, 1.0)};
      t.diagonal.back() = bad;
      CHECK_ERROR(eigen_of(t), NumericError, "tridiagonal matrix that holds");
      CHECK_ERROR(sharpness::detail::largest_eigenvalue(t), NumericError, "tridiagonal matrix that holds");
      t.diagonal.back() = 1;
      if (n == 1) continue;
      t.off.front() = bad;
      CHECK_ERROR(eigen_of(t), NumericError, "tridiagonal matrix that holds");
      CHECK_ERROR(sharpness::detail::largest_eigenvalue(t), NumericError, "tridiagonal matrix that holds");
    }
}

TEST_CASE("the Hessian of batches is that of all samples, each with the same weight") {
  for (const Kind kind : {Kind::linear, Kind::conv, Kind::tied}) {
    CAPTURE(name_of(kind));
    const Problem p(kind, 19);
    const Landscape whole = landscape_of(p), parts = landscape_of(p, {.samples = 4});  // the last has 3
    const Hessian a(whole), b(parts);
    const Tensor v = whole.random_vector(1, Stream::probes, 0);
    CHECK(relative_error(b(v), a(v), sharpness::detail::norm(a(v))) < 1e-12);
    CHECK(relative_error(parts.gradient(), whole.gradient(), sharpness::detail::norm(whole.gradient())) <
          1e-12);
    CHECK(parts.losses().mean(0) == doctest::Approx(whole.losses().mean(0)).epsilon(1e-13));
  }
}

TEST_CASE("λ_max, eigenpairs, traces and density are those of the whole Hessian [slow]") {
  for (const bool normalize : {false, true}) {
    const Problem p(Kind::linear, 30);
    p.params.set_trainable("fc2.bias", false);
    const Landscape l = landscape_of(p, {.filter_normalize = normalize});
    const Hessian h(l);
    const Matrix m = dense(h);
    REQUIRE(m.rows() == 42 + 49 + 24);
    CHECK((m - m.transpose()).norm() < 1e-12 * m.norm());
    const Vector lambda = eigenvalues_of(m);
    const double top = lambda.max();
    CHECK(lambda.min() < 0);
    const Spectrum s(h, {.steps = 115, .starts = 60, .eigenpairs = 5});
    CHECK(s.dimension() == 115);
    CHECK(s.largest() == doctest::Approx(top).epsilon(1e-9));
    CHECK(s.smallest() == doctest::Approx(lambda.min()).epsilon(1e-9));
    for (std::size_t k = 0; k < 5; ++k) {
      const Eigenpair& e = s.eigenpairs()[k];
      CHECK(e.value == doctest::Approx(lambda(114 - static_cast<std::int64_t>(k))).epsilon(1e-8));
      const Tensor rest = sub(h(e.vector), affine(e.vector, e.value, 0));
      CHECK(sharpness::detail::norm(rest) < 1e-7 * top);
    }
    CHECK(agrees(s.trace_of([](double x) { return x; }), lambda.sum()));
    CHECK(
        agrees(s.effective_dimension(), lambda.map([](double x) { return x > 0 ? x / (x + 1) : 0; }).sum()));
    CHECK(agrees(Probes(h).trace({.draws = 400}), lambda.sum()));
    CHECK(agrees(Probes(h).frobenius_norm({.draws = 400}), lambda.norm()));
    CHECK(agrees(trace_hutchpp(h, 60), lambda.sum()));
    CHECK(trace_hutchpp(h, 60).standard_error < Probes(h).trace({.draws = 60}).standard_error);
    // the density at every point, within its errors; and its integral
    const double width = 0.05 * top;
    const Curve density = s.density(200, width);
    double integral = 0, outside = 0;
    for (std::size_t i = 0; i < density.x.size(); ++i) {
      const auto bump = [&](double x) { return std::exp(-0.5 * std::pow((density.x[i] - x) / width, 2)); };
      const double exact = lambda.map(bump).sum() / (115 * width * std::sqrt(2 * std::numbers::pi));
      outside += std::abs(density.y[i] - exact) > 4 * density.standard_error[i] + 1e-6 / width;
      integral += density.y[i] * (density.x[1] - density.x[0]);
    }
    CHECK(outside == 0);
    CHECK(integral == doctest::Approx(1).epsilon(1e-3));
    // fewer steps than dimensions: the residual bounds the error of a value
    const Spectrum spectrum(h, {.steps = 12, .starts = 1, .eigenpairs = 12});
    for (const Eigenpair& e : spectrum.eigenpairs())
      CHECK(lambda.map([&](double x) { return std::abs(x - e.value); }).min() <=
            e.residual * (1 + 1e-6) + 1e-12);
  }
}

TEST_CASE("blocks: traces of their own Hessians, rows of the Frobenius norm") {
  const Problem p(Kind::linear, 20);
  const Landscape l = landscape_of(p);
  const Hessian h(l);
  const Matrix m = dense(h);
  const auto blocks = blocks_of(p.params);
  REQUIRE(blocks.size() == 3);
  CHECK(blocks[1].name == "fc2");
  CHECK(blocks[1].parameters == std::vector<std::size_t>{2, 3});
  Probes probes(h, 2, blocks);
  const Estimate trace = probes.trace({.draws = 600}), frobenius = probes.frobenius_norm({.draws = 600});
  const std::int64_t begin[] = {0, 42, 98, 122};
  double sum = 0, squares = 0;
  for (std::size_t b = 0; b < 3; ++b) {
    const std::int64_t at = begin[b], n = begin[b + 1] - at;
    const auto inside = [](const BlockValue& v, double exact) {
      return v.standard_error > 0 && std::abs(v.value - exact) < 4.5 * v.standard_error;
    };
    CHECK(inside(trace.blocks[b], m.block(at, at, n, n).trace()));
    CHECK(inside(frobenius.blocks[b], m.block(at, 0, n, m.cols()).norm()));
    sum += trace.blocks[b].value;
    squares += std::pow(frobenius.blocks[b].value, 2);
  }
  CHECK(sum == doctest::Approx(trace.value).epsilon(1e-10));
  CHECK(std::sqrt(squares) == doctest::Approx(frobenius.value).epsilon(1e-10));
  CHECK(blocks_of(Problem(Kind::conv).params, BlockLevel::stage).size() == 6);
}

TEST_CASE("memory does not grow with the number of Hessian products") {
  const Problem p(Kind::linear, 12);
  for (const std::int64_t samples : {0, 5}) {  // one retained graph, or one per product and batch
    const Landscape l = landscape_of(p, {.samples = samples});
    const Hessian h(l);
    const Tensor v = l.random_vector(1, Stream::probes, 0);
    static_cast<void>(h(v));
    const auto& cpu = backend::get(Device::cpu());
    cpu.reset_peak();
    static_cast<void>(h(v));
    const auto before = cpu.memory_stats();
    for (int i = 0; i < 1000; ++i) static_cast<void>(h(v));
    const auto after = cpu.memory_stats();
    CHECK(after.in_use == before.in_use);
    CHECK(after.peak == before.peak);
    CHECK(after.system_allocations == before.system_allocations);
  }
}

TEST_CASE("spectrum: options out of range are ValueErrors, weights that are NaN a NumericError") {
  const Problem p(Kind::linear, 6);
  const Landscape l = landscape_of(p);
  const Hessian h(l);
  CHECK_ERROR(Spectrum(h, {.steps = 0}), ValueError, "steps");
  CHECK_ERROR(Spectrum(h, {.starts = 0}), ValueError, "starts");
  CHECK_ERROR(Spectrum(h, {.steps = 3}).density(1), ValueError, "2 points");
  CHECK_ERROR(trace_hutchpp(h, 5), ValueError, "6 products");
  CHECK_ERROR(Probes(h).trace({.draws = 1}), ValueError, "draws");
  p.params.theta().data<double>()[0] = not_a_number;
  const Landscape broken = landscape_of(p, {.filter_normalize = false});
  CHECK_ERROR(Spectrum(Hessian(broken), {.steps = 3}), NumericError, "not finite");
}

}  // namespace
}  // namespace lpf::test
