#include "matrix.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor_test.hpp"

namespace lpf::test {
namespace {

Eigen::MatrixXd to_eigen(const Matrix& m) {
  Eigen::MatrixXd out(m.rows(), m.cols());
  for (std::int64_t i = 0; i < m.rows(); ++i)
    for (std::int64_t j = 0; j < m.cols(); ++j) out(i, j) = m(i, j);
  return out;
}
Matrix from_eigen(const Eigen::MatrixXd& m) {
  Matrix out(m.rows(), m.cols());
  for (std::int64_t i = 0; i < out.rows(); ++i)
    for (std::int64_t j = 0; j < out.cols(); ++j) out(i, j) = m(i, j);
  return out;
}

/// f of the elements of two matrices of one shape.
template <class F>
Matrix combine(const Matrix& a, const Matrix& b, F f) {
  REQUIRE(a.rows() == b.rows());
  REQUIRE(a.cols() == b.cols());
  Matrix out(a.rows(), a.cols());
  for (std::int64_t i = 0; i < a.rows(); ++i)
    for (std::int64_t j = 0; j < a.cols(); ++j) out(i, j) = f(a(i, j), b(i, j));
  return out;
}

}  // namespace

Matrix::Matrix(std::int64_t rows, std::int64_t cols)
    : rows_(rows), cols_(cols), values_(static_cast<std::size_t>(rows * cols)) {}

Matrix Matrix::diagonal(const Matrix& values) {
  Matrix out(values.rows(), values.rows());
  for (std::int64_t i = 0; i < out.rows(); ++i) out(i, i) = values(i);
  return out;
}
Matrix Matrix::identity(std::int64_t n) {
  return diagonal(Matrix(n).map([](double) { return 1; }));
}

Matrix Matrix::transpose() const {
  Matrix out(cols_, rows_);
  for (std::int64_t i = 0; i < rows_; ++i)
    for (std::int64_t j = 0; j < cols_; ++j) out(j, i) = (*this)(i, j);
  return out;
}
Matrix Matrix::inverse() const { return from_eigen(to_eigen(*this).inverse()); }
Matrix Matrix::block(std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols) const {
  Matrix out(rows, cols);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j) out(i, j) = (*this)(row + i, col + j);
  return out;
}
Matrix Matrix::map(const std::function<double(double)>& f) const {
  Matrix out(rows_, cols_);
  std::transform(values_.begin(), values_.end(), out.values_.begin(), f);
  return out;
}

double Matrix::sum() const { return std::accumulate(values_.begin(), values_.end(), 0.0); }
double Matrix::max() const { return *std::max_element(values_.begin(), values_.end()); }
double Matrix::min() const { return *std::min_element(values_.begin(), values_.end()); }
double Matrix::max_abs() const { return std::max(max(), -min()); }
double Matrix::trace() const {
  double out = 0;
  for (std::int64_t i = 0; i < rows_; ++i) out += (*this)(i, i);
  return out;
}
double Matrix::squared_norm() const { return dot(*this); }
double Matrix::norm() const { return std::sqrt(squared_norm()); }
double Matrix::dot(const Matrix& other) const {
  return std::inner_product(values_.begin(), values_.end(), other.values_.begin(), 0.0);
}

Matrix operator+(const Matrix& a, const Matrix& b) { return combine(a, b, std::plus<>()); }
Matrix operator-(const Matrix& a, const Matrix& b) { return combine(a, b, std::minus<>()); }
Matrix operator*(double factor, const Matrix& a) {
  return a.map([factor](double x) { return factor * x; });
}
Matrix operator*(const Matrix& a, const Matrix& b) {
  REQUIRE(a.cols() == b.rows());
  Matrix out(a.rows(), b.cols());
  for (std::int64_t i = 0; i < a.rows(); ++i)
    for (std::int64_t k = 0; k < a.cols(); ++k)
      for (std::int64_t j = 0; j < b.cols(); ++j) out(i, j) += a(i, k) * b(k, j);
  return out;
}

Matrix matrix_of(const Tensor& t) {
  const auto values = t.to_vector();
  Matrix out(t.size(0), t.rank() == 2 ? t.size(1) : 1);
  for (std::int64_t i = 0; i < out.rows(); ++i)
    for (std::int64_t j = 0; j < out.cols(); ++j)
      out(i, j) = values[static_cast<std::size_t>(i * out.cols() + j)];
  return out;
}
Tensor tensor_of(const Matrix& m) {
  const Tensor out = empty({m.rows(), m.cols()}, {.dtype = float64});
  for (std::int64_t i = 0; i < m.rows(); ++i)
    for (std::int64_t j = 0; j < m.cols(); ++j) out.data<double>()[i * m.cols() + j] = m(i, j);
  return out;
}

Eigensystem eigensystem_of(const Matrix& m) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(to_eigen(m));
  return {from_eigen(solver.eigenvalues()), from_eigen(solver.eigenvectors())};
}
Vector eigenvalues_of(const Matrix& m) { return eigensystem_of(m).values; }
Matrix orthogonal_of(const Matrix& a) {
  return from_eigen(Eigen::HouseholderQR<Eigen::MatrixXd>(to_eigen(a)).householderQ());
}
Matrix with_eigenvalues(const std::vector<double>& values, std::uint64_t seed) {
  const std::int64_t n = std::ssize(values);
  const Matrix q = orthogonal_of(matrix_of(normal({n, n}, seed)));
  return q.transpose() * Matrix::diagonal(matrix_of(from_vector(values, {n}))) * q;
}

}  // namespace lpf::test
