// Layer for normalisation by the root mean square.
#pragma once

#include <optional>

#include "lpf/nn/layer_error.hpp"
#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/rms_norm.hpp"

namespace lpf::nn {

struct RMSNormOptions {
  std::optional<double> eps = {};  ///< empty: the machine epsilon of the input's dtype
  bool affine = true;              ///< scale by weight
};

/// y = x/√(mean(x²) + eps)·weight over the last axes of x, of sizes `normalized_shape` (Zhang & Sennrich
/// 2019): rms_norm(). PyTorch's torch.nn.RMSNorm, with its name weight; affine is its elementwise_affine.
struct RMSNorm {
  Parameter weight;
  Shape normalized_shape;
  std::optional<double> eps;

  /// @throws ValueError unless the shape has an element and eps ≥ 0.
  RMSNorm(const Path& p, const Shape& shape, const RMSNormOptions& o = {})
      : normalized_shape(shape), eps(o.eps) {
    check(shape.rank() > 0 && shape.numel() > 0, "RMSNorm", "'", p.name(),
          "' needs at least one feature, got shape ", shape);
    check(!o.eps || *o.eps >= 0, "RMSNorm", "'", p.name(), "': eps must not be negative, got ",
          o.eps.value_or(0));
    if (o.affine) weight = p.parameter("weight", shape, init::ones());
  }
  RMSNorm(const Path& p, std::int64_t features, const RMSNormOptions& o = {})
      : RMSNorm(p, Shape{features}, o) {}

  Tensor operator()(const Tensor& x) const {
    return detail::in_layer(weight, [&] { return rms_norm(x, normalized_shape, weight, eps); });
  }
};

}  // namespace lpf::nn
