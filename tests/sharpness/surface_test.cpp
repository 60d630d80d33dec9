// Loss surfaces: compared with losses at weights set by hand; the model is unchanged; the directions.
#include "lpf/sharpness/surface.hpp"

#include "filter/networks.hpp"
#include "lpf/sharpness/low_pass.hpp"

namespace lpf::test {
namespace {

using namespace sharpness;

struct Problem {
  ParameterStore params{{.dtype = float64, .seed = 3}};
  LinearNet net{params};
  Data data{normal({37, 5}, 1), from_vector(labels(), {37})};

  static std::vector<std::int64_t> labels() {
    std::vector<std::int64_t> out;
    for (std::int64_t i = 0; i < 37; ++i) out.push_back(i % 3);
    return out;
  }
  Landscape::Losses losses() const {
    return [this](const Tensor& x, const Tensor& y) {
      return cross_entropy(net(x), y, {.reduction = Reduction::none});
    };
  }
  /// The mean loss of a separate model with θ = `weights`.
  static double loss_at(const Tensor& weights) {
    const Problem own;
    const auto off = no_grad();
    own.params.theta().copy_(weights);
    own.params.changed();
    return mean(own.losses()(own.data.x, own.data.y)).item();
  }
};

TEST_CASE("surface: its values are the losses at weights set by hand, and the model is left as it was") {
  const Problem p;
  const Landscape landscape(p.params, p.data, p.losses(), {.replicas = 4});
  const Tensor before = p.params.theta().clone();
  const Tensor u = random_direction(landscape, 1, 0), v = random_direction(landscape, 1, 1);
  const Surface s = surface(landscape, {u, v}, {.x = {-1, 2, 5}, .y = {-0.5, 1, 3}});
  REQUIRE(s.loss.size() == 15);
  double worst = 0, spread = 0;
  for (std::size_t j = 0; j < 3; ++j)
    for (std::size_t i = 0; i < 5; ++i) {
      const Tensor weights = add(before, add(affine(u, s.x[i], 0), affine(v, s.y[j], 0)));
      worst = std::max(worst, std::abs(s.at(j, i) - Problem::loss_at(weights)));
      spread = std::max(spread, std::abs(s.at(j, i) - s.at(0, 0)));
    }
  CHECK(worst < 1e-12);
  CHECK(spread > 0.1);
  CHECK(same_bits(p.params.theta(), before));
  CHECK(p.params.training());
  CHECK(s.x == std::vector<double>{-1, -0.25, 0.5, 1.25, 2});
}

TEST_CASE("surface: smoothed, it is the mean over the same draws at every point") {
  const Problem p;
  const Landscape landscape(p.params, p.data, p.losses(), {.replicas = 8});
  const Tensor u = random_direction(landscape, 1);
  const auto smoothed = [&](std::int64_t draws, double sigma) {
    return surface(landscape, {u}, {.x = {-1, 1, 3}, .sigma = sigma, .draws = draws, .key = 5}).loss;
  };
  const auto many = smoothed(400, 0.05);
  const Estimate lpf = low_pass(landscape, 0.05, {.draws = 2000});
  CHECK(std::abs(many[1] - lpf.value) < 4 * std::sqrt(6.0) * lpf.standard_error);  // 400 draws beside 2000
  CHECK(many[1] > landscape.losses().mean(0));
  CHECK(smoothed(3, 0.05) == smoothed(3, 0.05));
  CHECK(smoothed(3, 1e-9)[0] == doctest::Approx(smoothed(1, 0)[0]).epsilon(1e-8));
}

TEST_CASE("surface: a random direction is as long as each filter, and leaves biases alone") {
  const Problem p;
  const Coordinates c(p.params);
  const Tensor d = random_direction(c, 7), other = random_direction(c, 8);
  CHECK(sharpness::detail::norm(sub(d, other)) > 0.1);
  for (const ParameterInfo& info : p.params.parameters()) {
    const Tensor part = d.alias(info.shape, info.offset), w = p.params.theta().alias(info.shape, info.offset);
    if (info.shape.rank() == 2)
      CHECK(relative_error(sum(square(part), {1}), sum(square(w), {1})) < 1e-12);
    else
      CHECK(sharpness::detail::norm(part) == 0);
  }
}

TEST_CASE("surface: the principal plane holds a flat trajectory, and its path has the right distances") {
  const Problem p;
  const auto off = no_grad();
  const Coordinates c(p.params);
  const Tensor theta = p.params.theta().clone(), a = random_direction(c, 1), b = random_direction(c, 2);
  std::vector<Tensor> trajectory;
  for (int t = 0; t < 6; ++t)
    trajectory.push_back(add(theta, add(affine(a, 5 - t, 0), affine(b, (t % 2) * 0.5, 0))));
  const PrincipalPlane plane = principal_plane(p.params, trajectory);
  CHECK(plane.explained[0] + plane.explained[1] == doctest::Approx(1).epsilon(1e-12));
  CHECK(plane.explained[0] > plane.explained[1]);
  CHECK(sharpness::detail::norm(plane.u) == doctest::Approx(1).epsilon(1e-12));
  CHECK(std::abs(sharpness::detail::inner(plane.u, plane.v)) < 1e-10);
  for (std::size_t t = 0; t < trajectory.size(); ++t)
    CHECK(std::hypot(plane.path[t][0], plane.path[t][1]) ==
          doctest::Approx(sharpness::detail::norm(sub(trajectory[t], theta))).epsilon(1e-10));
  CHECK(relative_error(between(p.params, trajectory[0]), sub(trajectory[0], theta)) == 0);
  CHECK_ERROR(principal_plane(p.params, {trajectory[0], theta}), ValueError, "one line");
  CHECK_ERROR(between(p.params, zeros({3}, {.dtype = float64})), ShapeError, "other solution");
}

TEST_CASE("surface: eigenvalues by rotations, against a matrix built from known ones") {
  // Q diag(3, 2, −1) Qᵀ with the columns of Q (1,1,1)/√3, (1,−1,0)/√2, (1,1,−2)/√6
  const double q[3][3] = {{1 / std::sqrt(3), 1 / std::sqrt(2), 1 / std::sqrt(6)},
                          {1 / std::sqrt(3), -1 / std::sqrt(2), 1 / std::sqrt(6)},
                          {1 / std::sqrt(3), 0, -2 / std::sqrt(6)}};
  const double lambda[] = {3, 2, -1};
  std::vector<double> a(9, 0.0);
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j)
      for (std::size_t k = 0; k < 3; ++k) a[i * 3 + j] += q[i][k] * lambda[k] * q[j][k];
  const auto found = sharpness::detail::jacobi_eigen(a, 3);
  for (std::size_t k = 0; k < 3; ++k) {
    CHECK(found.values[k] == doctest::Approx(lambda[k]).epsilon(1e-12));
    double along = 0;
    for (std::size_t i = 0; i < 3; ++i) along += found.vectors[k][i] * q[i][k];
    CHECK(std::abs(along) == doctest::Approx(1).epsilon(1e-12));
  }
}

TEST_CASE("surface: options and directions that do not fit are refused") {
  const Problem p;
  const Landscape landscape(p.params, p.data, p.losses());
  const Tensor u = random_direction(landscape, 1);
  CHECK_ERROR(surface(landscape, {}), ShapeError, "not defined");
  CHECK_ERROR(surface(landscape, {u, zeros({4}, {.dtype = float64})}), ShapeError, "float64 vector");
  CHECK_ERROR(surface(landscape, {u.to(float32)}), ShapeError, "float64 vector");
  CHECK_ERROR(surface(landscape, {u}, {.x = {0, 1, 0}}), ValueError, "needs a point");
  CHECK_ERROR(surface(landscape, {u}, {.sigma = -1}), ValueError, "not negative");
}

}  // namespace
}  // namespace lpf::test
