// Running sums along an axis.
#pragma once

#include "lpf/ops/arithmetic.hpp"
#ifndef LPF_COMPILED
#  include "lpf/backend/cpu/scan.hpp"
#endif

namespace lpf {

namespace detail {

/// The sums from the first element on, or with `reverse` those up to the last: each is the other's adjoint.
LPF_ONCE Tensor running_sum(const Tensor& x, int axis, bool reverse) {
  Tensor y = empty_like(x);
  x.backend().cumsum(x.dtype(), x.shape().product(0, axis), x.shape()[axis],
                     x.shape().product(axis + 1, x.rank()), x.raw(), y.raw(), reverse);
  return record("cumsum", std::move(y), {x},
                [axis, reverse](const Tensor& g, Need) { return Grads{running_sum(g, axis, !reverse)}; });
}

}  // namespace detail

/// y[…, j, …] = x[…, 0, …] + … + x[…, j, …] along one axis. Integers and bools are summed in int64, bfloat16 in
/// float32. Of replicas: each its own. PyTorch's torch.cumsum.
/// @throws ShapeError for an axis that x does not have.
LPF_ONCE Tensor cumsum(const Tensor& x, int axis) {
  axis = normalize_axis("cumsum", axis, x.rank());
  if (x.is_replicated())
    return detail::add_replica_dim(cumsum(detail::remove_replica_dim(x), axis + 1), x.impl().replicas);
  detail::check_each_sample("cumsum", x, {axis});
  return detail::running_sum(is_floating(x.dtype()) ? detail::to_float32(x) : x.to(DType::int64), axis,
                             false);
}

namespace detail {
/// 0 … n − 1, int64, on `device`: counted there, so that it may be used in a captured step.
LPF_ONCE Tensor positions(std::int64_t n, Device device) {
  return affine(cumsum(ones({n}, {DType::int64, device}), 0), 1, -1);
}
}  // namespace detail

}  // namespace lpf
