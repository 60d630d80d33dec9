// Layer normalisation over the last axes.
#pragma once

#include "lpf/ops/normalization.hpp"
#ifndef LPF_COMPILED
#  include "lpf/backend/cpu/layer_norm.hpp"
#endif

namespace lpf {

namespace detail {

/// The gradients of layer_norm_rows(), composed of differentiable operations. 1/√(variance + ε) is `known`
/// [rows] as a number, by which the rows are divided first, so that their squares do not overflow.
LPF_ONCE Grads layer_norm_rows_backward(const Tensor& x, const Tensor& weight, double epsilon,
                                        const Tensor& known, const Tensor& g, Need need) {
  const auto row_mean = [](const Tensor& t) { return mean(t, {1}, true); };
  const Tensor near = sub(x, row_mean(x)), centred = sub(near, row_mean(near));  // a large mean is rounded
  const Tensor size = reshape(where(known > 0.0, known, ones({}, x.options())), {x.shape()[0], 1});
  const Tensor unit = mul(centred, size);
  const Tensor correction = rsqrt(add(row_mean(square(unit)), square(affine(size, std::sqrt(epsilon), 0))));
  const Tensor rstd = mul(size, correction), normal = mul(unit, correction);
  const Tensor scaled = weight.defined() ? mul(g, weight) : g;
  Grads grads(3);
  if (need[0])
    grads[0] = mul(rstd, sub(sub(scaled, row_mean(scaled)), mul(normal, row_mean(mul(scaled, normal)))));
  if (need[1]) grads[1] = sum(mul(g, normal), {0});
  if (need[2]) grads[2] = sum(g, {0});
  return grads;
}

/// Each row of x [rows, n], normalised, then scaled and shifted by weight and bias [n], plain or undefined.
LPF_ONCE Tensor layer_norm_rows(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  const std::int64_t rows = x.shape()[0], n = x.shape()[1];
  Tensor y = empty_like(x);
  const Tensor mean = empty({rows}, x.options()), rest = empty_like(mean), rstd = empty_like(mean);
  x.backend().layer_norm(x.dtype(), rows, n, epsilon, x.raw(), data_or_null(weight), data_or_null(bias),
                         y.raw(), mean.raw(), rest.raw(), rstd.raw());
  return record("layer_norm", std::move(y), {x, weight, bias}, [=](const Tensor& g, Need need) {
    if (is_grad_enabled()) return layer_norm_rows_backward(x, weight, epsilon, rstd, g, need);
    const Tensor dx = empty_like(x), dweight = empty({n}, x.options()), dbias = empty_like(dweight);
    x.backend().layer_norm_backward(x.dtype(), rows, n, x.raw(), g.raw(), mean.raw(), rest.raw(), rstd.raw(),
                                    data_or_null(weight), dx.raw(), dweight.raw(), dbias.raw());
    return Grads{dx, dweight, dbias};
  });
}

}  // namespace detail

/// (x − mean)/√(variance + eps)·weight + bias (Ba, Kiros & Hinton 2016), with the mean and the biased
/// variance of each sample over its last axes, of sizes `normalized_shape`. weight, bias of that shape, plain
/// or replicated, or undefined.
/// @throws ShapeError if shapes do not fit.
LPF_ONCE Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight,
                           const Tensor& bias, double eps = 1e-5) {
  if (const auto cast = detail::cast_operands("layer_norm", x))
    return layer_norm(cast.a, normalized_shape, weight, bias, eps);
  const int axis = x.rank() - normalized_shape.rank();
  const std::int64_t n = normalized_shape.numel();
  detail::check_floating("layer_norm", x);
  check<ShapeError>(
      normalized_shape.rank() > 0 && axis >= 0 && x.shape().slice(axis, x.rank()) == normalized_shape,
      "layer_norm", "the input ", x.shape(), " must end in the normalised shape ", normalized_shape);
  const detail::Affine affine("layer_norm", x, normalized_shape, weight, bias);
  const Tensor rows = reshape(x, {x.shape().product(0, axis), n});
  if (!affine.plan) {
    const auto flat = [n](const Tensor& t) { return t.defined() ? reshape(t, {n}) : t; };
    return reshape(detail::layer_norm_rows(rows, flat(affine.weight), flat(affine.bias), eps), x.shape());
  }
  const Tensor normal = detail::layer_norm_rows(rows, {}, {}, eps);
  return reshape(detail::scale_shift(normal, zeros({n}, x.options()), ones({n}, x.options()), affine),
                 x.shape());
}

/// layer_norm() over the axes of weight (or else of bias); over the last axis if both are undefined.
LPF_ONCE Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps = 1e-5) {
  const Tensor& of = weight.defined() ? weight : bias;
  check<ShapeError>(x.rank() >= 1, "layer_norm", "the input is a scalar");
  return layer_norm(x, of.defined() ? of.shape() : Shape{x.shape()[x.rank() - 1]}, weight, bias, eps);
}

}  // namespace lpf
