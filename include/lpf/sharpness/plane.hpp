// Directions through θ for a loss surface. Each is a float64 vector of θ's length, zero between parameters
// and where nothing is trainable; the surface is L(θ + x·u + y·v).
//
//   random_direction    Gaussian, every filter with the norm of the weight's filter; 0 for biases and scales
//                       and shifts of normalisation (Li, Xu, Taylor, Studer & Goldstein 2018)
//   between             from θ to another solution: 0 is θ, 1 the other (Goodfellow, Vinyals & Saxe 2015)
//   principal_plane     the plane through θ nearest to a trajectory: the first two principal axes of θ_t − θ,
//                       of length 1, so that x and y are distances
#pragma once

#include <array>
#include <numeric>

#include "lpf/backend/float64.hpp"
#include "lpf/sharpness/coordinates.hpp"

namespace lpf::sharpness {

/// Draw number `index` of `key`. For two models of one shape the same draw is the same direction up to the
/// sizes of their filters.
LPF_ONCE Tensor random_direction(const Coordinates& coordinates, std::uint64_t key, std::uint32_t index = 0) {
  constexpr auto stream = static_cast<Stream>(0xFFFFFFF9);
  const auto off = no_grad();
  const ParameterStore& params = coordinates.params();
  const Tensor out = coordinates.random_vector(key, stream, index);
  const std::vector<double> theta = params.theta().to_vector();
  double* d = out.data<double>();
  for (const ParameterInfo& info : params.parameters()) {
    if (!info.trainable || info.numel() == 0) continue;
    const std::int64_t filters = info.shape.rank() > 1 ? info.shape[0] : 1, length = info.numel() / filters;
    for (std::int64_t k = 0; k < filters; ++k) {
      double weight = 0, drawn = 0;
      const std::int64_t first = info.offset + k * length;
      for (std::int64_t i = first; i < first + length; ++i) {
        const double w = theta[static_cast<std::size_t>(i)];
        weight += w * w;
        drawn += d[i] * d[i];
      }
      const double factor = info.shape.rank() > 1 && drawn > 0 ? std::sqrt(weight / drawn) : 0;
      for (std::int64_t i = first; i < first + length; ++i) d[i] *= factor;
    }
  }
  return out;
}

/// other − θ. ShapeError unless `other` is a vector of θ's layout.
LPF_ONCE Tensor between(const ParameterStore& params, const Tensor& other) {
  const auto off = no_grad();
  check<ShapeError>(other.shape() == params.theta().shape(), "sharpness::between", "θ has shape ",
                    params.theta().shape(), ", the other solution ", other.shape());
  const auto host = [](const Tensor& t) { return t.detach().to(Device::cpu()).to(float64); };
  const Tensor out = sub(host(other), host(params.theta()));
  for (const ParameterInfo& info : params.parameters())
    if (!info.trainable) out.alias({info.numel()}, info.offset).fill_(0);
  return out;
}

namespace detail {

/// Eigenvalues in descending order and eigenvectors of a symmetric matrix [n, n], by cyclic Jacobi rotations.
struct SymmetricEigen {
  std::vector<double> values;
  std::vector<std::vector<double>> vectors;
};
LPF_ONCE SymmetricEigen jacobi_eigen(std::vector<double> a, std::size_t n) {
  std::vector<double> v(n * n, 0.0);
  for (std::size_t i = 0; i < n; ++i) v[i * n + i] = 1;
  for (int sweep = 0; sweep < 60; ++sweep) {
    double off = 0, total = 0;
    for (std::size_t i = 0; i < n * n; ++i) {
      total += a[i] * a[i];
      if (i / n != i % n) off += a[i] * a[i];
    }
    if (off <= 1e-30 * total) break;
    for (std::size_t p = 0; p + 1 < n; ++p)
      for (std::size_t q = p + 1; q < n; ++q) {
        const double apq = a[p * n + q];
        if (apq == 0) continue;
        const double theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
        const double t = (theta >= 0 ? 1 : -1) / (std::abs(theta) + std::hypot(theta, 1.0));
        const double c = 1 / std::hypot(t, 1.0), s = t * c;
        const auto rotate = [&](std::vector<double>& m, std::size_t i, std::size_t j) {
          const double x = m[i], y = m[j];
          m[i] = c * x - s * y;
          m[j] = s * x + c * y;
        };
        for (std::size_t k = 0; k < n; ++k) rotate(a, k * n + p, k * n + q);
        for (std::size_t k = 0; k < n; ++k) rotate(a, p * n + k, q * n + k);
        for (std::size_t k = 0; k < n; ++k) rotate(v, k * n + p, k * n + q);
      }
  }
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t i, std::size_t j) { return a[i * n + i] > a[j * n + j]; });
  SymmetricEigen out;
  for (const std::size_t i : order) {
    out.values.push_back(a[i * n + i]);
    out.vectors.emplace_back();
    for (std::size_t k = 0; k < n; ++k) out.vectors.back().push_back(v[k * n + i]);
  }
  return out;
}

}  // namespace detail

struct PrincipalPlane {
  Tensor u, v;                              ///< of length 1, orthogonal
  std::array<double, 2> explained{};        ///< share of Σ‖θ_t − θ‖² along each
  std::vector<std::array<double, 2>> path;  ///< the trajectory's points in the plane
};

/// The plane through θ nearest to the trajectory's points (vectors in θ's layout). ValueError for fewer than
/// two points different from θ.
LPF_ONCE PrincipalPlane principal_plane(const ParameterStore& params, const std::vector<Tensor>& trajectory) {
  constexpr const char* op = "sharpness::principal_plane";
  const std::size_t n = trajectory.size();
  std::vector<Tensor> rows;
  for (const Tensor& point : trajectory) rows.push_back(between(params, point));
  std::vector<double> gram(n * n);
  double total = 0;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = i; j < n; ++j) gram[i * n + j] = gram[j * n + i] = detail::inner(rows[i], rows[j]);
  for (std::size_t i = 0; i < n; ++i) total += gram[i * n + i];
  const auto eigen = detail::jacobi_eigen(gram, n);
  check(n >= 2 && eigen.values[1] > 1e-12 * total, op, "the ", n,
        " points of the trajectory lie on one line through θ: a plane needs two that do not");
  PrincipalPlane out;
  const auto axis = [&](std::size_t k) {
    const Tensor sum = zeros_like(rows[0]);
    for (std::size_t i = 0; i < n; ++i)
      detail::add_scaled(eigen.vectors[k][i] / std::sqrt(eigen.values[k]), rows[i], sum);
    out.explained[k] = eigen.values[k] / total;
    return sum;
  };
  out.u = axis(0);
  out.v = axis(1);
  for (const Tensor& row : rows) out.path.push_back({detail::inner(row, out.u), detail::inner(row, out.v)});
  return out;
}

}  // namespace lpf::sharpness
