// LPF for a black-box function of a flat vector: the noise of perturbed passes over
// layers, the mean of the gradients.
#include "lpf/filter/lpf_gradient.hpp"

#include <Eigen/Core>
#include <array>

#include "networks.hpp"

namespace lpf::test {
namespace {

/// The rows of a store without the gaps between its parameters.
std::vector<FilterRows> rows_of(const ParameterStore& params) {
  std::vector<FilterRows> out;
  for (const auto& info : params.parameters()) {
    const std::int64_t rows = info.shape.rank() > 1 ? info.shape[0] : 1;
    out.push_back({rows, info.numel() / rows});
  }
  return out;
}
/// Removes the gaps of a vector of θ's layout, and back.
template <class T>
std::vector<T> packed(const ParameterStore& params, const Tensor& t) {
  std::vector<T> out;
  for (const auto& info : params.parameters())
    for (const T x : t.alias(info.shape, info.offset).to_vector<T>()) out.push_back(x);
  return out;
}
template <class T>
void unpack(const ParameterStore& params, std::span<const T> from, const Tensor& to) {
  std::size_t at = 0;
  for (const auto& info : params.parameters()) {
    const auto n = static_cast<std::size_t>(info.numel());
    to.alias(info.shape, info.offset).copy_(from_span(from.subspan(at, n), info.shape));
    at += n;
  }
}

TEST_CASE("a black box is given the weights of a perturbed pass, to the bit") {
  const auto check = [](auto zero, bool antithetic) {
    using T = decltype(zero);
    const ParameterStore params({.dtype = dtype_of<T>(), .seed = 1});
    const ConvNet net(params);
    LowPassFilter filter({.M = 4,
                          .gamma = 0.07,
                          .estimator = antithetic ? Estimator::antithetic : Estimator::replicas,
                          .seed = 9});
    filter.set_draws(5);
    auto scope = filter.perturb(params);
    const std::vector<T> theta = packed<T>(params, params.theta());
    std::vector<T> g(theta.size());
    std::int64_t calls = 0;
    lpf_gradient(
        [&](std::span<const T> at, std::span<T> gradient, std::int64_t r) {
          CHECK(r == calls++);
          std::vector<T> expected;
          for (const auto& info : params.parameters()) {
            const auto off = no_grad();
            for (const T x :
                 lpf::detail::remove_replica_dim(scope.read(info.index))[r].template to_vector<T>())
              expected.push_back(x);
          }
          CHECK(std::equal(at.begin(), at.end(), expected.begin(), expected.end()));
          CHECK(std::count(gradient.begin(), gradient.end(), T(0)) ==
                static_cast<std::ptrdiff_t>(theta.size()));
          return 0;
        },
        theta, g,
        {.M = 4, .gamma = 0.07, .rows = rows_of(params), .antithetic = antithetic, .key = scope.key()});
    CHECK(calls == 4);
  };
  for (const bool antithetic : {false, true}) {
    check(double{}, antithetic);
    check(float{}, antithetic);
  }
}

TEST_CASE("a network behind a flat vector has the gradient of the one pass") {
  const std::int64_t batch = 16, M = 4;
  for (const Kind kind : {Kind::linear, Kind::tied}) {
    const Problem one(kind, batch), box(kind, batch);
    LowPassFilter filter({.M = M, .gamma = 0.1, .seed = 2});
    double loss;
    std::vector<double> each;
    {
      const auto scope = filter.perturb(one.params);
      const Tensor losses = one.losses(0, batch);
      mean(losses).backward();
      loss = mean(losses).item();
      each = scope.replica_losses(losses);
    }
    const std::vector<double> theta = packed<double>(box.params, box.params.theta());
    std::vector<double> g(theta.size(), 7);
    const auto found = lpf_gradient(
        [&](std::span<const double> at, std::span<double> gradient, std::int64_t r) {
          unpack(box.params, at, box.params.theta());
          box.params.zero_grad();
          const Tensor l = box.loss(r * batch / M, (r + 1) * batch / M);
          l.backward();
          const auto own = packed<double>(box.params, box.params.gradient());
          std::copy(own.begin(), own.end(), gradient.begin());
          return l.item();
        },
        theta, g,
        {.M = M,
         .gamma = 0.1,
         .rows = rows_of(box.params),
         .key = {.seed = 2, .purpose = Purpose::perturbation}});
    const auto expected = packed<double>(one.params, one.params.gradient());
    const std::int64_t n = std::ssize(expected);
    CHECK(distance(from_vector(g, {n}), from_vector(expected, {n})) < 1e-12);
    CHECK(found.value == doctest::Approx(loss).epsilon(1e-12));
    for (std::size_t r = 0; r < each.size(); ++r)
      CHECK(found.replica_losses[r] == doctest::Approx(each[r]).epsilon(1e-12));
  }
}

TEST_CASE("isotropic noise: σ for every element, or γ‖θ‖ without rows") {
  const std::array<double, 5> theta{1, -2, 3, 0.5, 0};
  const NoiseKey key{.seed = 3, .purpose = Purpose::perturbation, .draw = 8};
  const auto points = [&](const LPFGradientOptions& o) {
    std::vector<std::vector<double>> out;
    std::array<double, 5> g{};
    lpf_gradient(
        [&](std::span<const double> at, std::span<double>) {
          out.emplace_back(at.begin(), at.end());
          return 0.f;
        },
        theta, g, o);
    return out;
  };
  const auto expected = [&](double s, std::uint32_t r, std::size_t first) {
    NoiseKey own = key;
    own.replica = r;
    std::vector<double> out;
    for (std::size_t i = 0; i < 5; ++i) {
      own.parameter = i < first ? 0 : 1;
      out.push_back(lpf::detail::fmadd(
          s, normal_at<double>(own, static_cast<std::int64_t>(i < first ? i : i - first)), theta[i]));
    }
    return out;
  };
  const auto sigma = points({.M = 2, .sigma = 0.25, .key = key});
  CHECK(sigma[0] == expected(0.25, 0, 5));
  CHECK(sigma[1] == expected(0.25, 1, 5));
  CHECK(points({.M = 1, .sigma = 0.25, .rows = {{1, 3}, {2, 1}}, .key = key})[0] == expected(0.25, 0, 3));
  const auto pair = points({.M = 2, .sigma = 0.25, .antithetic = true, .key = key});
  CHECK(pair[0] == expected(0.25, 0, 5));
  CHECK(pair[1] == expected(-0.25, 0, 5));
  const double norm = std::sqrt(14.25);
  for (std::size_t i = 0; i < 5; ++i)
    CHECK(points({.M = 1, .gamma = 0.1, .key = key})[0][i] ==
          doctest::Approx(expected(0.1 * norm, 0, 5)[i]).epsilon(1e-14));
  CHECK(points({.M = 3, .key = key})[2] == std::vector<double>(theta.begin(), theta.end()));
  CHECK(points({.M = 1, .sigma = 0.25, .key = {.seed = 3, .purpose = Purpose::perturbation, .draw = 9}})[0] !=
        sigma[0]);
}

/// L = ½ Σ h_i θ_i²: the smoothed loss is L + ½ σ² Σ h_i, its gradient hθ.
struct Quadratic {
  std::vector<double> h;
  double operator()(std::span<const double> theta, std::span<double> gradient) const {
    double loss = 0;
    for (std::size_t i = 0; i < theta.size(); ++i) {
      loss += 0.5 * h[i] * theta[i] * theta[i];
      gradient[i] += h[i] * theta[i];  // zero on entry
    }
    return loss;
  }
};

TEST_CASE("on a quadratic: mean loss and gradient, with their errors") {
  const Quadratic f{{1, 10, 100, 3}};
  const std::vector<double> theta{1, -0.5, 0.1, 2};
  const double sigma = 0.2, smoothed = 0.5 * (1 + 10 * .25 + 100 * .01 + 3 * 4) + 0.5 * sigma * sigma * 114;
  for (const bool antithetic : {false, true}) {
    std::vector<double> g(4);
    const auto found = lpf_gradient(f, theta, g, {.M = 20000, .sigma = sigma, .antithetic = antithetic});
    CHECK(std::abs(found.value - smoothed) < 4.5 * found.standard_error);
    CHECK(found.standard_error < 0.05);
    for (std::size_t i = 0; i < 4; ++i) {
      const double exact = f.h[i] * theta[i], se = f.h[i] * sigma / std::sqrt(20000.0);
      CHECK(std::abs(g[i] - exact) <
            (antithetic ? 1e-12 * std::abs(exact) : 4.5 * se));  // pairs cancel on a quadratic
    }
    // the error counts independent draws: a pair is one
    std::vector<double> draws = found.replica_losses;
    if (antithetic) {
      for (std::size_t i = 0; i < draws.size() / 2; ++i) draws[i] = (draws[2 * i] + draws[2 * i + 1]) / 2;
      draws.resize(draws.size() / 2);
    }
    double mean = 0, squares = 0;
    for (const double x : draws) mean += x / static_cast<double>(draws.size());
    for (const double x : draws) squares += (x - mean) * (x - mean);
    const auto n = static_cast<double>(draws.size());
    CHECK(found.value == doctest::Approx(mean).epsilon(1e-12));
    CHECK(found.standard_error == doctest::Approx(std::sqrt(squares / (n - 1) / n)).epsilon(1e-10));
  }
  std::vector<double> g(4);
  CHECK(std::isnan(lpf_gradient(f, theta, g, {.M = 1, .sigma = sigma}).standard_error));
  CHECK(std::isnan(lpf_gradient(f, theta, g, {.M = 2, .sigma = sigma, .antithetic = true}).standard_error));
  const auto plain = lpf_gradient(f, theta, g, {.M = 3});
  CHECK(plain.standard_error == doctest::Approx(0));
  CHECK(plain.value == doctest::Approx(8.25));
  for (std::size_t i = 0; i < 4; ++i) CHECK(g[i] == doctest::Approx(f.h[i] * theta[i]));
}

TEST_CASE("an optimizer of the user's own finds the flat minimum beside the sharp one") {
  // a sharp minimum at −1 inside the wide one at 1: L = 0.1 (θ − 1)² − exp(−200 (θ + 1)²)
  const auto f = [](std::span<const float> theta, std::span<float> gradient) {
    const float a = theta[0] - 1, b = theta[0] + 1, well = std::exp(-200 * b * b);
    gradient[0] = 0.2f * a + 400 * b * well;
    return 0.1f * a * a - well;
  };
  const auto descend = [&](double sigma) {
    std::vector<float> theta{-1.05f}, g(1);
    for (std::uint64_t step = 0; step < 3000; ++step) {
      lpf_gradient(f, theta, std::span(g), {.M = 8, .sigma = sigma, .key = {.seed = 1, .draw = step}});
      theta[0] -= 0.003f * g[0];
    }
    return theta[0];
  };
  CHECK(descend(0) == doctest::Approx(-1).epsilon(0.02));
  CHECK(descend(0.5) > 0);
}

TEST_CASE("θ and its gradient may be vectors of Eigen's, without gaps") {
  const Quadratic f{{1, 2, 3, 4}};
  const LPFGradientOptions options{.M = 3, .sigma = 0.2, .key = {.seed = 5}};
  const std::vector<double> theta{1, -2, 3, 0.5};
  std::vector<double> expected(4);
  const double value = lpf_gradient(f, theta, expected, options).value;

  const Eigen::VectorXd at = Eigen::Map<const Eigen::VectorXd>(theta.data(), 4);
  Eigen::VectorXd g = Eigen::VectorXd::Zero(4);
  CHECK(lpf_gradient(f, at, g, options).value == value);
  CHECK(std::equal(expected.begin(), expected.end(), g.data()));

  Eigen::Matrix<double, 2, 2> matrix = Eigen::Map<const Eigen::Matrix<double, 2, 2>>(theta.data());
  Eigen::VectorXd longer = Eigen::VectorXd::Constant(6, 7);
  lpf_gradient(f, matrix, longer.segment(1, 4), options);
  CHECK(std::equal(expected.begin(), expected.end(), longer.data() + 1));
  CHECK(longer[0] == 7);
  CHECK(longer[5] == 7);

  Eigen::MatrixXd big = Eigen::MatrixXd::Constant(4, 4, 7);
  CHECK_ERROR(lpf_gradient(f, at, big.row(0), options), ShapeError, "[lpf_gradient]", "side by side",
              "strides");
  CHECK_ERROR(lpf_gradient(f, at, big.topLeftCorner(2, 2), options), ShapeError, "side by side");
  CHECK((big.array() == 7).all());
  CHECK_ERROR(lpf_gradient(f, at, longer, options), ShapeError, "theta has 4", "6");
}

TEST_CASE("what does not fit is a typed error, and the gradient is left as it was") {
  const Quadratic f{{1, 1, 1, 1}};
  const std::vector<double> theta{1, 2, 3, 4};
  std::vector<double> g(4, 7), other(3);
  const auto call = [&](const LPFGradientOptions& o) { lpf_gradient(f, theta, g, o); };
  CHECK_ERROR(call({.M = 0}), ValueError, "[lpf_gradient]", "M");
  CHECK_ERROR(call({.M = 3, .antithetic = true}), ValueError, "even", "3");
  CHECK_ERROR(call({.gamma = 0.1, .sigma = 0.1}), ValueError, "one");
  for (const double bad : {-1.0, infinity, not_a_number}) {
    CHECK_ERROR(call({.gamma = bad}), ValueError, "gamma");
    CHECK_ERROR(call({.sigma = bad}), ValueError, "sigma");
  }
  CHECK_ERROR(call({.gamma = 0.1, .rows = {{1, 3}}}), ShapeError, "3", "4");
  CHECK_ERROR(call({.gamma = 0.1, .rows = {{2, 2}, {1, 1}}}), ShapeError, "parameter 1", "0");
  CHECK_ERROR(call({.gamma = 0.1, .rows = {{INT64_MAX / 2, 4}}}), ShapeError, "parameter 0");
  CHECK_ERROR(call({.gamma = 0.1, .rows = {{0, 4}, {1, 4}}}), ShapeError, "parameter 0");
  CHECK_ERROR(call({.gamma = 0.1, .rows = {{1, -4}, {2, 4}}}), ShapeError, "parameter 0");
  CHECK_ERROR(lpf_gradient(f, theta, other, {.M = 2}), ShapeError, "4", "3");
  CHECK_ERROR(call({.sigma = 0.1, .key = {.draw = std::uint64_t{1} << 32}}), ValueError, "draw");
  int calls = 0;
  CHECK_THROWS_WITH(lpf_gradient(
                        [&](std::span<const double>, std::span<double> gradient) -> double {
                          gradient[0] = 1;
                          if (++calls == 3) throw std::runtime_error("the user's");
                          return 0;
                        },
                        theta, g, {.M = 4, .sigma = 0.1}),
                    "the user's");
  CHECK(g == std::vector<double>(4, 7));
  CHECK(theta == std::vector<double>{1, 2, 3, 4});
  std::vector<double> none;
  CHECK(lpf_gradient([](auto, auto) { return 2.0; }, std::vector<double>{}, none, {.M = 2, .gamma = 0.1})
            .value == 2);
}

}  // namespace
}  // namespace lpf::test
