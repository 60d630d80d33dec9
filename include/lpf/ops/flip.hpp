// The reverse order along axes.
#pragma once

#include "lpf/ops/shape.hpp"

namespace lpf {

/// x with the order of its elements reversed along the given axes; none are reversed by an empty list. Of
/// replicas: each its own. PyTorch's torch.flip.
/// @throws ShapeError for an axis that x does not have, or that is named twice.
LPF_ONCE Tensor flip(const Tensor& x, const Axes& axes) {
  Axes own;
  for (const int axis : axes) {
    own.push_back(normalize_axis("flip", axis, x.rank()));
    check<ShapeError>(std::count(own.begin(), own.end(), own.back()) == 1, "flip", "axis ", axis,
                      " is named twice");
  }
  if (x.is_replicated()) {
    for (int& axis : own) ++axis;
    return detail::add_replica_dim(flip(detail::remove_replica_dim(x), own), x.impl().replicas);
  }
  Tensor y = empty_like(x);
  if (x.numel() > 0) {
    backend::View from = detail::view_of(x);
    for (const int axis : own) {
      const std::int64_t last = (from.shape[axis] - 1) * from.stride[axis];
      from.data = static_cast<std::byte*>(from.data) + last * static_cast<std::int64_t>(size_of(x.dtype()));
      from.stride[axis] = -from.stride[axis];
    }
    x.backend().assign(detail::view_of(y), from);
  }
  if (std::count(own.begin(), own.end(), x.impl().sample_axis) > 0)
    y.impl().sample_axis = x.impl().mixed_axis;
  return record("flip", std::move(y), {x}, [own](const Tensor& g, Need) { return Grads{flip(g, own)}; });
}

}  // namespace lpf
