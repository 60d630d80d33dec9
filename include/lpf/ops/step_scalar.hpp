// A scalar of the current training step as a tensor, for composed operations.
#pragma once

#include "lpf/backend/capture.hpp"
#include "lpf/ops/fwd.hpp"

namespace lpf {

/// s as a scalar tensor: scalar(lr, theta.options()).
LPF_ONCE Tensor scalar(const StepScalar& s, const TensorOptions& options) {
  if (!s.at) return full({}, s.value, options);
  Tensor y = empty({}, options);
  y.backend().assign(detail::view_of(y), {const_cast<double*>(s.at), float64, 0, {}, {}});
  return y;
}

}  // namespace lpf
