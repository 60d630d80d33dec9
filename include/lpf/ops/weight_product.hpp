// Product with a weight, which may be replicas, stored or recomputed.
#pragma once

#include "lpf/ops/replicate.hpp"

namespace lpf::detail {

/// Number of replicas from which the gradient of a layer's input may be computed with replicas drawn within
/// the product, where one thread draws all of a replica.
inline constexpr std::int64_t fewest_pending_replicas = 4;

/// `product` with B = the weight w from its replica `first` on; k, n, ldb and stride_b are set. Recomputed
/// replicas (ReplicaMemory::recomputed) are drawn by the kernel, a tile at a time, where supported.
LPF_ONCE void multiply_by_weight(backend::Gemm product, const Tensor& w, std::int64_t first) {
  const backend::Table& table = w.backend();
  const Rematerializer* pending = w.impl().storage->pending();
  if (const backend::Replicas* replicas = pending ? pending->replicas() : nullptr;
      replicas && table.gemm_replicas) {
    const backend::Segment& s = replicas->segment;
    const bool forward = product.transpose_b && product.n == s.rows && product.k == s.length;
    const bool input_gradient = !product.transpose_b && product.k == s.rows && product.n == s.length;
    if (forward || (input_gradient && replicas->count >= fewest_pending_replicas)) {
      product.replicas = replicas;
      product.first_replica = first;
      return table.gemm_replicas(product);
    }
  }
  product.b = element(w, first * product.stride_b);
  table.gemm(product);
}

}  // namespace lpf::detail
