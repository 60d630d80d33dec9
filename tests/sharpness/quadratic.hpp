// A model whose loss is a quadratic with known Hessian, so that every measure has a closed form:
//   ℓ_i(w) = ½ (w − x_i)ᵀ A (w − x_i),   L = ½ (w − x̄)ᵀ A (w − x̄) + rest
#pragma once

#include "lpf/sharpness/estimate.hpp"
#include "lpf/sharpness/landscape.hpp"
#include "matrix.hpp"
#include "tensor_test.hpp"

namespace lpf::test {

struct Quadratic {
  ParameterStore params;
  nn::Parameter w;
  Matrix A;
  Tensor hessian, x;

  explicit Quadratic(const Matrix& a, std::int64_t samples = 20, double spread = 0.3, DType dtype = float64,
                     std::uint64_t seed = 1);

  Tensor operator()(const Tensor& samples) const;  ///< w − x_i
  static Tensor of(const Tensor& d, const Tensor& a);
  auto losses() const {  // of the output and an unused target
    return [a = hessian](const Tensor& d, const Tensor&) { return of(d, a); };
  }
  sharpness::Landscape landscape(const sharpness::LandscapeOptions& o = {.filter_normalize = false}) const;

  Vector weights() const;
  Vector displacement() const;         ///< w − x̄
  double loss(const Vector& v) const;  ///< L at w + v
  double loss() const;
  Matrix units(bool normalize) const;                    ///< C: the sizes of the units, or 1
  Vector draw(std::uint64_t key, std::int64_t i) const;  ///< draw i of key `key`, groups of 8
};

/// True if an estimate has an error, and is within `errors` of them of `exact`.
bool agrees(const sharpness::Estimate& e, double exact, double errors = 4.5);

}  // namespace lpf::test
