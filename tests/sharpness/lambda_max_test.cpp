// λ_max by Lanczos compared with dense eigenvalues of the Hessian.
#include "filter/networks.hpp"
#include "lpf/sharpness/lanczos.hpp"
#include "matrix.hpp"

namespace lpf::test {
namespace {

/// The Hessian over the trainable parameters in order, column by column from products with unit vectors.
Matrix hessian_of(const ParameterStore& params, const Tensor& loss) {
  const auto leaves = params.leaves();
  const HessianVectorProduct product(loss, leaves);
  const auto n = static_cast<std::int64_t>(params.numel(true));
  Matrix h(n, n);
  std::int64_t column = 0;
  for (std::size_t l = 0; l < leaves.size(); ++l)
    for (std::int64_t i = 0; i < leaves[l].numel(); ++i, ++column) {
      std::vector<Tensor> unit;
      for (const Tensor& leaf : leaves) unit.push_back(zeros_like(leaf));
      unit[l].data<double>()[i] = 1;
      std::int64_t row = 0;
      for (const Tensor& part : product(unit))
        for (const double x : part.to_vector()) h(row++, column) = x;
    }
  return h;
}
Matrix sizes_of(const ParameterStore& params) {
  const auto c = sharpness::unit_sizes(params).to_vector();
  std::vector<double> out;
  for (const auto& info : params.parameters())
    if (info.trainable)
      out.insert(out.end(), c.begin() + info.offset, c.begin() + info.offset + info.numel());
  return Matrix::diagonal(matrix_of(from_vector(out, {std::ssize(out)})));
}
double largest_of(const Matrix& m) { return eigenvalues_of(m).max(); }

/// Largest difference from the value of a dense solver, in units of the matrix' size, over shifts of its
/// diagonal.
double tridiagonal_error(const std::vector<double>& diagonal, const std::vector<double>& off) {
  double worst = 0;
  for (const double shift : {0.0, 100.0, -100.0}) {
    std::vector<double> shifted = diagonal;
    for (double& d : shifted) d += shift;
    const auto n = static_cast<std::int64_t>(diagonal.size());
    Matrix m(n, n);
    for (std::int64_t i = 0; i < n; ++i) m(i, i) = shifted[static_cast<std::size_t>(i)];
    for (std::int64_t i = 0; i + 1 < n; ++i) m(i, i + 1) = m(i + 1, i) = off[static_cast<std::size_t>(i)];
    const double scale = m.max_abs() + 1e-300;
    worst = std::max(worst,
                     std::abs(sharpness::detail::largest_eigenvalue({shifted, off}) - largest_of(m)) / scale);
  }
  return worst;
}

TEST_CASE("the largest eigenvalue of a tridiagonal matrix") {
  for (const std::int64_t n : {1, 2, 3, 10, 60})
    for (const std::uint64_t seed : {1, 2, 3}) {
      CAPTURE(n);
      const auto diagonal = normal({n}, seed).to_vector(), off = normal({n - 1}, seed + 10).to_vector();
      CHECK(tridiagonal_error(diagonal, off) < 1e-12);
      CHECK(tridiagonal_error(diagonal, std::vector<double>(off.size(), 0.0)) < 1e-12);
    }
  CHECK(sharpness::detail::largest_eigenvalue({{0, 0, 0}, {0, 0}}) == doctest::Approx(0));
  CHECK(sharpness::detail::largest_eigenvalue({{-3, -2}, {0}}) == doctest::Approx(-2).epsilon(1e-13));
  CHECK(sharpness::detail::largest_eigenvalue({{1e-200, 2e-200}, {0}}) ==
        doctest::Approx(2e-200).epsilon(1e-10));
}

TEST_CASE("the largest eigenvalue of a tridiagonal matrix with zeros on its diagonal") {
  for (const std::int64_t n : {2, 3, 4, 10, 60})
    for (const std::uint64_t seed : {1, 2, 3}) {
      CAPTURE(n);
      CHECK(tridiagonal_error(std::vector<double>(static_cast<std::size_t>(n), 0.0),
                              normal({n - 1}, seed).to_vector()) < 1e-12);
      CHECK(tridiagonal_error(std::vector<double>(static_cast<std::size_t>(n), 0.0),
                              std::vector<double>(static_cast<std::size_t>(n - 1), 1.0)) < 1e-12);
    }
}

TEST_CASE("λ_max is that of the dense Hessian, with and without filter normalisation") {
  for (const Kind kind : {Kind::linear, Kind::token, Kind::tied, Kind::conv}) {
    CAPTURE(name_of(kind));
    const Problem p(kind, 12);
    static_cast<void>(p.loss());  // running statistics
    const Tensor theta = p.params.theta().clone();
    const auto buffers = buffers_of(p.params);
    if (kind == Kind::linear) p.params.set_trainable("fc2.weight", false);
    p.params.eval();
    const Matrix h = hessian_of(p.params, p.loss()), c = sizes_of(p.params);
    p.params.train();
    CHECK((h - h.transpose()).max_abs() < 1e-12 * h.max_abs());
    const double plain = largest_of(h), normalized = largest_of(c * h * c);
    CHECK(std::abs(plain - normalized) > 0.01 * plain);
    const auto loss = [&] {
      CHECK_FALSE(p.params.training());
      return p.loss();
    };
    const auto lanczos = [&](sharpness::LanczosOptions o) {
      return sharpness::lambda_max(p.params, loss, o);
    };
    CHECK(lanczos({.tolerance = 0, .filter_normalize = false}) == doctest::Approx(plain).epsilon(1e-9));
    CHECK(lanczos({.tolerance = 0, .filter_normalize = true}) == doctest::Approx(normalized).epsilon(1e-9));
    // with default options: it stops early, with an error towards the low side
    for (const std::uint64_t seed : {0, 1, 2}) {
      const double found = lanczos({.seed = seed});
      CHECK(found == doctest::Approx(normalized).epsilon(2e-3));
      CHECK(found < normalized * (1 + 1e-9));
    }
    CHECK(lanczos({.steps = 1, .starts = 1}) < normalized);
    CHECK(same_bits(p.params.theta(), theta));
    CHECK(same_bits(buffers_of(p.params), buffers));
    CHECK(p.params.training());
  }
}

TEST_CASE("the largest eigenvalue, not the largest in magnitude; one, equal, and zero eigenvalues") {
  const auto lambda = [](const std::vector<double>& h, std::vector<double> at = {}) {
    const ParameterStore params({.dtype = float64});
    const std::int64_t n = std::ssize(h);
    const nn::Parameter w = nn::Path(params).parameter("w", {n}, init::constant(0.5));
    const Tensor curvature = from_vector(h, {n});
    return sharpness::lambda_max(params, [&] { return sum(mul(square(w.value()), curvature)) * 0.5; },
                                 {.tolerance = 0, .filter_normalize = at.size() == 1});
  };
  CHECK(lambda({1, 2, -50}) == doctest::Approx(2).epsilon(1e-10));
  CHECK(lambda({-3, -2, -50}) == doctest::Approx(-2).epsilon(1e-10));
  CHECK(lambda({7}) == doctest::Approx(7).epsilon(1e-12));
  CHECK(lambda({7}, {1}) == doctest::Approx(7 * 0.25).epsilon(1e-12));
  CHECK(lambda({4, 4, 4, 4}) == doctest::Approx(4).epsilon(1e-12));
  CHECK(lambda({0, 0, 0}) == doctest::Approx(0));
  CHECK(lambda({0, 0, 1e-6}) == doctest::Approx(1e-6).epsilon(1e-9));
  std::vector<double> spread;
  for (int i = 0; i < 300; ++i) spread.push_back(1 + i / 300.0);
  CHECK(lambda(spread) == doctest::Approx(1 + 299 / 300.0).epsilon(1e-4));  // 100 steps of 300 dimensions
}

TEST_CASE("λ_max: a loss that throws leaves the training flag; options out of range are ValueErrors") {
  const Problem p(Kind::linear);
  CHECK_THROWS_WITH(
      sharpness::lambda_max(p.params, [&]() -> Tensor { throw std::runtime_error("the user's"); }),
      "the user's");
  CHECK(p.params.training());
  const auto loss = [&] { return p.loss(); };
  CHECK_ERROR(sharpness::lambda_max(p.params, loss, {.steps = 0}), ValueError, "steps");
  CHECK_ERROR(sharpness::lambda_max(p.params, loss, {.starts = 0}), ValueError, "starts");
}

}  // namespace
}  // namespace lpf::test
