// Sums of vectors in one fixed order, whatever the number of processes: neighbours pairwise, then the pairs, and so on.
#pragma once

#include <cstdint>
#include <vector>

#include "lpf/backend/backend.hpp"
#include "lpf/distributed/communicator.hpp"
#include "lpf/tensor/tensor.hpp"

namespace lpf::distributed {

namespace detail {

/// y ← y + x, vectors of one length.
inline void add_to(const Tensor& y, const Tensor& x) {
  y.impl().storage->note_change();
  y.backend().accumulate(y.dtype(), y.numel(), 1, x.raw(), y.raw());
}
/// y ← x.
inline void copy_to(const Tensor& y, const Tensor& x) {
  y.impl().storage->note_change();
  y.backend().copy(y.raw(), x.raw(), static_cast<std::size_t>(x.numel()) * size_of(x.dtype()));
}

/// The memory of a vector, for a communicator of its device.
inline std::span<std::byte> bytes_of(const Tensor& t) {
  return {static_cast<std::byte*>(t.raw()), static_cast<std::size_t>(t.numel()) * size_of(t.dtype())};
}

}  // namespace detail

/// x ← Σ over the ranks, in the communicator's order. `world` is that of x's device.
inline void all_reduce(Communicator& world, const Tensor& x) {
  const auto n = static_cast<std::size_t>(x.numel());
  x.impl().storage->note_change();
  if (x.dtype() == float64)
    world.all_reduce(std::span(static_cast<double*>(x.raw()), n));
  else
    world.all_reduce(std::span(static_cast<float*>(x.raw()), n));
}

/// Σ of 2ᵏ vectors of one length that arrive one after another; at most k + 1 are held, and kept for the next sum.
class PairwiseSum {
 public:
  void add(const Tensor& x) {
    if (levels_.empty() || levels_.back() > 0) {
      levels_.push_back(0);
      if (held_.size() < levels_.size()) held_.push_back(empty_like(x));
      detail::copy_to(held_[levels_.size() - 1], x);
      return;
    }
    detail::add_to(held_[levels_.size() - 1], x);
    ++levels_.back();
    for (std::size_t n = levels_.size(); n > 1 && levels_[n - 1] == levels_[n - 2]; --n) {
      detail::add_to(held_[n - 2], held_[n - 1]);
      levels_.pop_back();
      ++levels_.back();
    }
  }
  /// The sum, after a number of vectors that is a power of two.
  const Tensor& value() const { return held_.front(); }
  /// Begins another sum.
  void clear() { levels_.clear(); }

 private:
  std::vector<Tensor> held_;
  std::vector<int> levels_;  // held_[i] is the sum of 2^levels_[i] vectors
};

/// x ← Σ over the ranks: rank p adds piece p of all vectors pairwise, and the sums are gathered. A rank sends 2(P − 1)/P
/// times the vector, the least that an all-reduce can. `world` is that of x's device.
inline void all_reduce_pairwise(Communicator& world, const Tensor& x) {
  const std::int64_t ranks = world.size(), n = x.numel();
  if (ranks == 1) return;
  const std::int64_t piece = (n + ranks - 1) / ranks;
  const Tensor padded = zeros({piece * ranks}, x.options()), parts = empty_like(padded);
  const auto piece_of = [piece](const Tensor& t, std::int64_t p) { return t.alias({piece}, p * piece); };
  detail::copy_to(padded, x);
  world.all_to_all(detail::bytes_of(padded), detail::bytes_of(parts));
  for (std::int64_t width = 1; width < ranks; width *= 2)
    for (std::int64_t p = 0; p + width < ranks; p += 2 * width)
      detail::add_to(piece_of(parts, p), piece_of(parts, p + width));
  world.all_gather(detail::bytes_of(piece_of(parts, 0)), detail::bytes_of(padded));
  detail::copy_to(x, padded.alias({n}));
}

}  // namespace lpf::distributed
