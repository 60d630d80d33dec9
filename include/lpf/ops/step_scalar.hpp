// A number of the training step at hand as a tensor, for what is composed of operations.
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
