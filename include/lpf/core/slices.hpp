// How a batch is cut into slices for the M perturbed copies of a parameter.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lpf {

/// A batch cut into consecutive slices, one per replica. Their lengths differ by at most one sample,
/// the longer ones first. Positions are in rows, of which a sample has one or, for folded operands
/// (tokens), several.
class Slices {
 public:
  Slices(std::int64_t count, std::int64_t samples, std::int64_t rows_per_sample = 1)
      : count_(count), samples_(samples), rows_per_sample_(rows_per_sample) {}

  std::int64_t count() const { return count_; }
  /// First row of slice r.
  std::int64_t begin(std::int64_t r) const {
    return (r * (samples_ / count_) + std::min(r, samples_ % count_)) * rows_per_sample_;
  }
  std::int64_t end(std::int64_t r) const { return begin(r + 1); }
  /// Rows of slice r.
  std::int64_t length(std::int64_t r) const { return begin(r + 1) - begin(r); }
  /// Share of slice r in the batch: |B_r|/|B|.
  double share(std::int64_t r) const {
    return static_cast<double>(length(r)) / static_cast<double>(begin(count_));
  }

  /// Calls f(run) for each run of neighbouring slices of equal length; there are at most two.
  struct Run {
    std::int64_t first, count;   ///< slices [first, first + count)
    std::int64_t begin, length;  ///< first row of the first, rows of each
  };
  template <class F>
  void for_each_run(F f) const {
    const std::int64_t longer = samples_ % count_;
    if (longer > 0) f(Run{0, longer, 0, length(0)});
    f(Run{longer, count_ - longer, begin(longer), length(count_ - 1)});
  }

  /// First row of each slice, and the end: count() + 1 values.
  std::vector<std::int64_t> boundaries() const {
    std::vector<std::int64_t> out;
    for (std::int64_t r = 0; r <= count_; ++r) out.push_back(begin(r));
    return out;
  }

 private:
  std::int64_t count_, samples_, rows_per_sample_;
};

}  // namespace lpf
