// Normalisation by the root mean square of the last axes (RMSNorm).
#pragma once

#include <limits>
#include <optional>

#include "lpf/ops/math.hpp"
#include "lpf/ops/replicate.hpp"

namespace lpf {

/// x/√(mean(x²) + eps)·weight (Zhang & Sennrich 2019), with the mean over the last axes of x, of sizes
/// `normalized_shape`. weight of that shape, plain or replicated (each slice of the batch uses its own
/// replica), or undefined: 1. Default eps: the machine epsilon of x's dtype, as in PyTorch's
/// torch.nn.functional.rms_norm. Where x² overflows, y is 0.
/// @throws ShapeError if shapes do not fit; DTypeError, DeviceError if x and weight differ; ValueError for
/// eps < 0.
LPF_ONCE Tensor rms_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight = {},
                         std::optional<double> eps = {}) {
  if (const auto cast = detail::cast_operands("rms_norm", x))
    return rms_norm(cast.a, normalized_shape, weight, eps);
  detail::check_plain("rms_norm", x);
  check<DTypeError>(x.dtype() == float32 || x.dtype() == float64, "rms_norm",
                    "needs float32 or float64, got ", name_of(x.dtype()), ": convert with .to(float32)");
  check(!eps || *eps >= 0, "rms_norm", "eps must not be negative, got ", eps.value_or(0));
  const int axis = x.rank() - normalized_shape.rank();
  check<ShapeError>(
      normalized_shape.rank() > 0 && axis >= 0 && x.shape().slice(axis, x.rank()) == normalized_shape,
      "rms_norm", "the input ", x.shape(), " must end in the normalised shape ", normalized_shape);
  const double epsilon =
      eps.value_or(x.dtype() == float32 ? static_cast<double>(std::numeric_limits<float>::epsilon())
                                        : std::numeric_limits<double>::epsilon());
  Axes last;
  for (int i = axis; i < x.rank(); ++i) last.push_back(i);
  const Tensor y = mul(x, rsqrt(mean(square(x), last, true) + epsilon));
  if (!weight.defined()) return y;
  check<ShapeError>(weight.shape() == normalized_shape, "rms_norm", "weight has shape ", weight.shape(),
                    ", the normalised shape is ", normalized_shape);
  check<ShapeError>(!weight.is_replicated() || axis > 0, "rms_norm",
                    "a perturbed pass needs a batch axis, the input is ", x.shape());
  const Tensor scale = detail::to_float32(weight);  // replicas may be rounded
  detail::check_same_kind("rms_norm", x, scale);
  return mul(y, per_sample(scale, x));
}

}  // namespace lpf
