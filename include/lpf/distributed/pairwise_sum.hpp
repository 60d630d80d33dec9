// Sums of vectors in one fixed order, whatever the number of processes: neighbours pairwise, then the pairs, and so on.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "lpf/distributed/communicator.hpp"

namespace lpf::distributed {

/// Σ of 2ᵏ vectors that arrive one after another; at most k + 1 are held.
template <class T>
class PairwiseSum {
 public:
  void add(std::span<const T> x) {
    std::vector<T> sum(x.begin(), x.end());
    int level = 0;
    for (; !held_.empty() && held_.back().first == level; ++level, held_.pop_back()) {
      const std::vector<T>& left = held_.back().second;
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = left[i] + sum[i];
    }
    held_.emplace_back(level, std::move(sum));
  }
  /// The sum, after a number of vectors that is a power of two.
  const std::vector<T>& value() const { return held_.front().second; }

 private:
  std::vector<std::pair<int, std::vector<T>>> held_;  // sums of 2^first vectors
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
      for (std::size_t i = 0; i < piece; ++i) parts[p * piece + i] += parts[(p + width) * piece + i];
  world.all_gather(std::as_bytes(std::span(parts).first(piece)), std::as_writable_bytes(std::span(padded)));
  std::copy_n(padded.begin(), x.size(), x.begin());
}

}  // namespace lpf::distributed
