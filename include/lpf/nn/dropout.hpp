// Dropout layer.
#pragma once

#include "lpf/backend/capture.hpp"
#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/dropout.hpp"

namespace lpf::nn {

/// Zeros each element with probability p and divides the others by 1 − p while the store trains; hands x
/// through in evaluation. PyTorch's torch.nn.Dropout. The masks are a function of the store's seed, the
/// layer's path and the number of its forward passes so far, a counter of the store: a resumed run goes on
/// with the masks of an uninterrupted one. Every sample has a mask of its own, which does not depend on how
/// the batch is cut (PartOfBatch); for that use a layer at one place of a network only.
struct Dropout {
  Path path;
  double p;
  std::shared_ptr<std::uint64_t> draws;

  /// @throws ValueError for a probability outside [0, 1].
  explicit Dropout(const Path& at, double probability = 0.5)
      : path(at), p(probability), draws(at.counter("draws")) {
    check(p >= 0 && p <= 1, "Dropout", "'", at.name(), "': p must be in [0, 1], got ", p);
  }

  Tensor operator()(const Tensor& x) const {
    if (!path.training() || p == 0) return x;
    const std::int64_t sample = PartOfBatch::first_sample();
    // The later parts of a batch go on with the draw of its first.
    if (sample == 0) lpf::detail::on_host([d = draws] { ++*d; });
    check<StateError>(*draws > 0, "Dropout", "'", path.name(),
                      "' meets part of a batch that begins at sample ", sample,
                      " before the part that begins at 0");
    const std::int64_t per_sample = x.rank() > 0 && x.shape()[0] > 0 ? x.numel() / x.shape()[0] : 0;
    const NoiseKey key =
        lpf::detail::drawing({path.seed(), Purpose::dropout, 0, 0, stream()}, [d = draws] { return *d - 1; });
    return dropout(x, p, key, sample * per_sample);
  }

 private:
  /// The layer's own stream: a hash of its path (FNV-1a), so that adding a layer changes no other's masks.
  std::uint32_t stream() const {
    std::uint32_t hash = 2166136261u;
    for (const char c : path.name()) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
    return hash;
  }
};

}  // namespace lpf::nn
