// Dropout (Srivastava et al. 2014). The mask is a function of a counter: nothing is stored for backward, and
// it does not depend on the number of threads or on how the batch is cut.
#pragma once

#include "lpf/core/philox.hpp"
#include "lpf/ops/fwd.hpp"
#ifndef LPF_COMPILED
#  include "lpf/backend/cpu/dropout.hpp"
#endif

namespace lpf {

/// x·keep/(1 − p), where each element is kept with probability 1 − p: element i by number `first_element` + i
/// of the stream `key` (Purpose::dropout). With first_element = f, a part of a batch that begins at element f
/// has the same mask as in the whole batch. p = 1 gives zeros, p = 0 returns x.
/// @throws ValueError for p outside [0, 1], DTypeError unless x is floating.
LPF_ONCE Tensor dropout(const Tensor& x, double p, const NoiseKey& key, std::int64_t first_element = 0) {
  check(p >= 0 && p <= 1, "dropout", "p must be in [0, 1], got ", p);
  detail::check_floating("dropout", x);
  if (p == 0) return x;
  Tensor y = empty_like(x);
  x.backend().dropout(x.dtype(), key, first_element, x.numel(), p, x.raw(), y.raw());
  return record("dropout", std::move(y), {x},
                [=](const Tensor& g, Need) { return Grads{dropout(g, p, key, first_element)}; });
}

}  // namespace lpf
