// Dropout layer.
#pragma once

#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/dropout.hpp"

namespace lpf::nn {

/// Zeros each element with probability p and divides the others by 1 − p while the store trains; returns x
/// unchanged in evaluation. PyTorch's torch.nn.Dropout. The masks are a function of the store's seed, the
/// layer's path and the number of its forward passes so far, a counter of the store: a resumed run continues
/// with the same masks. Every sample has its own mask, independent of how the batch is cut (MicroBatch); this
/// requires that a layer is used in only one place of a network.
struct Dropout {
  Path path;
  double p;
  DrawCounter draws;

  /// @throws ValueError for a probability outside [0, 1].
  explicit Dropout(const Path& at, double probability = 0.5)
      : path(at), p(probability), draws(at.draw_counter()) {
    check(p >= 0 && p <= 1, "Dropout", "'", at.name(), "': p must be in [0, 1], got ", p);
  }

  Tensor operator()(const Tensor& x) const {
    if (!path.training() || p == 0) return x;
    const std::int64_t rows = x.rank() > 0 ? x.shape()[0] : 0, elements = rows > 0 ? x.numel() / rows : 0;
    const std::int64_t first = MicroBatch::first_row("Dropout", rows) * elements;
    return dropout(x, p, draws.next_of_batch("Dropout", path.name()), first);
  }
};

}  // namespace lpf::nn
