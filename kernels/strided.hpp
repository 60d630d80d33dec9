// Iteration of kernels over strided views: element i of the row-major order, and its place in each array.
#pragma once

#include <bit>
#include <cstdint>

#include "launch.hpp"
#include "lpf/backend/contract.hpp"

namespace lpf::cuda {

/// Division by a number known before the kernel runs, by multiplication and shift; for n and d below 2^31. T.
/// Granlund, P. Montgomery, "Division by invariant integers using multiplication" (PLDI 1994).
class Divisor {
 public:
  Divisor() = default;
  explicit Divisor(std::int64_t divisor)
      : divisor_(static_cast<std::uint32_t>(divisor)),
        shift_(static_cast<int>(std::bit_width(static_cast<std::uint32_t>(divisor) - 1u))),
        multiplier_(static_cast<std::uint32_t>(
            ((std::uint64_t{1} << 32) * ((std::uint64_t{1} << shift_) - divisor_)) / divisor_ + 1)) {}

  /// Writes the quotient to n and returns the remainder.
  LPF_DEVICE std::uint32_t split(std::uint32_t& n) const {
    const auto high = static_cast<std::uint32_t>(std::uint64_t{n} * multiplier_ >> 32);
    const std::uint32_t quotient = (high + n) >> shift_, rest = n - quotient * divisor_;
    n = quotient;
    return rest;
  }

 private:
  std::uint32_t divisor_ = 1;
  int shift_ = 0;
  std::uint32_t multiplier_ = 1;
};

/// The places of the elements of N views of one shape. Axes of one element are dropped; axes that are
/// contiguous in all of the views are merged, so that contiguous arrays have one axis and need no division.
///
/// A walk of `width` > 1 moves by packs if rows are aligned to packs in all views that are not constant along
/// the innermost axis; otherwise by elements. The first view is the one that is written.
template <int N>
class Walk {
 public:
  explicit Walk(const backend::View* const (&views)[N], int width = 1) {
    const backend::View& first = *views[0];
    std::int64_t size = 1;
    for (int i = first.rank; i-- > 0;) {  // from the innermost axis out
      size *= first.shape[i];
      if (first.shape[i] == 1) continue;
      bool merges = rank_ > 0;
      for (int v = 0; v < N && merges; ++v)
        merges = views[v]->stride[i] == axis_[rank_ - 1].stride[v] * axis_[rank_ - 1].size;
      if (merges) {
        axis_[rank_ - 1].size *= first.shape[i];
        continue;
      }
      axis_[rank_].size = first.shape[i];
      for (int v = 0; v < N; ++v) axis_[rank_].stride[v] = views[v]->stride[i];
      ++rank_;
    }
    steps_ = size;
    if (size > 0 && has_packs(views, width)) go_by_packs(width);
    small_ = steps_ > 0 && steps_ < std::int64_t{1} << 31;
    if (small_)
      for (int i = 0; i < rank_; ++i) axis_[i].divisor = Divisor(axis_[i].size);
  }

  /// Number of packs or elements.
  std::int64_t steps() const { return steps_; }

  /// at[v] = the place of the first element of step k in view v.
  LPF_DEVICE void find(std::int64_t k, std::int64_t (&at)[N]) const {
    for (int v = 0; v < N; ++v) at[v] = 0;
    auto low = static_cast<std::uint32_t>(k);
    LPF_ROLLED for (int a = 0; a < rank_; ++a) {
      std::int64_t here = k;
      if (a + 1 < rank_) {
        if (small_) {
          here = axis_[a].divisor.split(low);
          k = low;
        } else {
          here = k % axis_[a].size;
          k /= axis_[a].size;
        }
      }
      for (int v = 0; v < N; ++v) at[v] += here * axis_[a].stride[v];
    }
  }
  /// Number of elements of step k: the width, or fewer in the last pack; 1 if it moves by elements.
  LPF_DEVICE int elements(std::int64_t k) const { return k + 1 < steps_ ? width_ : last_; }
  /// The distance between elements of a pack: 1, or 0 if the view is constant along the innermost axis.
  LPF_DEVICE int stride(int view) const { return stays_ >> view & 1 ? 0 : 1; }

 private:
  bool has_packs(const backend::View* const (&views)[N], int width) const {
    if (width == 1 || rank_ == 0 || axis_[0].stride[0] != 1) return false;
    if (rank_ > 1 && axis_[0].size % width != 0) return false;  // each row would have a remainder
    for (int v = 0; v < N; ++v) {
      if (axis_[0].stride[v] == 0) continue;
      const auto bytes = static_cast<std::uintptr_t>(width) * size_of(views[v]->dtype);
      if (axis_[0].stride[v] != 1 || reinterpret_cast<std::uintptr_t>(views[v]->data) % bytes != 0)
        return false;
      for (int a = 1; a < rank_; ++a)
        if (axis_[a].stride[v] % width != 0) return false;
    }
    return true;
  }
  void go_by_packs(int width) {
    const std::int64_t row = axis_[0].size, packs = (row + width - 1) / width;
    steps_ = steps_ / row * packs;
    width_ = width;
    last_ = static_cast<int>(row - (packs - 1) * width);
    axis_[0].size = packs;
    for (int v = 0; v < N; ++v) {
      if (axis_[0].stride[v] == 0) stays_ |= 1u << v;
      axis_[0].stride[v] *= width;
    }
  }

  struct Axis {
    std::int64_t size, stride[N];
    Divisor divisor;
  };
  int rank_ = 0, width_ = 1, last_ = 1;
  unsigned stays_ = 0;  // bit v: view v is constant along the innermost axis
  bool small_ = false;
  std::int64_t steps_ = 1;
  Axis axis_[8] = {};  // innermost first
};

}  // namespace lpf::cuda
