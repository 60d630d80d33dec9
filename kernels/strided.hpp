// Strided views as kernels walk them: element i of the row-major order, and where each array has it.
#pragma once

#include <bit>
#include <cstdint>

#include "launch.hpp"
#include "lpf/backend/contract.hpp"

namespace lpf::cuda {

/// Division by a number that is known before the kernel runs, as a product and a shift; for n and d below
/// 2^31. T. Granlund, P. Montgomery, "Division by invariant integers using multiplication" (PLDI 1994).
class Divisor {
 public:
  Divisor() = default;
  explicit Divisor(std::int64_t divisor)
      : divisor_(static_cast<std::uint32_t>(divisor)),
        shift_(std::bit_width(static_cast<std::uint32_t>(divisor) - 1u)),
        multiplier_(static_cast<std::uint32_t>(
            ((std::uint64_t{1} << 32) * ((std::uint64_t{1} << shift_) - divisor_)) / divisor_ + 1)) {}

  /// Leaves the quotient in n and returns the remainder.
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

/// Where N views of one shape have their elements. Axes of one element are dropped; those that lie one behind
/// the other in all of the views are merged, so that contiguous arrays have one axis and nothing is divided.
template <int N>
class Walk {
 public:
  explicit Walk(const backend::View* const (&views)[N]) {
    const backend::View& first = *views[0];
    for (int i = first.rank; i-- > 0;) {  // from the innermost axis out
      size_ *= first.shape[i];
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
    small_ = size_ > 0 && size_ < std::int64_t{1} << 31;
    if (small_)
      for (int i = 0; i < rank_; ++i) axis_[i].divisor = Divisor(axis_[i].size);
  }

  /// Elements of the common shape.
  std::int64_t size() const { return size_; }

  /// at[v] = the place of element i in view v.
  LPF_DEVICE void find(std::int64_t i, std::int64_t (&at)[N]) const {
    for (int v = 0; v < N; ++v) at[v] = 0;
    auto low = static_cast<std::uint32_t>(i);
    for (int a = 0; a < rank_; ++a) {
      std::int64_t k = i;
      if (a + 1 < rank_) {
        if (small_) {
          k = axis_[a].divisor.split(low);
          i = low;
        } else {
          k = i % axis_[a].size;
          i /= axis_[a].size;
        }
      }
      for (int v = 0; v < N; ++v) at[v] += k * axis_[a].stride[v];
    }
  }

 private:
  struct Axis {
    std::int64_t size, stride[N];
    Divisor divisor;
  };
  int rank_ = 0;
  bool small_ = false;
  std::int64_t size_ = 1;
  Axis axis_[8] = {};  // innermost first
};

}  // namespace lpf::cuda
