#include "quadratic.hpp"

#include <cmath>

#include "lpf/ops/matmul.hpp"

namespace lpf::test {

Quadratic::Quadratic(const Matrix& a, std::int64_t samples, double spread, DType dtype, std::uint64_t seed)
    : params({.dtype = dtype, .seed = seed}),
      w(nn::Path(params).parameter("w", {a.rows()}, init::uniform(0.5, 1.5))),
      A(a),
      hessian(tensor_of(a).to(dtype)),
      x((spread * normal({samples, a.rows()}, seed + 5)).to(dtype)) {}

Tensor Quadratic::operator()(const Tensor& samples) const {
  return sub(expand(per_sample(w, samples), samples.shape()), samples);
}
Tensor Quadratic::of(const Tensor& d, const Tensor& a) {
  return affine(sum(mul(matmul(d, a), d), {1}), 0.5, 0);
}
sharpness::Landscape Quadratic::landscape(const sharpness::LandscapeOptions& o) const {
  return sharpness::Landscape(
      params, {x, x}, [this](const Tensor& s, const Tensor&) { return of((*this)(s), hessian); }, o);
}

Vector Quadratic::weights() const { return matrix_of(w.clean()); }
Vector Quadratic::displacement() const { return weights() - matrix_of(mean(x.to(float64), {0})); }
double Quadratic::loss(const Vector& v) const {
  const Vector at = weights() + v;
  const Matrix samples = matrix_of(x);
  double sum = 0;
  for (std::int64_t i = 0; i < samples.rows(); ++i) {
    const Vector d = at - samples.block(i, 0, 1, samples.cols()).transpose();
    sum += 0.5 * d.dot(A * d);
  }
  return sum / static_cast<double>(samples.rows());
}
double Quadratic::loss() const { return loss(Vector(A.rows())); }
Matrix Quadratic::units(bool normalize) const {
  return normalize ? Matrix::diagonal(weights().map([](double w_i) { return std::abs(w_i); }))
                   : Matrix::identity(A.rows());
}
Vector Quadratic::draw(std::uint64_t key, std::int64_t i) const {
  Vector out(A.rows());
  for (std::int64_t k = 0; k < out.rows(); ++k)
    out(k) = normal_at<double>({.seed = key,
                                .purpose = Purpose::measure,
                                .draw = static_cast<std::uint64_t>(i / 8 * 8),
                                .replica = static_cast<std::uint32_t>(i % 8)},
                               k);
  return out;
}

bool agrees(const sharpness::Estimate& e, double exact, double errors) {
  return e.standard_error > 0 && std::abs(e.value - exact) <= errors * e.standard_error;
}

}  // namespace lpf::test
