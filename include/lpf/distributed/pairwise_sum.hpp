// Sums of vectors in one fixed order, whatever the number of processes: neighbours pairwise, then the pairs, and so on.
#pragma once

#include <cstdint>
#include <vector>

#include "lpf/backend/backend.hpp"
#include "lpf/distributed/communicator.hpp"

namespace lpf::distributed {

namespace detail {

/// y ← y + x.
template <class T>
void add_to(std::span<T> y, std::span<const T> x) {
  backend::get(Device::cpu()).accumulate(dtype_of<T>(), std::ssize(y), 1, x.data(), y.data());
}

}  // namespace detail

/// Σ of 2ᵏ vectors of one length that arrive one after another; at most k + 1 are held, and kept for the next sum.
template <class T>
class PairwiseSum {
 public:
  void add(std::span<const T> x) {
    if (levels_.empty() || levels_.back() > 0) {
      levels_.push_back(0);
      if (held_.size() < levels_.size()) held_.emplace_back();
      held_[levels_.size() - 1].assign(x.begin(), x.end());
      return;
    }
    detail::add_to<T>(held_[levels_.size() - 1], x);
    ++levels_.back();
    for (std::size_t n = levels_.size(); n > 1 && levels_[n - 1] == levels_[n - 2]; --n) {
      detail::add_to<T>(held_[n - 2], held_[n - 1]);
      levels_.pop_back();
      ++levels_.back();
    }
  }
  /// The sum, after a number of vectors that is a power of two.
  std::span<const T> value() const { return held_.front(); }
  /// Begins another sum.
  void clear() { levels_.clear(); }

 private:
  std::vector<std::vector<T>> held_;
  std::vector<int> levels_;  // held_[i] is the sum of 2^levels_[i] vectors
};

/// x ← Σ over the ranks, a power of two of them: rank p adds piece p of all vectors pairwise, and the sums are gathered.
/// A rank sends 2(P − 1)/P times the vector, as an all-reduce does.
template <class T>
void all_reduce_pairwise(Communicator& world, std::span<T> x) {
  const auto ranks = static_cast<std::size_t>(world.size());
  if (ranks == 1) return;
  const std::size_t piece = (x.size() + ranks - 1) / ranks;
  std::vector<T> padded(x.begin(), x.end()), parts(piece * ranks);
  padded.resize(piece * ranks);
  world.all_to_all(std::as_bytes(std::span(padded)), std::as_writable_bytes(std::span(parts)));
  for (std::size_t width = 1; width < ranks; width *= 2)
    for (std::size_t p = 0; p < ranks; p += 2 * width)
      detail::add_to<T>(std::span(parts).subspan(p * piece, piece),
                        std::span<const T>(parts).subspan((p + width) * piece, piece));
  world.all_gather(std::as_bytes(std::span(parts).first(piece)), std::as_writable_bytes(std::span(padded)));
  std::copy_n(padded.begin(), x.size(), x.begin());
}

}  // namespace lpf::distributed
