// Small matrices of doubles for exact results. Decompositions use Eigen, in matrix.cpp
// only: they take long to compile.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "lpf/tensor/tensor.hpp"

namespace lpf::test {

/// Row-major; a vector is a column. Initialised to zeros.
class Matrix {
 public:
  explicit Matrix(std::int64_t rows = 0, std::int64_t cols = 1);
  static Matrix identity(std::int64_t n);
  static Matrix diagonal(const Matrix& values);

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  double& operator()(std::int64_t i, std::int64_t j = 0) { return values_[at(i, j)]; }
  double operator()(std::int64_t i, std::int64_t j = 0) const { return values_[at(i, j)]; }

  Matrix transpose() const;
  Matrix inverse() const;
  Matrix block(std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols) const;
  Matrix col(std::int64_t j) const { return block(0, j, rows_, 1); }
  /// f applied to every element.
  Matrix map(const std::function<double(double)>& f) const;

  double sum() const;
  double max() const;
  double min() const;
  double max_abs() const;
  double trace() const;
  double squared_norm() const;
  double norm() const;
  double dot(const Matrix& other) const;

 private:
  std::size_t at(std::int64_t i, std::int64_t j) const { return static_cast<std::size_t>(i * cols_ + j); }
  std::int64_t rows_, cols_;
  std::vector<double> values_;
};
using Vector = Matrix;

Matrix operator+(const Matrix& a, const Matrix& b);
Matrix operator-(const Matrix& a, const Matrix& b);
Matrix operator*(const Matrix& a, const Matrix& b);
Matrix operator*(double factor, const Matrix& a);

Matrix matrix_of(const Tensor& t);
Tensor tensor_of(const Matrix& m);

/// The eigensystem of a symmetric matrix, ascending; the vectors are columns.
struct Eigensystem {
  Vector values;
  Matrix vectors;
};
Eigensystem eigensystem_of(const Matrix& m);
Vector eigenvalues_of(const Matrix& m);
/// The Q of A = QR.
Matrix orthogonal_of(const Matrix& a);
/// QᵀDQ with these eigenvalues and random Q.
Matrix with_eigenvalues(const std::vector<double>& values, std::uint64_t seed);

}  // namespace lpf::test
