// The largest and smallest elements along an axis, in order.
#pragma once

#include "lpf/ops/index.hpp"
#ifndef LPF_COMPILED
#  include "lpf/backend/cpu/order.hpp"
#endif

namespace lpf {

/// The result of topk(): auto [values, indices] = topk(x, 5).
struct TopK {
  Tensor values, indices;  ///< of one shape; indices are int64
};

/// The k largest elements along one axis in descending order, or the k smallest in ascending order, and their
/// indices. NaN is larger than any number; of equal elements the first index comes first. All of an axis is
/// sorted by k = its size. Of replicas: each its own. PyTorch's torch.topk.
/// @throws ValueError for k outside [0, size of the axis], ShapeError for an axis that x does not have,
/// DTypeError for bools.
LPF_ONCE TopK topk(const Tensor& x, std::int64_t k, int axis = -1, bool largest = true) {
  axis = normalize_axis("topk", axis, x.rank());
  detail::check_arithmetic("topk", x);
  const std::int64_t n = x.shape()[axis];
  check(k >= 0 && k <= n, "topk", "k is ", k, ", and axis ", axis, " of shape ", x.shape(), " has ", n,
        " elements: k must be in [0, ", n, "]");
  detail::check_each_sample("topk", x, {axis});
  if (x.is_replicated()) {
    const TopK all = topk(detail::remove_replica_dim(x), k, axis + 1, largest);
    const PlanPtr plan = x.impl().replicas;
    return {detail::add_replica_dim(all.values, plan), detail::add_replica_dim(all.indices, plan)};
  }
  Tensor indices = empty(x.shape().with(axis, k), {DType::int64, x.device()});
  x.backend().topk(x.dtype(), x.shape().product(0, axis), n, x.shape().product(axis + 1, x.rank()), k,
                   largest, x.raw(), static_cast<std::int64_t*>(indices.raw()));
  return {gather(x, axis, indices), indices};
}

}  // namespace lpf
