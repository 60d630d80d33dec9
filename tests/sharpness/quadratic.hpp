// A model whose loss is a quadratic with known Hessian, so that every measure has a closed form:
//   ℓ_i(w) = ½ (w − x_i)ᵀ A (w − x_i),   L = ½ (w − x̄)ᵀ A (w − x̄) + rest
#pragma once

#include <Eigen/Dense>

#include "lpf/ops/matmul.hpp"
#include "lpf/sharpness/estimate.hpp"
#include "lpf/sharpness/landscape.hpp"
#include "tensor_test.hpp"

namespace lpf::test {

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

inline Matrix matrix_of(const Tensor& t) {
  const auto v = t.to_vector();
  const auto cols = static_cast<Eigen::Index>(t.rank() == 2 ? t.size(1) : 1);
  Matrix out(static_cast<Eigen::Index>(t.size(0)), cols);
  for (Eigen::Index i = 0; i < out.rows(); ++i)
    for (Eigen::Index j = 0; j < cols; ++j) out(i, j) = v[static_cast<std::size_t>(i * cols + j)];
  return out;
}
inline Tensor tensor_of(const Matrix& m) {
  const Tensor out = empty({m.rows(), m.cols()}, {.dtype = float64});
  for (Eigen::Index i = 0; i < m.rows(); ++i)
    for (Eigen::Index j = 0; j < m.cols(); ++j) out.data<double>()[i * m.cols() + j] = m(i, j);
  return out;
}
inline Vector eigenvalues_of(const Matrix& m) {
  return Eigen::SelfAdjointEigenSolver<Matrix>(m, Eigen::EigenvaluesOnly).eigenvalues();
}
/// QᵀDQ with these eigenvalues and random Q.
inline Matrix with_eigenvalues(const std::vector<double>& values, std::uint64_t seed) {
  const auto n = static_cast<Eigen::Index>(values.size());
  const Matrix q = Eigen::HouseholderQR<Matrix>(matrix_of(normal({n, n}, seed))).householderQ();
  return q.transpose() * Eigen::Map<const Vector>(values.data(), n).asDiagonal() * q;
}

struct Quadratic {
  ParameterStore params;
  nn::Parameter w;
  Matrix A;
  Tensor hessian, x;

  explicit Quadratic(const Matrix& a, std::int64_t samples = 20, double spread = 0.3, DType dtype = float64,
                     std::uint64_t seed = 1)
      : params({.dtype = dtype, .seed = seed}),
        w(nn::Path(params).parameter("w", {a.rows()}, init::uniform(0.5, 1.5))),
        A(a),
        hessian(tensor_of(a).to(dtype)),
        x((spread * normal({samples, a.rows()}, seed + 5)).to(dtype)) {}

  Tensor operator()(const Tensor& samples) const {  // w − x_i
    return sub(expand(per_sample(w, samples), samples.shape()), samples);
  }
  static Tensor of(const Tensor& d, const Tensor& a) {
    return affine(sum(mul(matmul(d, a), d), {1}), 0.5, 0);
  }
  auto losses() const {  // of the output and an unused target
    return [a = hessian](const Tensor& d, const Tensor&) { return of(d, a); };
  }
  sharpness::Landscape landscape(const sharpness::LandscapeOptions& o = {.filter_normalize = false}) const {
    return sharpness::Landscape(
        params, {x, x}, [this](const Tensor& s, const Tensor&) { return of((*this)(s), hessian); }, o);
  }

  Vector weights() const { return matrix_of(w.clean()); }
  Vector displacement() const { return weights() - matrix_of(x).colwise().mean().transpose(); }
  /// L at w + v.
  double loss(const Vector& v) const {
    const Matrix d = (-matrix_of(x)).rowwise() + (weights() + v).transpose();
    return 0.5 * (d * A).cwiseProduct(d).sum() / static_cast<double>(d.rows());
  }
  double loss() const { return loss(Vector::Zero(A.rows())); }
  /// C: the sizes of the units, or 1.
  Matrix units(bool normalize) const {
    return normalize ? Matrix(weights().cwiseAbs().asDiagonal())
                     : Matrix(Matrix::Identity(A.rows(), A.rows()));
  }
  /// Draw i of key `key`, groups of 8.
  Vector draw(std::uint64_t key, std::int64_t i) const {
    Vector out(A.rows());
    for (Eigen::Index k = 0; k < out.size(); ++k)
      out(k) = normal_at<double>({.seed = key,
                                  .purpose = Purpose::measure,
                                  .draw = static_cast<std::uint64_t>(i / 8 * 8),
                                  .replica = static_cast<std::uint32_t>(i % 8)},
                                 k);
    return out;
  }
};

/// Whether an estimate has an error, and is within so many of `exact`.
inline bool agrees(const sharpness::Estimate& e, double exact, double errors = 4.5) {
  return e.standard_error > 0 && std::abs(e.value - exact) <= errors * e.standard_error;
}

}  // namespace lpf::test
